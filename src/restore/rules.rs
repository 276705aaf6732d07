//! Which statements of a dump a restore leaves out or replaces.
//!
//! [`super::database`] makes them from the user's options and the target's settings; [`super::filter`] uses them. A rule matches
//! the statement itself, as `pg_dump` writes it, never the comment before it.

use std::collections::BTreeSet;

use crate::postgres::Transactions;
use crate::postgres::target::Target;
use crate::sql::identifier;

use super::left_out::{Kind, LeftOut};
use super::statement::Head;
use super::subject::Name;
use super::{LeaveOut, RestoreOptions};

/// The statement with which `pg_dump` empties `search_path`.
const EMPTY_SEARCH_PATH: &[u8] = b"SELECT pg_catalog.set_config('search_path', '', false);";

/// What is left out, and what is replaced.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How statements are committed.
    pub transactions: Transactions,
    /// What the user excludes.
    pub leave_out: LeaveOut,
    /// The settings that the target knows; `None` if they could not be queried.
    pub known_settings: Option<BTreeSet<String>>,
    /// Extensions of the target that the restoring role does not own: their comments cannot be set.
    pub foreign_extensions: BTreeSet<String>,
    /// `search_path` during the restore, instead of an empty one.
    pub search_path: Option<String>,
}

/// What the filter does with a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Drop,
    /// This is sent instead of it.
    Replace(String),
}

impl Rules {
    /// Makes the rules from the user's options and the target's settings.
    #[must_use]
    pub fn of(options: &RestoreOptions, target: &Target, transactions: Transactions) -> Self {
        Self {
            transactions,
            leave_out: options.leave_out.clone(),
            known_settings: Some(target.settings.clone()),
            foreign_extensions: target.foreign_extensions.clone(),
            search_path: options.search_path.clone(),
        }
    }

    /// Decides about one statement, and counts what is dropped.
    pub(super) fn verdict(&self, statement: &[u8], head: &Head, left_out: &mut LeftOut) -> Verdict {
        if self.transactions == Transactions::One && matches!(statement, b"BEGIN;" | b"COMMIT;") {
            return Verdict::Drop;
        }
        if let Some(kind) = self.unwanted(statement, head) {
            left_out.add(kind);
            return Verdict::Drop;
        }
        if let Some(setting) = self.unknown_setting(statement) {
            left_out.add_setting(setting);
            return Verdict::Drop;
        }
        if let Some(extension) = self.comment_on_foreign_extension(statement, head) {
            left_out.add_extension_comment(extension);
            return Verdict::Drop;
        }
        match &self.search_path {
            Some(path) if statement == EMPTY_SEARCH_PATH => {
                let path = path.replace('\'', "''");
                Verdict::Replace(format!("SELECT pg_catalog.set_config('search_path', '{path}', false);"))
            }
            _ => Verdict::Keep,
        }
    }

    /// Whether a transaction statement is allowed: `pg_dump` writes some around large objects.
    pub(super) fn passes_transaction(&self, statement: &[u8]) -> bool {
        self.transactions == Transactions::Each && matches!(statement, b"BEGIN;" | b"COMMIT;")
    }

    /// Whether the rows of a table are left out.
    pub(super) fn excludes_data(&self, table: &Name) -> bool {
        self.leave_out.table_data.iter().any(|glob| glob.matches_table(&table.schema, &table.name))
    }

    fn unwanted(&self, statement: &[u8], head: &Head) -> Option<Kind> {
        let is_privilege = head.is("GRANT")
            || head.is("REVOKE")
            || head.begins(&["ALTER", "DEFAULT", "PRIVILEGES"])
            // Around the grants of a role other than the owner.
            || head.begins(&["SET", "SESSION", "AUTHORIZATION"])
            || head.begins(&["RESET", "SESSION", "AUTHORIZATION"]);
        if self.leave_out.privileges && is_privilege {
            return Some(Kind::Privilege);
        }
        if self.leave_out.owner && head.is("ALTER") && sets_owner(statement) {
            return Some(Kind::Owner);
        }
        if self.leave_out.comments && head.begins(&["COMMENT", "ON"]) {
            return Some(Kind::Comment);
        }
        if self.leave_out.subscriptions && head.is_of_subscription() {
            return Some(Kind::Subscription);
        }
        let is_tablespace =
            set_to(statement).is_some_and(|(name, value)| name == "default_tablespace" && value != "''");
        (self.leave_out.tablespaces && is_tablespace).then_some(Kind::Tablespace)
    }

    fn unknown_setting(&self, statement: &[u8]) -> Option<String> {
        let known = self.known_settings.as_ref()?;
        let (name, _) = set_to(statement)?;
        // Forms of two words, such as `SET XML OPTION`, name no setting. A name with a dot belongs to an extension.
        let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        (is_name && !known.contains(name)).then(|| name.to_owned())
    }

    fn comment_on_foreign_extension(&self, statement: &[u8], head: &Head) -> Option<String> {
        let name = statement.strip_prefix(b"COMMENT ON EXTENSION ").filter(|_| head.is("COMMENT"))?;
        let end = name.windows(4).position(|window| window == b" IS ")?;
        identifier(&name[..end]).filter(|name| self.foreign_extensions.contains(name))
    }
}

/// Name and value of `SET name = value;`.
fn set_to(statement: &[u8]) -> Option<(&str, &str)> {
    let text = str::from_utf8(statement.strip_prefix(b"SET ")?.strip_suffix(b";")?).ok()?;
    text.split_once(" = ")
}

/// Whether a statement ends with ` OWNER TO role;`.
fn sets_owner(statement: &[u8]) -> bool {
    const WORDS: &[u8] = b" OWNER TO ";
    let Some(text) = statement.strip_suffix(b";") else { return false };
    let begins = text.windows(WORDS.len()).enumerate().filter(|(_, window)| *window == WORDS);
    begins.map(|(at, _)| &text[at + WORDS.len()..]).any(|role| identifier(role).is_some())
}
