//! Why a restore failed. The target is then as it was before.

use std::io;

use crate::archive::Mismatch;
use crate::disk::DiskError;
use crate::error_chain::Chain;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupt;
use crate::postgres::PostgresError;
use crate::storage::{Damaged, StorageError};

use super::busy::Busy;
use super::filter::FilterError;
use super::{RolesError, ScratchError};

/// Why a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Verification failed: the backup differs from what was uploaded, or its dump is incomplete.
    #[error("verify {file_name}: {mismatch}: nothing was restored: restore another backup{hint}")]
    Mismatch {
        /// The backup.
        file_name: String,
        /// The check that failed.
        mismatch: Mismatch,
        /// What else to do; empty if the manifest was not used.
        hint: &'static str,
    },
    /// The backup is encrypted, and nothing is there to open it.
    #[error(
        "BACKUP_AGE_IDENTITY is not set: {file_name} is encrypted{recipients}: set it to the content of an identity file \
         (or BACKUP_AGE_IDENTITY_FILE to its path)"
    )]
    NoIdentity {
        /// The backup.
        file_name: String,
        /// Whom it is encrypted for, if that is known.
        recipients: String,
    },
    /// The backup is encrypted for others.
    #[error(
        "open {file_name}: it is encrypted for {recipients}, but the identities in BACKUP_AGE_IDENTITY belong to {own}: \
         nothing was restored: set the identity of one of its recipients"
    )]
    WrongIdentity {
        /// The backup.
        file_name: String,
        /// Whom it is encrypted for.
        recipients: String,
        /// The public keys of the identities.
        own: String,
    },
    /// The backup was listed, but is not there any more.
    #[error("read {file_name}: it was just deleted: choose another one with `list`")]
    Gone {
        /// The backup.
        file_name: String,
    },
    /// The manifest cannot be parsed.
    #[error(
        "read the manifest of {file_name}: it is damaged: {}: restore another backup, or this one with --ignore-manifest",
        Chain(damage)
    )]
    DamagedManifest {
        /// The backup.
        file_name: String,
        /// Why.
        damage: Damaged,
    },
    /// Sections of the backup cannot be read, so nothing can be chosen from it.
    #[error(
        "restore {file_name}: --table, --schema, --schema-only and --data-only need an index that can be used: {reason}: \
         restore all of it with --create-db into a scratch database, and copy what you need from there with pg_dump"
    )]
    NoIndex {
        /// The backup.
        file_name: String,
        /// Why not.
        reason: String,
    },
    /// The backup has no index, so what it holds is not known.
    #[error(
        "list the contents of {file_name}: it has no index that can be used: `restore --output FILE` writes the complete dump"
    )]
    NoContents {
        /// The backup.
        file_name: String,
    },
    /// The object is in an archive storage class.
    #[error(
        "read {file_name}: it is archived ({class}): run the following command, and restore the backup some hours later: {command}"
    )]
    Archived {
        /// The backup.
        file_name: String,
        /// The storage class.
        class: String,
        /// The command that retrieves it.
        command: String,
    },
    /// The object is being retrieved from an archive.
    #[error("read {file_name}: the store is retrieving it from its archive: try again in some hours")]
    BeingUnarchived {
        /// The backup.
        file_name: String,
    },
    /// S3 refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The connection to the target or a query failed.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The scratch database failed.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The roles or the globals failed.
    #[error(transparent)]
    Roles(#[from] RolesError),
    /// Preconditions failed; nothing was sent.
    #[error("{}", problems.join("; "))]
    Target {
        /// The preconditions that failed; each ends with what to do.
        problems: Vec<String>,
    },
    /// The dump contains a statement that `pg_dump` never writes.
    #[error("restore {file_name}: {failure}: the target is unchanged: find out who wrote this backup to the bucket")]
    Refused {
        /// The backup.
        file_name: String,
        /// What was refused.
        failure: FilterError,
    },
    /// The server refused a statement, or the connection broke.
    #[error("restore {file_name} into {database:?}: {reason}: the target is unchanged: {hint}")]
    Statement {
        /// The backup.
        file_name: String,
        /// The database.
        database: String,
        /// psql's message.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The server counted other rows than the dump has.
    #[error("restore {file_name}: the server took {taken} rows of {sent} of {table}: the target is unchanged")]
    Rows {
        /// The backup.
        file_name: String,
        /// The table.
        table: String,
        /// Rows in the dump.
        sent: u64,
        /// Rows that the server counted.
        taken: u64,
    },
    /// The restored database has other invalid indexes than the source.
    #[error(
        "restore {file_name}: {found} partitioned indexes are invalid, but {expected} were when it was made: the target is unchanged: \
         use --jobs 1"
    )]
    InvalidIndexes {
        /// The backup.
        file_name: String,
        /// Invalid indexes in the restored database.
        found: u64,
        /// Invalid indexes in the database that was backed up.
        expected: u64,
    },
    /// COMMIT failed.
    #[error("commit the restore into {database:?}: {cause}: it was rolled back: the target is unchanged")]
    RolledBack {
        /// The database.
        database: String,
        /// psql's message.
        cause: PostgresError,
    },
    /// COMMIT was not answered.
    #[error(
        "commit the restore into {database:?}: {cause}: it is unknown whether it took effect, because the server does not answer: \
         check the database: it has either the complete backup or nothing of it"
    )]
    Unknown {
        /// The database.
        database: String,
        /// psql's message.
        cause: PostgresError,
    },
    /// The restore failed, but the server has committed its transaction. The filter does not let such a statement pass, so this
    /// is a dump that psql reads otherwise than this program.
    #[error(
        "restore {file_name} into {database:?}: a statement of the dump has committed a part of it: drop and create the database, \
         and find out who wrote this backup to the bucket"
    )]
    CommittedByDump {
        /// The backup.
        file_name: String,
        /// The database.
        database: String,
    },
    /// Another restore into the database is running.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The file exists, and is not overwritten.
    #[error("{file} exists: move it away, or choose another --output")]
    Exists {
        /// The file.
        file: String,
    },
    /// Writing to a file or a stream failed.
    #[error("write {target}: {error}: {advice}")]
    Output {
        /// The file, or `stdout`.
        target: String,
        /// Why.
        error: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// The disk does not answer.
    #[error(transparent)]
    Disk(DiskError),
    /// A signal asked the program to stop.
    #[error("stopped by {0}")]
    Interrupted(Interrupt),
}

