//! What retention did, for `backup`'s and `prune`'s reports; and what it would do, for `prune --dry-run`.

use serde::Serialize;

use crate::archive::name::BackupName;
use crate::printable::counted;

use super::Safety;
use super::apply::Deleted;
use super::inventory::Inventory;
use super::plan::Decision;
use super::safety::{Occasion, SafetyCheck};

/// What became of a destination's backups, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RetentionReport {
    /// Backups that are left.
    pub retained: usize,
    /// Their bytes, without what lies beside them.
    pub retained_bytes: u64,
    /// Backups that were deleted.
    pub deleted: usize,
    /// Their bytes, with what lay beside them.
    pub deleted_bytes: u64,
    /// A safety check blocked the plan: nothing was deleted.
    pub blocked: bool,
    /// What spoke against it, or could not be deleted and why; one line each.
    pub problems: Vec<String>,
    /// What spoke against it and was overridden by `--force`; one line each.
    pub overridden: Vec<String>,
}

/// The rules say more than was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PruneError {
    /// Something speaks against it.
    #[error("nothing was deleted, although the rules say to delete {}: see to the {} above, or run `prune --force`", counted(*.to_delete, "backup"), warnings(*.reasons))]
    Blocked {
        /// Backups that the rules do not keep.
        to_delete: usize,
        /// How many things speak against it.
        reasons: usize,
    },
    /// Not all could be deleted.
    #[error(
        "{} could not be deleted, the first is {first}; {} not tried",
        counted(*.failed, "file"),
        counted(*.remaining, "backup")
    )]
    Failed {
        /// How many.
        failed: usize,
        /// Backups that were not tried any more.
        remaining: usize,
        /// The first one's name and reason.
        first: String,
    },
}

/// Bytes of all backups before anything is deleted.
fn stored_bytes(inventory: &Inventory) -> u64 {
    inventory.plan().decisions().iter().map(|decision| decision.backup.bytes).sum()
}

/// What `--force` overrides, without the advice to use it.
fn overridden(inventory: &Inventory, on_freeze: Safety) -> Vec<String> {
    let overridden = if on_freeze == Safety::Override { inventory.safety_checks() } else { &[] };
    overridden.iter().map(ToString::to_string).collect()
}

fn explained(checks: &[SafetyCheck], occasion: Occasion) -> Vec<String> {
    checks.iter().map(|check| check.explained(occasion)).collect()
}

fn warnings(count: usize) -> String {
    if count == 1 { "warning".to_owned() } else { format!("{count} warnings") }
}

impl RetentionReport {
    /// Of an inventory whose plan is not carried out because something speaks against it.
    #[must_use]
    pub fn blocked(inventory: &Inventory) -> Self {
        Self {
            retained: inventory.plan().decisions().len(),
            retained_bytes: stored_bytes(inventory),
            blocked: true,
            problems: explained(inventory.safety_checks(), Occasion::Deletion),
            ..Self::default()
        }
    }

    /// Of an inventory whose plan was carried out.
    #[must_use]
    pub fn carried_out(inventory: &Inventory, deleted: &Deleted, on_freeze: Safety) -> Self {
        let failed = deleted.failed.iter().map(|(file_name, reason)| format!("{file_name}: {reason}"));
        let stopped =
            deleted.is_stopped.then(|| format!("stopped: {} not tried", counted(deleted.remaining, "backup")));
        Self {
            retained: inventory.plan().decisions().len().saturating_sub(deleted.backups),
            retained_bytes: stored_bytes(inventory).saturating_sub(deleted.backup_bytes),
            deleted: deleted.backups,
            deleted_bytes: deleted.bytes,
            blocked: false,
            problems: failed.chain(stopped).collect(),
            overridden: overridden(inventory, on_freeze),
        }
    }

    /// Of an inventory whose plan is only shown.
    #[must_use]
    pub fn planned(inventory: &Inventory, on_freeze: Safety) -> Self {
        let deleted = inventory.plan().deletions().count();
        let heeded = if on_freeze == Safety::Enforce { inventory.safety_checks() } else { &[] };
        Self {
            retained: inventory.plan().decisions().len() - deleted,
            retained_bytes: stored_bytes(inventory)
                .saturating_sub(inventory.plan().deletions().map(|backup| backup.bytes).sum()),
            deleted,
            deleted_bytes: inventory.doomed_bytes(),
            blocked: !heeded.is_empty(),
            problems: explained(heeded, Occasion::DryRun),
            overridden: overridden(inventory, on_freeze),
        }
    }

    /// Where nobody knows what is stored.
    #[must_use]
    pub fn failed(reason: String) -> Self {
        Self { problems: vec![reason], ..Self::default() }
    }

    /// Whether it was found out what is stored. After a backup that is something, at least the backup itself.
    #[must_use]
    pub fn knows_what_is_stored(&self) -> bool {
        self.retained > 0
    }

    /// Whether something could not be looked at or deleted; a safety check that blocks it is no failure.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        !self.blocked && !self.problems.is_empty()
    }
}

/// One backup of a plan, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedBackup {
    file_name: String,
    file_size: u64,
    /// `null` where nothing hung on it, and so nobody looked.
    status: Option<super::BackupStatus>,
    action: &'static str,
    reasons: Vec<String>,
}

impl From<&Decision> for PlannedBackup {
    fn from(decision: &Decision) -> Self {
        Self {
            file_name: decision.backup.name.to_string(),
            file_size: decision.backup.bytes,
            status: decision.backup.status,
            action: decision.verdict.word(),
            reasons: decision.reasons.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A complete plan, as JSON.
#[derive(Clone, Debug, Serialize)]
pub struct PlanReport {
    dry_run: bool,
    #[serde(flatten)]
    totals: RetentionReport,
    backups: Vec<PlannedBackup>,
    /// Names whose backup is gone while something still lies next to it.
    orphans: Vec<String>,
    stale_uploads: Vec<String>,
}

impl PlanReport {
    /// Of an inventory, and the file names of stale uploads.
    #[must_use]
    pub fn new(inventory: &Inventory, stale_uploads: Vec<String>, on_freeze: Safety) -> Self {
        Self {
            dry_run: true,
            totals: RetentionReport::planned(inventory, on_freeze),
            backups: inventory.plan().decisions().iter().map(PlannedBackup::from).collect(),
            orphans: inventory.orphans().map(|name: BackupName| name.to_string()).collect(),
            stale_uploads,
        }
    }
}
