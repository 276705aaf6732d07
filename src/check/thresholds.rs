//! The thresholds for the newest backup: values of `check`'s flags.
//!
//! Read by `cli`, judged by [`super::newest`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};

use crate::scheduler::Schedule;

/// A nightly backup that may take two hours.
const DEFAULT_MAX_AGE: Duration = Duration::from_hours(26);
/// The clocks of the two machines may differ.
const GRACE: Duration = Duration::from_mins(5);
/// No schedule is longer than ten years, and clocks do not overflow by then.
const LONGEST_AGE: Duration = Duration::from_hours(24 * 3653);
/// The same as retention's safety check.
const DEFAULT_MAX_SHRINK: &str = "50%";

/// The thresholds.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// No older than this.
    pub max_age: MaxAge,
    /// No smaller than this.
    pub min_size: Option<MinSize>,
    /// No smaller, against the median of those before, than by this.
    pub max_shrink: MaxShrink,
    /// Read it completely.
    pub deep: bool,
}

/// `--max-age`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxAge(Option<Duration>);

impl MaxAge {
    /// The default: the last but one scheduled backup must exist, so that one that is running does not count as missed. With
    /// equal intervals, that is twice the interval.
    #[must_use]
    pub fn usual(schedule: Option<&Schedule>, now: DateTime<Utc>) -> Self {
        let due = schedule.and_then(|schedule| {
            let last = schedule.last_until(now)?;
            let last_but_one = schedule.last_until(last - TimeDelta::seconds(1))?;
            (now - last_but_one).to_std().ok()
        });
        Self(Some(due.map_or(DEFAULT_MAX_AGE, |age| age + GRACE)))
    }

    /// The limit; `None` where any age will do.
    #[must_use]
    pub fn get(self) -> Option<Duration> {
        self.0
    }
}

impl FromStr for MaxAge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        match humantime::parse_duration(text) {
            Ok(age) if age <= LONGEST_AGE => Ok(Self(Some(age))),
            Ok(_) => Err("must be ten years at most, or `none`".to_owned()),
            Err(error) => Err(format!("must be a duration such as `26h` or `8d`, or `none`: {error}")),
        }
    }
}

/// `--min-size`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinSize(u64);

impl MinSize {
    /// Bytes.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for MinSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = ByteSize::from_str(text).map_err(|_| "must be a size such as `100MiB`".to_owned())?;
        Ok(Self(size.as_u64()))
    }
}

/// `--max-shrink`, in per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxShrink(Option<u32>);

impl MaxShrink {
    /// The least size in bytes, where those before it have this one in the middle.
    #[must_use]
    pub fn least(self, median: u64) -> Option<u64> {
        let left = u128::from(100 - self.0?);
        u64::try_from(u128::from(median) * left / 100).ok()
    }
}

impl Default for MaxShrink {
    fn default() -> Self {
        DEFAULT_MAX_SHRINK.parse().unwrap_or(Self(None))
    }
}

impl FromStr for MaxShrink {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        match text.strip_suffix('%').unwrap_or(text).parse() {
            Ok(percent @ 0..=100) => Ok(Self(Some(percent))),
            _ => Err("must be a share from `0%` to `100%`, or `none`".to_owned()),
        }
    }
}

impl fmt::Display for MaxShrink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(percent) => write!(f, "{percent}%"),
            None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_as_people_write_them() {
        assert_eq!("none".parse(), Ok(MaxAge(None)));
        assert_eq!("8d".parse(), Ok(MaxAge(Some(Duration::from_hours(192)))));
        assert!("soon".parse::<MaxAge>().is_err() && "11y".parse::<MaxAge>().is_err());
    }

    #[test]
    fn the_usual_age_follows_the_schedule() {
        let age = |text: &str, now: &str| {
            let schedule = Schedule::parse(text, chrono_tz::Tz::UTC).expect("a schedule");
            let now = now.parse::<DateTime<Utc>>().expect("a time");
            MaxAge::usual(Some(&schedule), now).get().map(|age| age.as_secs() / 60)
        };
        assert_eq!(MaxAge::usual(None, Utc::now()).get(), Some(Duration::from_hours(26)));
        // A minute before the next is due it is twice the interval, a minute after it once; and the grace.
        assert_eq!(age("0 2 * * *", "2026-11-24T01:59:00Z"), Some(2 * 1440 - 1 + 5));
        assert_eq!(age("0 2 * * *", "2026-11-24T02:01:00Z"), Some(1440 + 1 + 5));
        // On a Sunday, of a schedule that knows no week-end: Thursday's must be there.
        assert_eq!(age("0 2 * * 1-5", "2026-11-22T02:00:00Z"), Some(3 * 1440 + 5));
    }

    #[test]
    fn a_share_leaves_the_rest() {
        let least = |text: &str, median| text.parse::<MaxShrink>().expect("a share").least(median);
        assert_eq!(least("50%", 1001), Some(500));
        assert_eq!((least("0%", 7), least("100", u64::MAX), least("none", 7)), (Some(7), Some(0), None));
        assert_eq!(MaxShrink::default().least(100), Some(50));
        assert!("101%".parse::<MaxShrink>().is_err() && "-1%".parse::<MaxShrink>().is_err());
    }
}
