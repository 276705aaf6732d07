//! [`Error`]: why a command failed, and the exit code that follows.
//!
//! Only [`crate::commands`] and the entry point see it. Each module has its own error type, which is a source of this one.
//! Nothing here prints, and nothing decides by a message's text.

use crate::archive::name::BackupName;
use crate::backup::DumpError;
use crate::config::Problems;
use crate::exit_code::ExitCode;
use crate::health::probe::NotAlive;
use crate::interrupt::Interrupt;
use crate::postgres::PostgresError;
use crate::retention::PruneError;
use crate::spool::SpoolError;
use crate::storage::{Blame, StorageError};

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
    #[error("write the result to stdout")]
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
            Self::Spool(_) | Self::Output(_) => ExitCode::StorageFailed,
            Self::PruneIncomplete(_) => ExitCode::PruneIncomplete,
            Self::NoSuchBackup { .. } | Self::BackupElsewhere { .. } => ExitCode::RestoreFailed,
            Self::CheckFailed { .. } | Self::NotAlive(_) => ExitCode::CheckFailed,
            Self::Interrupted(Interrupt::Hup) => ExitCode::HungUp,
            Self::Interrupted(Interrupt::Int) => ExitCode::Interrupted,
            Self::Interrupted(Interrupt::Term) => ExitCode::Terminated,
        }
    }
}
