//! The plan: keep or delete for each backup, with the reasons. A pure function of the backups and the policy.
//!
//! Called by [`super::review`]. Only a manifest says whether a backup is valid, and reading one is a request. So the plan assumes
//! that an unread backup is valid, and lists each assumption that it depends on. The caller reads those and plans again; a
//! plan without assumptions is final.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDateTime, TimeDelta};

use crate::archive::name::BackupName;
use crate::archive::{self, BackupStatus};

use super::policy::{RetentionPolicy, Unit};

/// The newest backup is compared with the median size of this many previous ones.
const COMPARED: usize = 5;
/// A new size is the usual one once backups of that size span this time.
const SETTLED: TimeDelta = TimeDelta::days(7);

/// A stored backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its name, which contains its start time.
    pub name: BackupName,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its status; `None` if it was not read.
    pub status: Option<BackupStatus>,
}

/// Why a backup is kept or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Kept: its name is in the future. No rule counts it.
    Future,
    /// Kept: it is the newest of all.
    Newest,
    /// Kept: it is one of the newest `BACKUP_MIN_KEEP` valid ones, or of the newest others if there are fewer valid ones.
    MinKeep,
    /// Kept: it is not older than `BACKUP_RETENTION_DAYS`.
    Days,
    /// Kept: it is the newest valid one of its period.
    Chosen(Unit),
    /// Deleted: it is this many days older than the newest valid one.
    TooOld(i64),
    /// Deleted: another one of its period is kept.
    Another(Unit),
    /// Deleted: its period is older than the last N.
    Beyond(Unit, usize),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Future => f.write_str("in the future"),
            Self::Newest => f.write_str("newest"),
            Self::MinKeep => f.write_str("min-keep"),
            Self::Days => f.write_str("days"),
            Self::Chosen(unit) => f.write_str(unit.word()),
            Self::TooOld(days) => write!(f, "{days} days old"),
            Self::Another(unit) => write!(f, "another of its {}", unit.word()),
            Self::Beyond(Unit::Last, count) => write!(f, "not of the last {count}"),
            Self::Beyond(unit, count) => write!(f, "before the last {count} {}s", unit.word()),
        }
    }
}

/// Whether a backup is kept or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is kept.
    Keep,
    /// It is deleted.
    Delete,
}

impl Verdict {
    /// Its name in JSON and tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
        }
    }
}

/// The decision on one backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The backup.
    pub backup: Backup,
    /// Keep or delete.
    pub verdict: Verdict,
    /// Why; never empty.
    pub reasons: Vec<Reason>,
}

/// The decision on each backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    decisions: Vec<Decision>,
    newest_valid: Vec<Backup>,
    shrink: Option<Shrink>,
    assumed: Vec<BackupName>,
}

/// The newest backups have less than half the previous size, and not yet for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shrink {
    /// The newest valid backup.
    pub newest: Backup,
    /// The median size of the five backups before the new size, in bytes.
    pub median: u64,
}

impl Plan {
    /// Makes a plan. The order of the backups does not matter. A backup in the future is kept, but it is neither the newest
    /// nor counted by a rule, and ages are not counted from it.
    #[must_use]
    pub fn new(backups: &[Backup], policy: &RetentionPolicy) -> Self {
        let mut newest_first = backups.to_vec();
        newest_first.sort_unstable_by_key(|backup| std::cmp::Reverse(backup.name));
        let (future, backups): (Vec<Backup>, Vec<Backup>) =
            newest_first.into_iter().partition(|backup| backup.status == Some(BackupStatus::Future));
        let mut plan = Planning { backups: &backups, policy, assumed: RefCell::default() }.plan();
        let keep = |backup| Decision { backup, verdict: Verdict::Keep, reasons: vec![Reason::Future] };
        plan.decisions.splice(..0, future.into_iter().map(keep));
        plan
    }

    /// Every backup, newest first.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The backups to delete, newest first.
    pub fn deletions(&self) -> impl Iterator<Item = &Backup> {
        self.decisions.iter().filter(|decision| decision.verdict == Verdict::Delete).map(|decision| &decision.backup)
    }

    /// The unread backups that the plan assumes to be valid. With any, the plan is not final.
    #[must_use]
    pub fn assumed(&self) -> &[BackupName] {
        &self.assumed
    }

    /// The newest backup in the future.
    pub(super) fn future(&self) -> Option<BackupName> {
        let first = self.decisions.first().map(|decision| decision.backup)?;
        (first.status == Some(BackupStatus::Future)).then_some(first.name)
    }

    /// The newest `BACKUP_MIN_KEEP` valid backups, newest first; if none is valid, the newest ones.
    pub(super) fn newest_valid(&self) -> &[Backup] {
        &self.newest_valid
    }

    /// Whether the newest valid backup is much smaller than the previous ones.
    pub(super) fn shrink(&self) -> Option<Shrink> {
        self.shrink
    }
}

/// The inputs of one plan.
struct Planning<'a> {
    /// Newest first.
    backups: &'a [Backup],
    policy: &'a RetentionPolicy,
    assumed: RefCell<BTreeSet<usize>>,
}

