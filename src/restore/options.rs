//! The flags of a restore that are not settings.
//!
//! `commands::restore` fills them, the targets read them.

use std::fmt;

use crate::glob::Glob;
use crate::sql::parts;

/// The longest name in bytes. PostgreSQL truncates longer ones.
const LONGEST_NAME: usize = 63;

/// The flags of a restore.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line, and any may go with any")]
pub struct RestoreOptions {
    /// `--create-db`: the database to create.
    pub create_db: Option<DatabaseName>,
    /// `--replace`: an existing database of that name is renamed.
    pub replace: bool,
    /// `--keep-failed`: an incomplete scratch database is not dropped.
    pub keep_failed: bool,
    /// What is not restored.
    pub leave_out: LeaveOut,
    /// `--create-roles`: missing roles are created with `NOLOGIN`.
    pub create_roles: bool,
    /// `--globals`: missing roles and their memberships are created from the globals.
    pub globals: bool,
    /// `--no-database-settings`: owner, grants and settings of the database itself are not restored.
    pub no_database_settings: bool,
    /// `--search-path`: for functions that need one.
    pub search_path: Option<String>,
    /// `--no-analyze`: `ANALYZE` is not run.
    pub no_analyze: bool,
    /// `--dry-run`: ends after the preconditions.
    pub dry_run: bool,
}

/// What is not restored.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line, and any may go with any")]
pub struct LeaveOut {
    /// `--no-owner`
    pub owner: bool,
    /// `--no-privileges`
    pub privileges: bool,
    /// `--no-tablespaces`
    pub tablespaces: bool,
    /// `--no-comments`
    pub comments: bool,
    /// Subscriptions, which would connect to their publishers: a drill leaves them out.
    pub subscriptions: bool,
    /// `--exclude-table-data`: globs.
    pub table_data: Vec<Glob>,
    /// `--exclude-table`: globs.
    pub tables: Vec<Glob>,
    /// `--exclude-schema`: globs.
    pub schemas: Vec<Glob>,
}

impl LeaveOut {
    /// Whether a pattern of tables or schemas was given.
    pub(super) fn has_patterns(&self) -> bool {
        [&self.table_data, &self.tables, &self.schemas].iter().any(|patterns| !patterns.is_empty())
    }

    /// Whether tables are left out with all that belongs to them.
    pub(super) fn is_reduced(&self) -> bool {
        !self.tables.is_empty() || !self.schemas.is_empty()
    }

    /// Whether a table is left out. The name is as the dump writes it.
    pub(super) fn has_table(&self, table: &str) -> bool {
        let Some((schema, name)) = parts(table) else { return false };
        self.has_schema(&schema) || self.tables.iter().any(|glob| glob.matches_table(&schema, &name))
    }

    /// Whether a schema is left out.
    pub(super) fn has_schema(&self, schema: &str) -> bool {
        self.schemas.iter().any(|glob| glob.matches(schema))
    }
}

/// A valid name for a new database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseName(String);

impl DatabaseName {
    /// Checks a name.
    ///
    /// # Errors
    /// If PostgreSQL would truncate or refuse it.
    pub fn new(text: &str) -> Result<Self, String> {
        match text.len() {
            0 => Err("must not be empty".to_owned()),
            length if length > LONGEST_NAME => {
                Err(format!("must have at most {LONGEST_NAME} bytes, and has {length}: PostgreSQL would cut it"))
            }
            _ if text.contains('\0') => Err("must not hold a NUL byte".to_owned()),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// The name, as the user gave it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_postgresql_would_cut_is_refused() {
        assert!(DatabaseName::new(&"a".repeat(63)).is_ok());
        assert!(DatabaseName::new(&"ä".repeat(31)).is_ok());
        for wrong in [String::new(), "a".repeat(64), "ä".repeat(32)] {
            assert!(DatabaseName::new(&wrong).is_err(), "{wrong}");
        }
    }
}
