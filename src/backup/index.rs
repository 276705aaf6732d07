//! The index of one backup: completed when the dump is, kept in the spool, written after the commit.
//!
//! Called by [`super::run`] and [`super::resume`]. Nothing here makes a backup fail: a missing index is named in the manifest, and
//! logged unless the dump cannot have one.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::BackupError;
use super::limits::COMMIT_GRACE;
use super::sidecars::{FileFailure, Sidecars, forms, of_backup};
use crate::archive::manifest::{INDEX_WORD, IndexFile, Manifest};
use crate::archive::name::{ENCRYPTED_INDEX_SUFFIX, INDEX_SUFFIX};
use crate::codec::age::{self, Recipients};
use crate::error_chain::Chain;
use crate::index::{Draft, Stream};
use crate::spool::{KeptSidecar, Spool};
use crate::storage::Sidecar;

/// The index: the file of a plain backup, and that of an encrypted one.
const INDEX: [Sidecar; 2] = forms([INDEX_SUFFIX, ENCRYPTED_INDEX_SUFFIX], "write the index");

/// Why there is no index.
#[derive(Debug, thiserror::Error)]
enum IndexFailure {
    #[error("the dump has too many entries, or is not as pg_dump writes it")]
    NotMade,
    #[error(transparent)]
    File(#[from] FileFailure),
}

impl IndexFailure {
    /// The reason for the manifest, in this program's own words.
    fn reason(&self) -> String {
        format!("{INDEX_WORD}: {self}")
    }
}

/// The index of one backup.
pub(super) struct IndexOfRun<'a> {
    run_id: &'a str,
    invalid_indexes: Option<u64>,
    recipients: Option<&'a Recipients>,
    /// The sidecar's bytes, encrypted if the dump is: nothing else of it leaves this module.
    made: OnceLock<Result<Bytes, IndexFailure>>,
}

impl<'a> IndexOfRun<'a> {
    /// For the dump of this run, and the number of invalid partitioned indexes in its database.
    pub fn new(run_id: &'a str, invalid_indexes: Option<u64>, recipients: Option<&'a Recipients>) -> Self {
        Self { run_id, invalid_indexes, recipients, made: OnceLock::new() }
    }

    /// Completes it. Encrypts it for the recipients, because it names all tables.
    pub fn make(&self, entries: Option<Draft>, stream: Stream) {
        let complete = |entries: Draft| {
            let packed = entries.complete(stream, self.run_id, self.invalid_indexes);
            let Some(recipients) = self.recipients else { return Ok(packed.into()) };
            Ok(age::encrypt(recipients, &packed).map_err(FileFailure::Encrypted)?.into())
        };
        // Set here alone.
        let _ = self.made.set(entries.ok_or(IndexFailure::NotMade).and_then(complete));
    }

    /// Stores it in the spool, and adds it to the manifest of the dump that waits there.
    pub async fn keep(&self, spool: Option<&Arc<Spool>>, manifest: Manifest) -> Manifest {
        let Some(spool) = spool else { return manifest };
        let packed = match self.made.get().unwrap_or(&Err(IndexFailure::NotMade)) {
            Ok(packed) => packed,
            Err(failure) => return manifest.with_index(Err(failure.reason())),
        };
        let stored = spool.store_sidecar(KeptSidecar::Index, packed.clone()).await;
        let kept = stored.map(|()| index_file(&manifest.file_name, packed)).map_err(FileFailure::Spooled);
        manifest.with_index(kept.map_err(|failure| IndexFailure::from(failure).reason()))
    }

    /// Writes the index of a committed backup.
    pub async fn write(self, sidecars: &Sidecars<'_>, manifest: Manifest) -> Manifest {
        match self.made.into_inner().unwrap_or(Err(IndexFailure::NotMade)) {
            Ok(packed) => manifest.with_index(write(sidecars, packed.into()).await),
            Err(failure @ IndexFailure::NotMade) => manifest.with_index(Err(failure.reason())),
            Err(failure) => manifest.with_index(Err(reported(sidecars, &failure))),
        }
    }
}

/// Writes the index that an earlier run left in the spool and its manifest names.
pub(super) async fn write_kept(sidecars: &Sidecars<'_>, spool: &Arc<Spool>, manifest: Manifest) -> Manifest {
    let Some(file) = manifest.index.clone() else { return manifest };
    let written = match spool.read_sidecar(KeptSidecar::Index, (file.bytes, &file.sha256)).await {
        Some(packed) => write(sidecars, packed).await,
        None => Err(reported(sidecars, &FileFailure::Lost.into())),
    };
    manifest.with_index(written)
}

async fn write(sidecars: &Sidecars<'_>, packed: Vec<u8>) -> Result<IndexFile, String> {
    let file = index_file(sidecars.file_name(), &packed);
    let kind = of_backup(sidecars.file_name(), INDEX);
    let writing = async { Ok(sidecars.committed.write_sidecar(kind, packed).await?) };
    // A reached limit leaves some time, and then some for the manifest.
    let failure = match sidecars.limits.within_grace(COMMIT_GRACE, writing).await {
        Ok(()) => return Ok(file),
        Err(BackupError::Storage(error)) => FileFailure::Stored(error),
        Err(stopped) => FileFailure::Stopped(Box::new(stopped)),
    };
    Err(reported(sidecars, &failure.into()))
}

/// Logs why there is none, and returns the reason for the manifest.
fn reported(sidecars: &Sidecars<'_>, failure: &IndexFailure) -> String {
    let key = sidecars.committed.key();
    tracing::warn!(key, error = %Chain(failure), "the backup is committed, but without its index");
    failure.reason()
}

fn index_file(backup: &str, packed: &[u8]) -> IndexFile {
    IndexFile {
        file_name: format!("{backup}{}", of_backup(backup, INDEX).suffix),
        bytes: packed.len() as u64,
        sha256: hex::encode(Sha256::digest(packed)),
    }
}
