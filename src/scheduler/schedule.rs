//! A schedule: a cron expression in a time zone. Says when it fires; holds no clock.
//!
//! Made by `config`, asked by [`super::RunQueue`] and by whoever wants to know how old the newest backup may be. Daylight
//! saving (SPEC §9): a time of day that is skipped runs once, when the clocks have gone forward; one that comes twice runs
//! the first time only. An expression whose hour is `*` means every real hour and knows no time of day: it runs through
//! both. The expression itself is croner's; it only ever sees the plain calendar, and the clocks' changes are dealt with
//! here, because its own rules for them treat `15 2 * * *` and `15 2,3 * * *` differently (FACTS §5).

mod advice;

use std::fmt;

use chrono::{DateTime, NaiveDateTime, Offset as _, SubsecRound as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Short for usual expressions.
const MACROS: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];
/// No zone changes its clocks twice within this time (tz database, 1970 to 2037).
const NO_TWO_CHANGES: TimeDelta = TimeDelta::hours(12);
/// Further than any zone is from UTC, on either side.
const FURTHEST: TimeDelta = TimeDelta::hours(26);
/// 29 February may be missing for 8 years (1896 to 1904); on a given day of the week it takes 40.
const LONGEST_GAP: TimeDelta = TimeDelta::days(41 * 366);

/// When backups are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
    text: String,
    hours: Hours,
}

/// What the hour of an expression means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hours {
    /// `*`: each that passes.
    Every,
    /// Those of the day that it names.
    OfTheDay,
}

impl Schedule {
    /// Reads an expression: five fields, six with seconds in front, or a macro such as `@daily`.
    ///
    /// # Errors
    /// Why it is none, or that it never fires.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, String> {
        let trimmed = text.trim();
        if let Some(why) = advice::advice(trimmed) {
            return Err(why);
        }
        let expanded = match MACROS.iter().find(|(name, _)| name.eq_ignore_ascii_case(trimmed)) {
            Some((_, expression)) => expression,
            None if trimmed.starts_with('@') => {
                return Err(format!("`{trimmed}` is none of @hourly, @daily, @weekly, @monthly and @yearly"));
            }
            None => trimmed,
        };
        let fields: Vec<&str> = expanded.split_whitespace().collect();
        let ([hour, day, _, weekday] | [_, hour, day, _, weekday]) = fields.get(1..).unwrap_or_default() else {
            return Err(format!(
                "`{trimmed}` is not a cron expression: it has {} fields, not 5 (minute, hour, day, month, day of the week) or 6 (a second in front)",
                fields.len()
            ));
        };
        if let Some(why) = advice::idle_step(&fields) {
            return Err(why);
        }
        // As cron has it: of two lists of days either will do, but a `*` at the beginning of one makes it a condition. So
        // does Quartz's `?`, which means the same.
        let are_both_asked = [day, weekday].iter().any(|field| field.starts_with(['*', '?']));
        let parser =
            CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).dom_and_dow(are_both_asked).build();
        let cron = parser.parse(expanded).map_err(|error| format!("`{trimmed}` is not a cron expression: {error}"))?;
        let hours = if *hour == "*" { Hours::Every } else { Hours::OfTheDay };
        let schedule = Self { cron, zone, text: trimmed.to_owned(), hours };
        match schedule.next_after(Utc::now()) {
            Some(_) => Ok(schedule),
            None => Err(format!("`{trimmed}` never fires")),
        }
    }

    /// The first time after this one; `None` where there is none.
    #[must_use]
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let time = time.trunc_subsecs(0);
        match self.hours {
            Hours::Every => self.next_of_every_hour(time),
            Hours::OfTheDay => self.next_of_the_day(time),
        }
    }

    /// The last time at this one or before; `None` where there was none.
    #[must_use]
    pub fn last_until(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut span = TimeDelta::minutes(1);
        while span < LONGEST_GAP {
            let ticks = std::iter::successors(self.next_after(time - span), |tick| self.next_after(*tick));
            if let Some(last) = ticks.take_while(|tick| *tick <= time).last() {
                return Some(last);
            }
            span = span * 2;
        }
        None
    }

    /// Every time on the wall clock that the expression names, once: where the clock skips it, at the skip's end; where
    /// it comes twice, at first.
    fn next_of_the_day(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut wall = self.wall(time);
        loop {
            wall = self.next_on_the_wall(wall, Inclusion::After)?;
            let tick = self.instant(wall);
            // Behind us where the clock has gone back and shows this time for the second time.
            if tick > time {
                return Some(tick);
            }
        }
    }

    /// Every instant at which the wall clock shows what the expression names.
    fn next_of_every_hour(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (mut from, mut inclusion) = (time, Inclusion::After);
        loop {
            let offset = self.offset(from);
            let tick = (self.next_on_the_wall((from + offset).naive_utc(), inclusion)?).and_utc() - offset;
            match self.first_change(from, tick) {
                None => return Some(tick),
                // From there on the wall clock shows something else.
                Some(change) => (from, inclusion) = (change, Inclusion::From),
            }
        }
    }

    fn next_on_the_wall(&self, wall: NaiveDateTime, inclusion: Inclusion) -> Option<NaiveDateTime> {
        let next = self.cron.find_next_occurrence(&wall.and_utc(), inclusion == Inclusion::From);
        next.ok().map(|next| next.naive_utc())
    }

    fn offset(&self, time: DateTime<Utc>) -> TimeDelta {
        let offset = self.zone.offset_from_utc_datetime(&time.naive_utc()).fix();
        TimeDelta::seconds(i64::from(offset.local_minus_utc()))
    }

    fn wall(&self, time: DateTime<Utc>) -> NaiveDateTime {
        (time + self.offset(time)).naive_utc()
    }

    /// When the wall clock shows this, for the first time; where it never does, when it has skipped it.
    fn instant(&self, wall: NaiveDateTime) -> DateTime<Utc> {
        match self.zone.from_local_datetime(&wall).earliest() {
            Some(time) => time.to_utc(),
            None => first(wall.and_utc() - FURTHEST, wall.and_utc() + FURTHEST, |time| self.wall(time) > wall),
        }
    }

    /// The first instant after `from` and up to `until` at which the clocks have been changed.
    fn first_change(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let offset = self.offset(from);
        let mut low = from;
        while low < until {
            let high = until.min(low + NO_TWO_CHANGES);
            if self.offset(high) != offset {
                return Some(first(low, high, |time| self.offset(time) != offset));
            }
            low = high;
        }
        None
    }
}

/// Whether a time that matches itself is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inclusion {
    After,
    From,
}

/// The first second behind `low` at which `holds`; it does at `high`.
fn first(mut low: DateTime<Utc>, mut high: DateTime<Utc>, holds: impl Fn(DateTime<Utc>) -> bool) -> DateTime<Utc> {
    while high - low > TimeDelta::seconds(1) {
        let middle = low + TimeDelta::seconds((high - low).num_seconds() / 2);
        if holds(middle) { high = middle } else { low = middle }
    }
    high
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.zone)
    }
}

#[cfg(test)]
mod tests;
