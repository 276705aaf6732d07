//! Where a dump goes: an upload that is fed from memory, or from the spool. Begun before the dump, committed behind it.
//!
//! Called by [`super::run`]. The upload is the write test: what S3 refuses here ends the run before `pg_dump` is started.

use std::sync::Arc;

use crate::config::BackupConfig;
use crate::error::{Chain, Error};
use crate::pipeline::PartPlan;
use crate::postgres::Session;
use crate::proof::WholeDump;
use crate::spool::{Spool, SpoolDir, SpoolError, Start};
use crate::storage::{Beginning, Committed, Destination, PartStore, StorageError, Upload};

use super::limits::{COMMIT_GRACE, Limits};
use super::name::BackupName;
use super::spooled::{Opening, Spooled, keep};
use super::stream::Job;

/// Backups take longer than a second: this many names in a row are taken only where a store says yes to everything.
const MOST_NAMES: u32 = 60;

/// Where one dump goes.
pub(super) enum Target {
    Memory(Box<Upload>),
    Spooled(Spooled),
}

/// One run's way to the destination.
pub(super) struct Trip<'a> {
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

impl Trip<'_> {
    /// Begins the upload under the first free name; with a room in the spool, beside files of its own.
    pub async fn begin(
        &self,
        config: &BackupConfig,
        limits: &Limits,
        room: Option<&SpoolDir>,
    ) -> Result<Target, Error> {
        match room.and_then(|room| self.spool(config, room)) {
            Some(spool) => self.begin_spooled(limits, spool).await.map(Target::Spooled),
            None => self.begin_in_memory(limits).await.map(|upload| Target::Memory(Box::new(upload))),
        }
    }

    async fn begin_in_memory(&self, limits: &Limits) -> Result<Upload, Error> {
        let name = limits.within(free_name(self.destination, self.name)).await?;
        let with = Beginning { key: self.destination.key(&name.to_string()), ..self.beginning(PartStore::Memory) };
        let key = with.key.clone();
        let begun = limits.within(async { Ok(self.destination.begin(with).await?) }).await;
        if matches!(begun, Err(Error::Interrupted(_) | Error::TooLong { .. })) {
            // Stopped while the answer was on its way: S3 may have begun the upload all the same.
            self.destination.abandon(&key).await;
        }
        begun
    }

    /// Makes this run's files; where the disk has no room for them, the run goes on without.
    fn spool(&self, config: &BackupConfig, room: &SpoolDir) -> Option<Arc<Spool>> {
        let location = self.destination.location(&self.destination.key(""));
        let (identity, checksum) = (config.s3.identity(), self.destination.checksum());
        let made = room.create(Start::new(identity, location, self.run_id, self.name.to_string(), checksum));
        made.inspect_err(warn_of_no_spool).ok()
    }

    /// Where S3 does not answer, the upload goes on being begun beside the dump.
    async fn begin_spooled(&self, limits: &Limits, spool: Arc<Spool>) -> Result<Spooled, Error> {
        let with = self.beginning(PartStore::Spool(Arc::clone(&spool)));
        let (destination, key) = (self.destination.clone(), with.key.clone());
        let outage = self.destination.outage();
        // A first attempt may take longer than the whole budget: that must not end a run that can dump meanwhile.
        outage.suspend();
        let disturbed = outage.disturbed();
        let mut going = tokio::spawn(begin_under_free_name(destination.clone(), self.name, with));
        let begun = tokio::select! {
            begun = &mut going => Some(begun.unwrap_or_else(|error| Err(Error::Internal(error.into())))),
            () = disturbed => None,
            reason = limits.reached() => {
                Spooled { destination, spool, key, opening: Opening::Going(going) }.give_up().await;
                return Err(reason);
            }
        };
        let opening = match begun {
            Some(Ok(upload)) => Opening::Done(Box::new(upload)),
            Some(Err(error)) => {
                outage.resume();
                spool.delete();
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
        describe: impl AsyncFnOnce(&WholeDump) -> serde_json::Value,
    ) -> Result<Committed, Error> {
        match target {
            Target::Memory(upload) => {
                let (upload, whole) = self.stream(*upload, session).await?;
                commit(self.limits, upload, whole).await
            }
            Target::Spooled(target) => {
                let spool = Arc::clone(&target.spool);
                let (upload, whole) = self.stream_spooled(target, session, describe).await?;
                let committed = commit(self.limits, upload, whole).await;
                if committed.is_err() {
                    if spool.is_whole() { keep(&spool) } else { spool.delete() }
                }
                committed
            }
        }
    }
}

/// Commits an upload; a limit gives it some seconds more.
pub(super) async fn commit(limits: &Limits, upload: Upload, whole: WholeDump) -> Result<Committed, Error> {
    tracing::debug!(bytes = whole.totals().object_bytes, "the dump is whole: committing");
    let given_up = upload.clone();
    let committed = limits.within_grace(COMMIT_GRACE, async { Ok(upload.commit(whole).await?) }).await;
    if matches!(committed, Err(Error::Interrupted(_) | Error::TooLong { .. })) {
        given_up.abort_unless_kept(limits.time_left().await).await;
    }
    committed
}

/// Begins an upload under the first name that is free, from the one of its key on.
pub(super) async fn begin_under_free_name(
    destination: Destination,
    name: BackupName,
    with: Beginning,
) -> Result<Upload, Error> {
    let name = free_name(&destination, name).await?;
    let key = destination.key(&name.to_string());
    Ok(destination.begin(Beginning { key, ..with }).await?)
}

/// The name of this second, or of the next that is free.
async fn free_name(destination: &Destination, first: BackupName) -> Result<BackupName, Error> {
    let mut name = first;
    for _ in 0..MOST_NAMES {
        if !destination.is_taken(&destination.key(&name.to_string())).await? {
            return Ok(name);
        }
        name = name.next();
    }
    Err(StorageError::NoFreeName { key: destination.key(&first.to_string()), tried: MOST_NAMES }.into())
}

/// The disk is no reason to have no backup.
pub(super) fn warn_of_no_spool(error: &SpoolError) {
    tracing::warn!(error = %Chain(error), "the backup goes on without the spool, and cannot be resumed should it be stopped");
}
