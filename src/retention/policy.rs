//! What is to be kept, as configured. Filled by `config`, used by [`super::plan`].

use chrono::{DateTime, Datelike as _, Days, NaiveDate, NaiveDateTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::Tz;

/// The rules. They form a union: what any of them keeps is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Everything that is at most this many days older than the newest valid backup.
    pub days: Option<u32>,
    /// The last so many.
    pub last: Option<u32>,
    /// One an hour, of the last so many hours that have one.
    pub hourly: Option<u32>,
    /// One a day, of the last so many days that have one.
    pub daily: Option<u32>,
    /// One an ISO week.
    pub weekly: Option<u32>,
    /// One a month.
    pub monthly: Option<u32>,
    /// One a year.
    pub yearly: Option<u32>,
}

impl Rules {
    /// The rules that keep one of a period, the shortest period first, with their counts.
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

/// A policy: at least one rule, and the floor below them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    pub(super) rules: Rules,
    pub(super) min_keep: usize,
    pub(super) zone: Tz,
}

impl RetentionPolicy {
    /// A policy; `None` where no rule is set, which means that nothing is ever deleted. `min_keep` is the number of valid
    /// backups that stay whatever the rules say.
    #[must_use]
    pub fn new(rules: Rules, min_keep: u32, zone: Tz) -> Option<Self> {
        (rules != Rules::default()).then_some(Self { rules, min_keep: min_keep as usize, zone })
    }

    /// How many days lie between two times, as a calendar in the policy's time zone counts them: a night is one day
    /// whether it has 23, 24 or 25 hours.
    pub(super) fn days_between(&self, earlier: DateTime<Utc>, later: DateTime<Utc>) -> i64 {
        (self.date(later) - self.date(earlier)).num_days()
    }

    /// The period of a kind in which a time lies, named by its first moment: of an hour in UTC, as the clocks of autumn
    /// show an hour twice and each is one of its own; of the others in the policy's time zone.
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

/// The kinds of periods of which one backup is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Each backup is a period of its own.
    Last,
    /// An hour of the time zone's clock.
    Hour,
    /// A calendar day.
    Day,
    /// An ISO week, which begins on Monday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl Unit {
    /// The word for it.
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
