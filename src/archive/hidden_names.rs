//! What the manifest of an encrypted backup does not say: the names of tables, roles, extensions and schemas, values of arguments,
//! and texts that may hold them.
//!
//! `backup` leaves them out of what it writes to the bucket and to the spool.

use super::manifest::{GLOBALS_WORD, INDEX_WORD, Manifest, PG_DUMP_WORD, PG_DUMPALL_WORD};
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
            warnings: kinds(&self.warnings),
            ..self
        }
    }
}

/// The warnings by their kind and number, in place of others' texts.
fn kinds(warnings: &[String]) -> Vec<String> {
    let (mut of_pg_dump, mut of_pg_dumpall, mut others) = (0, 0, 0);
    let mut kinds = Vec::new();
    let is_own = |warning: &str| {
        [GLOBALS_WORD, INDEX_WORD].iter().any(|word| warning.starts_with(&format!("{word}: ")))
            || warning.ends_with(UNANSWERED)
    };
    for warning in warnings {
        if warning.starts_with(PG_DUMP_WORD) {
            of_pg_dump += 1;
        } else if warning.starts_with(PG_DUMPALL_WORD) {
            of_pg_dumpall += 1;
        } else if is_own(warning) {
            kinds.push(warning.clone());
        } else {
            others += 1;
        }
    }
    let counts = |prefix: &str, count: usize| (count > 0).then(|| format!("{prefix}{}", counted(count, "warning")));
    kinds.extend(counts("the dump lacks something: ", others));
    kinds.extend(counts(PG_DUMP_WORD, of_pg_dump));
    kinds.extend(counts(PG_DUMPALL_WORD, of_pg_dumpall));
    kinds
}
