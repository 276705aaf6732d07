//! Delivers what an earlier run left in the spool: a whole dump is sent and committed, anything else goes.
//!
//! Called by [`super::run`] before it connects to PostgreSQL. A whole dump that S3 cannot take now is kept and ends the
//! run: the disk has room for one. One that cannot be delivered at all is dropped, for a fresh backup is what follows.

use std::sync::Arc;

use chrono::Utc;
use tokio::sync::mpsc;

use crate::error::{Chain, Error};
use crate::pipeline::{PartPlan, PartSettings, Progress};
use crate::proof::WholeDump;
use crate::spool::{self, Found, Kept, Spool, SpoolDir};
use crate::storage::{Aborted, Beginning, Committed, Destination, FailureKind, PartStore, StorageError, Upload};

use super::DumpError;
use super::limits::Limits;
use super::manifest::{Manifest, Place};
use super::name::{self, BackupName, MANIFEST_SUFFIX};
use super::sidecars::write_manifest;
use super::spooled::{discard, keep};
use super::target::{begin_under_free_name, commit};

/// Delivers or removes everything that earlier runs to this destination left.
///
/// # Errors
/// Where a whole dump is kept, but S3 does not take it now, or the run is stopped.
pub(super) async fn deliver(
    room: &SpoolDir,
    destination: &Destination,
    parts: &PartSettings,
    limits: &Limits,
) -> Result<(), Error> {
    for (path, location) in room.strangers() {
        let path = path.display();
        tracing::warn!(%path, location, "a whole dump for another destination waits in the spool: it is left alone");
    }
    let courier = Courier { destination, parts, limits };
    for found in room.found()? {
        match found {
            Found::Whole(kept) => courier.deliver(&kept).await?,
            Found::Unfinished(kept) => {
                let file_name = &kept.journal.start.file_name;
                tracing::info!(
                    file_name,
                    "an earlier run was stopped before its dump was whole: removing what it left"
                );
                courier.remove(&kept).await?;
            }
            Found::Damaged(damage, kept) => {
                tracing::warn!(%damage, "the journal of an earlier run is damaged: removing what it left");
                if let Some(kept) = kept {
                    courier.remove(&kept).await?;
                }
            }
            Found::Nothing => {}
        }
    }
    Ok(())
}

/// Sends a dump that this run has on disk, as another upload.
///
/// # Errors
/// As any upload; the dump is kept then.
pub(super) async fn send_again(
    spool: &Arc<Spool>,
    (destination, parts): (&Destination, &PartSettings),
    limits: &Limits,
) -> Result<Committed, Error> {
    let journal = spool::blocking(spool, Spool::journal).await?;
    let kept = Kept { spool: Arc::clone(spool), journal };
    let whole = kept.journal.whole().map_err(|error| Error::from(DumpError::NotWhole(error)))?;
    let courier = Courier { destination, parts, limits };
    let upload = courier.begin(&kept, PartStore::Spool(Arc::clone(spool))).await?;
    courier.finish(upload, &kept, whole).await
}

/// Takes kept dumps to S3.
struct Courier<'a> {
    destination: &'a Destination,
    parts: &'a PartSettings,
    limits: &'a Limits,
}

