//! What speaks against a plan: signs that not the backups are old, but something is wrong. Then nothing is deleted.
//!
//! Asked by [`super::survey`] about every plan that would delete something. Retention that ran on after backups had
//! failed has cost others all they had (FACTS §6).

use std::fmt;

use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};

use crate::backup::name::BackupName;
use crate::listing;

use super::plan::Plan;
use super::policy::RetentionPolicy;

/// How far a clock may be wrong before its backups' names are taken for wrong (SPEC §7).
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::hours(1);
/// Up to so many backups may be halved by one plan (SPEC §7).
const FEW: usize = 5;

/// A reason to delete nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freeze {
    /// A name lies in the future: ages counted from it mean nothing.
    Future {
        /// The name.
        name: BackupName,
    },
    /// There was no sound backup for longer than backups are kept.
    Gap {
        /// The newest sound backup.
        name: BackupName,
        /// Days between it and the one before.
        days: i64,
        /// `BACKUP_RETENTION_DAYS`
        kept: u32,
    },
    /// The newest backup is much smaller than those before it.
    Shrunk {
        /// The newest sound backup.
        name: BackupName,
        /// Its size in bytes.
        bytes: u64,
        /// The median size of those before it, in bytes.
        median: u64,
    },
    /// Most of the backups would go.
    Most {
        /// How many would go.
        deleted: usize,
        /// Of how many.
        total: usize,
    },
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Future { name } => {
                write!(f, "{name} lies in the future: set the clock of the host that made it and remove it, or")
            }
            Self::Gap { name, days, kept } => write!(
                f,
                "there is no sound backup in the {days} days before {name}, but they are kept for {kept}: see why backups had stopped, then"
            ),
            Self::Shrunk { name, bytes, median } => write!(
                f,
                "{name} has {}, less than half of the {} that those before it have: see whether the database was emptied, then",
                ByteSize(*bytes).display().iec(),
                ByteSize(*median).display().iec()
            ),
            Self::Most { deleted, total } => {
                write!(
                    f,
                    "{deleted} of {total} backups would be deleted, more than half: look at `prune --dry-run`, then"
                )
            }
        }?;
        f.write_str(" run `prune --force`")
    }
}

/// Everything that speaks against a plan; nothing where it deletes nothing. `now` is needed to know the future alone.
#[must_use]
pub fn freezes(plan: &Plan, policy: &RetentionPolicy, now: DateTime<Utc>) -> Vec<Freeze> {
    if plan.deletions().next().is_none() {
        return Vec::new();
    }
    [future(plan, now), gap(plan, policy), shrunk(plan), most(plan)].into_iter().flatten().collect()
}

fn future(plan: &Plan, now: DateTime<Utc>) -> Option<Freeze> {
    let name = plan.decisions().first()?.backup.name;
    (name.started() > now + CLOCK_TOLERANCE).then_some(Freeze::Future { name })
}

/// Only age dooms backups while none are made; the other rules count those that are there.
fn gap(plan: &Plan, policy: &RetentionPolicy) -> Option<Freeze> {
    let kept = policy.rules.days?;
    let [newest, before, ..] = plan.compared() else { return None };
    let days = policy.days_between(before.name.started(), newest.name.started());
    (days > i64::from(kept)).then_some(Freeze::Gap { name: newest.name, days, kept })
}

fn shrunk(plan: &Plan) -> Option<Freeze> {
    let (newest, before) = plan.compared().split_first()?;
    let median = listing::median(before.iter().map(|backup| backup.bytes))?;
    (newest.bytes.saturating_mul(2) < median).then_some(Freeze::Shrunk {
        name: newest.name,
        bytes: newest.bytes,
        median,
    })
}

fn most(plan: &Plan) -> Option<Freeze> {
    let (deleted, total) = (plan.deletions().count(), plan.decisions().len());
    (total > FEW && deleted * 2 > total).then_some(Freeze::Most { deleted, total })
}
