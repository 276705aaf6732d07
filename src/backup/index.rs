//! The index of one backup: completed once the manifest says all, kept in the spool, written after the commit.
//!
//! Called by [`super::run`] and [`super::resume`]. Nothing here makes a backup fail: a missing index is named in the manifest, and
//! logged unless the dump cannot have one.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::BackupError;
use super::limits::COMMIT_GRACE;
use super::settings::BackupSettings;
use super::sidecars::{FileFailure, Sidecars, forms, of_backup};
use crate::archive::manifest::{INDEX_WORD, IndexFile, Manifest};
use crate::archive::name::{ENCRYPTED_INDEX_SUFFIX, INDEX_SUFFIX};
use crate::codec::age::{self, Recipients};
use crate::error_chain::Chain;
use crate::index::{Details, Draft, Stream};
use crate::postgres::Dump;
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
    /// Those of `pg_dump`, with their values.
    arguments: Vec<String>,
    /// The entries and the compressed stream of the dump, until the sidecar is made of them.
    parts: Mutex<Option<(Draft, Stream)>>,
    /// The sidecar's bytes, encrypted if the dump is: nothing else of it leaves this module.
    packed: OnceLock<Result<Bytes, IndexFailure>>,
}

impl<'a> IndexOfRun<'a> {
    /// For the dump of this run, and the number of invalid partitioned indexes in its database.
    pub fn new(run_id: &'a str, invalid_indexes: Option<u64>, settings: &'a BackupSettings) -> Self {
        let (recipients, arguments) = (settings.recipients.as_ref(), Dump::arguments(&settings.postgres));
        Self { run_id, invalid_indexes, recipients, arguments, parts: Mutex::default(), packed: OnceLock::new() }
    }

    /// Takes the entries and the stream of a complete dump.
    pub fn complete(&self, entries: Option<Draft>, stream: Stream) {
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = entries.map(|entries| (entries, stream));
    }

    /// Makes the sidecar, once. It is encrypted for the recipients, because it names all tables, and what this manifest will leave
    /// out.
    fn packed(&self, manifest: &Manifest) -> &Result<Bytes, IndexFailure> {
        self.packed.get_or_init(|| {
            let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (entries, stream) = parts.ok_or(IndexFailure::NotMade)?;
            let details = manifest.details(&self.arguments).and_then(bounded);
            let packed = entries.complete(stream, self.run_id, self.invalid_indexes, details);
            let Some(recipients) = self.recipients else { return Ok(packed.into()) };
            Ok(age::encrypt(recipients, &packed).map_err(FileFailure::Encrypted)?.into())
        })
    }

    /// Stores it in the spool, and adds it to the manifest of the dump that waits there.
    pub async fn keep(&self, spool: Option<&Arc<Spool>>, manifest: Manifest) -> Manifest {
        let Some(spool) = spool else { return manifest };
        let packed = match self.packed(&manifest) {
            Ok(packed) => packed,
            Err(failure) => return manifest.with_index(Err(failure.reason())),
        };
        let stored = spool.store_sidecar(KeptSidecar::Index, packed.clone()).await;
        let kept = stored.map(|()| index_file(&manifest.file_name, packed)).map_err(FileFailure::Spooled);
        manifest.with_index(kept.map_err(|failure| IndexFailure::from(failure).reason()))
    }

    /// Writes the index of a committed backup.
    pub async fn write(self, sidecars: &Sidecars<'_>, manifest: Manifest) -> Manifest {
        self.packed(&manifest);
        match self.packed.into_inner().unwrap_or(Err(IndexFailure::NotMade)) {
            Ok(packed) => manifest.with_index(write(sidecars, packed.into()).await),
            Err(failure @ IndexFailure::NotMade) => manifest.with_index(Err(failure.reason())),
            Err(failure) => manifest.with_index(Err(reported(sidecars, &failure))),
        }
    }
}

/// What the manifest leaves out, if the index has space for it.
fn bounded(details: Details) -> Option<Details> {
    let (roles, extensions) = (details.roles.len(), details.extensions.len());
    let bounded = details.within_bounds();
    if bounded.is_none() {
        tracing::warn!(roles, extensions, "the index does not name what the dump refers to: it would be too large");
    }
    bounded
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
