//! The plan: backups and a policy in; for each backup keep or delete, with the reasons, out. Pure: no clock, no store.
//!
//! Called by [`super::inventory`], which finds out what the plan had to assume. Only a manifest tells whether a backup is
//! valid, and each is a request: so the plan takes for valid what it does not know, says for which backups that mattered,
//! and is made again once those are known. It is final when it assumed nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{NaiveDateTime, TimeDelta};

use crate::archive::name::BackupName;
use crate::archive::{self, BackupStatus};

use super::policy::{RetentionPolicy, Unit};

/// The newest backup is compared with the median of so many before it (SPEC §7).
const BEFORE: usize = 5;
/// Backups of a new size whose names span so many days make it the usual one (SPEC §7).
const SETTLED: TimeDelta = TimeDelta::days(7);

/// A backup, as the plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its name, which is its time.
    pub name: BackupName,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it is valid, where that is known.
    pub status: Option<BackupStatus>,
}

/// Why a backup is kept or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Kept, and counted by no rule: its name lies in the future.
    Future,
    /// Kept: it is the newest of all.
    Newest,
    /// Kept: it is one of the newest valid ones, of which `BACKUP_MIN_KEEP` stay; where there are fewer, of the newest others.
    MinKeep,
    /// Kept: it is young enough.
    Days,
    /// Kept: it stands for its period.
    Chosen(Unit),
    /// Deleted: it is this many days older than the newest valid one.
    TooOld(i64),
    /// Deleted: another one stands for its period.
    Another(Unit),
    /// Deleted: its period is before the last so many.
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

/// What is to become of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// It goes.
    Delete,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
        }
    }
}

/// A backup with what is to become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The backup.
    pub backup: Backup,
    /// Keep or delete.
    pub verdict: Verdict,
    /// Why; never empty.
    pub reasons: Vec<Reason>,
}

/// What is to become of each backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    decisions: Vec<Decision>,
    newest_valid: Vec<Backup>,
    shrink: Option<Shrink>,
    assumed: Vec<BackupName>,
}

/// The newest backups are much smaller than those before them, and have not been so for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shrink {
    /// The newest valid backup.
    pub newest: Backup,
    /// The median size of the five before those of the new size, in bytes.
    pub median: u64,
}

impl Plan {
    /// Makes a plan. The order of the backups does not matter. Those of the future are kept and count for nothing: neither
    /// as the newest, nor for a rule, nor as what ages are counted from.
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

    /// The backups that were taken for valid although nobody knows. Where there are any, the plan is not final.
    #[must_use]
    pub fn assumed(&self) -> &[BackupName] {
        &self.assumed
    }

    /// The newest backup whose name lies in the future.
    pub(super) fn future(&self) -> Option<BackupName> {
        let first = self.decisions.first().map(|decision| decision.backup)?;
        (first.status == Some(BackupStatus::Future)).then_some(first.name)
    }

    /// The newest valid backups, newest first, `BACKUP_MIN_KEEP` of them; where none is valid, the newest of all.
    pub(super) fn newest_valid(&self) -> &[Backup] {
        &self.newest_valid
    }

    /// Whether the newest valid backup is much smaller than those before.
    pub(super) fn shrink(&self) -> Option<Shrink> {
        self.shrink
    }
}

/// The making of one plan.
struct Planning<'a> {
    /// Newest first.
    backups: &'a [Backup],
    policy: &'a RetentionPolicy,
    assumed: RefCell<BTreeSet<usize>>,
}

