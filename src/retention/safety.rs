//! Safety checks: block the deletion if something looks wrong.
//!
//! [`super::review`] runs them on every plan that deletes something. Without them, retention by age deletes every good backup
//! after backups have stopped.

use std::fmt;

use bytesize::ByteSize;

use crate::archive::name::BackupName;

use super::plan::Plan;
use super::policy::RetentionPolicy;

/// Of up to this many backups one plan may delete more than half.
const FEW: usize = 5;
/// How to override the safety checks of one plan.
const ACCEPT: &str = "run `pg-s3-backup prune --force` with the same settings (in a container: `docker exec CONTAINER pg-s3-backup prune --force`)";

/// Whether a safety check blocks a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// It does.
    Enforce,
    /// `--force`: it is only logged.
    Override,
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A deletion.
    Deletion,
    /// `prune --dry-run`.
    DryRun,
}

/// A failed safety check. Its text is the reason; [`SafetyCheck::advice`] says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SafetyCheck {
    /// A name is in the future: a clock is or was wrong.
    Future {
        /// The name.
        name: BackupName,
    },
    /// There was no valid backup for longer than the retention, and few were made since.
    Gap {
        /// The first valid backup after the gap.
        name: BackupName,
        /// Days between it and the previous one.
        days: i64,
        /// `BACKUP_RETENTION_DAYS`
        kept: u32,
        /// Valid backups after the gap.
        since: usize,
        /// `BACKUP_MIN_KEEP`
        min_keep: usize,
    },
    /// The newest valid backup has less than half the usual size.
    Shrunk {
        /// The newest valid backup.
        name: BackupName,
        /// Its size in bytes.
        bytes: u64,
        /// The median size of the previous ones in bytes.
        median: u64,
    },
    /// More than half of the backups would be deleted.
    Most {
        /// Backups to delete.
        deleted: usize,
        /// All backups.
        total: usize,
    },
}

impl fmt::Display for SafetyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Future { name } => write!(f, "{name} is in the future"),
            Self::Gap { name, days, kept, since, min_keep } => write!(
                f,
                "there is no valid backup in the {days} days before {name}, but backups are kept for {kept}, and only {since} of BACKUP_MIN_KEEP={min_keep} valid ones have been made since"
            ),
            Self::Shrunk { name, bytes, median } => write!(
                f,
                "{name} has {}, less than half of the {} that those before it have",
                ByteSize(*bytes).display().iec(),
                ByteSize(*median).display().iec()
            ),
            Self::Most { deleted, total } => {
                write!(f, "{deleted} of {total} backups would be deleted, more than half")
            }
        }
    }
}

impl SafetyCheck {
    /// What to look at, when the check passes again, and how to override it.
    #[must_use]
    pub fn advice(&self, occasion: Occasion) -> String {
        let first = match self {
            Self::Future { .. } => {
                "set the clock of the host that made it, and remove it from the bucket if it is not wanted"
            }
            Self::Gap { .. } => "find out why backups had stopped; once there are as many, old ones are deleted again",
            Self::Shrunk { .. } => {
                "find out whether the database was emptied; once backups of the new size span 7 days, old ones are deleted again"
            }
            Self::Most { .. } if occasion == Occasion::DryRun => {
                "look at the backups in this plan; a first run over a backlog is accepted once"
            }
            Self::Most { .. } => "look at `pg-s3-backup prune --dry-run`; a first run over a backlog is accepted once",
        };
        format!("{first}. To delete now: {ACCEPT}")
    }

    /// The reason and the advice in one line.
    #[must_use]
    pub fn explained(&self, occasion: Occasion) -> String {
        format!("{self}: {}", self.advice(occasion))
    }
}

/// The safety checks that block a plan; none if it deletes nothing.
#[must_use]
pub fn safety_checks(plan: &Plan, policy: &RetentionPolicy) -> Vec<SafetyCheck> {
    if plan.deletions().next().is_none() {
        return Vec::new();
    }
    let future = plan.future().map(|name| SafetyCheck::Future { name });
    [future, gap(plan, policy), shrunk(plan), most(plan)].into_iter().flatten().collect()
}

/// Concerns the rule of days alone, because the other rules count existing backups. A gap blocks until `min_keep` valid backups
/// were made since: one backup is too few to replace all older ones.
fn gap(plan: &Plan, policy: &RetentionPolicy) -> Option<SafetyCheck> {
    let kept = policy.rules.days?;
    let pairs = plan.newest_valid().windows(2).zip(1..);
    let mut gaps = pairs.filter_map(|(pair, since)| {
        let [newer, older] = [pair.first()?, pair.last()?];
        let days = policy.days_between(older.name.started(), newer.name.started());
        (days > i64::from(kept)).then_some(SafetyCheck::Gap {
            name: newer.name,
            days,
            kept,
            since,
            min_keep: policy.min_keep,
        })
    });
    gaps.next()
}

fn shrunk(plan: &Plan) -> Option<SafetyCheck> {
    let shrink = plan.shrink()?;
    Some(SafetyCheck::Shrunk { name: shrink.newest.name, bytes: shrink.newest.bytes, median: shrink.median })
}

fn most(plan: &Plan) -> Option<SafetyCheck> {
    let (deleted, total) = (plan.deletions().count(), plan.decisions().len());
    (total > FEW && deleted * 2 > total).then_some(SafetyCheck::Most { deleted, total })
}
