//! The settings of a run with several databases. Part of [`super`]'s table.

use super::{BASE, Completion, Group, STORED, Setting};

/// `BACKUP_DATABASES`
pub const BACKUP_DATABASES: Setting = Setting {
    variable: "BACKUP_DATABASES",
    flag: Some("databases"),
    value: "NAMES",
    default: "none: the database of the connection string",
    commands: STORED,
    help: "databases of the server, each in a sub-path of `S3_PATH`: `all`, or names and globs (`*`, `?`) separated by commas; `!` before a name or glob excludes, and a name in double quotes is taken literally; templates and databases that accept no connections are never included",
    group: Group::Postgres,
    completion: Completion::Words(|| vec!["all"]),
    ..BASE
};
/// `BACKUP_DATABASE_JOBS`
pub const BACKUP_DATABASE_JOBS: Setting = Setting {
    variable: "BACKUP_DATABASE_JOBS",
    flag: Some("database-jobs"),
    value: "N",
    default: "`1`",
    help: "databases backed up at once, with `BACKUP_DATABASES`; they share the threads and the parts in flight",
    ..BASE
};
