//! The result of retention, for the reports of `backup` and `prune`, and its plan, for `prune --dry-run`.

use serde::Serialize;

use crate::printable::counted;

use super::apply::Deleted;
use super::plan::Decision;
use super::review::RetentionReview;
use super::safety::{Occasion, Safety, SafetyCheck};

/// The deleted and the retained backups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RetentionReport {
    /// Backups that are left.
    pub retained: usize,
    /// Their bytes, without sidecars.
    pub retained_bytes: u64,
    /// Backups that were deleted.
    pub deleted: usize,
    /// Their bytes, with sidecars.
    pub deleted_bytes: u64,
    /// A safety check blocked the plan: nothing was deleted.
    pub blocked: bool,
    /// Each safety check that blocked the plan, and each file that could not be deleted with the reason; one line each.
    pub problems: Vec<String>,
    /// Each safety check that `--force` overrode; one line each.
    pub overridden: Vec<String>,
}

/// Why the deletion is incomplete.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PruneError {
    /// A safety check blocks the plan.
    #[error("nothing was deleted, although the rules say to delete {}: see to the {} above, or run `prune --force`", counted(*.to_delete, "backup"), warnings(*.reasons))]
    Blocked {
        /// Backups that the rules do not keep.
        to_delete: usize,
        /// How many safety checks block it.
        reasons: usize,
    },
    /// A delete failed.
    #[error("{} could not be deleted, the first is {first}{}", counted(*.failed, "file"), not_tried(*.remaining))]
    Failed {
        /// Files that could not be deleted.
        failed: usize,
        /// Backups that were not tried.
        remaining: usize,
        /// The first one's name and reason.
        first: String,
    },
}

/// The backups that were not tried, if there are any.
fn not_tried(remaining: usize) -> String {
    if remaining == 0 { String::new() } else { format!("; {} not tried", counted(remaining, "backup")) }
}

/// Bytes of all backups before the deletion.
fn stored_bytes(review: &RetentionReview) -> u64 {
    review.plan().decisions().iter().map(|decision| decision.backup.bytes).sum()
}

/// The safety checks that `--force` overrides, without the advice to use it.
fn overridden(review: &RetentionReview, safety: Safety) -> Vec<String> {
    let overridden = if safety == Safety::Override { review.safety_checks() } else { &[] };
    overridden.iter().map(ToString::to_string).collect()
}

fn explained(checks: &[SafetyCheck], occasion: Occasion) -> Vec<String> {
    checks.iter().map(|check| check.explained(occasion)).collect()
}

fn warnings(count: usize) -> String {
    if count == 1 { "warning".to_owned() } else { format!("{count} warnings") }
}

impl RetentionReport {
    /// A plan that a safety check blocked.
    #[must_use]
    pub fn blocked(review: &RetentionReview) -> Self {
        Self {
            retained: review.plan().decisions().len(),
            retained_bytes: stored_bytes(review),
            blocked: true,
            problems: explained(review.safety_checks(), Occasion::Deletion),
            ..Self::default()
        }
    }

    /// A plan that was carried out.
    pub(super) fn carried_out(review: &RetentionReview, deleted: &Deleted, safety: Safety) -> Self {
        let failed = deleted.failed.iter().map(|(file_name, reason)| format!("{file_name}: {reason}"));
        let stopped =
            deleted.is_stopped.then(|| format!("stopped: {} not tried", counted(deleted.remaining, "backup")));
        Self {
            retained: review.plan().decisions().len().saturating_sub(deleted.backups),
            retained_bytes: stored_bytes(review).saturating_sub(deleted.backup_bytes),
            deleted: deleted.backups,
            deleted_bytes: deleted.bytes,
            blocked: false,
            problems: failed.chain(stopped).collect(),
            overridden: overridden(review, safety),
        }
    }

    /// A plan that is only shown.
    #[must_use]
    pub fn planned(review: &RetentionReview, safety: Safety) -> Self {
        let deleted = review.plan().deletions().count();
        let blocking = if safety == Safety::Enforce { review.safety_checks() } else { &[] };
        Self {
            retained: review.plan().decisions().len() - deleted,
            retained_bytes: stored_bytes(review)
                .saturating_sub(review.plan().deletions().map(|backup| backup.bytes).sum()),
            deleted,
            deleted_bytes: review.bytes_to_delete(),
            blocked: !blocking.is_empty(),
            problems: explained(blocking, Occasion::DryRun),
            overridden: overridden(review, safety),
        }
    }

    /// The destination could not be listed.
    #[must_use]
    pub fn failed(reason: String) -> Self {
        Self { problems: vec![reason], ..Self::default() }
    }

    /// Whether the destination was listed: after a backup, it has at least the backup itself.
    #[must_use]
    pub fn knows_what_is_stored(&self) -> bool {
        self.retained > 0
    }

    /// Whether something could not be read or deleted. A safety check that blocks the plan is no failure.
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
    /// `null` if the plan does not depend on it: then it was not read.
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
    /// Names that have sidecars but no backup.
    orphans: Vec<String>,
    stale_uploads: Vec<String>,
}

impl PlanReport {
    /// A review, and the file names of stale uploads.
    #[must_use]
    pub fn new(review: &RetentionReview, stale_uploads: Vec<String>, safety: Safety) -> Self {
        Self {
            dry_run: true,
            totals: RetentionReport::planned(review, safety),
            backups: review.plan().decisions().iter().map(PlannedBackup::from).collect(),
            orphans: review.orphans().map(|name| name.to_string()).collect(),
            stale_uploads,
        }
    }
}
