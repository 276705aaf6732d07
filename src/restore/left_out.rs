//! What a restore left out, for the log and the result.
//!
//! [`super::rules`] fills it. It has the names of what was left out without being asked for, and only the number of the rest.

use std::collections::BTreeSet;

/// Kinds of statements that a user may ask to leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Owner,
    Privilege,
    Tablespace,
    Comment,
    Subscription,
}

/// The most names of each kind, for a message.
const MOST_NAMES: usize = 100;

/// A statement that was kept, and needs what was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its first line.
    pub statement: String,
    /// What it needs, as the dump writes it.
    pub object: String,
    /// The object's own name.
    pub name: String,
}

/// Everything of the dump that did not reach the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// `ALTER … OWNER TO` statements.
    pub owners: u64,
    /// Statements about privileges.
    pub privileges: u64,
    /// Statements that choose a tablespace.
    pub tablespaces: u64,
    /// `COMMENT ON` statements.
    pub comments: u64,
    /// Statements about subscriptions.
    pub subscriptions: u64,
    /// Extensions that the restoring role does not own: their comments were left out.
    pub extension_comments: Vec<String>,
    /// Settings that the target does not know.
    pub settings: Vec<String>,
    /// Tables without their rows, with their names as the dump writes them.
    pub table_data: Vec<String>,
    /// Rows that were left out, of these tables and of complete ones.
    pub rows: u64,
    /// Which COPY statements of the dump were left out, counted from 0.
    pub copies: BTreeSet<usize>,
    /// Tables, views and sequences that `--exclude-table` leaves out, and how many there are.
    pub tables: Names,
    /// Schemas that `--exclude-schema` leaves out.
    pub schemas: Names,
    /// Extensions of those schemas.
    pub extensions: Names,
    /// Foreign keys of other tables to those that are left out.
    pub foreign_keys: Names,
    /// Patterns that match nothing.
    pub unmatched: Vec<String>,
    /// The first statement that needs something that was left out.
    pub needs: Option<Need>,
}

/// The first names of a kind, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    first: Vec<String>,
    count: usize,
}

impl Names {
    fn add(&mut self, name: String) {
        self.count += 1;
        if self.first.len() < MOST_NAMES {
            self.first.push(name);
        }
    }

    fn merge(&mut self, other: Self) {
        let unnamed = other.count - other.first.len();
        for name in other.first {
            if !self.has(&name) {
                self.add(name);
            }
        }
        self.count += unnamed;
    }

    fn has(&self, name: &str) -> bool {
        self.first.iter().any(|first| first == name)
    }

    /// `the table a`, `the tables a, b and 3 more`; `None` without a name.
    fn phrase(&self, one: &str) -> Option<String> {
        let more = match self.count - self.first.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let plural = if self.count == 1 { "" } else { "s" };
        (self.count > 0).then(|| format!("the {one}{plural} {}{more}", self.first.join(", ")))
    }
}

impl LeftOut {
    /// Logs what was left out because the target does not support it, and what the user excluded.
    pub(super) fn announce(&self) {
        for extension in &self.extension_comments {
            tracing::warn!(extension, "left out the comment on an extension that the restoring role does not own");
        }
        for setting in &self.settings {
            tracing::warn!(setting, "left out a setting that the target does not know");
        }
        for pattern in &self.unmatched {
            tracing::warn!(pattern, "nothing in the dump matches: nothing was left out");
        }
        for key in &self.foreign_keys.first {
            tracing::warn!(foreign_key = key, "left out a foreign key to a table that is left out");
        }
        let asked = self.excluded();
        if !asked.is_empty() {
            tracing::info!("left out: {}", asked.join(", "));
        }
    }

    /// What the user excluded by a pattern, one phrase for each kind.
    fn excluded(&self) -> Vec<String> {
        let rows = (!self.table_data.is_empty()).then(|| format!("the rows of {}", self.table_data.join(", ")));
        let kinds = [(&self.schemas, "schema"), (&self.extensions, "extension"), (&self.tables, "table")];
        rows.into_iter().chain(kinds.into_iter().filter_map(|(names, one)| names.phrase(one))).collect()
    }

    /// One phrase for each kind: `12 owners`, `the setting transaction_timeout`.
    #[must_use]
    pub fn phrases(&self) -> Vec<String> {
        let comments = named("the comment on the extension", &self.extension_comments);
        let counted = self.counted().into_iter().chain(comments);
        let counted = counted.chain(named("the setting", &self.settings)).chain(self.excluded());
        counted.chain(self.foreign_keys.phrase("foreign key")).collect()
    }

