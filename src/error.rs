//! [`Error`]: why a command failed, and the exit code that follows.
//!
//! Only [`crate::commands`] and the entry point see it. Each module has its own error type, which is a source of this one.
//! Nothing here prints, and nothing decides by a message's text.

use crate::backup::BackupError;
use crate::check::CheckError;
use crate::config::Problems;
use crate::exit_code::ExitCode;
use crate::health::probe::NotAlive;
use crate::interrupt::Interrupt;
use crate::retention::PruneError;
use crate::storage::StorageError;

/// Why a run ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings are missing or wrong; nothing was touched.
    #[error("{0}")]
    Settings(Problems),
    /// There is no backup.
    #[error(transparent)]
    Backup(BackupError),
    /// S3 refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Not everything was deleted that the rules say.
    #[error(transparent)]
    PruneIncomplete(#[from] PruneError),
    /// The backup that was named is not there.
    #[error("find {name}: there is no such backup at {location}: `list` shows the names; check S3_PATH")]
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
    /// A check failed.
    #[error(transparent)]
    Check(CheckError),
    /// The daemon does not say that it is alive.
    #[error(transparent)]
    NotAlive(#[from] NotAlive),
    /// A signal asked the program to stop.
    #[error("stopped by {0}")]
    Interrupted(Interrupt),
    /// The address for health and metrics cannot be had.
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
            Self::Listen { .. } => ExitCode::InvalidSetting,
            Self::Backup(error) => error.exit_code(),
            Self::Check(error) => error.exit_code(),
            Self::Storage(error) => error.exit_code(),
            Self::Output(_) => ExitCode::OutputFailed,
            Self::PruneIncomplete(_) => ExitCode::PruneIncomplete,
            Self::NoSuchBackup { .. } | Self::BackupElsewhere { .. } => ExitCode::RestoreFailed,
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

impl From<CheckError> for Error {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Interrupted(interrupt) => Self::Interrupted(interrupt),
            error @ CheckError::Failed { .. } => Self::Check(error),
        }
    }
}
