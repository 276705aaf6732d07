//! The spool: keeps parts on disk until the object is committed. So a slow or unavailable S3 does not keep the database's
//! snapshot open, and a killed process loses no complete dump (docs/spool.md).
//!
//! ```text
//! BACKUP_SPOOL_DIR/                     created with mode 0700
//!   2f1b…/                              one destination: the sha256 of endpoint, bucket and path
//!     lock                              locked by the run that uses this directory
//!     7c9e…/                            one run, by its id
//!       journal  part-00001  part-00002 …  globals.sql.gz  index.json.gz
//!     refused-5d0a…/                    a run that cannot be delivered: set aside for the operator
//! ```
//!
//! `directory` finds and locks runs, `run` writes one run's files, [`journal`] is their state, `resplit` splits a kept dump
//! into other parts. `backup` fills a spool and delivers the dumps of earlier runs; `storage` reads parts from it and
//! records the parts that S3 accepted. Disk calls run in a thread of [`crate::disk`], with a deadline. `verified_dump` decides
//! whether a dump is complete.

mod directory;
pub mod journal;
mod resplit;
mod run;
mod sidecars;

use std::io;
use std::path::PathBuf;

use crate::disk::DiskError;
use crate::pipeline::SealedPart;

pub use directory::{
    CompleteDump, Found, Kept, SetAside, SpoolDir, check_writable, complete_dumps, holds_complete_dump, upload_ids,
};
pub use journal::{Damage, Journal, SpooledPart, Start, StartedUpload, Verification};
pub use resplit::Resplit;
pub use run::Spool;
pub use sidecars::KeptSidecar;

/// A part that waits for its upload.
#[derive(Clone)]
pub enum QueuedPart {
    /// In memory.
    Sealed(SealedPart),
    /// On disk.
    Spooled(SpooledPart),
}

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The directory cannot be created, locked or read.
    #[error("use the spool {}: set BACKUP_SPOOL_DIR to a directory that this user may write, or unset it", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another run holds it.
    #[error("another backup to this destination is using the spool {}: wait for it, or look for its process", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The disk does not answer.
    #[error("use the spool")]
    Disk(#[from] DiskError),
    /// Another version wrote an earlier run's journal, so its uploads are unknown.
    #[error(
        "read the spool {}: another version of pg-s3-backup wrote it: run that version, or delete the directory",
        path.display()
    )]
    OfAnotherVersion {
        /// The directory.
        path: PathBuf,
    },
    /// The disk returns an error.
    #[error("write to the spool")]
    Write(#[source] io::Error),
    /// The disk is full.
    #[error("write to the spool: {free} bytes are free, but {needed} are needed")]
    Full {
        /// Bytes that may still be written.
        free: u64,
        /// Bytes that the next part needs.
        needed: u64,
    },
    /// The spool has failed before.
    #[error("the spool failed earlier")]
    GivenUp,
    /// A part on disk has changed.
    #[error("read part {number} from the spool: its checksum differs")]
    Damaged {
        /// Which part.
        number: u32,
    },
    /// A part cannot be read.
    #[error("read part {number} from the spool")]
    Read {
        /// Which part.
        number: u32,
        /// Why.
        source: io::Error,
    },
}

impl SpoolError {
    /// Whether the disk failed, so that the backup can continue without a spool. `false` for a wrong setting or another run.
    #[must_use]
    pub fn may_do_without(&self) -> bool {
        match self {
            Self::Unusable { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
            ),
            Self::Busy { .. } | Self::OfAnotherVersion { .. } => false,
            Self::Disk(_)
            | Self::Write(_)
            | Self::Full { .. }
            | Self::GivenUp
            | Self::Damaged { .. }
            | Self::Read { .. } => true,
        }
    }
}
