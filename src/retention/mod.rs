//! Retention Manager: what is to be deleted, what speaks against it, and the deleting.
//!
//! `policy` is what was configured, `plan` decides (pure, clock-free), `freeze` says when not to, `inventory` finds out what is
//! stored, `apply` deletes, `sweep` aborts this tool's own stale uploads, `named` deletes what somebody names, `report`
//! tells. Called by `commands::prune` and `commands::delete`, and by `backup` as its last step (SPEC §7).
//!
//! Two at once are harmless, and so is a backup beside them: what one of them has deleted is no failure of the other, a
//! backup that is made meanwhile is newer than all that either deletes, and the plan of each keeps what its rules keep.

mod apply;
mod inventory;
mod named;
mod plan;
mod policy;
mod report;
mod safety;
mod sweep;
#[cfg(test)]
mod tests;

pub use crate::archive::BackupStatus;
pub use apply::Deleted;
pub use inventory::Inventory;
pub use named::{NamedBackup, NamedBackups, NamedError};
pub use plan::{Backup, Decision, Plan, Reason, Verdict};
pub use policy::{RetentionPolicy, Rules, Unit};
pub use report::{PlanReport, PruneError, RetentionReport};
pub use safety::{Occasion, SafetyCheck, safety_checks};
pub use sweep::{SWEEP_AFTER, Sweep};

use std::time::Duration;

use chrono::Utc;
use tokio::time::timeout;

use crate::error_chain::Chain;
use crate::storage::Destination;

/// A backup does not wait longer for its sweep, which another one can do as well.
const SWEEP_DEADLINE: Duration = Duration::from_mins(1);

/// What to do where something speaks against the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// Delete nothing.
    Enforce,
    /// Delete all the same: somebody has looked at it.
    Override,
}

/// What became of an inventory's plan.
#[derive(Clone, Debug)]
pub struct Enforced {
    /// For the report.
    pub report: RetentionReport,
    /// What the rules say and was not done.
    pub shortfall: Option<PruneError>,
    /// The program was asked to stop before it was done.
    pub is_stopped: bool,
}

/// Deletes what an inventory's plan says, unless something speaks against it. `stop` ends when it is time to stop.
pub async fn enforce<Waiting: Future<Output = ()>>(
    destination: &Destination,
    inventory: &Inventory,
    on_freeze: Safety,
    stop: impl Fn() -> Waiting,
) -> Enforced {
    announce(inventory, on_freeze, Occasion::Deletion);
    if on_freeze == Safety::Enforce && !inventory.safety_checks().is_empty() {
        let shortfall = PruneError::Blocked {
            to_delete: inventory.plan().deletions().count(),
            reasons: inventory.safety_checks().len(),
        };
        return Enforced { report: RetentionReport::blocked(inventory), shortfall: Some(shortfall), is_stopped: false };
    }
    let deleted = apply::apply(destination, inventory, stop).await;
    let report = RetentionReport::carried_out(inventory, &deleted, on_freeze);
    let RetentionReport { retained, deleted: gone, deleted_bytes, .. } = report;
    tracing::info!(retained, deleted = gone, deleted_bytes, failed = deleted.failed.len(), "retention");
    if deleted.is_stopped {
        tracing::warn!(remaining = deleted.remaining, "retention was stopped: the next run deletes the rest");
    }
    Enforced { report, shortfall: deleted.shortfall(), is_stopped: deleted.is_stopped }
}

/// Says what speaks against a plan, and what to do; or that it is overridden.
pub fn announce(inventory: &Inventory, on_freeze: Safety, occasion: Occasion) {
    for freeze in inventory.safety_checks() {
        match on_freeze {
            Safety::Enforce => tracing::warn!(hint = freeze.advice(occasion), "{freeze}"),
            Safety::Override => tracing::warn!("overridden by --force: {freeze}"),
        }
    }
}

/// The last step of `backup`: retention where a policy is set (with the name that was just made), and a sweep. Nothing that goes wrong here is more than a
/// warning, as the backup is committed.
pub async fn after_backup<Waiting: Future<Output = ()>>(
    destination: &Destination,
    policy: Option<(&RetentionPolicy, &str)>,
    sweep: &Sweep,
    stop: impl Fn() -> Waiting,
) -> Option<RetentionReport> {
    let report = match policy {
        Some((policy, made)) => Some(retain(destination, policy, made, &stop).await),
        None => None,
    };
    tokio::select! {
        _ = timeout(SWEEP_DEADLINE, sweep.run(destination, Utc::now())) => {}
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
    let inventory = tokio::select! {
        inventory = Inventory::make(destination, policy, Utc::now()) => inventory,
        () = stop() => return RetentionReport::failed("stopped before anything was deleted".to_owned()),
    };
    match inventory {
        // Names that lie in the future, by a clock that is or was wrong, make the backup of now an old one.
        Ok(inventory) if inventory.plan().deletions().any(|backup| backup.name.to_string() == made) => {
            let reason =
                format!("the rules would delete {made}, which was just made: nothing was deleted; look at the clocks");
            tracing::warn!("retention: {reason}");
            RetentionReport::failed(reason)
        }
        Ok(inventory) => {
            let Enforced { report, shortfall, .. } = enforce(destination, &inventory, Safety::Enforce, stop).await;
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