impl Planning<'_> {
    fn plan(self) -> Plan {
        let valid = self.newest_valid(self.policy.min_keep);
        let rule_selections: Vec<RuleSelection> =
            self.policy.rules.units().map(|(unit, count)| self.select(unit, count)).collect();
        let floor = self.floor(&valid);
        let origin = valid.first().copied().unwrap_or_default();
        let decide = |index: usize| {
            let mut keeps = Vec::new();
            keeps.extend((index == 0).then_some(Reason::Newest));
            keeps.extend(floor.contains(&index).then_some(Reason::MinKeep));
            let age = self.policy.days_between(self.backups[index].name.started(), self.backups[origin].name.started());
            let too_old = self.policy.rules.days.map(|days| age > i64::from(days));
            keeps.extend((too_old == Some(false)).then_some(Reason::Days));
            keeps.extend(
                rule_selections.iter().filter(|selection| selection.selected.contains(&index)).map(RuleSelection::kept),
            );
            let (verdict, reasons) = if keeps.is_empty() {
                let age = (too_old == Some(true)).then_some(Reason::TooOld(age));
                (
                    Verdict::Delete,
                    age.into_iter()
                        .chain(rule_selections.iter().map(|selection| selection.rejected_by(index)))
                        .collect(),
                )
            } else {
                (Verdict::Keep, keeps)
            };
            Decision { backup: self.backups[index], verdict, reasons }
        };
        let decisions = (0..self.backups.len()).map(decide).collect();
        let shrink = self.shrink(&valid);
        let newest =
            if valid.is_empty() { (0..self.backups.len()).take(self.policy.min_keep).collect() } else { valid };
        let newest_valid = newest.into_iter().map(|index| self.backups[index]).collect();
        let assumed = self.assumed.into_inner().into_iter().map(|index| self.backups[index].name).collect();
        Plan { decisions, newest_valid, shrink, assumed }
    }

    /// Compares the newest valid backup with the five valid ones before the new size. The backups of the new size are those
    /// since the last one of more than twice the newest's size. Sizes are listed: the status matters only of a larger backup.
    fn shrink(&self, valid: &[usize]) -> Option<Shrink> {
        // If none is valid, all are compared.
        let counts = |index: &usize| valid.is_empty() || self.is_valid(*index);
        let newest = valid.first().copied().unwrap_or_default();
        let most = self.backups.get(newest)?.bytes.saturating_mul(2);
        let is_larger = |index: &usize| self.backups[*index].bytes > most;
        let larger = (newest..self.backups.len()).filter(is_larger).find(counts)?;
        let since = (newest..larger).rev().filter(|index| !is_larger(index)).find(counts).unwrap_or(newest);
        let span = self.backups[newest].name.started() - self.backups[since].name.started();
        if span >= SETTLED {
            return None;
        }
        let before = (larger..self.backups.len()).filter(counts).take(COMPARED);
        let median = archive::median(before.map(|index| self.backups[index].bytes))?;
        (most < median).then_some(Shrink { newest: self.backups[newest], median })
    }

    /// Whether a backup is valid. An unread one is assumed valid, and the assumption is recorded.
    fn is_valid(&self, index: usize) -> bool {
        let status = self.backups[index].status;
        if status.is_none() {
            self.assumed.borrow_mut().insert(index);
        }
        status.is_none_or(|status| status == BackupStatus::Valid)
    }

    fn newest_valid(&self, count: usize) -> Vec<usize> {
        (0..self.backups.len()).filter(|index| self.is_valid(*index)).take(count).collect()
    }

    /// The newest `BACKUP_MIN_KEEP` valid backups, filled up with the newest others: an invalid backup may be better than none.
    fn floor(&self, valid: &[usize]) -> BTreeSet<usize> {
        let missing = self.policy.min_keep.saturating_sub(valid.len());
        let others = (0..self.backups.len()).filter(|index| !valid.contains(index)).take(missing);
        valid.iter().copied().chain(others).collect()
    }

    /// Selects the newest valid backup of each of the newest `count` periods that have one, and the newest backup of each of
    /// the newest `count` periods of all that has no valid one. So an invalid backup never replaces a valid one, and the
    /// rules work for partial backups, too.
    fn select(&self, unit: Unit, count: usize) -> RuleSelection {
        let periods: Vec<NaiveDateTime> =
            self.backups.iter().map(|backup| self.policy.period(unit, backup.name.started())).collect();
        let mut sizes: BTreeMap<NaiveDateTime, usize> = BTreeMap::new();
        for period in &periods {
            *sizes.entry(*period).or_default() += 1;
        }
        let (mut ranks, mut valid, mut invalid) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (index, period) in periods.iter().enumerate() {
            let next = ranks.len();
            let rank = *ranks.entry(*period).or_insert(next);
            if valid.contains_key(period) || valid.len() >= count && rank >= count {
                continue;
            }
            // The only backup of its period is selected whatever its status, unless a period is left out.
            let is_selected = sizes.len() <= count && sizes.get(period) == Some(&1);
            if is_selected || self.is_valid(index) {
                valid.insert(*period, index);
            } else if rank < count {
                invalid.entry(*period).or_insert(index);
            }
        }
        invalid.retain(|period, _| !valid.contains_key(period));
        let represented: BTreeMap<NaiveDateTime, usize> = valid.into_iter().chain(invalid).collect();
        RuleSelection { unit, count, selected: represented.values().copied().collect(), represented, periods }
    }
}

/// The backups that one rule keeps.
struct RuleSelection {
    unit: Unit,
    count: usize,
    selected: BTreeSet<usize>,
    represented: BTreeMap<NaiveDateTime, usize>,
    /// The period of each backup.
    periods: Vec<NaiveDateTime>,
}

impl RuleSelection {
    fn kept(&self) -> Reason {
        Reason::Chosen(self.unit)
    }

    /// Why the rule does not keep a backup.
    fn rejected_by(&self, index: usize) -> Reason {
        if self.represented.contains_key(&self.periods[index]) {
            Reason::Another(self.unit)
        } else {
            Reason::Beyond(self.unit, self.count)
        }
    }
}
