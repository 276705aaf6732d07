//! What is stored and what is to become of it: the listing, the few manifests that matter, the plan, and what speaks
//! against it. Reads only; `apply` acts on it.
//!
//! Whatever 100,000 backups cost in listing requests, manifests are read of those alone on which a decision hangs: of the
//! newest, and of those that stand for a period. One that is damaged is none; one that cannot be had stops everything, as
//! nothing is deleted on a doubt.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio::task::JoinSet;

use crate::backup::name::{BEGINNING, BackupName, GLOBALS_SUFFIX, MANIFEST_SUFFIX};
use crate::storage::{Destination, StorageError};

use super::freeze::{Freeze, freezes};
use super::plan::{Backup, Plan, Soundness};
use super::policy::RetentionPolicy;

/// What lies beside a backup, under its whole name and one of these: deleted after it. Anything else is not this tool's.
pub(super) const SIDECARS: [&str; 3] = [MANIFEST_SUFFIX, GLOBALS_SUFFIX, ".drill.json"];
/// Requests at once (SPEC §7).
pub(super) const AT_ONCE: usize = 16;
/// From this round on, manifests are read ahead: where many backups are unsound, each round finds out about more of them.
const PATIENT_ROUNDS: u32 = 2;

/// What a listing says of one name: the sizes in bytes of the backup and of what lies beside it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub backup: Option<u64>,
    pub sidecars: [Option<u64>; SIDECARS.len()],
}

/// What a manifest says of its backup's soundness; the rest of it does not matter here, and may be of any version.
#[derive(Deserialize)]
struct Brief {
    object_bytes: u64,
    #[serde(default)]
    partial: bool,
}

/// A destination, looked through.
#[derive(Debug)]
pub struct Survey {
    pub(super) entries: BTreeMap<BackupName, Entry>,
    plan: Plan,
    freezes: Vec<Freeze>,
}

impl Survey {
    /// Lists a destination and makes the plan for it.
    ///
    /// # Errors
    /// Where the listing or a manifest is refused, or not to be had within the outage budget.
    pub async fn make(
        destination: &Destination,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Self, StorageError> {
        let entries = list(destination).await?;
        let stored = entries.iter().rev().filter_map(|(name, entry)| {
            let soundness = entry.sidecars[0].is_none().then_some(Soundness::Sound);
            Some(Backup { name: *name, bytes: entry.backup?, soundness })
        });
        let mut backups: Vec<Backup> = stored.collect();
        let mut round = 0;
        let plan = loop {
            let plan = Plan::new(&backups, policy);
            if plan.assumed().is_empty() {
                break plan;
            }
            let ahead = 1_usize.checked_shl(round).filter(|_| round >= PATIENT_ROUNDS).unwrap_or_default();
            ask(destination, &mut backups, plan.assumed(), ahead).await?;
            round += 1;
        };
        let freezes = freezes(&plan, policy, now);
        Ok(Self { entries, plan, freezes })
    }

    /// What is to become of each backup.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What speaks against the plan.
    #[must_use]
    pub fn freezes(&self) -> &[Freeze] {
        &self.freezes
    }

    /// How many bytes the plan's deletions take away, with what lies beside them.
    #[must_use]
    pub fn doomed_bytes(&self) -> u64 {
        let entries = self.plan.deletions().filter_map(|backup| self.entries.get(&backup.name));
        entries.map(|entry| entry.backup.unwrap_or_default() + entry.sidecars.iter().flatten().sum::<u64>()).sum()
    }

    /// The names whose backup is gone while something still lies beside it. Only of those older than the newest backup: what
    /// is newer may belong to one that is just being made.
    pub fn orphans(&self) -> impl Iterator<Item = BackupName> {
        let newest = self.plan.decisions().first().map(|decision| decision.backup.name);
        let older = self.entries.iter().take_while(move |(name, _)| Some(**name) < newest);
        older.filter(|(_, entry)| entry.backup.is_none()).map(|(name, _)| *name)
    }
}

async fn list(destination: &Destination) -> Result<BTreeMap<BackupName, Entry>, StorageError> {
    let mut entries: BTreeMap<BackupName, Entry> = BTreeMap::new();
    let mut take = |file_name: &str, bytes: u64| {
        if let Some(name) = BackupName::parse(file_name) {
            entries.entry(name).or_default().backup = Some(bytes);
            return;
        }
        for (index, suffix) in SIDECARS.iter().enumerate() {
            if let Some(name) = file_name.strip_suffix(suffix).and_then(BackupName::parse) {
                entries.entry(name).or_default().sidecars[index] = Some(bytes);
            }
        }
    };
    destination.list(BEGINNING, &mut take).await?;
    Ok(entries)
}

/// Reads the manifests of the wanted backups, and of the next `ahead` older ones behind the last of them.
async fn ask(
    destination: &Destination,
    backups: &mut [Backup],
    wanted: &[BackupName],
    ahead: usize,
) -> Result<(), StorageError> {
    let last = wanted.last().copied();
    let older = backups.iter().filter(|backup| backup.soundness.is_none() && Some(backup.name) < last);
    let ahead: Vec<BackupName> = older.take(ahead).map(|backup| backup.name).collect();
    let places: BTreeMap<BackupName, usize> =
        backups.iter().enumerate().map(|(index, backup)| (backup.name, index)).collect();
    let mut waiting = wanted.iter().copied().chain(ahead);
    let mut reading = JoinSet::new();
    loop {
        while reading.len() < AT_ONCE
            && let Some(name) = waiting.next()
        {
            let destination = destination.clone();
            reading.spawn(async move { (name, read(&destination, name).await) });
        }
        let Some(read) = reading.join_next().await else { return Ok(()) };
        let (name, brief) = match read {
            Ok((name, brief)) => (name, brief?),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        if let Some(index) = places.get(&name) {
            backups[*index].soundness = Some(judge(backups[*index].bytes, brief.as_ref()));
        }
    }
}

async fn read(destination: &Destination, name: BackupName) -> Result<Option<Brief>, StorageError> {
    let body = destination.read(&format!("{name}{MANIFEST_SUFFIX}")).await.map_err(StorageError::at_first_request)?;
    // It was listed. Taking its absence for "none" would make a damaged backup a sound one, and its betters go.
    let Some(body) = body else {
        let what = "its manifest is listed, but cannot be found: nothing is deleted on doubt".to_owned();
        return Err(StorageError::Inconsistent { key: name.to_string(), what });
    };
    Ok(serde_json::from_slice(&body).ok())
}

fn judge(bytes: u64, brief: Option<&Brief>) -> Soundness {
    match brief {
        Some(brief) if brief.object_bytes != bytes => Soundness::WrongSize,
        Some(brief) if brief.partial => Soundness::Partial,
        Some(_) | None => Soundness::Sound,
    }
}
