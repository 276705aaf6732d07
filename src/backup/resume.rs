//! Delivers what an earlier run left in the spool: sends and commits a complete dump, removes an incomplete one.
//!
//! Called by [`super::run`] before it connects to PostgreSQL. A complete dump that S3 does not accept now is kept and
//! ends the run, because the disk has space for one dump. A dump that S3 refuses permanently, or that cannot be read,
//! is set aside; a damaged one is deleted; then a fresh backup follows. A signal ends every wait.

mod fate;

use std::sync::Arc;

use chrono::Utc;
use tokio::sync::mpsc;

use crate::error_chain::Chain;
use crate::pipeline::{PartPlan, PartSettings, Progress};
use crate::spool::{CompleteDump, Found, Kept, QueuedPart, Resplit, SetAside, Spool, SpoolDir};
use crate::storage::{Aborted, Committed, Destination, NewUpload, StorageError, Upload};
use crate::verified_dump::VerifiedDump;

use self::fate::{Fate, fate, is_invalid, is_the_uploads_fault};
use super::free_name::begin_under_free_name;
use super::index;
use super::limits::Limits;
use super::shared::Shared;
use super::sidecars::Sidecars;
use super::upload_target::{commit, discard, report_kept};
use super::{BackupError, DumpError};
use crate::archive::manifest::{Manifest, Place};
use crate::archive::name::{self, BackupName, MANIFEST_SUFFIX};

/// Delivers, removes or sets aside what earlier runs to this destination left. Returns the names of the delivered
/// backups.
///
/// # Errors
/// If a complete dump is kept because S3 does not accept it now, the disk does not answer, or the run is stopped.
pub(super) async fn deliver(
    spool_dir: &SpoolDir,
    (destination, shared): (&Destination, &Shared),
    parts: &PartSettings,
    limits: &Limits,
) -> Result<Vec<BackupName>, BackupError> {
    let found = async {
        for path in spool_dir.set_aside_runs().await? {
            let path = path.display();
            tracing::warn!(%path, "a dump that was set aside is in the spool: look at it, then delete it");
        }
        Ok(spool_dir.found().await?)
    };
    let delivery = Delivery { destination, shared, parts, limits };
    let mut delivered = Vec::new();
    for found in limits.within(found).await? {
        match found {
            Found::Complete(kept, damage) => {
                if let Some(damage) = damage {
                    tracing::warn!(%damage, "the journal of an earlier run is damaged, but not where its dump needs it");
                }
                delivered.extend(delivery.deliver(spool_dir, &kept).await?);
            }
            Found::Unfinished(kept) => {
                let file_name = &kept.journal.start.file_name;
                tracing::info!(
                    file_name,
                    "an earlier run was stopped before its dump was complete: removing what it left"
                );
                delivery.remove(&kept).await?;
            }
            Found::Damaged(damage, kept) => {
                tracing::warn!(%damage, "the journal of an earlier run is damaged: removing what it left");
                if let Some(kept) = kept {
                    delivery.remove(&kept).await?;
                }
            }
            Found::Foreign(path, why) => delivery.set_aside((spool_dir, &path), why, why.explanation()).await?,
            Found::Nothing => {}
        }
    }
    Ok(delivered)
}

/// Warns of complete dumps that are for other destinations.
///
/// # Errors
/// If the disk does not answer.
pub(super) async fn warn_of_others(spool_dir: &SpoolDir) -> Result<(), BackupError> {
    for dump in spool_dir.complete_dumps_of_others().await? {
        warn_of_other(&dump);
    }
    Ok(())
}

/// Warns of a complete dump that is for another destination.
pub(super) fn warn_of_other(dump: &CompleteDump) {
    let (path, location) = (dump.path.display(), &dump.location);
    tracing::warn!(%path, location, "a complete dump for another destination is in the spool: it is left alone");
}

/// Sends this run's dump from disk, as another upload.
///
/// # Errors
/// As any upload; the dump is kept.
pub(super) async fn send_again(
    spool: &Arc<Spool>,
    (destination, shared): (&Destination, &Shared),
    parts: &PartSettings,
    limits: &Limits,
) -> Result<Committed, BackupError> {
    let journal = limits.within(async { Ok(spool.journal().await?) }).await?;
    let kept = Kept { spool: Arc::clone(spool), journal };
    let delivery = Delivery { destination, shared, parts, limits };
    let upload = delivery.begin(&kept).await?;
    delivery.finish(upload, &kept).await
}

/// Sends kept dumps to S3.
struct Delivery<'a> {
    destination: &'a Destination,
    shared: &'a Shared,
    parts: &'a PartSettings,
    limits: &'a Limits,
}

