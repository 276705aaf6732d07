//! Which backup is due and when: the loop's decisions as a state machine without a clock.
//!
//! [`super::Scheduler`] passes it the time at every step, and how each backup ended.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::Schedule;

/// A clock set back by up to this much is a correction: the schedule does not restart.
const SMALL_STEP: TimeDelta = TimeDelta::minutes(1);

/// Why a backup is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The schedule.
    Tick {
        /// The scheduled time.
        scheduled: DateTime<Utc>,
    },
    /// The last one failed.
    Retry {
        /// Counted from 1.
        number: usize,
        /// When the retry was planned.
        scheduled: DateTime<Utc>,
    },
    /// `--run-on-start`
    Start,
    /// The newest backup is older than the last tick.
    CatchUp,
}

impl Due {
    /// The reason, for logs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Tick { .. } => "schedule",
            Self::Retry { .. } => "retry",
            Self::Start => "start",
            Self::CatchUp => "catch-up",
        }
    }

    /// The planned time, if there is one.
    #[must_use]
    pub fn scheduled(self) -> Option<DateTime<Utc>> {
        match self {
            Self::Tick { scheduled } | Self::Retry { scheduled, .. } => Some(scheduled),
            Self::Start | Self::CatchUp => None,
        }
    }
}

/// A tick during a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// The scheduled time.
    pub scheduled: DateTime<Utc>,
    /// Skipped ticks since the last tick that started a backup, including this one.
    pub in_a_row: u32,
}

/// The next tick and the next retry.
#[derive(Clone, Debug)]
pub struct RunQueue {
    schedule: Schedule,
    delays: Vec<Duration>,
    tick: Option<DateTime<Utc>>,
    retry: Option<(usize, DateTime<Utc>)>,
    retried: usize,
    skipped: u32,
    seen: DateTime<Utc>,
}

impl RunQueue {
    /// Starts now, with the delay before each retry of a failed backup.
    #[must_use]
    pub fn new(schedule: Schedule, delays: Vec<Duration>, now: DateTime<Utc>) -> Self {
        let tick = schedule.next_after(now);
        Self { schedule, delays, tick, retry: None, retried: 0, skipped: 0, seen: now }
    }

    /// When the next backup is due.
    #[must_use]
    pub fn next(&self) -> Option<DateTime<Utc>> {
        self.retry.map(|(_, time)| time).into_iter().chain(self.tick).min()
    }

    /// The backup that is due while none runs.
    pub fn due(&mut self, now: DateTime<Utc>) -> Option<Due> {
        self.check_clock(now);
        if let Some(scheduled) = self.passed_tick(now) {
            (self.retry, self.retried, self.skipped) = (None, 0, 0);
            return Some(Due::Tick { scheduled });
        }
        let (number, scheduled) = self.retry.filter(|(_, time)| *time <= now)?;
        self.retry = None;
        Some(Due::Retry { number, scheduled })
    }

    /// The tick that is skipped because a backup runs.
    pub fn skip(&mut self, now: DateTime<Utc>) -> Option<Skipped> {
        self.check_clock(now);
        let scheduled = self.passed_tick(now)?;
        self.skipped += 1;
        Some(Skipped { scheduled, in_a_row: self.skipped })
    }

    /// The backup succeeded: nothing to retry.
    pub fn succeeded(&mut self) {
        (self.retry, self.retried, self.skipped) = (None, 0, 0);
    }

    /// The backup failed: plans a retry, unless the next tick comes first.
    pub fn failed(&mut self, now: DateTime<Utc>) {
        self.retry = None;
        let delay = self.delays.get(self.retried).and_then(|delay| TimeDelta::from_std(*delay).ok());
        let Some(time) = delay.map(|delay| now + delay) else { return };
        if self.tick.is_none_or(|tick| tick > time) {
            self.retried += 1;
            self.retry = Some((self.retried, time));
        }
    }

    /// The latest tick that has passed, if any. After a suspend, several ticks are one.
    fn passed_tick(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let first = self.tick.filter(|tick| *tick <= now)?;
        self.tick = self.schedule.next_after(now);
        self.schedule.last_until(now).or(Some(first))
    }

