//! The review of a destination before anything is deleted: its listing, the plan, and the safety checks of the plan. Reads only.
//!
//! Made by `prune` and by [`super::after_backup`]. Of 100,000 backups it reads only the
//! manifests that the plan depends on. For a backup without a manifest, or with a damaged one, it sends a HEAD request. Any other
//! read error is an error of the review: nothing is deleted if a fact is unknown.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::archive::name::{BackupName, MANIFEST_SUFFIX};
use crate::archive::{self, BackupStatus, Entries, Entry};
use crate::storage::{Destination, FailureKind, StorageError};

use super::plan::{Backup, Plan};
use super::policy::RetentionPolicy;
use super::safety::{SafetyCheck, safety_checks};

/// Requests in flight.
pub(super) const MAX_REQUESTS: usize = 16;
/// From this round on, manifests are read ahead, or many invalid backups would cost as many rounds.
const ROUNDS_WITHOUT_READ_AHEAD: u32 = 2;

/// The fields of a manifest, of any version, that decide the status.
#[derive(Deserialize)]
struct ManifestSummary {
    object_bytes: u64,
    #[serde(default)]
    partial: bool,
}

/// The stored backups, the plan, and the safety checks that block it.
#[derive(Debug)]
pub struct RetentionReview {
    pub(super) entries: Entries,
    plan: Plan,
    safety_checks: Vec<SafetyCheck>,
}

impl RetentionReview {
    /// Lists a destination and makes the plan for it.
    ///
    /// # Errors
    /// If the listing or a manifest is refused, or cannot be read within the outage budget.
    pub async fn load(
        destination: &Destination,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Self, StorageError> {
        let entries = archive::list_entries(destination).await?;
        let plan = planned((destination, &entries), stored(&entries, now), policy).await?;
        let safety_checks = safety_checks(&plan, policy);
        Ok(Self { entries, plan, safety_checks })
    }

    /// The plan: keep or delete, for each backup.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The safety checks that block the plan.
    #[must_use]
    pub fn safety_checks(&self) -> &[SafetyCheck] {
        &self.safety_checks
    }

    /// Bytes of the backups that the plan deletes, with their sidecars.
    pub(super) fn bytes_to_delete(&self) -> u64 {
        let entries = self.plan.deletions().filter_map(|backup| self.entries.get(&backup.name));
        entries.map(Entry::bytes).sum()
    }

    /// The names that have sidecars but no backup. Only those older than the newest backup that is not in the future:
    /// newer sidecars may belong to a backup in progress.
    pub fn orphans(&self) -> impl Iterator<Item = BackupName> {
        let mut backups = self.plan.decisions().iter().map(|decision| decision.backup);
        let newest = backups.find(|backup| backup.status != Some(BackupStatus::Future)).map(|backup| backup.name);
        let older = self.entries.iter().take_while(move |(name, _)| Some(**name) < newest);
        older.filter(|(_, entry)| entry.backup.is_none()).map(|(name, _)| *name)
    }
}

/// The listed backups, newest first, each with its status by the listing.
pub(super) fn stored(entries: &Entries, now: DateTime<Utc>) -> Vec<Backup> {
    let stored = entries.iter().rev().filter_map(|(name, entry)| {
        Some(Backup { name: *name, bytes: entry.backup?, status: BackupStatus::listed(*name, entry, now) })
    });
    stored.collect()
}

/// The final plan for backups, newest first. Reads the statuses that it depends on.
///
/// # Errors
/// If a manifest is refused, or cannot be read within the outage budget.
pub(super) async fn planned(
    (destination, entries): (&Destination, &Entries),
    mut backups: Vec<Backup>,
    policy: &RetentionPolicy,
) -> Result<Plan, StorageError> {
    let mut round = 0;
    loop {
        let plan = Plan::new(&backups, policy);
        if plan.assumed().is_empty() {
            return Ok(plan);
        }
        let ahead = 1_usize.checked_shl(round).filter(|_| round >= ROUNDS_WITHOUT_READ_AHEAD).unwrap_or_default();
        read_statuses((destination, entries), &mut backups, plan.assumed(), ahead).await?;
        round += 1;
    }
}

/// Reads the status of the wanted backups, and of the next `ahead` older ones. The backups are sorted newest first.
async fn read_statuses(
    (destination, entries): (&Destination, &Entries),
    backups: &mut [Backup],
    wanted: &[BackupName],
    ahead: usize,
) -> Result<(), StorageError> {
    let last = wanted.last().copied();
    let older = backups.iter().filter(|backup| backup.status.is_none() && Some(backup.name) < last);
    let ahead: Vec<BackupName> = older.take(ahead).map(|backup| backup.name).collect();
    let mut waiting = wanted.iter().copied().chain(ahead);
    let mut reading = JoinSet::new();
    loop {
        while reading.len() < MAX_REQUESTS
            && let Some(name) = waiting.next()
        {
            let (destination, entry) = (destination.clone(), entries.get(&name).copied().unwrap_or_default());
            let read = async move { (name, read_status(&destination, name, entry).await) };
            reading.spawn(read.in_current_span());
        }
        let Some(read) = reading.join_next().await else { return Ok(()) };
        let (name, status) = read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let status = status?;
        if let Ok(index) = backups.binary_search_by(|backup| name.cmp(&backup.name)) {
            backups[index].status = Some(status);
        }
    }
}

/// The status by the manifest; without one, or with a damaged one, by the object's metadata.
async fn read_status(destination: &Destination, name: BackupName, entry: Entry) -> Result<BackupStatus, StorageError> {
    let bytes = entry.backup.unwrap_or_default();
    let manifest = if entry.has_manifest() { read_manifest(destination, name).await? } else { None };
    match manifest {
        Some(manifest) => Ok(BackupStatus::by_manifest(bytes, manifest.object_bytes, manifest.partial)),
        None if archive::is_too_small(name, bytes) => Ok(BackupStatus::Empty),
        None => Ok(BackupStatus::without_manifest(name, bytes, is_partial(destination, name).await?)),
    }
}

/// Reads a listed manifest; `None` if it is damaged.
async fn read_manifest(destination: &Destination, name: BackupName) -> Result<Option<ManifestSummary>, StorageError> {
    let read = destination.read_manifest(&format!("{name}{MANIFEST_SUFFIX}")).await;
    let manifest = read.map_err(StorageError::at_first_request)?;
    // Without this, a damaged backup would count as valid, and better ones would be deleted.
    let manifest = manifest.ok_or_else(|| missing(name, "its manifest is listed, but cannot be found"))?;
    Ok(manifest.ok())
}

/// Asks the object whether it is partial. Credentials that may not read objects take it for complete.
async fn is_partial(destination: &Destination, name: BackupName) -> Result<bool, StorageError> {
    match destination.head(&name.to_string()).await {
        Ok(Some(head)) => Ok(head.is_partial),
        Ok(None) => Err(missing(name, "it is listed, but cannot be found")),
        Err(StorageError::Refused { failure, .. }) if failure.kind == FailureKind::Refused => {
            tracing::warn!(%name, error = %failure, "the backup has no manifest, and its object may not be read: it counts as valid");
            Ok(false)
        }
        Err(error) => Err(error.at_first_request()),
    }
}

fn missing(name: BackupName, what: &str) -> StorageError {
    StorageError::Inconsistent {
        key: name.to_string(),
        what: format!("{what}: nothing is deleted while this is unknown"),
    }
}
