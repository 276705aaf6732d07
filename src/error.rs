//! What can end a run: one [`ExitCode`] table and one [`Error`] with a variant for each decision.
//!
//! Called by every room above the parts; the parts' own error types live beside them and are carried here as
//! sources. Nothing here prints, and nothing decides by looking at a message's text.

use std::fmt::{self, Write as _};

use crate::backup::DumpError;
use crate::backup::name::BackupName;
use crate::config::Problems;
use crate::health::probe::NotAlive;
use crate::interrupt::Interrupt;
use crate::postgres::PostgresError;
use crate::retention::PruneError;
use crate::spool::SpoolError;
use crate::storage::{Blame, StorageError};

/// A documented exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitCode {
    /// 0
    Ok,
    /// 1
    MissingSetting,
    /// 2
    InvalidCron,
    /// 3
    InvalidS3,
    /// 4
    InvalidSetting,
    /// 10
    PostgresUnavailable,
    /// 11
    DumpFailed,
    /// 12
    StorageFailed,
    /// 13
    PruneIncomplete,
    /// 14
    CheckFailed,
    /// 15
    RestoreFailed,
    /// 16
    AlreadyRunning,
    /// 64
    Usage,
    /// 74
    OutputFailed,
    /// 129
    HungUp,
    /// 130
    Interrupted,
    /// 143
    Terminated,
}

/// One row of the table of exit codes.
#[derive(Clone, Copy, Debug)]
pub struct ExitCodeRow {
    /// The variant that the row describes.
    pub code: ExitCode,
    /// The number the process ends with.
    pub number: u8,
    /// A short name.
    pub name: &'static str,
    /// When it is given.
    pub when: &'static str,
}

/// The one table of exit codes: `--help`, the manual, the README and the tests come from it.
pub const EXIT_CODES: [ExitCodeRow; 17] = [
    row(
        ExitCode::Ok,
        0,
        "ok",
        "all that was asked; for backup: the object is committed and checked (failed globals, a failed manifest or failed retention after it are warnings)",
    ),
    row(ExitCode::MissingSetting, 1, "missing setting", "a required variable is absent (all are named at once)"),
    row(ExitCode::InvalidCron, 2, "invalid cron", "BACKUP_INTERVAL is no cron expression, or one that never fires"),
    row(
        ExitCode::InvalidS3,
        3,
        "invalid S3 configuration",
        "an S3 setting is malformed, or the first request is refused as such: no such bucket, bad key or signature, access denied, wrong region",
    ),
    row(
        ExitCode::InvalidSetting,
        4,
        "invalid setting",
        "any other setting has a value that cannot be used, the destination holds another database's backups, or the connection goes by a transaction pooler",
    ),
    row(
        ExitCode::PostgresUnavailable,
        10,
        "PostgreSQL unavailable",
        "cannot connect or authenticate (up to three tries in 30 s), or no installed pg_dump is new enough",
    ),
    row(ExitCode::DumpFailed, 11, "dump failed", "pg_dump ended badly, stalled, or its output is not whole"),
    row(
        ExitCode::StorageFailed,
        12,
        "storage failed",
        "S3 did not take the backup within the outage budget, or credentials expired in the middle",
    ),
    row(ExitCode::PruneIncomplete, 13, "prune incomplete", "could not, or refused to, delete everything the rules say"),
    row(
        ExitCode::CheckFailed,
        14,
        "check failed",
        "at least one of the things that check tried is not well; for health: the daemon does not say that its loop turns",
    ),
    row(ExitCode::RestoreFailed, 15, "restore failed", "no such backup at this destination (also for list)"),
    row(
        ExitCode::AlreadyRunning,
        16,
        "already running",
        "another backup of this database to this destination is running",
    ),
    row(ExitCode::Usage, 64, "usage", "the command line is wrong"),
    row(
        ExitCode::OutputFailed,
        74,
        "output failed",
        "the result could not be written to stdout, such as to a full disk; for backup a warning",
    ),
    row(
        ExitCode::HungUp,
        129,
        "hung up",
        "SIGHUP (the terminal is gone), after cleaning up; under nohup it is ignored",
    ),
    row(ExitCode::Interrupted, 130, "interrupted", "SIGINT, after cleaning up; a second one ends without"),
    row(ExitCode::Terminated, 143, "terminated", "SIGTERM, after cleaning up"),
];

const fn row(code: ExitCode, number: u8, name: &'static str, when: &'static str) -> ExitCodeRow {
    ExitCodeRow { code, number, name, when }
}