    /// After the clock was set back, the next tick must not wait for the time that it showed before.
    fn check_clock(&mut self, now: DateTime<Utc>) {
        let back = self.seen - now;
        self.seen = now;
        if back > SMALL_STEP {
            tracing::warn!(clock_step_s = back.num_seconds(), "the clock was set back: the schedule restarts");
            self.tick = self.schedule.next_after(now);
            self.retry = self.retry.map(|(number, time)| (number, time - back));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAYS: [Duration; 3] = [Duration::from_mins(5), Duration::from_mins(15), Duration::from_mins(45)];

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-23T{text}Z").parse().expect("a time")
    }

    fn run_queue(expression: &str, now: &str) -> RunQueue {
        let schedule = Schedule::parse(expression, chrono_tz::Tz::UTC).expect("a schedule");
        RunQueue::new(schedule, DELAYS.to_vec(), at(now))
    }

    #[test]
    fn tick_is_due_once() {
        let mut run_queue = run_queue("0 2 * * *", "01:59:59");
        assert_eq!(run_queue.due(at("01:59:59")), None);
        assert_eq!(run_queue.due(at("02:00:00")), Some(Due::Tick { scheduled: at("02:00:00") }));
        assert_eq!(run_queue.due(at("02:00:00")), None);
        assert_eq!(run_queue.next(), Some(at("02:00:00") + TimeDelta::days(1)));
    }

    #[test]
    fn failed_backup_is_retried_until_delays_are_used_up() {
        let mut run_queue = run_queue("0 2 * * *", "01:00:00");
        run_queue.due(at("02:00:00")).expect("the tick");
        run_queue.failed(at("02:01:00"));
        assert_eq!(run_queue.due(at("02:05:59")), None);
        assert_eq!(run_queue.due(at("02:06:00")), Some(Due::Retry { number: 1, scheduled: at("02:06:00") }));
        run_queue.failed(at("02:07:00"));
        assert_eq!(run_queue.next(), Some(at("02:22:00")));
        assert_eq!(run_queue.due(at("02:22:00")), Some(Due::Retry { number: 2, scheduled: at("02:22:00") }));
        run_queue.failed(at("02:23:00"));
        assert_eq!(run_queue.due(at("03:08:00")), Some(Due::Retry { number: 3, scheduled: at("03:08:00") }));
        run_queue.failed(at("03:09:00"));
        assert_eq!(run_queue.next(), Some(at("02:00:00") + TimeDelta::days(1)), "no fourth");
        // The next tick starts over.
        run_queue.due(at("02:00:00") + TimeDelta::days(1)).expect("the tick");
        run_queue.failed(at("02:00:00") + TimeDelta::days(1));
        assert_eq!(run_queue.next(), Some(at("02:05:00") + TimeDelta::days(1)));
    }

    #[test]
    fn no_retry_after_next_tick() {
        let mut run_queue = run_queue("*/10 * * * *", "02:00:00");
        run_queue.due(at("02:10:00")).expect("the tick");
        run_queue.failed(at("02:14:00"));
        assert_eq!(run_queue.next(), Some(at("02:19:00")));
        run_queue.due(at("02:19:00")).expect("the first retry");
        run_queue.failed(at("02:19:30"));
        assert_eq!(run_queue.next(), Some(at("02:20:00")));
        assert_eq!(run_queue.due(at("02:20:00")), Some(Due::Tick { scheduled: at("02:20:00") }));
        run_queue.failed(at("02:20:01"));
        run_queue.succeeded();
        assert_eq!(run_queue.next(), Some(at("02:30:00")));
    }

    #[test]
    fn counts_skipped_ticks_until_next_started_tick() {
        let mut run_queue = run_queue("* * * * *", "02:00:00");
        run_queue.due(at("02:01:00")).expect("the tick");
        assert_eq!(run_queue.skip(at("02:01:59")), None);
        assert_eq!(run_queue.skip(at("02:02:00")), Some(Skipped { scheduled: at("02:02:00"), in_a_row: 1 }));
        assert_eq!(run_queue.skip(at("02:03:00")), Some(Skipped { scheduled: at("02:03:00"), in_a_row: 2 }));
        run_queue.succeeded();
        run_queue.due(at("02:04:00")).expect("the tick");
        assert_eq!(run_queue.skip(at("02:05:00")), Some(Skipped { scheduled: at("02:05:00"), in_a_row: 1 }));
    }

    #[test]
    fn missed_ticks_are_one_backup() {
        let mut run_queue = run_queue("0 * * * *", "02:30:00");
        assert_eq!(run_queue.due(at("09:20:00")), Some(Due::Tick { scheduled: at("09:00:00") }));
        assert_eq!(run_queue.due(at("09:20:01")), None);
        assert_eq!(run_queue.next(), Some(at("10:00:00")));
    }

    #[test]
    fn schedule_continues_after_clock_is_set_back() {
        let mut run_queue = run_queue("0 2 * * *", "01:00:00");
        let wrong = at("01:00:00") + TimeDelta::days(3650);
        run_queue.due(wrong).expect("a tick of the wrong year");
        run_queue.failed(wrong);
        assert_eq!(run_queue.due(at("01:00:01")), None);
        assert_eq!(run_queue.next(), Some(at("01:05:01")), "the retry has moved with the clock");
        assert_eq!(run_queue.due(at("02:00:00")), Some(Due::Tick { scheduled: at("02:00:00") }));
        // A small step back does not run it twice.
        assert_eq!(run_queue.due(at("01:59:58")), None);
        assert_eq!(run_queue.due(at("02:00:00")), None);
    }
}
