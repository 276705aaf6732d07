//! The table of settings. Parsing, `--help`, the documents, the manual and the log of the settings use it.
//!
//! Used by `resolve` (values), `cli` (flags) and the test of the documents. It holds no values. `storage` has the settings of the
//! bucket, `databases` those of several databases, `compression` and `encryption` those of the stored file, `daemon` those of the daemon and of
//! monitoring, `retention` those of retention.

mod command;
mod compression;
mod daemon;
mod databases;
mod encryption;
mod output;
mod restore;
mod retention;
mod setting;
mod storage;

use crate::exit_code::ExitCode;
use crate::log_target::FOR_MACHINES;

pub use command::{ALL, CommandName};
pub use compression::{BACKUP_COMPRESSION, BACKUP_COMPRESSION_LEVEL, BACKUP_THREADS};
pub use daemon::{BACKUP_INTERVAL, BACKUP_RETRY_DELAYS, BACKUP_TIMEZONE, LISTEN, METRICS_FILE, PING_URL};
pub use databases::{BACKUP_DATABASE_JOBS, BACKUP_DATABASES};
pub use encryption::{BACKUP_AGE_IDENTITY, BACKUP_AGE_RECIPIENTS};
pub use output::{LOG_FORMAT, LOG_LEVEL, NO_COLOR};
pub use restore::{DRILL_CONNECTION_STRING, DRILL_INTERVAL, RESTORE_CONNECTION_STRING, RESTORE_JOBS};
pub use retention::*;
pub use setting::{Completion, Group, Secrecy, Setting};
pub use storage::*;

// `check` verifies that `backup` would succeed, so it uses all settings of `backup`.
const BACKUP: &[CommandName] = &[CommandName::Backup, CommandName::Check, CommandName::Daemon];
const STORAGE: &[CommandName] = &[
    CommandName::Backup,
    CommandName::List,
    CommandName::Check,
    CommandName::Daemon,
    CommandName::Prune,
    CommandName::Restore,
    CommandName::Delete,
];
/// The commands that look at more than one database's backups.
const STORED: &[CommandName] = &[
    CommandName::Backup,
    CommandName::List,
    CommandName::Check,
    CommandName::Daemon,
    CommandName::Prune,
    CommandName::Delete,
];
/// The commands that run PostgreSQL's programs; `restore` uses the `psql` in the directory of `pg_dump`.
const PROGRAMS: &[CommandName] = &[CommandName::Backup, CommandName::Check, CommandName::Daemon, CommandName::Restore];
// `prune` must not abort the uploads of dumps in the spool.
const SPOOL: &[CommandName] = &[CommandName::Backup, CommandName::Check, CommandName::Daemon, CommandName::Prune];

/// The defaults of a row.
const BASE: Setting = Setting {
    variable: "",
    flag: None,
    value: "VALUE",
    default: "",
    secrecy: Secrecy::Public,
    commands: BACKUP,
    refusal: ExitCode::InvalidSetting,
    group: Group::Backup,
    completion: Completion::None,
    help: "",
};