impl ExitCode {
    /// The number the process ends with, from [`EXIT_CODES`].
    #[must_use]
    pub fn number(self) -> u8 {
        EXIT_CODES.iter().find(|row| row.code == self).map_or(1, |row| row.number)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

/// Why a run ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings are missing or wrong; nothing was touched.
    #[error("{0}")]
    Settings(Problems),
    /// PostgreSQL could not be used.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The dump did not come whole.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// S3 refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Not everything was deleted that the rules say.
    #[error(transparent)]
    PruneIncomplete(#[from] PruneError),
    /// Another backup of the same database to the same destination holds the lock.
    #[error("another backup of database {database} to {destination} is running: wait for it, or look for its process")]
    AlreadyRunning {
        /// The database being backed up.
        database: String,
        /// `s3://bucket/path`.
        destination: String,
    },
    /// The destination holds another database's backups.
    #[error(
        "{destination} holds backups of the database {holds} ({name}), not of {database}: give each database an S3_PATH of its own, or use --allow-mixed"
    )]
    Mixed {
        /// `s3://bucket/path/`.
        destination: String,
        /// The newest backup there.
        name: BackupName,
        /// Ownership it is.
        holds: String,
        /// The database to be backed up.
        database: String,
    },
    /// The backup that was named is not there.
    #[error(
        "find {name}: there is no such backup at {location}: `list` shows the names, and S3_PATH says where to look"
    )]
    NoSuchBackup {
        /// What was asked for.
        name: String,
        /// `s3://bucket/path/`.
        location: String,
    },
    /// The backup that was named, by its key or its URL, is another destination's.
    #[error("find {name}: this destination is {location}: set S3_BUCKET and S3_PATH to that backup's")]
    BackupElsewhere {
        /// What was asked for.
        name: String,
        /// `s3://bucket/path/`.
        location: String,
    },
    /// A check found something that is not well.
    #[error("{failed} of {tried} failed: {probes}")]
    CheckFailed {
        /// How many failed.
        failed: usize,
        /// How many were tried.
        tried: usize,
        /// Which.
        probes: String,
    },
    /// The daemon does not say that it is alive.
    #[error(transparent)]
    NotAlive(#[from] NotAlive),
    /// A signal asked the program to stop.
    #[error("stopped by {0}")]
    Interrupted(Interrupt),
    /// The run took longer than `BACKUP_MAX_DURATION`.
    #[error("the backup was stopped after {}: raise BACKUP_MAX_DURATION", humantime::format_duration(*.limit))]
    TooLong {
        /// The configured limit.
        limit: std::time::Duration,
    },
    /// The address for health and metrics cannot be had.
    #[error("listen on {address}: set LISTEN to an address of this host and a port that is free")]
    Listen {
        /// `LISTEN`
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A result could not be written to stdout.
    #[error("write the result to stdout: look at the disk or the program that it goes to")]
    Output(#[source] std::io::Error),
    /// A part of this program failed in a way that its author did not foresee.
    #[error("internal failure")]
    Internal(#[source] anyhow::Error),
}

impl Error {
    /// The exit code that this error ends the process with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Settings(problems) => problems.exit_code(),
            Self::Listen { .. } | Self::Mixed { .. } | Self::Spool(SpoolError::Unusable { .. }) => {
                ExitCode::InvalidSetting
            }
            Self::Postgres(PostgresError::TransactionPooler { .. }) => ExitCode::InvalidSetting,
            Self::Postgres(_) => ExitCode::PostgresUnavailable,
            Self::Dump(_) | Self::TooLong { .. } | Self::Internal(_) => ExitCode::DumpFailed,
            Self::Storage(error) => match error.blame() {
                Blame::Absent => ExitCode::MissingSetting,
                Blame::Configuration => ExitCode::InvalidS3,
                Blame::Storage => ExitCode::StorageFailed,
            },
            Self::AlreadyRunning { .. } | Self::Spool(SpoolError::Busy { .. }) => ExitCode::AlreadyRunning,
            Self::Spool(_) => ExitCode::StorageFailed,
            Self::Output(_) => ExitCode::OutputFailed,
            Self::PruneIncomplete(_) => ExitCode::PruneIncomplete,
            Self::NoSuchBackup { .. } | Self::BackupElsewhere { .. } => ExitCode::RestoreFailed,
            Self::CheckFailed { .. } | Self::NotAlive(_) => ExitCode::CheckFailed,
            Self::Interrupted(Interrupt::Hup) => ExitCode::HungUp,
            Self::Interrupted(Interrupt::Int) => ExitCode::Interrupted,
            Self::Interrupted(Interrupt::Term) => ExitCode::Terminated,
        }
    }
}

/// Prints an error and its causes once, on one line: `a: b: c`.
pub struct Chain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            // Some libraries repeat their source in their own message.
            if !cause_text.is_empty() && !text.contains(&cause_text) {
                write!(text, ": {cause_text}")?;
            }
            next = cause.source();
        }
        f.write_str(&text.replace(['\n', '\r'], " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_row_and_its_own_number() {
        let mut numbers: Vec<u8> = EXIT_CODES.iter().map(|row| row.number).collect();
        let sorted = numbers.clone();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, sorted);
        assert_eq!(ExitCode::Terminated.number(), 143);
    }
}
