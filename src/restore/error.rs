//! Why a restore failed; the target is then as it was before.

use std::io;

use crate::archive::Mismatch;
use crate::disk::DiskError;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupt;
use crate::postgres::{Outcome, PostgresError};
use crate::storage::{Damaged, StorageError};

use super::filter::FilterError;
use super::{RolesError, ScratchError};

/// Why a restore failed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup is not what was uploaded, or holds no complete dump.
    #[error(
        "verify {file_name}: {mismatch}: nothing was restored: take another backup (where the manifest itself is at fault: --ignore-manifest)"
    )]
    Mismatch {
        /// The backup.
        file_name: String,
        /// The check that failed.
        mismatch: Mismatch,
    },
    /// The backup was listed, but is not there any more.
    #[error("read {file_name}: it was deleted a moment ago: look with `list`")]
    Gone {
        /// The backup.
        file_name: String,
    },
    /// There is a manifest, but it says nothing.
    #[error(
        "read the manifest of {file_name}: it is damaged: restore another backup, or this one with --ignore-manifest"
    )]
    DamagedManifest {
        /// The backup.
        file_name: String,
        /// Why.
        source: Damaged,
    },
    /// The object is in an archive.
    #[error("read {file_name}: it is archived ({class}): ask for it, wait some hours, and restore it then: {command}")]
    Archived {
        /// The backup.
        file_name: String,
        /// The storage class.
        class: String,
        /// What asks for it.
        command: String,
    },
    /// The object is on its way out of an archive.
    #[error("read {file_name}: the store is bringing it back from its archive: try again in some hours")]
    BeingUnarchived {
        /// The backup.
        file_name: String,
    },
    /// S3 refused or failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The target cannot be connected to or asked.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The database that was to be made.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// The roles or the globals.
    #[error(transparent)]
    Roles(#[from] RolesError),
    /// The target cannot be restored into; nothing was sent.
    #[error("restore: {}", problems.join("; "))]
    Target {
        /// What speaks against it; each ends with what to do.
        problems: Vec<String>,
    },
    /// The dump holds what no dump of `pg_dump` does.
    #[error("restore {file_name}: {failure}: nothing of it is in the target: find out who wrote this backup")]
    Refused {
        /// The backup.
        file_name: String,
        /// What was refused.
        failure: FilterError,
    },
    /// The server refused a statement, or the connection broke.
    #[error("restore {file_name} into {database:?}: {reason}: nothing of it is in the target: {hint}")]
    Statement {
        /// The backup.
        file_name: String,
        /// The database.
        database: String,
        /// psql's words.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// The server took another number of rows than the dump has.
    #[error("restore {file_name}: the server took {taken} rows of {sent} of {table}: nothing of it is in the target")]
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
    /// COMMIT failed, or was not answered.
    #[error("commit the restore into {database:?}: {cause}: {}", commit_words(*.outcome))]
    Commit {
        /// The database.
        database: String,
        /// What became of it.
        outcome: Outcome,
        /// What psql said.
        cause: PostgresError,
    },
    /// A file or a stream did not take the bytes.
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

impl RestoreError {
    /// The exit code that `restore` ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Mismatch { .. }
            | Self::Gone { .. }
            | Self::Target { .. }
            | Self::Refused { .. }
            | Self::Statement { .. }
            | Self::Rows { .. }
            | Self::Commit { .. }
            | Self::DamagedManifest { .. }
            | Self::Archived { .. }
            | Self::BeingUnarchived { .. }
            | Self::Output { .. }
            | Self::Disk(_) => ExitCode::RestoreFailed,
            Self::Scratch(error) => error.exit_code(),
            Self::Roles(error) => error.exit_code(),
            Self::Storage(error) => error.exit_code(),
            Self::Postgres(PostgresError::TransactionPooler { .. }) => ExitCode::InvalidSetting,
            Self::Postgres(_) => ExitCode::PostgresUnavailable,
            Self::Interrupted(interrupt) => interrupt.exit_code(),
        }
    }
}

/// What a failed COMMIT means for the target.
fn commit_words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Committed => "it took effect: the backup is restored",
        Outcome::RolledBack => "it was rolled back: nothing of it is in the target",
        Outcome::Unknown => {
            "whether it took effect is not known, as the server could not be asked: look into the database: it holds all of the backup, or nothing"
        }
    }
}