/// `POSTGRES_CONNECTION_STRING`
pub const POSTGRES_CONNECTION_STRING: Setting = Setting {
    variable: "POSTGRES_CONNECTION_STRING",
    secrecy: Secrecy::Secret,
    default: "required, unless `PGDATABASE` or `PGSERVICE` is set",
    help: "the database to back up: a libpq URI or `key=value` string; with `BACKUP_DATABASES`, a database of the server that lists the others",
    group: Group::Postgres,
    ..BASE
};
/// `BACKUP_PART_SIZE`
pub const BACKUP_PART_SIZE: Setting = Setting {
    variable: "BACKUP_PART_SIZE",
    flag: Some("part-size"),
    value: "SIZE",
    default: "`auto`",
    help: "size of the upload's parts, from 5MiB to 5GiB; `auto` fits it to the database",
    completion: Completion::Words(|| vec!["auto"]),
    ..BASE
};
/// `BACKUP_UPLOAD_CONCURRENCY`
pub const BACKUP_UPLOAD_CONCURRENCY: Setting = Setting {
    variable: "BACKUP_UPLOAD_CONCURRENCY",
    flag: Some("upload-concurrency"),
    value: "N",
    default: "`4`",
    help: "parts uploaded at once",
    ..BASE
};
/// `BACKUP_SPOOL_DIR`
pub const BACKUP_SPOOL_DIR: Setting = Setting {
    variable: "BACKUP_SPOOL_DIR",
    flag: Some("spool-dir"),
    value: "DIR",
    default: "none: nothing touches the disk",
    commands: SPOOL,
    help: "directory that buffers parts on disk, so that a slow S3 does not stall the dump, and a complete dump survives a restart",
    completion: Completion::Directory,
    ..BASE
};
/// `BACKUP_MAX_UPLOAD_OUTAGE`
pub const BACKUP_MAX_UPLOAD_OUTAGE: Setting = Setting {
    variable: "BACKUP_MAX_UPLOAD_OUTAGE",
    value: "TIME",
    default: "`15m`",
    commands: STORAGE,
    help: "longest time without a successful S3 response; a part that makes progress is no outage",
    ..BASE
};
/// `BACKUP_MAX_DURATION`
pub const BACKUP_MAX_DURATION: Setting = Setting {
    variable: "BACKUP_MAX_DURATION",
    value: "TIME",
    default: "`off`",
    help: "maximum duration of a run",
    ..BASE
};
/// `BACKUP_STALL_TIMEOUT`
pub const BACKUP_STALL_TIMEOUT: Setting = Setting {
    variable: "BACKUP_STALL_TIMEOUT",
    value: "TIME",
    default: "`30m`",
    help: "longest time in which `pg_dump` writes nothing and the server does nothing for it; time spent waiting for S3 does not count",
    ..BASE
};
/// `BACKUP_LOCK_WAIT_TIMEOUT`
pub const BACKUP_LOCK_WAIT_TIMEOUT: Setting = Setting {
    variable: "BACKUP_LOCK_WAIT_TIMEOUT",
    value: "TIME",
    default: "`1m`",
    help: "how long `pg_dump` waits for its table locks",
    ..BASE
};
/// `BACKUP_MAX_BLOCKING`
pub const BACKUP_MAX_BLOCKING: Setting = Setting {
    variable: "BACKUP_MAX_BLOCKING",
    value: "TIME",
    default: "`off`: a warning after 10 s",
    help: "how long the dump may block another session before it is cancelled",
    ..BASE
};
/// `PG_DUMP_PATH`
pub const PG_DUMP_PATH: Setting = Setting {
    variable: "PG_DUMP_PATH",
    flag: Some("pg-dump-path"),
    value: "FILE",
    default: "the lowest installed version that is new enough",
    commands: PROGRAMS,
    help: "`pg_dump` to use with its `psql`; both are in the directory of this path",
    group: Group::Postgres,
    completion: Completion::Program,
    ..BASE
};
/// `PG_DUMP_ARGS`
pub const PG_DUMP_ARGS: Setting = Setting {
    variable: "PG_DUMP_ARGS",
    value: "ARGS",
    default: "none",
    help: "arguments for `pg_dump`, quoted as in a shell; one that leaves something out makes the backup *partial*",
    group: Group::Postgres,
    ..BASE
};
/// Defines the table, and the function that logs it: `tracing` needs the names of an event's fields at compile time.
macro_rules! settings {
    ($(&$setting:ident),* $(,)?) => {
        /// Every setting, in the order of the documents.
        pub const SETTINGS: &[&Setting] = &[$(&$setting),*];

        /// Logs one event with a field for each setting that has a value: at INFO, or at DEBUG.
        pub(super) fn log_values<'a>(
            is_debug: bool,
            message: &str,
            value: impl Fn(&Setting) -> Option<&'a dyn tracing::Value>,
        ) {
            if is_debug {
                tracing::debug!(target: FOR_MACHINES, $($setting = value(&$setting),)* "{message}");
            } else {
                tracing::info!(target: FOR_MACHINES, $($setting = value(&$setting),)* "{message}");
            }
        }
    };
}

settings![
    &S3_BUCKET,
    &S3_PATH,
    &S3_URL,
    &S3_REGION,
    &S3_ACCESS_KEY,
    &S3_SECRET_KEY,
    &S3_SESSION_TOKEN,
    &S3_FORCE_PATH_STYLE,
    &S3_CA_BUNDLE,
    &S3_CHECKSUM,
    &S3_STORAGE_CLASS,
    &S3_SSE,
    &S3_SSE_KMS_KEY_ID,
    &S3_MAX_PARTS,
    &S3_EQUAL_PARTS,
    &S3_REQUEST_TIMEOUT,
    &POSTGRES_CONNECTION_STRING,
    &BACKUP_DATABASES,
    &BACKUP_DATABASE_JOBS,
    &BACKUP_COMPRESSION,
    &BACKUP_COMPRESSION_LEVEL,
    &BACKUP_AGE_RECIPIENTS,
    &BACKUP_AGE_IDENTITY,
    &BACKUP_THREADS,
    &BACKUP_PART_SIZE,
    &BACKUP_UPLOAD_CONCURRENCY,
    &BACKUP_SPOOL_DIR,
    &BACKUP_MAX_UPLOAD_OUTAGE,
    &BACKUP_MAX_DURATION,
    &BACKUP_STALL_TIMEOUT,
    &BACKUP_LOCK_WAIT_TIMEOUT,
    &BACKUP_MAX_BLOCKING,
    &PG_DUMP_PATH,
    &PG_DUMP_ARGS,
    &RESTORE_CONNECTION_STRING,
    &RESTORE_JOBS,
    &DRILL_CONNECTION_STRING,
    &BACKUP_INTERVAL,
    &DRILL_INTERVAL,
    &BACKUP_TIMEZONE,
    &BACKUP_RETENTION_DAYS,
    &BACKUP_KEEP_LAST,
    &BACKUP_KEEP_HOURLY,
    &BACKUP_KEEP_DAILY,
    &BACKUP_KEEP_WEEKLY,
    &BACKUP_KEEP_MONTHLY,
    &BACKUP_KEEP_YEARLY,
    &BACKUP_MIN_KEEP,
    &BACKUP_RETRY_DELAYS,
    &LISTEN,
    &METRICS_FILE,
    &PING_URL,
    &LOG_LEVEL,
    &LOG_FORMAT,
    &NO_COLOR,
];

#[cfg(test)]
mod tests;
