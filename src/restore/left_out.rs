//! What a restore left out, for the log and the result.
//!
//! [`super::rules`] fills it. It has the names of what was left out without being asked for, and only the number of the rest.

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
    /// Rows of those tables.
    pub rows: u64,
}

impl LeftOut {
    /// Logs what was left out because the target does not support it.
    pub(super) fn announce(&self) {
        for extension in &self.extension_comments {
            tracing::warn!(extension, "left out the comment on an extension that the restoring role does not own");
        }
        for setting in &self.settings {
            tracing::warn!(setting, "left out a setting that the target does not know");
        }
    }

    /// One phrase for each kind: `12 owners`, `the setting transaction_timeout`.
    #[must_use]
    pub fn phrases(&self) -> Vec<String> {
        let counted = [
            (self.owners, "owner", "owners"),
            (self.privileges, "statement about privileges", "statements about privileges"),
            (self.tablespaces, "tablespace", "tablespaces"),
            (self.comments, "comment", "comments"),
            (self.subscriptions, "statement about subscriptions", "statements about subscriptions"),
        ];
        let counted = counted.into_iter().filter(|(count, ..)| *count > 0);
        let counted = counted.map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }));
        let named = [
            ("the comment on the extension", &self.extension_comments),
            ("the setting", &self.settings),
            ("the rows of", &self.table_data),
        ];
        let named = named.into_iter().filter(|(_, names)| !names.is_empty());
        counted.chain(named.map(|(words, names)| format!("{words} {}", names.join(", ")))).collect()
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

    pub(super) fn add_table_data(&mut self, table: String) {
        self.table_data.push(table);
    }
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
    }
}
