//! Where a dump goes: an upload that is fed from memory, or from the spool. Begun before the dump, committed after it.
//!
//! Called by [`super::run`]. The upload is the write test: what S3 refuses here ends the run before `pg_dump` is started.

use std::sync::Arc;

use chrono::Utc;

use crate::error_chain::Chain;
use crate::pipeline::PartPlan;
use crate::postgres::Session;
use crate::proof::VerifiedDump;
use crate::spool::{Spool, SpoolDir, SpoolError, Start};
use crate::storage::{Beginning, Committed, Destination, FailureKind, PartStore, StorageError, Upload};

use super::BackupError;
use super::limits::{COMMIT_GRACE, Limits};
use super::resume;
use super::settings::BackupSettings;
use super::spooled::{Opening, Spooled, keep};
use super::stream::Job;
use crate::archive::name::BackupName;

/// Runs to one path seldom begin in the same second: so many names in a row are taken only where a store says yes to everything.
const MOST_NAMES: u32 = 10;

/// Where one dump goes.
pub(super) enum Target {
    Memory(Box<Upload>),
    Spooled(Box<Spooled>),
}

/// One run's way to the destination.
pub(super) struct UploadPlan<'a> {
    pub destination: &'a Destination,
    pub run_id: &'a str,
    /// After the start time.
    pub name: BackupName,
    pub plan: &'a PartPlan,
    /// The dump leaves a part of its database out.
    pub is_partial: bool,
}

impl Target {
    /// The object's key; with a spool, as long as nothing else stands there.
    pub fn key(&self) -> &str {
        match self {
            Self::Memory(upload) => upload.key(),
            Self::Spooled(spooled) => spooled.key(),
        }
    }

    /// The files that must go once the object is committed.
    pub fn spool(&self) -> Option<Arc<Spool>> {
        match self {
            Self::Memory(_) => None,
            Self::Spooled(spooled) => Some(Arc::clone(&spooled.spool)),
        }
    }
}

impl UploadPlan<'_> {
    /// Begins the upload under the first free name; with a room in the spool, beside files of its own.
    pub async fn begin(
        &self,
        settings: &BackupSettings,
        limits: &Limits,
        spool_dir: Option<&SpoolDir>,
    ) -> Result<Target, BackupError> {
        let spool = match spool_dir {
            Some(spool_dir) => self.spool(settings, limits, spool_dir).await?,
            None => None,
        };
        match spool {
            Some(spool) => self.begin_spooled(limits, spool).await.map(|spooled| Target::Spooled(Box::new(spooled))),
            None => self.begin_in_memory(limits).await.map(|upload| Target::Memory(Box::new(upload))),
        }
    }

    async fn begin_in_memory(&self, limits: &Limits) -> Result<Upload, BackupError> {
        begin_under_free_name(self.destination, self.name, &self.beginning(PartStore::Memory), Some(limits)).await
    }

    /// Makes this run's files; where the disk has no room for them, the run goes on without.
    async fn spool(
        &self,
        settings: &BackupSettings,
        limits: &Limits,
        spool_dir: &SpoolDir,
    ) -> Result<Option<Arc<Spool>>, BackupError> {
        let location = self.destination.location(&self.destination.key(""));
        let (identity, checksum) = (settings.s3.identity(), self.destination.checksum());
        let start = Start::new(identity, location, self.run_id, self.name.to_string(), checksum);
        let made = limits.within(async { Ok(spool_dir.create(start).await) }).await?;
        Ok(made.inspect_err(warn_of_no_spool).ok())
    }

    /// Where S3 does not answer, the upload goes on being begun beside the dump.
    async fn begin_spooled(&self, limits: &Limits, spool: Arc<Spool>) -> Result<Spooled, BackupError> {
        let with = self.beginning(PartStore::Spool(Arc::clone(&spool)));
        let (destination, key) = (self.destination.clone(), with.key.clone());
        let outage = self.destination.outage();
        // A first attempt may take longer than the entire budget: that must not end a run that can dump meanwhile.
        outage.suspend();
        let disturbed = outage.disturbed();
        let (there, name) = (destination.clone(), self.name);
        let mut going = tokio::spawn(async move { begin_under_free_name(&there, name, &with, None).await });
        let begun = tokio::select! {
            begun = &mut going => Some(begun.unwrap_or_else(|error| Err(BackupError::Internal(error.into())))),
            () = disturbed => None,
            reason = limits.reached() => {
                Spooled { destination, spool, key, opening: Opening::Going(going) }.give_up(limits).await;
                return Err(reason);
            }
        };
        let opening = match begun {
            Some(Ok(upload)) => Opening::Done(Box::new(upload)),
            Some(Err(error)) => {
                outage.resume();
                limits.to_the_end(spool.delete()).await;
                return Err(error);
            }
            None => {
                tracing::warn!("S3 does not answer: the dump goes to the spool meanwhile");
                Opening::Going(going)
            }
        };
        Ok(Spooled { destination, spool, key, opening })
    }

    fn beginning(&self, store: PartStore) -> Beginning {
        let key = self.destination.key(&self.name.to_string());
        Beginning {
            key,
            run_id: self.run_id.to_owned(),
            is_partial: self.is_partial,
            checksum: self.destination.checksum(),
            store,
        }
    }
}