impl From<Interrupt> for RestoreError {
    fn from(interrupt: Interrupt) -> Self {
        Self::Interrupted(interrupt)
    }
}

impl RestoreError {
    /// The exit code that `restore` ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoIdentity { .. } => ExitCode::MissingSetting,
            Self::Mismatch { .. }
            | Self::NoIndex { .. }
            | Self::NoContents { .. }
            | Self::WrongIdentity { .. }
            | Self::Gone { .. }
            | Self::Target { .. }
            | Self::Refused { .. }
            | Self::Statement { .. }
            | Self::Rows { .. }
            | Self::InvalidIndexes { .. }
            | Self::RolledBack { .. }
            | Self::Unknown { .. }
            | Self::CommittedByDump { .. }
            | Self::Busy(_)
            | Self::DamagedManifest { .. }
            | Self::Archived { .. }
            | Self::BeingUnarchived { .. }
            | Self::Exists { .. }
            | Self::Output { .. }
            | Self::Disk(_)
            // The connection had been there.
            | Self::Postgres(PostgresError::SessionLost { .. } | PostgresError::Answer(_)) => ExitCode::RestoreFailed,
            Self::Scratch(error) => error.exit_code(),
            Self::Roles(error) => error.exit_code(),
            Self::Storage(error) => error.exit_code(),
            Self::Postgres(PostgresError::TransactionPooler { .. }) => ExitCode::InvalidSetting,
            Self::Postgres(_) => ExitCode::PostgresUnavailable,
            Self::Interrupted(interrupt) => interrupt.exit_code(),
        }
    }
}
