//! The plan: backups and a policy in; for each backup keep or delete, with the reasons, out. Pure: no clock, no store.
//!
//! Called by [`super::survey`], which finds out what the plan had to assume. Only a manifest tells whether a backup is
//! sound, and each is a request: so the plan takes for sound what it does not know, says for which backups that mattered,
//! and is made again once those are known. It is final when it assumed nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDateTime;

use crate::backup::name::BackupName;

use super::policy::{RetentionPolicy, Unit};

/// How many of the newest sound backups the freeze rules look at: the newest, and five to compare it with (SPEC §7).
pub(super) const COMPARED: usize = 6;

/// What is known about a backup's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Soundness {
    /// Whole by size, as far as a manifest tells; without a manifest, too.
    Sound,
    /// Its arguments left something out.
    Partial,
    /// It has another size than its manifest says.
    WrongSize,
}

impl Soundness {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Partial => "partial",
            Self::WrongSize => "wrong_size",
        }
    }
}

/// A backup, as the plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its name, which is its time.
    pub name: BackupName,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether it is sound, where that is known.
    pub soundness: Option<Soundness>,
}

/// Why a backup is kept or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Kept: it is the newest of all.
    Newest,
    /// Kept: it is one of the newest sound ones, of which `BACKUP_MIN_KEEP` stay.
    MinKeep,
    /// Kept: it is young enough.
    Days,
    /// Kept: it stands for its period.
    Chosen(Unit),
    /// Deleted: it is this many days older than the newest sound one.
    TooOld(i64),
    /// Deleted: another one stands for its period.
    Another(Unit),
    /// Deleted: its period is before the last so many.
    Beyond(Unit, usize),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
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
    compared: Vec<Backup>,
    assumed: Vec<BackupName>,
}

impl Plan {
    /// Makes a plan. The order of the backups does not matter.
    #[must_use]
    pub fn new(backups: &[Backup], policy: &RetentionPolicy) -> Self {
        let mut newest_first = backups.to_vec();
        newest_first.sort_unstable_by_key(|backup| std::cmp::Reverse(backup.name));
        Planning { backups: &newest_first, policy, assumed: RefCell::default() }.plan()
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

    /// The backups that were taken for sound although nobody knows. Where there are any, the plan is not final.
    #[must_use]
    pub fn assumed(&self) -> &[BackupName] {
        &self.assumed
    }

    /// The newest sound backups, newest first; where none is sound, the newest of all.
    pub(super) fn compared(&self) -> &[Backup] {
        &self.compared
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
        let sound = self.newest_sound(self.policy.min_keep.max(COMPARED));
        let choices: Vec<Choice> = self.policy.rules.units().map(|(unit, count)| self.choose(unit, count)).collect();
        let floor: BTreeSet<usize> = sound.iter().copied().take(self.policy.min_keep).collect();
        let origin = sound.first().copied().unwrap_or_default();
        let decide = |index: usize| {
            let mut keeps = Vec::new();
            keeps.extend((index == 0).then_some(Reason::Newest));
            keeps.extend(floor.contains(&index).then_some(Reason::MinKeep));
            let age = self.policy.days_between(self.backups[index].name.started(), self.backups[origin].name.started());
            let too_old = self.policy.rules.days.map(|days| age > i64::from(days));
            keeps.extend((too_old == Some(false)).then_some(Reason::Days));
            keeps.extend(choices.iter().filter(|choice| choice.chosen.contains(&index)).map(Choice::kept));
            let (verdict, reasons) = if keeps.is_empty() {
                let age = (too_old == Some(true)).then_some(Reason::TooOld(age));
                (
                    Verdict::Delete,
                    age.into_iter().chain(choices.iter().map(|choice| choice.passed_over(index))).collect(),
                )
            } else {
                (Verdict::Keep, keeps)
            };
            Decision { backup: self.backups[index], verdict, reasons }
        };
        let decisions = (0..self.backups.len()).map(decide).collect();
        let compared: Vec<usize> = if sound.is_empty() { (0..self.backups.len()).collect() } else { sound };
        let compared = compared.into_iter().take(COMPARED).map(|index| self.backups[index]).collect();
        let assumed = self.assumed.into_inner().into_iter().map(|index| self.backups[index].name).collect();
        Plan { decisions, compared, assumed }
    }

    /// Whether a backup is sound; what is not known is assumed, and noted.
    fn is_sound(&self, index: usize) -> bool {
        let soundness = self.backups[index].soundness;
        if soundness.is_none() {
            self.assumed.borrow_mut().insert(index);
        }
        soundness.is_none_or(|soundness| soundness == Soundness::Sound)
    }

    fn newest_sound(&self, count: usize) -> Vec<usize> {
        (0..self.backups.len()).filter(|index| self.is_sound(*index)).take(count).collect()
    }

    /// Of the newest `count` periods that have a sound backup the newest sound one; and of those among the newest `count`
    /// periods at all that have none, the newest one: an unsound backup never stands in a sound one's place, and where
    /// all are partial the rules hold as well.
    fn choose(&self, unit: Unit, count: usize) -> Choice {
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
            // Nothing hangs on the soundness of one that is alone in its period where no period is left out.
            let is_sure = sizes.len() <= count && sizes.get(period) == Some(&1);
            if is_sure || self.is_sound(index) {
                sound.insert(*period, index);
            } else if rank < count {
                unsound.entry(*period).or_insert(index);
            }
        }
        unsound.retain(|period, _| !sound.contains_key(period));
        let represented: BTreeMap<NaiveDateTime, usize> = sound.into_iter().chain(unsound).collect();
        Choice { unit, count, chosen: represented.values().copied().collect(), represented, periods }
    }
}

/// What one rule keeps.
struct Choice {
    unit: Unit,
    count: usize,
    chosen: BTreeSet<usize>,
    represented: BTreeMap<NaiveDateTime, usize>,
    /// Of each backup.
    periods: Vec<NaiveDateTime>,
}

impl Choice {
    fn kept(&self) -> Reason {
        Reason::Chosen(self.unit)
    }

    /// Why the rule does not keep this one.
    fn passed_over(&self, index: usize) -> Reason {
        if self.represented.contains_key(&self.periods[index]) {
            Reason::Another(self.unit)
        } else {
            Reason::Beyond(self.unit, self.count)
        }
    }
}
