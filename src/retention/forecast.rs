//! The forecast: what retention deletes after the next backup, for the status page. Reads only.
//!
//! `inventory` makes it from a listing that it has. It is the plan for the stored backups and one more, which the next run makes.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::archive::name::BackupName;
use crate::archive::{BackupStatus, Entries};
use crate::storage::{Destination, StorageError};

use super::plan::{Backup, Decision, Verdict};
use super::policy::RetentionPolicy;
use super::review::{planned, stored};
use super::safety::{Occasion, SafetyCheck, safety_checks};

/// The most deletions that are named.
const MOST_NAMED: usize = 20;

/// What the next retention deletes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Forecast {
    /// How many backups.
    pub deletions: usize,
    /// Their bytes, without sidecars.
    pub bytes: u64,
    /// The safety checks that block it, and what to do.
    pub blocked_by: Vec<String>,
    /// The newest of the backups.
    pub backups: Vec<PlannedDeletion>,
}

/// A backup that the next retention deletes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedDeletion {
    /// File name.
    pub file_name: String,
    /// Size in bytes.
    pub file_size: u64,
    /// Why.
    pub reasons: Vec<String>,
}

impl Forecast {
    /// Plans for the listed backups and one that is started at `next`, valid and as large as the newest.
    ///
    /// # Errors
    /// If a manifest that the plan depends on cannot be read.
    pub async fn load(
        (destination, entries): (&Destination, &Entries),
        policy: &RetentionPolicy,
        (now, next): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Self, StorageError> {
        let mut backups = stored(entries, now);
        let usual = backups.iter().find(|backup| backup.status != Some(BackupStatus::Future));
        let bytes = usual.map_or(0, |backup| backup.bytes);
        // Two backups never have the same name.
        let name = BackupName::new(next);
        if usual.is_some() && backups.iter().all(|backup| backup.name != name) {
            backups.push(Backup { name, bytes, status: Some(BackupStatus::Valid) });
            backups.sort_unstable_by_key(|backup| std::cmp::Reverse(backup.name));
        }
        let plan = planned((destination, entries), backups, policy).await?;
        let checks = safety_checks(&plan, policy);
        let to_delete = || plan.decisions().iter().filter(|decision| decision.verdict == Verdict::Delete);
        Ok(Self {
            deletions: to_delete().count(),
            bytes: plan.deletions().map(|backup| backup.bytes).sum(),
            blocked_by: checks.iter().map(|check: &SafetyCheck| check.explained(Occasion::DryRun)).collect(),
            backups: to_delete().take(MOST_NAMED).map(PlannedDeletion::from).collect(),
        })
    }
}

impl From<&Decision> for PlannedDeletion {
    fn from(decision: &Decision) -> Self {
        Self {
            file_name: decision.backup.name.to_string(),
            file_size: decision.backup.bytes,
            reasons: decision.reasons.iter().map(ToString::to_string).collect(),
        }
    }
}