impl Courier<'_> {
    async fn deliver(&self, kept: &Kept) -> Result<(), Error> {
        let file_name = &kept.journal.start.file_name;
        tracing::info!(file_name, parts = kept.journal.parts.len(), "a whole dump waits in the spool: delivering it");
        match self.send(kept).await {
            Ok(committed) => {
                self.describe(kept, &committed).await;
                let location = self.destination.location(committed.key());
                tracing::info!(location, bytes = committed.bytes(), "the backup of an earlier run is delivered");
                kept.spool.delete();
                Ok(())
            }
            Err(error) if may_be_delivered_later(&error) => {
                keep(&kept.spool);
                Err(error)
            }
            Err(error) => {
                let error = Chain(&error).to_string();
                tracing::warn!(file_name, error, "the dump in the spool cannot be delivered: a fresh one is taken");
                self.remove(kept).await
            }
        }
    }

    /// Ends the upload that the earlier run began, or begins another.
    async fn send(&self, kept: &Kept) -> Result<Committed, Error> {
        let whole = || kept.journal.whole().map_err(|error| Error::from(DumpError::NotWhole(error)));
        let store = PartStore::Spool(Arc::clone(&kept.spool));
        if let Some(upload) = self.destination.take_up(&kept.journal, store.clone()) {
            let given_up = upload.clone();
            let error = match self.finish(upload, kept, whole()?).await {
                Err(error) if is_the_uploads_fault(&error) => error,
                other => return other,
            };
            let error = Chain(&error).to_string();
            tracing::warn!(error, "the upload of the earlier run cannot be ended: looking whether it was");
            if let Some(committed) = self.find(&given_up, whole()?).await? {
                return Ok(committed);
            }
            given_up.abort().await;
        }
        let upload = self.begin(kept, store).await?;
        self.finish(upload, kept, whole()?).await
    }

    async fn begin(&self, kept: &Kept, store: PartStore) -> Result<Upload, Error> {
        let start = &kept.journal.start;
        let Some(name) = BackupName::parse(&start.file_name) else {
            return Err(DumpError::NotWhole(crate::proof::NotWhole::NotKept("its name is no backup's")).into());
        };
        let key = self.destination.key(&start.file_name);
        let is_partial = kept.journal.proof.as_ref().is_some_and(|proof| proof.manifest["partial"] == true);
        let with = Beginning { key, run_id: start.run_id.clone(), is_partial, checksum: start.checksum, store };
        begin_under_free_name(self.destination, name, &with, Some(self.limits)).await
    }

    /// Sends the parts that S3 does not have, and commits.
    async fn finish(&self, mut upload: Upload, kept: &Kept, whole: WholeDump) -> Result<Committed, Error> {
        let (queue, waiting) = mpsc::unbounded_channel();
        let missing = kept.journal.parts.values().filter(|part| !upload.has(part.number));
        // The receiver is here.
        missing.for_each(|part| _ = queue.send(part.clone()));
        drop(queue);
        // They were cut for another run's settings: as many at once as their own size allows.
        let largest = kept.journal.parts.values().map(|part| part.bytes).max();
        let plan = PartPlan::new(&PartSettings { base: largest, ..self.parts.clone() }, 0);
        let sent = async { Ok(upload.send_parts(waiting, &plan, &Progress::default()).await?) };
        self.limits.within(sent).await?;
        commit(self.limits, upload, whole).await
    }

    async fn find(&self, upload: &Upload, whole: WholeDump) -> Result<Option<Committed>, Error> {
        match self.limits.within(async { Ok(upload.find_committed(whole).await?) }).await {
            // HEAD is denied: nobody knows, and another upload may be refused because it was.
            Err(Error::Storage(StorageError::Refused { .. })) => Ok(None),
            other => other,
        }
    }

    /// Writes the manifest that the earlier run made.
    async fn describe(&self, kept: &Kept, committed: &Committed) {
        // The run that was killed may have written a better one, with the globals.
        let file_name = format!("{}{MANIFEST_SUFFIX}", name::file_name(committed.key()));
        let written = match self.destination.read_manifest::<Manifest>(&file_name).await {
            Ok(manifest) => manifest.and_then(Result::ok),
            // Who may not read has committed it just now, by the answer alone: nothing can be there.
            Err(StorageError::Refused { .. }) => None,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the backup is committed; whether its manifest is there is not known");
                return;
            }
        };
        if written.is_some_and(|manifest| manifest.run_id == kept.journal.start.run_id) {
            return;
        }
        let draft = kept.journal.proof.as_ref().map(|proof| proof.manifest.clone()).unwrap_or_default();
        match serde_json::from_value::<Manifest>(draft) {
            Ok(draft) => {
                let location = self.destination.location(committed.key());
                let manifest = draft.delivered(&Place { key: committed.key(), location: &location }, Utc::now());
                write_manifest(self.limits, self.destination, committed, &manifest).await;
            }
            Err(error) => tracing::warn!(%error, "the backup is committed, but without its manifest"),
        }
    }

    /// Removes what cannot be delivered: its upload, and its files.
    async fn remove(&self, kept: &Kept) -> Result<(), Error> {
        let removing = async {
            Ok(match self.destination.take_up(&kept.journal, PartStore::Memory) {
                Some(upload) => upload.abort().await,
                // It may have begun one that it could not note, without parts: that is the sweep's.
                None => Aborted::AsFarAsPossible,
            })
        };
        let removed = self.limits.within(removing).await;
        discard(&kept.spool, *removed.as_ref().unwrap_or(&Aborted::NotYet));
        removed.map(drop)
    }
}

/// Whether another run can do what this one cannot: S3 is away, does not take these credentials, or a signal came.
fn may_be_delivered_later(error: &Error) -> bool {
    match error {
        Error::Interrupted(_) | Error::TooLong { .. } => true,
        // Something stands under its name already, its own object perhaps: trying again would find the same for ever.
        Error::Storage(StorageError::Refused { failure, .. }) => {
            !matches!(failure.kind, FailureKind::Exists | FailureKind::NoSuchUpload)
        }
        Error::Storage(error) => matches!(error, StorageError::Outage { .. } | StorageError::NotEncrypted { .. }),
        _ => false,
    }
}

/// Whether another upload of the same parts may fare better.
fn is_the_uploads_fault(error: &Error) -> bool {
    matches!(
        error,
        Error::Storage(
            StorageError::Refused { .. }
                | StorageError::Foreign { .. }
                | StorageError::Mismatch { .. }
                | StorageError::Inconsistent { .. }
        )
    )
}
