//! The retention rules, as configured. Filled by `config`, used by [`super::plan`]. `docs/retention.md` explains them.

use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveDateTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;

/// The rules, as a union: a backup that any of them keeps is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Backups that are at most this many days older than the newest valid backup.
    pub days: Option<u32>,
    /// The last N backups.
    pub last: Option<u32>,
    /// One of each of the last N hours that have a backup.
    pub hourly: Option<u32>,
    /// One of each of the last N days that have a backup.
    pub daily: Option<u32>,
    /// The same by ISO week.
    pub weekly: Option<u32>,
    /// The same by month.
    pub monthly: Option<u32>,
    /// The same by year.
    pub yearly: Option<u32>,
}

impl Rules {
    /// The rules that keep one backup of a period, with their counts; the shortest period first.
    pub(super) fn units(&self) -> impl Iterator<Item = (Unit, usize)> + use<> {
        let counts = [
            (Unit::Last, self.last),
            (Unit::Hour, self.hourly),
            (Unit::Day, self.daily),
            (Unit::Week, self.weekly),
            (Unit::Month, self.monthly),
            (Unit::Year, self.yearly),
        ];
        counts.into_iter().filter_map(|(unit, count)| Some((unit, count? as usize)))
    }
}

/// At least one rule, and the number of valid backups that stay regardless of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    pub(super) rules: Rules,
    pub(super) min_keep: usize,
    pub(super) zone: Tz,
}

impl RetentionPolicy {
    /// `None` without a rule: then nothing is ever deleted.
    #[must_use]
    pub fn new(rules: Rules, min_keep: u32, zone: Tz) -> Option<Self> {
        (rules != Rules::default()).then_some(Self { rules, min_keep: min_keep as usize, zone })
    }

    /// Calendar days between two times in the policy's time zone. A day has 23, 24 or 25 hours.
    pub(super) fn days_between(&self, earlier: DateTime<Utc>, later: DateTime<Utc>) -> i64 {
        (self.date(later) - self.date(earlier)).num_days()
    }

    /// The start of the period that contains a time. An hour's start is in UTC, because a wall clock that is set back shows
    /// an hour twice; the others are in the policy's time zone.
    pub(super) fn period(&self, unit: Unit, time: DateTime<Utc>) -> NaiveDateTime {
        let date = self.date(time);
        let first = match unit {
            Unit::Last => return time.naive_utc(),
            Unit::Hour => {
                let local = time.with_timezone(&self.zone);
                let into = TimeDelta::seconds((local.minute() * 60 + local.second()).into());
                return time.naive_utc() - into;
            }
            Unit::Day => date,
            Unit::Week => date - Days::new(u64::from(date.weekday().num_days_from_monday())),
            Unit::Month => date - Days::new(u64::from(date.day0())),
            Unit::Year => date - Days::new(u64::from(date.ordinal0())),
        };
        first.into()
    }

    fn date(&self, time: DateTime<Utc>) -> NaiveDate {
        time.with_timezone(&self.zone).date_naive()
    }
}

/// A kind of period of which one backup is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Each backup is its own period.
    Last,
    /// An hour of the time zone's clock.
    Hour,
    /// A calendar day.
    Day,
    /// An ISO week, from Monday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl Unit {
    /// Its name in reasons.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}
