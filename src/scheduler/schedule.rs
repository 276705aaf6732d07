//! A schedule: a cron expression in a time zone. Says when it fires; has no clock.
//!
//! Parsed by `config`, and used by [`super::RunQueue`], the health check and `check`. It defines what a change of the clock does
//! to a time of day (`docs/monitoring.md`): a skipped time runs once, right after the change; a repeated time runs the
//! first time only. An expression with the hour `*` fires in every real hour instead. croner has the same rules, but only for an
//! expression with a single hour and minute: it fires `15 2,3 * * *` twice. So it searches here on a plain calendar.

mod advice;

use std::fmt;

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, SubsecRound as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::{GapInfo, Tz};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

/// Abbreviations of common expressions.
const MACROS: &[(&str, &str)] = &[
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// When backups are due.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
    text: String,
    hours: Hours,
}

/// What the hour field means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hours {
    /// `*`: every real hour.
    Every,
    /// Times of day.
    OfDay,
}

impl Schedule {
    /// Parses five fields, six with a leading field of seconds, or a macro such as `@daily`.
    ///
    /// # Errors
    /// If it is not a cron expression, or never fires.
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
                "`{trimmed}` is not a cron expression: it has {} fields, not 5 (minute, hour, day, month, day of the week) or 6 (second first)",
                fields.len()
            ));
        };
        if let Some(why) = advice::idle_step(&fields) {
            return Err(why);
        }
        // As in Vixie cron: a day matches either of two lists of days, but both if one starts with `*`. `?` is Quartz's `*`.
        let need_both_days = [day, weekday].iter().any(|field| field.starts_with(['*', '?']));
        let parser =
            CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).dom_and_dow(need_both_days).build();
        let cron = parser.parse(expanded).map_err(|error| format!("`{trimmed}` is not a cron expression: {error}"))?;
        let hours = if *hour == "*" { Hours::Every } else { Hours::OfDay };
        let schedule = Self { cron, zone, text: trimmed.to_owned(), hours };
        match schedule.next_after(Utc::now()) {
            Some(_) => Ok(schedule),
            None => Err(format!("`{trimmed}` never fires")),
        }
    }

    /// The next time; `None` if there is none.
    #[must_use]
    pub fn next_after(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let time = time.with_timezone(&self.zone).trunc_subsecs(0);
        if self.hours == Hours::Every {
            return self.cron.find_next_occurrence(&time, false).ok().map(|next| next.to_utc());
        }
        let mut wall = time.naive_local();
        loop {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            let tick = self.instant(wall)?;
            // Not so if the clock was set back and shows this time again.
            if tick > time {
                return Some(tick.to_utc());
            }
        }
    }

    /// The latest time that is not after this one; `None` if there is none.
    #[must_use]
    pub fn last_until(&self, time: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let time = time.with_timezone(&self.zone).trunc_subsecs(0);
        if self.hours == Hours::Every {
            return self.cron.find_previous_occurrence(&time, true).ok().map(|last| last.to_utc());
        }
        let repeated = match self.zone.from_local_datetime(&time.naive_local()) {
            // The clock was set back and has shown later times before.
            MappedLocalTime::Ambiguous(first, second) if second == time => second - first,
            _ => TimeDelta::zero(),
        };
        let mut wall = time.naive_local() + repeated + TimeDelta::seconds(1);
        loop {
            wall = self.cron.find_previous_occurrence(&wall, false).ok()?;
            let tick = self.instant(wall)?;
            if tick <= time {
                return Some(tick.to_utc());
            }
        }
    }

    /// When the wall clock first shows a time; if it skips that time, when it does so.
    fn instant(&self, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
        let shown = self.zone.from_local_datetime(&wall).earliest();
        shown.or_else(|| GapInfo::new(&wall, &self.zone)?.end)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.zone)
    }
}

#[cfg(test)]
mod tests;
