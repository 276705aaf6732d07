//! What is stored and what is to become of it: the listing, the few manifests that matter, the plan, and what speaks
//! against it. Reads only; `apply` acts on it.
//!
//! Whatever 100,000 backups cost in listing requests, manifests are read of those alone on which a decision hangs: of the
//! newest, and of those that stand for a period; where there is none, the object itself is asked whether it is partial. A
//! manifest that is damaged is none; one that cannot be had stops everything, as nothing is deleted on a doubt.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::archive::name::{BackupName, MANIFEST_SUFFIX};
use crate::archive::{self, BackupStatus, Entries, Entry};
use crate::storage::{Destination, FailureKind, StorageError};

use super::plan::{Backup, Plan};
use super::policy::RetentionPolicy;
use super::safety::{SafetyCheck, safety_checks};

/// Requests at once (SPEC §7).
pub(super) const AT_ONCE: usize = 16;
/// From this round on, manifests are read ahead: where many backups are invalid, each round finds out about more of them.
const PATIENT_ROUNDS: u32 = 2;

/// What a manifest says of its backup's status; the rest of it does not matter here, and may be of any version.
#[derive(Deserialize)]
struct ManifestSummary {
    object_bytes: u64,
    #[serde(default)]
    partial: bool,
}

/// A destination, looked through.
#[derive(Debug)]
pub struct Inventory {
    pub(super) entries: Entries,
    plan: Plan,
    safety_checks: Vec<SafetyCheck>,
}

impl Inventory {
    /// Lists a destination and makes the plan for it.
    ///
    /// # Errors
    /// Where the listing or a manifest is refused, or not to be had within the outage budget.
    pub async fn make(
        destination: &Destination,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Self, StorageError> {
        let entries = archive::list_entries(destination).await?;
        let stored = entries.iter().rev().filter_map(|(name, entry)| {
            Some(Backup { name: *name, bytes: entry.backup?, status: BackupStatus::listed(*name, entry, now) })
        });
        let mut backups: Vec<Backup> = stored.collect();
        let mut round = 0;
        let plan = loop {
            let plan = Plan::new(&backups, policy);
            if plan.assumed().is_empty() {
                break plan;
            }
            let ahead = 1_usize.checked_shl(round).filter(|_| round >= PATIENT_ROUNDS).unwrap_or_default();
            ask((destination, &entries), &mut backups, plan.assumed(), ahead).await?;
            round += 1;
        };
        let safety_checks = safety_checks(&plan, policy);
        Ok(Self { entries, plan, safety_checks })
    }

    /// What is to become of each backup.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What speaks against the plan.
    #[must_use]
    pub fn safety_checks(&self) -> &[SafetyCheck] {
        &self.safety_checks
    }

    /// How many bytes the plan's deletions take away, with what lies beside them.
    #[must_use]
    pub fn doomed_bytes(&self) -> u64 {
        let entries = self.plan.deletions().filter_map(|backup| self.entries.get(&backup.name));
        entries.map(Entry::bytes).sum()
    }

    /// The names whose backup is gone while something still lies next to it. Only of those older than the newest backup that
    /// does not lie in the future: what is newer may belong to one that is just being made.
    pub fn orphans(&self) -> impl Iterator<Item = BackupName> {
        let mut backups = self.plan.decisions().iter().map(|decision| decision.backup);
        let newest = backups.find(|backup| backup.status != Some(BackupStatus::Future)).map(|backup| backup.name);
        let older = self.entries.iter().take_while(move |(name, _)| Some(**name) < newest);
        older.filter(|(_, entry)| entry.backup.is_none()).map(|(name, _)| *name)
    }
}

/// Finds out about the wanted backups, and about the next `ahead` older ones behind the last of them.
async fn ask(
    (destination, entries): (&Destination, &Entries),
    backups: &mut [Backup],
    wanted: &[BackupName],
    ahead: usize,
) -> Result<(), StorageError> {
    let last = wanted.last().copied();
    let older = backups.iter().filter(|backup| backup.status.is_none() && Some(backup.name) < last);
    let ahead: Vec<BackupName> = older.take(ahead).map(|backup| backup.name).collect();
    let places: BTreeMap<BackupName, usize> =
        backups.iter().enumerate().map(|(index, backup)| (backup.name, index)).collect();
    let mut waiting = wanted.iter().copied().chain(ahead);
    let mut reading = JoinSet::new();
    loop {
        while reading.len() < AT_ONCE
            && let Some(name) = waiting.next()
        {
            let (destination, entry) = (destination.clone(), entries.get(&name).copied().unwrap_or_default());
            reading.spawn(async move { (name, status(&destination, name, entry).await) });
        }
        let Some(read) = reading.join_next().await else { return Ok(()) };
        let (name, status) = match read {
            Ok((name, status)) => (name, status?),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        if let Some(index) = places.get(&name) {
            backups[*index].status = Some(status);
        }
    }
}

/// What the manifest says of a backup; of one without, or whose manifest is damaged, what the object itself does.
async fn status(destination: &Destination, name: BackupName, entry: Entry) -> Result<BackupStatus, StorageError> {
    let bytes = entry.backup.unwrap_or_default();
    let brief = if entry.has_manifest() { read(destination, name).await? } else { None };
    match brief {
        Some(brief) => Ok(BackupStatus::by_manifest(bytes, brief.object_bytes, brief.partial)),
        None if archive::is_too_small(bytes) => Ok(BackupStatus::Empty),
        None => Ok(BackupStatus::without_manifest(bytes, is_partial(destination, name).await?)),
    }
}

async fn read(destination: &Destination, name: BackupName) -> Result<Option<ManifestSummary>, StorageError> {
    let read = destination.read_manifest(&format!("{name}{MANIFEST_SUFFIX}")).await;
    // It was listed. Taking its absence for "none" would make a damaged backup a valid one, and its betters go.
    let manifest = read.map_err(StorageError::at_first_request)?;
    let manifest = manifest
        .ok_or_else(|| gone(name, "its manifest is listed, but cannot be found: nothing is deleted on doubt"))?;
    Ok(manifest.ok())
}

/// Asks the object whether it is partial. Whoever may read manifests alone takes it for a complete one, as of old: no more is
/// known of it.
async fn is_partial(destination: &Destination, name: BackupName) -> Result<bool, StorageError> {
    match destination.head(&name.to_string()).await {
        Ok(Some(head)) => Ok(head.is_partial),
        Ok(None) => Err(gone(name, "it is listed, but cannot be found: nothing is deleted on doubt")),
        Err(StorageError::Refused { failure, .. }) if failure.kind == FailureKind::Refused => {
            tracing::warn!(%name, error = %failure, "without a manifest, and its object may not be read: taken for a valid backup");
            Ok(false)
        }
        Err(error) => Err(error.at_first_request()),
    }
}

fn gone(name: BackupName, what: &str) -> StorageError {
    StorageError::Inconsistent { key: name.to_string(), what: what.to_owned() }
}
