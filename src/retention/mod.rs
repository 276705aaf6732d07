//! Retention: decides which backups to delete, runs the safety checks that can block it, and deletes.
//!
//! `policy` has the configured rules. `review` lists the stored backups. `plan` decides for each backup (pure, without a clock).
//! `safety` blocks suspicious plans. `apply` deletes. `cleanup` aborts this tool's abandoned uploads. `named` deletes the backups
//! that the user names. `report` has the result, and `forecast` what the next run will delete. Called by `commands::prune` and `commands::delete`, and by `backup` as its last step.
//!
//! Concurrent runs and backups are harmless: an object that another run deleted counts as deleted, and a new backup is newer than
//! every backup that a plan deletes.

mod apply;
mod cleanup;
mod forecast;
mod named;
mod plan;
mod policy;
mod report;
mod review;
mod safety;
#[cfg(test)]
mod tests;

pub use crate::archive::BackupStatus;
pub use apply::Deleted;
pub use cleanup::{STALE_AFTER, UploadCleanup};
pub use forecast::{Forecast, PlannedDeletion};
pub use named::{NamedBackup, NamedBackups, NamedError};
pub use plan::{Backup, Decision, Plan, Reason, Verdict};
pub use policy::{RetentionPolicy, Rules, Unit};
pub use report::{PlanReport, PruneError, RetentionReport};
pub use review::RetentionReview;
pub use safety::{Occasion, Safety, SafetyCheck, safety_checks};

use std::time::Duration;

use bytesize::ByteSize;
use chrono::Utc;
use tokio::time::timeout;

use crate::error_chain::Chain;
use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::printable::counted;
use crate::storage::Destination;

/// The longest upload cleanup after a backup; the next run continues it.
pub const CLEANUP_DEADLINE: Duration = Duration::from_mins(1);

/// The outcome of a reviewed plan.
#[derive(Clone, Debug)]
pub struct Enforced {
    /// The deleted backups.
    pub report: RetentionReport,
    /// Why the deletion is incomplete.
    pub shortfall: Option<PruneError>,
    /// A stop request ended the deletion.
    pub is_stopped: bool,
}

/// Deletes what the plan selects, unless a safety check blocks it. `stop` completes at a stop request.
pub async fn enforce<Waiting: Future<Output = ()>>(
    destination: &Destination,
    review: &RetentionReview,
    safety: Safety,
    stop: impl Fn() -> Waiting,
) -> Enforced {
    log_safety_checks(review, safety, Occasion::Deletion);
    if safety == Safety::Enforce && !review.safety_checks().is_empty() {
        let (to_delete, reasons) = (review.plan().deletions().count(), review.safety_checks().len());
        let shortfall = Some(PruneError::Blocked { to_delete, reasons });
        return Enforced { report: RetentionReport::blocked(review), shortfall, is_stopped: false };
    }
    let deleted = apply::apply(destination, review, stop).await;
    let report = RetentionReport::carried_out(review, &deleted, safety);
    let RetentionReport { retained, deleted: count, deleted_bytes, .. } = report;
    tracing::info!(target: FOR_MACHINES, retained, deleted = count, deleted_bytes, failed = deleted.failed.len(), "retention");
    if deleted.is_stopped {
        tracing::warn!(remaining = deleted.remaining, "retention was stopped: the next run deletes the rest");
    }
    Enforced { report, shortfall: deleted.shortfall(), is_stopped: deleted.is_stopped }
}

/// Logs the safety checks that block a plan, each with what to do or that `--force` overrides it.
pub fn log_safety_checks(review: &RetentionReview, safety: Safety, occasion: Occasion) {
    for check in review.safety_checks() {
        match safety {
            Safety::Enforce => tracing::warn!(hint = check.advice(occasion), "{check}"),
            Safety::Override => tracing::warn!("overridden by --force: {check}"),
        }
    }
}

/// The last step of `backup`: retention if there is a policy (given with the new backup's name), and the upload cleanup.
/// Failures are warnings, because the backup is committed.
pub async fn after_backup<Waiting: Future<Output = ()>>(
    destination: &Destination,
    policy: Option<(&RetentionPolicy, &str)>,
    cleanup: &UploadCleanup,
    stop: impl Fn() -> Waiting,
) -> Option<RetentionReport> {
    let report = match policy {
        Some((policy, made)) => Some(retain(destination, policy, made, &stop).await),
        None => None,
    };
    tokio::select! {
        _ = timeout(CLEANUP_DEADLINE, cleanup.run(destination, Utc::now())) => {}
        () = stop() => {}
    }
    report
}

async fn retain<Waiting: Future<Output = ()>>(
    destination: &Destination,
    policy: &RetentionPolicy,
    made: &str,
    stop: impl Fn() -> Waiting,
) -> RetentionReport {
    let review = tokio::select! {
        review = RetentionReview::load(destination, policy, Utc::now()) => review,
        () = stop() => return RetentionReport::failed("stopped before anything was deleted".to_owned()),
    };
    match review {
        // A wrong clock makes this possible: names in the future make the new backup an old one.
        Ok(review) if review.plan().deletions().any(|backup| backup.name.to_string() == made) => {
            let reason = format!(
                "the rules would delete {made}, the new backup: nothing was deleted; compare the clocks of the hosts that make backups"
            );
            tracing::warn!("retention: {reason}");
            RetentionReport::failed(reason)
        }
        Ok(review) => {
            let Enforced { report, shortfall, .. } = enforce(destination, &review, Safety::Enforce, stop).await;
            let size = ByteSize(report.deleted_bytes).display().iec();
            tracing::info!(target: FOR_PEOPLE, "retention: {} kept, {} deleted ({size})", counted(report.retained, "backup"), report.deleted);
            if let Some(shortfall) = shortfall {
                tracing::warn!("retention: {shortfall}");
            }
            report
        }
        Err(error) => {
            let reason = Chain(&error).to_string();
            tracing::warn!(error = reason, "retention: nothing was deleted");
            RetentionReport::failed(reason)
        }
    }
}
