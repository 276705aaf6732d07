//! What the manifest of an encrypted backup does not say: the names of tables, roles, extensions and schemas, values of arguments,
//! and texts that may hold them.
//!
//! `backup` leaves them out of what it writes to the bucket and to the spool, and puts them into the encrypted index. `restore` and
//! `list` read them there with an identity.

use super::index;
use super::manifest::{GLOBALS_WORD, INDEX_WORD, Manifest, PG_DUMP_WORD, PG_DUMPALL_WORD};
use super::sidecar::Stored;
use crate::error_chain::Chain;
use crate::index::{Details, Index};
use crate::printable::counted;

/// The end of a warning in this program's own words, which hold no names.
const UNANSWERED: &str = ": the server did not say";

impl Manifest {
    /// Whether the backup is encrypted. Then its manifest names nothing in the database.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        !self.recipients.is_empty()
    }

    /// The manifest for the bucket and the spool: that of an encrypted backup has no names and no checksum of the plain dump. Its
    /// arguments had no values from the beginning.
    #[must_use]
    pub fn without_names(self) -> Self {
        if !self.is_encrypted() {
            return self;
        }
        Self {
            dump_crc32: None,
            tables: Vec::new(),
            extensions: Vec::new(),
            roles: Vec::new(),
            tablespaces: Vec::new(),
            warnings: counted_kinds(&self.warnings),
            ..self
        }
    }

    /// What [`Self::without_names`] leaves out, with the values of `pg_dump`'s arguments, for the index; `None` if the backup is
    /// not encrypted.
    #[must_use]
    pub fn details(&self, pg_dump_arguments: &[String]) -> Option<Details> {
        self.is_encrypted().then(|| Details {
            pg_dump_arguments: pg_dump_arguments.to_vec(),
            extensions: self.extensions.clone(),
            roles: self.roles.clone(),
            tablespaces: self.tablespaces.clone(),
            warnings: self.warnings.clone(),
        })
    }

    /// The manifest of an encrypted backup with what its index says in full.
    #[must_use]
    pub fn with_details(self, details: Details) -> Self {
        let Details { pg_dump_arguments, extensions, roles, tablespaces, warnings } = details;
        let warnings = in_full(&self.warnings, warnings);
        Self { pg_dump_arguments, extensions, roles, tablespaces, warnings, ..self }
    }

    /// The manifest with what the encrypted index says in full. Without an identity, or an index that can be read, it stays as it is.
    #[must_use]
    pub async fn with_names(self, backup: &str, from: Stored<'_>) -> Self {
        let Some(file) = self.index.as_ref().filter(|_| self.is_encrypted() && from.1.is_some()) else { return self };
        let (file_name, error) = match index::verified(from, (backup, &self), file).await {
            Ok(Ok(Index { details: Some(details), .. })) => return self.with_details(details),
            Ok(Ok(_)) => return self,
            Ok(Err(flaw)) => (&file.file_name, Chain(&flaw).to_string()),
            Err(error) => (&file.file_name, Chain(&error).to_string()),
        };
        tracing::warn!(
            file_name,
            error,
            "the index cannot be used: it is not known which roles, tablespaces and extensions the dump needs"
        );
        self
    }

    /// Whether it says what the dump refers to. That of an encrypted backup does only with its index.
    #[must_use]
    pub fn has_names(&self) -> bool {
        let is_empty = self.extensions.is_empty() && self.roles.is_empty() && self.tablespaces.is_empty();
        !self.is_encrypted() || !is_empty
    }
}

/// Who wrote a warning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    PgDump,
    PgDumpall,
    /// This program's own, which hold no names.
    Own,
    Other,
}

impl Kind {
    fn of(warning: &str) -> Self {
        let is_own = || {
            [GLOBALS_WORD, INDEX_WORD].iter().any(|word| warning.starts_with(&format!("{word}: ")))
                || warning.ends_with(UNANSWERED)
        };
        if warning.starts_with(PG_DUMP_WORD) {
            Self::PgDump
        } else if warning.starts_with(PG_DUMPALL_WORD) {
            Self::PgDumpall
        } else if is_own() {
            Self::Own
        } else {
            Self::Other
        }
    }
}

/// The warnings of the index, and those of the manifest that are later.
fn in_full(hidden: &[String], full: Vec<String>) -> Vec<String> {
    let is_later = |warning: &&String| match Kind::of(warning) {
        Kind::Own => !full.contains(warning),
        kind => full.iter().all(|known| Kind::of(known) != kind),
    };
    let later: Vec<String> = hidden.iter().filter(is_later).cloned().collect();
    [full, later].concat()
}

/// The warnings by their kind and number, in place of others' texts.
fn counted_kinds(warnings: &[String]) -> Vec<String> {
    let of = |kind| warnings.iter().filter(move |warning| Kind::of(warning) == kind);
    let count = |prefix: &str, kind| {
        let count = of(kind).count();
        (count > 0).then(|| format!("{prefix}{}", counted(count, "warning")))
    };
    let mut kinds: Vec<String> = of(Kind::Own).cloned().collect();
    kinds.extend(count("the dump lacks something: ", Kind::Other));
    kinds.extend(count(PG_DUMP_WORD, Kind::PgDump));
    kinds.extend(count(PG_DUMPALL_WORD, Kind::PgDumpall));
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(warnings: &[&str]) -> Vec<String> {
        warnings.iter().map(|&warning| warning.to_owned()).collect()
    }

    #[test]
    fn warnings_are_counted_and_come_back_from_the_index() {
        let full = texts(&[
            "the table app.t: no rows",
            "extensions, roles and tablespaces: the server did not say",
            "pg_dump warned: circular keys on a",
            "pg_dump warned: circular keys on b",
        ]);
        let hidden = texts(&[
            "extensions, roles and tablespaces: the server did not say",
            "the dump lacks something: 1 warning",
            "pg_dump warned: 2 warnings",
        ]);
        assert_eq!(counted_kinds(&full), hidden);
        let later = texts(&["globals: S3 did not take the file", "globals: pg_dumpall warned: 1 warning"]);
        assert_eq!(in_full(&[hidden, later.clone()].concat(), full.clone()), [full, later].concat());
    }
}
