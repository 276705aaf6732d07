//! The one table of settings. Parsing, `--help`, the README, the manual and the start-up line come from it.
//!
//! Used by `resolve` (values), `cli` (flags) and the documents' test. It holds no values and reads nothing. The settings
//! of the daemon and of those who watch are in `daemon`, those of retention in `retention`.

mod command;
mod daemon;
mod output;
mod restore;
mod retention;
mod setting;

use crate::exit_code::ExitCode;
use crate::telemetry::FOR_MACHINES;

pub use command::{ALL, CommandName};
pub use daemon::{BACKUP_INTERVAL, BACKUP_RETRY_DELAYS, BACKUP_TIMEZONE, LISTEN, METRICS_FILE, PING_URL};
pub use output::{LOG_FORMAT, LOG_LEVEL, NO_COLOR};
pub use restore::RESTORE_CONNECTION_STRING;
pub use retention::*;
pub use setting::{Completion, Group, Secrecy, Setting};

// `check` tells whether `backup` would succeed, so it uses all of its settings.
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
/// The commands that run PostgreSQL's programs; `restore` takes the `psql` beside `pg_dump`.
const PROGRAMS: &[CommandName] = &[CommandName::Backup, CommandName::Check, CommandName::Daemon, CommandName::Restore];
// What waits in a spool, `prune` must leave alone.
const SPOOL: &[CommandName] = &[CommandName::Backup, CommandName::Check, CommandName::Daemon, CommandName::Prune];

/// A public setting with a flag; the constants below change what differs.
const BASE: Setting = Setting {
    variable: "",
    flag: None,
    value: "VALUE",
    default: "",
    secrecy: Secrecy::Public,
    commands: BACKUP,
    refusal: ExitCode::InvalidSetting,
    group: Group::Backup,
    is_common: false,
    completion: Completion::None,
    help: "",
};
const S3: Setting = Setting { commands: STORAGE, refusal: ExitCode::InvalidS3, group: Group::Destination, ..BASE };
/// A number, a time or a switch: wrong like that of any other setting.
const S3_VALUE: Setting = Setting { refusal: ExitCode::InvalidSetting, ..S3 };
/// The words of a switch, as completions offer them; others mean the same.
const SWITCH: Completion = Completion::Words(|| vec!["true", "false"]);

