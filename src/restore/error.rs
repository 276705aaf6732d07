//! Why a restore failed; the target is then as it was before.

use std::io;

use crate::archive::Mismatch;
use crate::disk::DiskError;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupt;
use crate::postgres::PostgresError;
use crate::storage::{Damaged, StorageError};

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
    /// This target is not there yet.
    #[error("restore into {0}: this version cannot do that yet")]
    Unsupported(&'static str),
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
            | Self::DamagedManifest { .. }
            | Self::Archived { .. }
            | Self::BeingUnarchived { .. }
            | Self::Output { .. }
            | Self::Disk(_)
            | Self::Unsupported(_) => ExitCode::RestoreFailed,
            Self::Storage(error) => error.exit_code(),
            Self::Postgres(PostgresError::TransactionPooler { .. }) => ExitCode::InvalidSetting,
            Self::Postgres(_) => ExitCode::PostgresUnavailable,
            Self::Interrupted(interrupt) => interrupt.exit_code(),
        }
    }
}