impl Planning<'_> {
    fn plan(self) -> Plan {
        let sound = self.newest_sound(self.policy.min_keep);
        let choices: Vec<RuleSelection> =
            self.policy.rules.units().map(|(unit, count)| self.choose(unit, count)).collect();
        let floor = self.floor(&sound);
        let origin = sound.first().copied().unwrap_or_default();
        let decide = |index: usize| {
            let mut keeps = Vec::new();
            keeps.extend((index == 0).then_some(Reason::Newest));
            keeps.extend(floor.contains(&index).then_some(Reason::MinKeep));
            let age = self.policy.days_between(self.backups[index].name.started(), self.backups[origin].name.started());
            let too_old = self.policy.rules.days.map(|days| age > i64::from(days));
            keeps.extend((too_old == Some(false)).then_some(Reason::Days));
            keeps.extend(choices.iter().filter(|choice| choice.chosen.contains(&index)).map(RuleSelection::kept));
            let (verdict, reasons) = if keeps.is_empty() {
                let age = (too_old == Some(true)).then_some(Reason::TooOld(age));
                (
                    Verdict::Delete,
                    age.into_iter().chain(choices.iter().map(|choice| choice.rejected_by(index))).collect(),
                )
            } else {
                (Verdict::Keep, keeps)
            };
            Decision { backup: self.backups[index], verdict, reasons }
        };
        let decisions = (0..self.backups.len()).map(decide).collect();
        let shrink = self.shrink(&sound);
        let newest =
            if sound.is_empty() { (0..self.backups.len()).take(self.policy.min_keep).collect() } else { sound };
        let newest_valid = newest.into_iter().map(|index| self.backups[index]).collect();
        let assumed = self.assumed.into_inner().into_iter().map(|index| self.backups[index].name).collect();
        Plan { decisions, newest_valid, shrink, assumed }
    }

    /// Compares the newest valid backup, and with it those that have no more than twice its size, with the five before
    /// these. Sizes are known from the listing: only where one of them is larger does anything hang on status.
    fn shrink(&self, sound: &[usize]) -> Option<Shrink> {
        // Where none is valid, all are compared.
        let counts = |index: &usize| sound.is_empty() || self.is_sound(*index);
        let newest = sound.first().copied().unwrap_or_default();
        let most = self.backups.get(newest)?.bytes.saturating_mul(2);
        let is_larger = |index: &usize| self.backups[*index].bytes > most;
        let larger = (newest..self.backups.len()).filter(is_larger).find(counts)?;
        let since = (newest..larger).rev().filter(|index| !is_larger(index)).find(counts).unwrap_or(newest);
        let span = self.backups[newest].name.started() - self.backups[since].name.started();
        if span >= SETTLED {
            return None;
        }
        let before = (larger..self.backups.len()).filter(counts).take(BEFORE);
        let median = archive::median(before.map(|index| self.backups[index].bytes))?;
        (most < median).then_some(Shrink { newest: self.backups[newest], median })
    }

    /// Whether a backup is valid; what is not known is assumed, and noted.
    fn is_sound(&self, index: usize) -> bool {
        let status = self.backups[index].status;
        if status.is_none() {
            self.assumed.borrow_mut().insert(index);
        }
        status.is_none_or(|status| status == BackupStatus::Valid)
    }

    fn newest_sound(&self, count: usize) -> Vec<usize> {
        (0..self.backups.len()).filter(|index| self.is_sound(*index)).take(count).collect()
    }

    /// The newest valid backups, `BACKUP_MIN_KEEP` of them; where there are fewer, the newest others as well. What looks invalid
    /// may be all there is.
    fn floor(&self, sound: &[usize]) -> BTreeSet<usize> {
        let missing = self.policy.min_keep.saturating_sub(sound.len());
        let others = (0..self.backups.len()).filter(|index| !sound.contains(index)).take(missing);
        sound.iter().copied().chain(others).collect()
    }

    /// Of the newest `count` periods that have a valid backup the newest valid one; and of those among the newest `count`
    /// periods at all that have none, the newest one: an invalid backup never stands in a valid one's place, and where
    /// all are partial the rules hold as well.
    fn choose(&self, unit: Unit, count: usize) -> RuleSelection {
        let periods: Vec<NaiveDateTime> =
            self.backups.iter().map(|backup| self.policy.period(unit, backup.name.started())).collect();
        let mut sizes: BTreeMap<NaiveDateTime, usize> = BTreeMap::new();
        for period in &periods {
            *sizes.entry(*period).or_default() += 1;
        }
        let (mut ranks, mut sound, mut unsound) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (index, period) in periods.iter().enumerate() {
            let next = ranks.len();
            let rank = *ranks.entry(*period).or_insert(next);
            if sound.contains_key(period) || sound.len() >= count && rank >= count {
                continue;
            }
            // Nothing hangs on the status of one that is alone in its period where no period is left out.
            let is_sure = sizes.len() <= count && sizes.get(period) == Some(&1);
            if is_sure || self.is_sound(index) {
                sound.insert(*period, index);
            } else if rank < count {
                unsound.entry(*period).or_insert(index);
            }
        }
        unsound.retain(|period, _| !sound.contains_key(period));
        let represented: BTreeMap<NaiveDateTime, usize> = sound.into_iter().chain(unsound).collect();
        RuleSelection { unit, count, chosen: represented.values().copied().collect(), represented, periods }
    }
}

/// What one rule keeps.
struct RuleSelection {
    unit: Unit,
    count: usize,
    chosen: BTreeSet<usize>,
    represented: BTreeMap<NaiveDateTime, usize>,
    /// Of each backup.
    periods: Vec<NaiveDateTime>,
}

impl RuleSelection {
    fn kept(&self) -> Reason {
        Reason::Chosen(self.unit)
    }

    /// Why the rule does not keep this one.
    fn rejected_by(&self, index: usize) -> Reason {
        if self.represented.contains_key(&self.periods[index]) {
            Reason::Another(self.unit)
        } else {
            Reason::Beyond(self.unit, self.count)
        }
    }
}
