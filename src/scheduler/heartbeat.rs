//! The daemon's state: written by its loop, read by `health`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::telemetry::RunningDumps;
use crate::telemetry::metrics::{DrillSample, KnownDatabase, MetricsStore};

use super::Schedule;

/// The loop beats several times a second; after this long without a beat it is stuck.
const ALIVE: Duration = Duration::from_secs(30);

/// The state of the daemon.
#[derive(Debug)]
pub struct Heartbeat {
    schedule: Schedule,
    metrics: Arc<MetricsStore>,
    dumps: RunningDumps,
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
    /// The name and the destination of its database, if there are several.
    pub database: Option<(String, String)>,
    /// The backup; `None` if none was found.
    pub file_name: Option<String>,
    /// How it ended.
    pub sample: DrillSample,
}

/// Whether backups succeed on schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// There was a success since the last but one tick; of each database, if there are several.
    pub is_healthy: bool,
    /// Time of the last success; if there are several databases, the time since which each has a backup.
    pub last_success: Option<DateTime<Utc>>,
    /// The databases, if the daemon backs up several.
    pub databases: Option<Vec<DatabaseHealth>>,
    /// Time of the last but one tick.
    pub expected_since: Option<DateTime<Utc>>,
    /// Start of the running backup.
    pub running_since: Option<DateTime<Utc>>,
    /// When the next backup is due.
    pub next_run: Option<DateTime<Utc>>,
    /// The drills, which do not change whether it is healthy.
    pub drill: DrillState,
}

/// Whether the backups of a database succeed on schedule.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseHealth {
    /// Its name.
    pub name: String,
    /// There was a success since the last but one tick, or it is new and there was no run yet.
    pub is_healthy: bool,
    /// Time of its last success.
    pub last_success: Option<DateTime<Utc>>,
}

impl Heartbeat {
    /// The state of a daemon that starts now.
    #[must_use]
    pub fn new(schedule: Schedule, metrics: Arc<MetricsStore>) -> Self {
        let state = State { beat: Instant::now(), running_since: None, next: None, drill: DrillState::default() };
        Self { schedule, metrics, dumps: RunningDumps::default(), state: Mutex::new(state) }
    }

    /// The metrics of its runs.
    #[must_use]
    pub fn metrics(&self) -> &MetricsStore {
        &self.metrics
    }

    /// The dumps that run now.
    #[must_use]
    pub fn dumps(&self) -> &RunningDumps {
        &self.dumps
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
        match &drill.database {
            Some((database, destination)) => self.metrics.of_database(database, destination).drilled(&drill.sample),
            None => self.metrics.drilled(&drill.sample),
        }
        self.with(|state| state.drill.last = Some(drill));
    }

    /// Records a drill of an earlier process, unless a later one is known.
    pub fn found_drill(&self, drill: LastDrill) {
        match &drill.database {
            Some((database, destination)) => self.metrics.of_database(database, destination).found_drill(&drill.sample),
            None => self.metrics.found_drill(&drill.sample),
        }
        self.with(|state| {
            if state.drill.last.as_ref().is_none_or(|last| last.sample.ended < drill.sample.ended) {
                state.drill.last = Some(drill);
            }
        });
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
        let expected_since = self.expected_since(now);
        let is_fresh = |success: DateTime<Utc>| expected_since.is_none_or(|since| success >= since);
        let known = self.metrics.databases(now);
        // A new database counts from its first run.
        let counted = known.iter().flatten().filter(|database| database.had_run || database.last_success.is_some());
        let oldest = counted.map(|database| database.last_success).min();
        let last_success = oldest.unwrap_or_else(|| self.metrics.last_success(now));
        let databases = known.map(|known| known.into_iter().map(|database| judged(database, is_fresh)).collect());
        let is_healthy = last_success.is_some_and(is_fresh);
        Health { is_healthy, last_success, databases, expected_since, running_since, next_run: next, drill }
    }

    /// Whether a success at this time is fresh.
    #[must_use]
    pub fn is_fresh(&self, success: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        self.expected_since(now).is_none_or(|since| success >= since)
    }

