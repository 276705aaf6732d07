//! [`Error`]: why a command failed, and its exit code.
//!
//! Only [`crate::commands`] and the entry point use it. It wraps the error types of the other modules.

use crate::backup::BackupError;
use crate::check::CheckError;
use crate::config::Problems;
use crate::exit_code::ExitCode;
use crate::health::probe::NotAlive;
use crate::interrupt::Interrupt;
use crate::printable::{counted, enumerated};
use crate::restore::RestoreError;
use crate::retention::PruneError;
use crate::storage::StorageError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings are missing or invalid; nothing was done.
    #[error("{0}")]
    Settings(Problems),
    /// The backup failed.
    #[error(transparent)]
    Backup(BackupError),
    /// Some of the databases of the server failed; each was reported.
    #[error("{} failed: {}", counted_of(failed.len(), *databases), enumerated(failed))]
    Databases {
        /// The names of those that failed.
        failed: Vec<String>,
        /// The number of all.
        databases: usize,
        /// The lowest of their exit codes, or a signal's.
        code: ExitCode,
    },
    /// S3 refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Not everything was deleted that the rules select.
    #[error(transparent)]
    PruneIncomplete(#[from] PruneError),
    /// The backup that was named is not there.
    #[error("find {name}: there is no such backup at {location}: `list` shows the names; check S3_PATH")]
    NoSuchBackup {
        /// The name, key or URL.
        name: String,
        /// `s3://bucket/path/`.
        location: String,
    },
    /// A backup that was to be deleted is not there.
    #[error(
        "delete {name}: there is no such backup at {location}: nothing was deleted: `list` shows the names; check S3_PATH"
    )]
    NothingDeleted {
        /// Its name.
        name: String,
        /// Where it was looked for.
        location: String,
    },
    /// The destination has no backup at all.
    #[error("there is no backup at {location}: correct S3_BUCKET or S3_PATH")]
    NoBackups {
        /// `s3://bucket/path/`.
        location: String,
    },
    /// The backup that was to be deleted is the last good one.
    #[error("delete {name}: it is the newest valid backup: nothing was deleted; take another first, or use --force")]
    NewestBackup {
        /// Its name.
        name: String,
    },
    /// The named key or URL is not in this destination.
    #[error("find {name}: this destination is {location}: set S3_BUCKET and S3_PATH to that backup's")]
    BackupElsewhere {
        /// The name, key or URL.
        name: String,
        /// `s3://bucket/path/`.
        location: String,
    },
    /// The named key or URL is of no database that is meant.
    #[error(
        "find {name}: this run acts on {databases} at {location}: set S3_BUCKET, S3_PATH and BACKUP_DATABASES to that backup's"
    )]
    DatabaseNotMeant {
        /// The key or URL.
        name: String,
        /// The databases that are meant.
        databases: String,
        /// `s3://bucket/path/`.
        location: String,
    },
    /// Backups of several databases are meant.
    #[error(
        "find {name}: it may be of {databases}: choose one with {flag}, or give the s3:// URL of the backup (`list --quiet` prints it)"
    )]
    WhichDatabase {
        /// The name, or `latest`.
        name: String,
        /// The databases.
        databases: String,
        /// The flag that names one.
        flag: &'static str,
    },
    /// A database that is named has no backup.
    #[error("find the database {database}: there is no backup at {location}{others}: correct --database or S3_PATH")]
    NoBackupsOf {
        /// Its name.
        database: String,
        /// `s3://bucket/path/database/`
        location: String,
        /// The databases that have backups; empty if there is none.
        others: String,
    },
    /// A backup in the sub-path of a database is of another one.
    #[error(
        "restore {name}: it is of the database {holds}, not of {database}: nothing was restored: to restore it all the same, give its s3:// URL instead of --database"
    )]
    OtherDatabase {
        /// The backup.
        name: String,
        /// The database that its manifest names.
        holds: String,
        /// The database of the sub-path.
        database: String,
    },
    /// There is nothing restored.
    #[error(transparent)]
    Restore(Box<RestoreError>),
    /// A check failed.
    #[error(transparent)]
    Check(CheckError),
    /// The daemon does not report that it is alive.
    #[error(transparent)]
    NotAlive(#[from] NotAlive),
    /// A signal stopped the program.
    #[error("stopped by {0}")]
    Interrupted(Interrupt),
    /// The address for health and metrics cannot be bound.
    #[error("listen on {address}: set LISTEN to an address of this host and a port that is free")]
    Listen {
        /// `LISTEN`
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A result could not be written to stdout.
    #[error("write the result to stdout: check the disk, or the program that reads it")]
    Output(#[source] std::io::Error),
    /// A bug, or a failure of the system that has no better error.
    #[error("internal failure")]
    Internal(#[source] anyhow::Error),
}

fn counted_of(failed: usize, all: usize) -> String {
    format!("{failed} of {}", counted(all, "database"))
}

impl From<Interrupt> for Error {
    fn from(interrupt: Interrupt) -> Self {
        Self::Interrupted(interrupt)
    }
}

impl Error {
    /// The exit code that this error ends the process with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Settings(problems) => problems.exit_code(),
            Self::Listen { .. } => ExitCode::InvalidSetting,
            Self::Backup(error) => error.exit_code(),
            Self::Databases { code, .. } => *code,
            Self::Check(error) => error.exit_code(),
            Self::Restore(error) => error.exit_code(),
            Self::Storage(error) => error.exit_code(),
            Self::Output(_) => ExitCode::OutputFailed,
            Self::PruneIncomplete(_) | Self::NewestBackup { .. } => ExitCode::PruneIncomplete,
            Self::NoSuchBackup { .. }
            | Self::NothingDeleted { .. }
            | Self::NoBackups { .. }
            | Self::BackupElsewhere { .. }
            | Self::DatabaseNotMeant { .. }
            | Self::NoBackupsOf { .. }
            | Self::OtherDatabase { .. } => ExitCode::RestoreFailed,
            Self::WhichDatabase { .. } => ExitCode::Usage,
            Self::NotAlive(_) => ExitCode::CheckFailed,
            Self::Interrupted(interrupt) => interrupt.exit_code(),
            Self::Internal(_) => ExitCode::DumpFailed,
        }
    }
}

impl From<BackupError> for Error {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Interrupted(interrupt) => Self::Interrupted(interrupt),
            error => Self::Backup(error),
        }
    }
}

impl From<RestoreError> for Error {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Interrupted(interrupt) => Self::Interrupted(interrupt),
            error => Self::Restore(Box::new(error)),
        }
    }
}

impl From<CheckError> for Error {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Interrupted(interrupt) => Self::Interrupted(interrupt),
            error @ CheckError::Failed { .. } => Self::Check(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_some_of_many_failed_databases() {
        let failed = (10..55).map(|number| format!("d{number}")).collect();
        let error = Error::Databases { failed, databases: 500, code: ExitCode::DumpFailed };
        let names = "d10, d11, d12, d13, d14, d15, d16, d17, d18, d19";
        assert_eq!(error.to_string(), format!("45 of 500 databases failed: {names} and 35 more"));
    }
}
