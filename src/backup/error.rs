//! Why a run ended without a backup.

use std::fmt;
use std::time::Duration;

use crate::archive::name::BackupName;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupt;
use crate::pipeline::PipelineError;
use crate::postgres::PostgresError;
use crate::postgres::activity::Backend;
use crate::spool::SpoolError;
use crate::storage::StorageError;
use crate::verified_dump::IncompleteDump;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// PostgreSQL could not be used.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The dump is not complete.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// S3 refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
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
        "{destination} holds backups of the database {holds} ({name}), not of {database}: give each database its own S3_PATH, or use --allow-mixed"
    )]
    Mixed {
        /// `s3://bucket/path/`.
        destination: String,
        /// The newest backup there.
        name: BackupName,
        /// The database that it belongs to.
        holds: String,
        /// The database to be backed up.
        database: String,
    },
    /// The destination holds backups of a database of the same name on another server.
    #[error(
        "{destination} holds backups of the database {database} on another server ({name}): give each server its own S3_PATH, or, after an upgrade or a move, use --allow-mixed once"
    )]
    OtherServer {
        /// `s3://bucket/path/`.
        destination: String,
        /// The newest backup there.
        name: BackupName,
        /// The database on both.
        database: String,
    },
    /// No database of the server is meant.
    #[error("BACKUP_DATABASES={patterns} means no database of the server, which has {databases}: correct it")]
    NoDatabases {
        /// `BACKUP_DATABASES`
        patterns: String,
        /// The databases of the server.
        databases: String,
    },
    /// A database that BACKUP_DATABASES names does not exist.
    #[error(
        "find the database {name}: the server has no database of this name that takes connections: correct BACKUP_DATABASES, or create it"
    )]
    NoSuchDatabase {
        /// Its name.
        name: String,
    },
    /// The name of a database cannot be used.
    #[error("connect to the database {name}: its name is not UTF-8: rename it, or exclude it from BACKUP_DATABASES")]
    UnreadableName {
        /// Its name, with replacement characters.
        name: String,
    },
    /// The run took longer than `BACKUP_MAX_DURATION`.
    #[error("the backup was stopped after {}: raise BACKUP_MAX_DURATION", humantime::format_duration(*.limit))]
    TooLong {
        /// The configured limit.
        limit: Duration,
    },
    /// A signal asked the program to stop.
    #[error("stopped by {0}")]
    Interrupted(Interrupt),
    /// A fault of this program.
    #[error("internal failure")]
    Internal(#[source] anyhow::Error),
}

impl BackupError {
    /// The exit code of a run with this error.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Mixed { .. }
            | Self::OtherServer { .. }
            | Self::NoDatabases { .. }
            | Self::Spool(SpoolError::Unusable { .. })
            | Self::Postgres(PostgresError::TransactionPooler { .. }) => ExitCode::InvalidSetting,
            Self::Postgres(_) | Self::NoSuchDatabase { .. } | Self::UnreadableName { .. } => {
                ExitCode::PostgresUnavailable
            }
            Self::Dump(_) | Self::TooLong { .. } | Self::Internal(_) => ExitCode::DumpFailed,
            Self::Storage(error) => error.exit_code(),
            Self::AlreadyRunning { .. } | Self::Spool(SpoolError::Busy { .. }) => ExitCode::AlreadyRunning,
            Self::Spool(_) => ExitCode::StorageFailed,
            Self::Interrupted(interrupt) => interrupt.exit_code(),
        }
    }
}

/// Why there is no complete dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The evidence contradicts it.
    #[error(transparent)]
    IncompleteDump(IncompleteDump),
    /// It could not be read or compressed.
    #[error(transparent)]
    Pipeline(PipelineError),
    /// `pg_dump` closed its output and did not exit.
    #[error("pg_dump closed its output, but did not end within {}", humantime::format_duration(*.limit))]
    DoesNotEnd {
        /// How long the run waited.
        limit: Duration,
    },
    /// It stalled.
    #[error(
        "pg_dump wrote nothing for {}, and {finding}: look for the cause there, or raise BACKUP_STALL_TIMEOUT",
        humantime::format_duration(*.limit)
    )]
    Stalled {
        /// `BACKUP_STALL_TIMEOUT`
        limit: Duration,
        /// The server's answer.
        finding: StallFinding,
    },
    /// It failed while it waited for another session's lock.
    #[error(
        "{failure}; it waited for a lock of another session ({holder}): end that, back up at a quieter time, or raise BACKUP_LOCK_WAIT_TIMEOUT"
    )]
    Locked {
        /// How it ended.
        failure: IncompleteDump,
        /// The session that held the lock.
        holder: String,
    },
    /// It blocked another session for too long.
    #[error(
        "the dump gave way after it had blocked another session (pid {pid}: {query}) for {}: back up at a quieter time, or raise BACKUP_MAX_BLOCKING",
        humantime::format_duration(*.limit)
    )]
    GaveWay {
        /// `BACKUP_MAX_BLOCKING`
        limit: Duration,
        /// The pid of the blocked backend.
        pid: i32,
        /// Its query.
        query: String,
    },
    /// The system does not return its exit status.
    #[error("wait for pg_dump")]
    Wait(#[source] std::io::Error),
}

/// What the server says of a `pg_dump` that writes nothing.
#[derive(Debug)]
pub enum StallFinding {
    /// It waits for `pg_dump`, or for the network.
    Waits(Box<Backend>),
    /// It has no session of this `pg_dump`.
    Gone,
    /// The control session is lost.
    Unknown,
}

impl fmt::Display for StallFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waits(backend) => write!(f, "the server waits for it ({backend})"),
            Self::Gone => f.write_str("the server has no session of it"),
            Self::Unknown => f.write_str("the server cannot be asked what it does"),
        }
    }
}