    fn expected_since(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let last = self.schedule.last_until(now)?;
        self.schedule.last_until(last - TimeDelta::seconds(1))
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn judged(database: KnownDatabase, is_fresh: impl Fn(DateTime<Utc>) -> bool) -> DatabaseHealth {
    let KnownDatabase { database: name, last_success, had_run, .. } = database;
    DatabaseHealth { name, is_healthy: last_success.map_or(!had_run, is_fresh), last_success }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{RunResult, ServerRun};

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
    fn healthy_only_with_a_success_of_each_database() {
        let schedule = Schedule::parse("0 2 * * *", chrono_tz::Tz::UTC).expect("a schedule");
        let metrics = Arc::new(MetricsStore::open(Some("s3://b/"), None).of_server());
        let heartbeat = Heartbeat::new(schedule, Arc::clone(&metrics));
        let health = |now: &str| heartbeat.health(at(now));
        assert_eq!((health("22T01:00:00").databases, health("22T01:00:00").is_healthy), (Some(Vec::new()), false));
        let databases = [("app", "s3://b/app"), ("shop", "s3://b/shop")];
        let ended = |ended: &str, name: &str, exit_code| {
            let bytes = (exit_code == 0).then_some((10, 1));
            let run = RunResult { bytes, ..RunResult::without_backup(at(ended), Duration::ZERO, exit_code) };
            metrics.of_database(name, &format!("s3://b/{name}")).ended(&run);
        };
        let server_ended = |time: &str, failed| {
            let exit_code = if failed == 0 { 0 } else { 11 };
            let (ended, elapsed) = (at(time), Duration::ZERO);
            metrics.server_ended(&ServerRun { ended, elapsed, exit_code, databases: &databases, failed });
        };
        ended("22T02:10:00", "app", 0);
        assert!(health("22T02:11:00").is_healthy, "the other is not known yet");
        metrics.of_database("shop", "s3://b/shop").looked(0, 0, None);
        let seen = health("22T02:12:00");
        let healthy: Vec<_> = seen.databases.iter().flatten().map(|database| database.is_healthy).collect();
        assert_eq!((seen.is_healthy, healthy), (true, vec![true, true]), "it counts from its first run");
        ended("22T02:20:00", "shop", 11);
        server_ended("22T02:20:00", 1);
        let seen = health("22T03:00:00");
        let judged = |name: &str, is_healthy, last_success: Option<&str>| DatabaseHealth {
            name: name.to_owned(),
            is_healthy,
            last_success: last_success.map(at),
        };
        let all = vec![judged("app", true, Some("22T02:10:00")), judged("shop", false, None)];
        assert_eq!((seen.is_healthy, seen.last_success, seen.databases), (false, None, Some(all)));
        ended("23T02:10:00", "shop", 0);
        ended("23T02:20:00", "app", 11);
        server_ended("23T02:20:00", 1);
        let seen = health("23T03:00:00");
        assert_eq!((seen.is_healthy, seen.last_success), (true, Some(at("22T02:10:00"))), "each has one");
        assert!(!health("24T02:00:00").is_healthy, "the one is too old");
        ended("24T02:05:00", "app", 0);
        assert!(health("24T02:06:00").is_healthy);
        metrics.server_ended(&ServerRun {
            ended: at("25T02:10:00"),
            elapsed: Duration::ZERO,
            exit_code: 0,
            databases: &databases[..1],
            failed: 0,
        });
        let left = health("25T02:11:00").databases.expect("several databases");
        assert_eq!(left.iter().map(|database| &*database.name).collect::<Vec<_>>(), ["app"], "the other is gone");
    }

    #[test]
    fn drill_of_a_database_is_recorded_there() {
        let schedule = Schedule::parse("0 2 * * *", chrono_tz::Tz::UTC).expect("a schedule");
        let heartbeat = Heartbeat::new(schedule, Arc::new(MetricsStore::open(Some("s3://b/"), None).of_server()));
        let drill = |name: &str, ended: &str| LastDrill {
            database: Some((name.to_owned(), format!("s3://b/{name}"))),
            file_name: None,
            sample: DrillSample { ended: at(ended), result: "ok", duration: None },
        };
        heartbeat.found_drill(drill("app", "22T02:00:00"));
        heartbeat.found_drill(drill("shop", "21T02:00:00"));
        let last = |now: &str| heartbeat.health(at(now)).drill.last.and_then(|drill| drill.database);
        assert_eq!(last("22T03:00:00").map(|database| database.0).as_deref(), Some("app"), "the latest of all");
        heartbeat.drilled(drill("shop", "23T02:00:00"));
        assert_eq!(last("23T03:00:00").map(|database| database.0).as_deref(), Some("shop"));
        let text = heartbeat.metrics().render();
        for (name, count) in [("app", 0), ("shop", 1)] {
            let sample =
                format!("_drills_total{{destination=\"s3://b/{name}\",database=\"{name}\",result=\"ok\"}} {count}\n");
            assert!(text.contains(&sample), "{sample}{text}");
        }
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