impl Delivery<'_> {
    async fn deliver(&self, spool_dir: &SpoolDir, kept: &Kept) -> Result<Option<BackupName>, BackupError> {
        let file_name = &kept.journal.start.file_name;
        tracing::info!(
            file_name,
            parts = kept.journal.parts.len(),
            "a complete dump waits in the spool: delivering it"
        );
        let delivered = match self.send(kept).await {
            Ok((committed, part_bytes)) => self.describe(kept, &committed, part_bytes).await.map(|()| committed),
            Err(error) => Err(error),
        };
        let error = match delivered {
            Ok(committed) => {
                let location = self.destination.location(committed.key());
                tracing::info!(location, bytes = committed.bytes(), "the backup of an earlier run is delivered");
                self.limits.to_the_end(kept.spool.delete()).await;
                return Ok(BackupName::parse(name::file_name(committed.key())));
            }
            Err(error) => error,
        };
        let cause = Chain(&error).to_string();
        match fate(&error) {
            Fate::Kept => {
                report_kept(&kept.spool);
                return Err(error);
            }
            Fate::SetAside(why) => self.set_aside((spool_dir, kept.spool.path()), why, &cause).await?,
            Fate::Dropped => {
                tracing::warn!(
                    file_name,
                    error = cause,
                    "the dump in the spool cannot be delivered: a fresh one is taken"
                );
                self.remove(kept).await?;
            }
        }
        Ok(None)
    }

    /// Completes the earlier run's upload, or starts another; returns the part size if the dump was split into other
    /// parts.
    async fn send(&self, kept: &Kept) -> Result<(Committed, Option<u64>), BackupError> {
        let mut fits_settings = self.fits_settings(kept);
        if let Some(upload) = self.destination.resume(&kept.journal, &kept.spool) {
            let previous = upload.clone();
            if fits_settings {
                let error = match self.finish(upload, kept).await {
                    Err(error) if is_the_uploads_fault(&error) => error,
                    other => return Ok((other?, None)),
                };
                fits_settings = !is_invalid(&error);
                let error = Chain(&error).to_string();
                tracing::warn!(error, "the upload of the earlier run cannot be completed: checking whether it was");
            }
            if let Some(committed) = self.find(&previous, verified(kept)?).await? {
                return Ok((committed, None));
            }
            self.limits.within(async { Ok(previous.abort().await) }).await?;
        }
        let upload = self.begin(kept).await?;
        let started = upload.clone();
        let plan = (!fits_settings).then(|| self.parts.plan_for(object_bytes(kept)));
        let part_bytes = plan.as_ref().map(PartPlan::base);
        let sent = match plan {
            None => self.finish(upload, kept).await,
            Some(plan) => self.finish_resplit(upload, kept, plan).await,
        };
        if sent.as_ref().is_err_and(|error| !matches!(fate(error), Fate::Kept)) {
            self.limits.within(async { Ok(started.abort().await) }).await?;
        }
        Ok((sent?, part_bytes))
    }

    /// Whether the parts fit the current settings.
    fn fits_settings(&self, kept: &Kept) -> bool {
        let sizes: Vec<u64> = kept.journal.parts.values().map(|part| part.bytes).collect();
        self.parts.allow(&sizes) && kept.journal.start.checksum == self.destination.checksum()
    }

    async fn begin(&self, kept: &Kept) -> Result<Upload, BackupError> {
        let start = &kept.journal.start;
        let Some(name) = BackupName::parse(&start.file_name) else {
            return Err(DumpError::IncompleteDump(crate::verified_dump::IncompleteDump::NotKept(
                "its name is no backup's",
            ))
            .into());
        };
        let key = self.destination.key(&start.file_name);
        let is_partial =
            kept.journal.verification.as_ref().is_some_and(|recorded| recorded.manifest["partial"] == true);
        let checksum = self.destination.checksum();
        let with =
            NewUpload { key, run_id: start.run_id.clone(), is_partial, checksum, content_type: name.content_type() };
        begin_under_free_name(self.destination, name, (&with, Some(&kept.spool)), Some(self.limits)).await
    }

    /// Sends the parts that S3 does not have, and commits.
    async fn finish(&self, mut upload: Upload, kept: &Kept) -> Result<Committed, BackupError> {
        let verified = verified(kept)?;
        let (queue, waiting) = mpsc::unbounded_channel();
        let missing = kept.journal.parts.values().filter(|part| !upload.has(part.number));
        // The receiver is still there.
        missing.for_each(|part| _ = queue.send(QueuedPart::Spooled(part.clone())));
        drop(queue);
        // The parts have another run's sizes: memory and number in flight follow the largest.
        let largest = kept.journal.parts.values().map(|part| part.bytes).max();
        let plan = PartPlan::new(&PartSettings { base: largest, ..self.parts.clone() }, 0);
        let memory = self.shared.memory.share(&plan);
        let sent = async { Ok(upload.send_parts(waiting, (&memory, &self.shared.lanes), &Progress::default()).await?) };
        self.limits.within(sent).await?;
        commit(self.limits, upload, verified).await
    }

    /// Sends the dump in parts of another size, and commits.
    async fn finish_resplit(&self, mut upload: Upload, kept: &Kept, plan: PartPlan) -> Result<Committed, BackupError> {
        let part_bytes = plan.base();
        tracing::info!(
            part_bytes,
            "splitting the dump in the spool into other parts: the settings have changed, or S3 refuses these"
        );
        let (queue, waiting) = mpsc::unbounded_channel();
        let memory = self.shared.memory.share(&plan);
        let cutting = Resplit::new(kept, memory.clone(), self.destination.checksum()).run(queue);
        let progress = Progress::default();
        let sent = async {
            let cutting = async { cutting.await.map_err(StorageError::from) };
            let (cut, ()) =
                tokio::try_join!(cutting, upload.send_parts(waiting, (&memory, &self.shared.lanes), &progress))?;
            Ok(cut)
        };
        let cut = self.limits.within(sent).await?;
        let verified = verified(kept)?.resplit(&cut).map_err(DumpError::IncompleteDump)?;
        commit(self.limits, upload, verified).await
    }

    async fn find(&self, upload: &Upload, verified: VerifiedDump) -> Result<Option<Committed>, BackupError> {
        match self.limits.within(async { Ok(upload.find_committed(verified).await?) }).await {
            // HEAD is denied: another upload may be refused because this one was committed.
            Err(BackupError::Storage(StorageError::Refused { .. })) => Ok(None),
            // The object that was there is deleted again.
            Err(BackupError::Storage(error @ StorageError::Mismatch { .. })) => {
                tracing::warn!(error = %Chain(&error), "the object that S3 made of the dump in the spool is not what was sent");
                Ok(None)
            }
            other => other,
        }
    }

    /// Writes the manifest that the earlier run made.
    async fn describe(&self, kept: &Kept, committed: &Committed, part_bytes: Option<u64>) -> Result<(), BackupError> {
        // The earlier run may have written a better one, with the globals.
        let file_name = format!("{}{MANIFEST_SUFFIX}", name::file_name(committed.key()));
        let reading = async { Ok(self.destination.read_manifest::<Manifest>(&file_name).await?) };
        let written = match self.limits.within(reading).await {
            Ok(manifest) => manifest.and_then(Result::ok),
            // The object was committed just now by the answer to Complete alone, so there is no manifest yet.
            Err(BackupError::Storage(StorageError::Refused { .. })) => None,
            Err(error @ BackupError::Storage(_)) => {
                tracing::warn!(error = %Chain(&error), "the backup is committed, but its manifest cannot be read");
                return Ok(());
            }
            Err(stopped) => return Err(stopped),
        };
        if written.is_some_and(|manifest| manifest.run_id == kept.journal.start.run_id) {
            return Ok(());
        }
        let draft = kept.journal.verification.as_ref().map(|recorded| recorded.manifest.clone()).unwrap_or_default();
        match serde_json::from_value::<Manifest>(draft) {
            Ok(draft) => {
                let location = self.destination.location(committed.key());
                let parts = committed.verified().totals().parts;
                let draft = Manifest { parts, part_bytes: part_bytes.unwrap_or(draft.part_bytes), ..draft };
                let place = Place { location: &location, endpoint: self.destination.endpoint() };
                let sidecars = Sidecars { committed, limits: self.limits };
                let manifest =
                    sidecars.write_kept_globals(&kept.spool, draft.delivered(committed.key(), Utc::now())).await;
                let manifest = index::write_kept(&sidecars, &kept.spool, manifest).await.with_restore(&place);
                sidecars.write_manifest(&manifest).await;
            }
            Err(error) => tracing::warn!(%error, "the backup is committed, but without its manifest"),
        }
        Ok(())
    }

    /// Removes the upload and the files of a run that cannot be delivered.
    async fn remove(&self, kept: &Kept) -> Result<(), BackupError> {
        let aborting = async {
            Ok(match self.destination.resume(&kept.journal, &kept.spool) {
                Some(upload) => upload.abort().await,
                // An upload that the journal does not name has no parts; it is cleaned up as abandoned.
                None => Aborted::AsFarAsPossible,
            })
        };
        let aborted = self.limits.within(aborting).await;
        discard(&kept.spool, *aborted.as_ref().unwrap_or(&Aborted::NotYet), self.limits).await;
        aborted.map(drop)
    }

    /// Moves files that this run may neither deliver nor delete out of the way.
    async fn set_aside(
        &self,
        (spool_dir, run): (&SpoolDir, &std::path::Path),
        why: SetAside,
        cause: &str,
    ) -> Result<(), BackupError> {
        let place = self.limits.within(async { Ok(spool_dir.set_aside(run, why).await?) }).await?;
        let place = place.display();
        tracing::warn!(
            %place,
            error = cause,
            "what an earlier run left in the spool is set aside, and a fresh backup is taken: once the cause is fixed, \
             rename the directory to its last 32 digits to have it delivered, or delete it"
        );
        Ok(())
    }
}

fn object_bytes(kept: &Kept) -> u64 {
    kept.journal.parts.values().map(|part| part.bytes).sum()
}

fn verified(kept: &Kept) -> Result<VerifiedDump, BackupError> {
    Ok(kept.journal.verified().map_err(DumpError::IncompleteDump)?)
}