impl Job<'_> {
    /// Dumps into the target and commits it. `describe` makes the manifest that a spool keeps.
    pub async fn fill(
        &self,
        target: Target,
        session: &mut Session,
        describe: impl AsyncFnOnce(&VerifiedDump) -> serde_json::Value,
    ) -> Result<Committed, BackupError> {
        match target {
            Target::Memory(upload) => {
                let (upload, verified) = self.stream(*upload, session).await?;
                commit(self.limits, upload, verified).await
            }
            Target::Spooled(target) => {
                let (spool, destination) = (Arc::clone(&target.spool), target.destination.clone());
                let (upload, verified) = self.stream_spooled(*target, session, describe).await?;
                let given_up = upload.clone();
                let committed = match commit(self.limits, upload, verified).await {
                    Err(error) if spool.is_complete() && wants_another_upload(&error) => {
                        tracing::warn!(error = %Chain(&error), "the upload cannot become the backup: sending the dump again from disk");
                        given_up.abort().await;
                        resume::send_again(&spool, (&destination, self.parts), self.limits).await
                    }
                    committed => committed,
                };
                if committed.is_err() {
                    if spool.is_complete() { keep(&spool) } else { self.limits.to_the_end(spool.delete()).await }
                }
                committed
            }
        }
    }
}

/// Whether the same parts can become the backup in another upload: S3 wants them again, has lost them, or another backup has got
/// the name.
fn wants_another_upload(error: &BackupError) -> bool {
    match error {
        BackupError::Storage(StorageError::Refused { failure, .. }) => {
            matches!(failure.kind, FailureKind::Conflict | FailureKind::NoSuchUpload)
        }
        BackupError::Storage(StorageError::Foreign { .. }) => true,
        _ => false,
    }
}

/// Commits an upload; a limit gives it some seconds more.
pub(super) async fn commit(limits: &Limits, upload: Upload, verified: VerifiedDump) -> Result<Committed, BackupError> {
    tracing::debug!(bytes = verified.totals().object_bytes, "the dump is complete: committing");
    let given_up = upload.clone();
    let committed = limits.within_grace(COMMIT_GRACE, async { Ok(upload.commit(verified).await?) }).await;
    if matches!(committed, Err(BackupError::Interrupted(_) | BackupError::TooLong { .. })) {
        given_up.abort_unless_kept(limits.time_left().await).await;
    }
    committed
}

/// Begins an upload under the first name that is free, from one on: no object has it, and, where uploads may be listed, no other
/// upload that is open. Waits for the second of each name, so that no name is later than what its manifest tells.
pub(super) async fn begin_under_free_name(
    destination: &Destination,
    first: BackupName,
    with: &Beginning,
    limits: Option<&Limits>,
) -> Result<Upload, BackupError> {
    let mut name = first;
    for attempt in 1..=MOST_NAMES {
        let waiting = async {
            wait_for(name).await;
            Ok(())
        };
        within(limits, waiting).await?;
        let key = destination.key(&name.to_string());
        if within(limits, async { Ok(destination.is_taken(&key).await?) }).await? {
            name = name.later(1);
            continue;
        }
        let with = Beginning { key, ..with.clone() };
        let upload = within(limits, async { Ok(destination.begin(with).await?) }).await?;
        match within(limits, async { Ok(upload.is_alone(&destination.key(&name.second())).await) }).await {
            Ok(true) => return Ok(upload),
            Ok(false) => tracing::info!(key = upload.key(), "another run has this second: taking a later one"),
            Err(reason) => {
                upload.abort().await;
                return Err(reason);
            }
        }
        upload.abort().await;
        // The other run may have seen this one, and does the same: two must not go on side by side.
        name = name.later(1 + fastrand::u32(..=attempt));
    }
    Err(StorageError::NoFreeName { key: destination.key(&first.to_string()), tried: MOST_NAMES }.into())
}

/// Does some work; where there are limits, unless one is reached first.
async fn within<T>(
    limits: Option<&Limits>,
    work: impl Future<Output = Result<T, BackupError>>,
) -> Result<T, BackupError> {
    match limits {
        Some(limits) => limits.within(work).await,
        None => work.await,
    }
}

/// Waits until the second of a name has come.
async fn wait_for(name: BackupName) {
    // Negative where it has.
    if let Ok(time) = (name.started() - Utc::now()).to_std() {
        tokio::time::sleep(time).await;
    }
}

/// The disk is no reason to have no backup.
pub(super) fn warn_of_no_spool(error: &SpoolError) {
    tracing::warn!(error = %Chain(error), "the backup goes on without the spool, and cannot be resumed should it be stopped");
}
