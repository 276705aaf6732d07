//! The daemon's state: written by its loop, read by `health`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::telemetry::metrics::{DrillSample, MetricsStore};

use super::Schedule;

/// The loop beats several times a second; after this long without a beat it is stuck.
const ALIVE: Duration = Duration::from_secs(30);

/// The state of the daemon.
#[derive(Debug)]
pub struct Heartbeat {
    schedule: Schedule,
    metrics: Arc<MetricsStore>,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
struct State {
    beat: Instant,
    running_since: Option<DateTime<Utc>>,
    next: Option<DateTime<Utc>>,
    drill: DrillState,
}

/// The drills of the daemon.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DrillState {
    /// The last one.
    pub last: Option<LastDrill>,
    /// Start of the running one.
    pub running_since: Option<DateTime<Utc>>,
    /// When the next one is due.
    pub next: Option<DateTime<Utc>>,
}

/// The last drill.
#[derive(Clone, Debug, PartialEq)]
pub struct LastDrill {
    /// The backup; `None` if none was found.
    pub file_name: Option<String>,
    /// How it ended.
    pub sample: DrillSample,
}

/// Whether backups succeed on schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// There was a success since the last but one tick.
    pub is_healthy: bool,
    /// Time of the last success.
    pub last_success: Option<DateTime<Utc>>,
    /// Time of the last but one tick.
    pub expected_since: Option<DateTime<Utc>>,
    /// Start of the running backup.
    pub running_since: Option<DateTime<Utc>>,
    /// When the next backup is due.
    pub next_run: Option<DateTime<Utc>>,
    /// The drills, which do not change whether it is healthy.
    pub drill: DrillState,
}

impl Heartbeat {
    /// The state of a daemon that starts now.
    #[must_use]
    pub fn new(schedule: Schedule, metrics: Arc<MetricsStore>) -> Self {
        let state = State { beat: Instant::now(), running_since: None, next: None, drill: DrillState::default() };
        Self { schedule, metrics, state: Mutex::new(state) }
    }

    /// The metrics of its runs.
    #[must_use]
    pub fn metrics(&self) -> &MetricsStore {
        &self.metrics
    }

    /// Records that the loop runs.
    pub fn beat(&self) {
        self.with(|state| state.beat = Instant::now());
    }

    /// Records the running and the next backup.
    pub fn planned(&self, running_since: Option<DateTime<Utc>>, next: Option<DateTime<Utc>>) {
        self.with(|state| (state.running_since, state.next) = (running_since, next));
        self.metrics.planned(running_since, next);
    }

    /// Records the running and the next drill.
    pub fn drill_planned(&self, running_since: Option<DateTime<Utc>>, next: Option<DateTime<Utc>>) {
        self.with(|state| (state.drill.running_since, state.drill.next) = (running_since, next));
        self.metrics.drill_planned(running_since, next);
    }

    /// Records the end of a drill.
    pub fn drilled(&self, drill: LastDrill) {
        let sample = drill.sample;
        self.with(|state| state.drill.last = Some(drill));
        self.metrics.drilled(&sample);
    }

    /// Records a drill of an earlier process, unless a later one is known.
    pub fn found_drill(&self, drill: LastDrill) {
        let sample = drill.sample;
        self.with(|state| _ = state.drill.last.get_or_insert(drill));
        self.metrics.found_drill(&sample);
    }

    /// Whether the loop runs, and the age of its last beat.
    #[must_use]
    pub fn alive(&self) -> (bool, Duration) {
        let age = self.with(|state| state.beat.elapsed());
        (age < ALIVE, age)
    }

    /// Whether backups succeed on schedule, at this time.
    #[must_use]
    pub fn health(&self, now: DateTime<Utc>) -> Health {
        let State { running_since, next, drill, .. } = self.with(|state| state.clone());
        let last = self.schedule.last_until(now);
        let expected_since = last.and_then(|last| self.schedule.last_until(last - TimeDelta::seconds(1)));
        let last_success = self.metrics.last_success(now);
        let is_healthy = last_success.is_some_and(|success| expected_since.is_none_or(|since| success >= since));
        Health { is_healthy, last_success, expected_since, running_since, next_run: next, drill }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::RunResult;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-11-{text}Z").parse().expect("a time")
    }

    #[test]
    fn healthy_with_success_since_last_but_one_tick() {
        let schedule = Schedule::parse("0 2 * * *", chrono_tz::Tz::UTC).expect("a schedule");
        let metrics = Arc::new(MetricsStore::open(Some("s3://b/"), None));
        let heartbeat = Heartbeat::new(schedule, Arc::clone(&metrics));
        assert!(!heartbeat.health(at("23T12:00:00")).is_healthy, "nothing is known");
        let run = |ended, exit_code, bytes| {
            let run = RunResult::without_backup(ended, Duration::ZERO, exit_code);
            RunResult { bytes, ..run }
        };
        metrics.ended(&run(at("22T02:10:00"), 0, Some((10, 1))));
        for (now, healthy) in
            [("22T03:00:00", true), ("23T03:00:00", true), ("24T01:59:59", true), ("24T02:00:00", false)]
        {
            assert_eq!(heartbeat.health(at(now)).is_healthy, healthy, "{now}");
        }
        metrics.ended(&run(at("24T02:00:30"), 10, None));
        assert!(!heartbeat.health(at("24T02:01:00")).is_healthy, "a failure changes nothing");
        metrics.looked(3, 30, Some(at("23T02:00:00")));
        assert!(heartbeat.health(at("24T02:01:00")).is_healthy, "a backup by another host counts, too");
        metrics.looked(2, 20, Some(at("20T02:00:00")));
        assert!(heartbeat.health(at("24T02:01:00")).is_healthy, "an older one changes nothing");
    }

    #[test]
    fn success_in_the_future_does_not_count() {
        let schedule = Schedule::parse("0 2 * * *", chrono_tz::Tz::UTC).expect("a schedule");
        let metrics = Arc::new(MetricsStore::open(Some("s3://b/"), None));
        let heartbeat = Heartbeat::new(schedule, Arc::clone(&metrics));
        // Committed while the clock was wrong.
        metrics.ended(&RunResult {
            bytes: Some((10, 1)),
            ..RunResult::without_backup(at("24T02:10:00"), Duration::ZERO, 0)
        });
        let health = heartbeat.health(at("23T12:00:00"));
        assert_eq!((health.is_healthy, health.last_success), (false, None));
        assert!(heartbeat.health(at("24T01:10:00")).is_healthy, "clocks may differ by an hour");
        // The metrics omit it, or an alert would stay silent until then.
        metrics.ended(&RunResult::without_backup(at("23T12:00:00"), Duration::ZERO, 10));
        assert!(!metrics.render().contains("last_success_timestamp"), "{}", metrics.render());
    }

    #[test]
    fn loop_without_beat_is_not_alive() {
        let schedule = Schedule::parse("0 2 * * *", chrono_tz::Tz::UTC).expect("a schedule");
        let heartbeat = Heartbeat::new(schedule, Arc::new(MetricsStore::open(Some("s3://b/"), None)));
        assert!(heartbeat.alive().0);
        let Some(long_ago) = Instant::now().checked_sub(ALIVE) else { return };
        heartbeat.with(|state| state.beat = long_ago);
        assert!(!heartbeat.alive().0);
        heartbeat.beat();
        assert!(heartbeat.alive().0);
    }
}