/// `S3_BUCKET`
pub const S3_BUCKET: Setting = Setting {
    variable: "S3_BUCKET",
    flag: Some("s3-bucket"),
    value: "BUCKET",
    default: "required",
    help: "bucket that holds the backups",
    is_common: true,
    ..S3
};
/// `S3_PATH`
pub const S3_PATH: Setting = Setting {
    variable: "S3_PATH",
    flag: Some("s3-path"),
    value: "PREFIX",
    default: "the bucket's top",
    help: "key prefix of one database's backups; `backup` means `backup/`, never `backup2/`",
    is_common: true,
    ..S3
};
/// `S3_URL`
pub const S3_URL: Setting = Setting {
    variable: "S3_URL",
    flag: Some("s3-url"),
    value: "URL",
    default: "AWS",
    help: "endpoint of an S3-compatible server, without the bucket; it may have a path",
    is_common: true,
    completion: Completion::Url,
    ..S3
};
/// `S3_REGION`
pub const S3_REGION: Setting = Setting {
    variable: "S3_REGION",
    flag: Some("s3-region"),
    value: "REGION",
    default: "the AWS chain, else `us-east-1`",
    help: "region of the bucket",
    is_common: true,
    ..S3
};
/// `S3_ACCESS_KEY`
pub const S3_ACCESS_KEY: Setting = Setting {
    variable: "S3_ACCESS_KEY",
    secrecy: Secrecy::Secret,
    default: "the AWS chain",
    help: "access key of static credentials; without it the AWS chain is asked (environment, profile, SSO, web identity, container, instance)",
    ..S3
};
/// `S3_SECRET_KEY`
pub const S3_SECRET_KEY: Setting = Setting {
    variable: "S3_SECRET_KEY",
    secrecy: Secrecy::Secret,
    default: "the AWS chain",
    help: "secret key that belongs to `S3_ACCESS_KEY`",
    ..S3
};
/// `S3_SESSION_TOKEN`
pub const S3_SESSION_TOKEN: Setting = Setting {
    variable: "S3_SESSION_TOKEN",
    secrecy: Secrecy::Secret,
    default: "none",
    help: "session token of temporary static credentials",
    ..S3
};
/// `S3_FORCE_PATH_STYLE`
pub const S3_FORCE_PATH_STYLE: Setting = Setting {
    variable: "S3_FORCE_PATH_STYLE",
    flag: Some("s3-force-path-style"),
    value: "BOOL",
    default: "`true` with `S3_URL`",
    help: "address the bucket in the path, not in the host name",
    completion: SWITCH,
    ..S3_VALUE
};
/// `S3_CA_BUNDLE`
pub const S3_CA_BUNDLE: Setting = Setting {
    variable: "S3_CA_BUNDLE",
    value: "FILE",
    default: "the system's roots",
    help: "PEM file of the certificate authorities that sign a private endpoint's certificate",
    ..S3
};
/// `S3_CHECKSUM`
pub const S3_CHECKSUM: Setting = Setting {
    variable: "S3_CHECKSUM",
    value: "KIND",
    default: "`auto`",
    commands: BACKUP,
    help: "checksum sent with each part: `crc64nvme` (what `auto` means on AWS), `md5` (elsewhere) or `none`",
    ..S3
};
/// `S3_STORAGE_CLASS`
pub const S3_STORAGE_CLASS: Setting = Setting {
    variable: "S3_STORAGE_CLASS",
    value: "CLASS",
    default: "the bucket's",
    commands: BACKUP,
    help: "storage class of the backup, such as `STANDARD_IA`; its sidecars stay STANDARD",
    ..S3
};
/// `S3_SSE`
pub const S3_SSE: Setting = Setting {
    variable: "S3_SSE",
    value: "KIND",
    default: "the bucket's",
    commands: BACKUP,
    help: "encryption by the store: `AES256` or `aws:kms`",
    ..S3
};
/// `S3_SSE_KMS_KEY_ID`
pub const S3_SSE_KMS_KEY_ID: Setting = Setting {
    variable: "S3_SSE_KMS_KEY_ID",
    value: "KEY",
    default: "the account's",
    commands: BACKUP,
    help: "key for `aws:kms`",
    ..S3
};
/// `S3_MAX_PARTS`
pub const S3_MAX_PARTS: Setting = Setting {
    variable: "S3_MAX_PARTS",
    value: "N",
    default: "`10000`, on Scaleway `1000`",
    commands: BACKUP,
    help: "most parts of one upload that the store takes",
    ..S3_VALUE
};
/// `S3_EQUAL_PARTS`
pub const S3_EQUAL_PARTS: Setting = Setting {
    variable: "S3_EQUAL_PARTS",
    value: "BOOL",
    default: "`true` on R2",
    commands: BACKUP,
    help: "all parts but the last must have the same size",
    ..S3_VALUE
};
/// `S3_REQUEST_TIMEOUT`
pub const S3_REQUEST_TIMEOUT: Setting = Setting {
    variable: "S3_REQUEST_TIMEOUT",
    value: "TIME",
    default: "`30s`",
    help: "longest time without progress of one request to S3, however slow the link; the commit gets 60 ms for each part on top",
    ..S3_VALUE
};
/// `POSTGRES_CONNECTION_STRING`
pub const POSTGRES_CONNECTION_STRING: Setting = Setting {
    variable: "POSTGRES_CONNECTION_STRING",
    secrecy: Secrecy::Secret,
    default: "required, unless `PGDATABASE` or `PGSERVICE` is set",
    help: "the database to back up: a URI or `key=value` words, exactly what libpq accepts",
    group: Group::Source,
    ..BASE
};
/// `BACKUP_COMPRESSION_LEVEL`
pub const BACKUP_COMPRESSION_LEVEL: Setting = Setting {
    variable: "BACKUP_COMPRESSION_LEVEL",
    flag: Some("compression-level"),
    value: "LEVEL",
    default: "`2`",
    help: "gzip level from 1 (fast) to 9 (small)",
    is_common: true,
    ..BASE
};
/// `BACKUP_THREADS`
pub const BACKUP_THREADS: Setting = Setting {
    variable: "BACKUP_THREADS",
    flag: Some("threads"),
    value: "N",
    default: "CPUs, at most 8",
    help: "compression threads",
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
    help: "parts in flight at once",
    ..BASE
};
/// `BACKUP_SPOOL_DIR`
pub const BACKUP_SPOOL_DIR: Setting = Setting {
    variable: "BACKUP_SPOOL_DIR",
    flag: Some("spool-dir"),
    value: "DIR",
    default: "none: nothing touches the disk",
    commands: SPOOL,
    help: "directory that keeps parts until the backup is committed, so that a slow S3 does not stall the dump, and a complete dump is never taken twice",
    is_common: true,
    completion: Completion::Directory,
    ..BASE
};
/// `BACKUP_MAX_UPLOAD_OUTAGE`
pub const BACKUP_MAX_UPLOAD_OUTAGE: Setting = Setting {
    variable: "BACKUP_MAX_UPLOAD_OUTAGE",
    value: "TIME",
    default: "`15m`",
    commands: STORAGE,
    help: "longest time without a successful S3 response; a part whose bytes move is waited for",
    ..BASE
};
/// `BACKUP_MAX_DURATION`
pub const BACKUP_MAX_DURATION: Setting =
    Setting { variable: "BACKUP_MAX_DURATION", value: "TIME", default: "`off`", help: "hard end of a run", ..BASE };