    /// As [`Self::phrases`], but without what names something in the database.
    #[must_use]
    pub(super) fn unnamed(&self) -> Vec<String> {
        let comments = (!self.extension_comments.is_empty()).then(|| "comments on extensions".to_owned());
        self.counted().into_iter().chain(comments).chain(named("the setting", &self.settings)).collect()
    }

    fn counted(&self) -> Vec<String> {
        let counted = [
            (self.owners, "owner", "owners"),
            (self.privileges, "statement about privileges", "statements about privileges"),
            (self.tablespaces, "tablespace", "tablespaces"),
            (self.comments, "comment", "comments"),
            (self.subscriptions, "statement about subscriptions", "statements about subscriptions"),
        ];
        let counted = counted.into_iter().filter(|(count, ..)| *count > 0);
        counted.map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many })).collect()
    }

    /// What to do, if a statement failed for want of what was left out.
    pub(super) fn hint(&self, reason: &str) -> Option<String> {
        let Need { statement, object, name } = self.needs.as_ref()?;
        let is_it = reason.contains("does not exist") && name.lines().next().is_some_and(|line| reason.contains(line));
        is_it.then(|| format!("the statement {statement:?} needs {object}, which is left out: exclude both or neither"))
    }

    /// Adds what another filter left out of the same dump.
    pub(super) fn merge(&mut self, other: Self) {
        self.owners += other.owners;
        self.privileges += other.privileges;
        self.tablespaces += other.tablespaces;
        self.comments += other.comments;
        self.subscriptions += other.subscriptions;
        other.extension_comments.into_iter().for_each(|name| self.add_extension_comment(name));
        other.settings.into_iter().for_each(|name| self.add_setting(name));
        other.table_data.into_iter().for_each(|table| self.add_table_data(table));
        self.rows += other.rows;
        self.copies.extend(other.copies);
        self.tables.merge(other.tables);
        self.schemas.merge(other.schemas);
        self.extensions.merge(other.extensions);
        self.foreign_keys.merge(other.foreign_keys);
        self.unmatched.retain(|pattern| other.unmatched.contains(pattern));
        self.needs = self.needs.take().or(other.needs);
    }

    pub(super) fn add(&mut self, kind: Kind) {
        let count = match kind {
            Kind::Owner => &mut self.owners,
            Kind::Privilege => &mut self.privileges,
            Kind::Tablespace => &mut self.tablespaces,
            Kind::Comment => &mut self.comments,
            Kind::Subscription => &mut self.subscriptions,
        };
        *count += 1;
    }

    pub(super) fn add_extension_comment(&mut self, name: String) {
        add_name(&mut self.extension_comments, name);
    }

    pub(super) fn add_setting(&mut self, name: String) {
        add_name(&mut self.settings, name);
    }

    pub(super) fn add_table(&mut self, name: String) {
        self.tables.add(name);
    }

    pub(super) fn add_schema(&mut self, name: String) {
        if !self.schemas.has(&name) {
            self.schemas.add(name);
        }
    }

    pub(super) fn add_extension(&mut self, name: String) {
        self.extensions.add(name);
    }

    pub(super) fn add_foreign_key(&mut self, name: String) {
        self.foreign_keys.add(name);
    }

    pub(super) fn add_table_data(&mut self, table: String) {
        add_name(&mut self.table_data, table);
    }
}

/// A phrase with the names, if there are any.
fn named(words: &str, names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| format!("{words} {}", names.join(", ")))
}

fn add_name(names: &mut Vec<String>, name: String) {
    if names.len() < MOST_NAMES && !names.contains(&name) {
        names.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_left_out() {
        let left_out = LeftOut {
            owners: 2,
            privileges: 3,
            comments: 1,
            settings: vec!["a".to_owned(), "b".to_owned()],
            ..LeftOut::default()
        };
        let expected = ["2 owners", "3 statements about privileges", "1 comment", "the setting a, b"];
        assert_eq!(left_out.phrases(), expected);
        assert!(LeftOut::default().phrases().is_empty());
        let named = LeftOut { extension_comments: vec!["postgis".to_owned()], ..left_out };
        assert_eq!(named.phrases()[3], "the comment on the extension postgis");
        assert_eq!(named.unnamed()[3..], ["comments on extensions", "the setting a, b"]);
    }
}