/// `BACKUP_STALL_TIMEOUT`
pub const BACKUP_STALL_TIMEOUT: Setting = Setting {
    variable: "BACKUP_STALL_TIMEOUT",
    value: "TIME",
    default: "`30m`",
    help: "how long `pg_dump` may write nothing, and the server do nothing for it, while this program is ready to read",
    ..BASE
};
/// `BACKUP_LOCK_WAIT_TIMEOUT`
pub const BACKUP_LOCK_WAIT_TIMEOUT: Setting = Setting {
    variable: "BACKUP_LOCK_WAIT_TIMEOUT",
    value: "TIME",
    default: "`1m`",
    help: "how long `pg_dump` waits for its own table locks",
    ..BASE
};
/// `BACKUP_MAX_BLOCKING`
pub const BACKUP_MAX_BLOCKING: Setting = Setting {
    variable: "BACKUP_MAX_BLOCKING",
    value: "TIME",
    default: "`off`: a warning after 10 s",
    help: "how long the dump's locks may make another session wait before the dump gives way",
    ..BASE
};
/// `PG_DUMP_PATH`
pub const PG_DUMP_PATH: Setting = Setting {
    variable: "PG_DUMP_PATH",
    flag: Some("pg-dump-path"),
    value: "FILE",
    default: "the lowest installed version that is new enough",
    commands: PROGRAMS,
    help: "the `pg_dump` to use, and the `psql` beside it",
    group: Group::Source,
    completion: Completion::Program,
    ..BASE
};
/// `PG_DUMP_ARGS`
pub const PG_DUMP_ARGS: Setting = Setting {
    variable: "PG_DUMP_ARGS",
    value: "ARGS",
    default: "none",
    help: "arguments for `pg_dump`, in a shell's quoting, or after `--`; one that leaves something out makes the backup *partial*",
    group: Group::Source,
    ..BASE
};
/// Makes the table, and the event that shows values: `tracing` wants the names of an event's fields where it is written.
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
    &BACKUP_COMPRESSION_LEVEL,
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
    &BACKUP_INTERVAL,
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
