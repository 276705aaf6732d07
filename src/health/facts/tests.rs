//! The facts of daemons that know all, little, or what is wrong.

use super::*;
use crate::scheduler::Schedule;
use crate::telemetry::metrics::{MetricsStore, RunResult, ServerRun};

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-11-{text}Z").parse().expect("a time")
}

/// A daemon's heartbeat with a backup each night, and its metrics.
fn heartbeat(store: MetricsStore) -> (Heartbeat, Arc<MetricsStore>) {
    let schedule = Schedule::parse("0 2 * * *", chrono_tz::Tz::UTC).expect("a schedule");
    let metrics = Arc::new(store);
    (Heartbeat::new(schedule, Arc::clone(&metrics)), metrics)
}

fn stored(name: Option<&str>, newest: Option<&str>) -> DatabaseSnapshot {
    DatabaseSnapshot {
        name: name.map(str::to_owned),
        backups: Vec::new(),
        count: 1,
        uploads: 0,
        bytes: 1,
        newest: newest.map(at),
        drill: None,
        forecast: None,
    }
}

fn listed(databases: Vec<DatabaseSnapshot>) -> InventoryCache {
    let cache = InventoryCache::default();
    cache.listed(Snapshot { listed: at("22T09:00:00"), has_retention: false, databases });
    cache
}

#[test]
fn state_is_that_of_the_last_run_and_of_the_last_success() {
    let time = Some(DateTime::UNIX_EPOCH);
    let state =
        |is_fresh, exit_code, success| State::of(is_fresh, &RunHistory { exit_code, ..RunHistory::default() }, success);
    assert_eq!(state(false, None, None), State::NoBackup);
    assert_eq!(state(false, Some(12), None), State::Failing, "the first run failed");
    assert_eq!(state(true, Some(12), time), State::Failing, "the backup before is fresh");
    assert_eq!(state(true, Some(0), time), State::Covered);
    assert_eq!(state(true, None, time), State::Covered, "another process took it");
    assert_eq!(state(false, Some(0), time), State::Stale);
    let failed = RunHistory { exit_code: Some(12), last_run: time, ..RunHistory::default() };
    let later = time.map(|time| time + chrono::TimeDelta::hours(1));
    assert_eq!(State::of(true, &failed, later), State::Covered, "another host made one after the failure");
    assert_eq!(State::of(true, &failed, time), State::Failing);
    assert!(State::Failing < State::Stale && State::Stale < State::NoBackup && State::NoBackup < State::Covered);
    let listed = |state: State| [true, false].map(|is_listed| state.if_listed(is_listed));
    assert_eq!(listed(State::NoBackup), [State::NoBackup, State::Unknown], "an unlisted bucket is not empty");
    assert_eq!(listed(State::Failing), [State::Failing; 2]);
}

#[test]
fn bucket_says_which_databases_there_are_until_a_run_has_found_them() {
    let (heartbeat, metrics) = heartbeat(MetricsStore::open(Some("s3://b/"), None).of_server());
    let databases = |newest| vec![stored(Some("app"), Some("22T02:00:00")), stored(Some("shop"), newest)];
    let now = at("22T10:00:00");
    let bucket = listed(databases(Some("22T02:10:00")));
    let facts = Facts::gather(&heartbeat, &bucket, now);
    assert_eq!((facts.state, facts.health.is_healthy), (State::Covered, true));
    assert_eq!((facts.health.last_success, facts.late_databases()), (Some(at("22T02:00:00")), (2, 0)));
    assert_eq!(facts.reason(), "each database has a backup since the tick before last");
    let stale = Facts::gather(&heartbeat, &listed(databases(Some("19T02:00:00"))), now);
    assert_eq!((stale.state, stale.health.is_healthy, stale.late_databases()), (State::Stale, false, (2, 1)));
    let empty = Facts::gather(&heartbeat, &listed(Vec::new()), now);
    assert_eq!((empty.state, empty.health.is_healthy), (State::NoBackup, false));

    // PostgreSQL is away: the run knows of no database.
    metrics.ended(&RunResult::without_backup(at("22T09:30:00"), Duration::ZERO, 10));
    let facts = Facts::gather(&heartbeat, &bucket, now);
    assert_eq!((facts.state, facts.health.last_success), (State::Failing, Some(at("22T02:00:00"))));
    let states = |facts: &Facts| facts.databases.iter().flatten().map(|of| of.state).collect::<Vec<_>>();
    assert_eq!(states(&facts), [Some(State::Covered); 2]);

    let ended = at("22T09:40:00");
    let app = metrics.of_database("app", "s3://b/app");
    app.ended(&RunResult { bytes: Some((10, 1)), ..RunResult::without_backup(ended, Duration::ZERO, 0) });
    let found = [("app", "s3://b/app")];
    metrics.server_ended(&ServerRun { ended, elapsed: Duration::ZERO, exit_code: 0, databases: &found, failed: 0 });
    let facts = Facts::gather(&heartbeat, &bucket, now);
    assert_eq!((states(&facts), facts.late_databases()), (vec![Some(State::Covered), None], (1, 0)));
    assert_eq!((facts.state, facts.history.databases_failed), (State::Covered, Some(0)));
}

#[test]
fn state_is_unknown_until_the_bucket_was_listed() {
    let now = at("22T10:00:00");
    let state = |heartbeat: &Heartbeat, cache: &InventoryCache| Facts::gather(heartbeat, cache, now).state;
    let (one, metrics) = heartbeat(MetricsStore::open(Some("s3://b/"), None));
    assert_eq!(state(&one, &InventoryCache::default()), State::Unknown);
    assert_eq!(state(&one, &listed(vec![stored(None, None)])), State::NoBackup);
    // The look at the daemon's start lists, too.
    metrics.looked(0, 0, None);
    assert_eq!(state(&one, &InventoryCache::default()), State::NoBackup);
    let (several, metrics) = heartbeat(MetricsStore::open(Some("s3://b/"), None).of_server());
    assert_eq!(state(&several, &InventoryCache::default()), State::Unknown);
    metrics.of_database("app", "s3://b/app").looked(0, 0, None);
    assert_eq!(state(&several, &InventoryCache::default()), State::NoBackup);
}

#[test]
fn drill_in_the_future_hides_no_other() {
    let (heartbeat, metrics) = heartbeat(MetricsStore::open(Some("s3://b/"), None));
    let recorded = |ended, result| RecordedDrill { file_name: "x".to_owned(), ended, result, duration: 1.0 };
    let bucket = |drill| listed(vec![DatabaseSnapshot { drill: Some(drill), ..stored(None, None) }]);
    let now = at("22T10:00:00");
    let future = Facts::gather(&heartbeat, &bucket(recorded(at("29T10:00:00"), DrillResult::Ok)), now);
    assert_eq!((future.drill, future.drill_success), (None, None));
    let ok = Facts::gather(&heartbeat, &bucket(recorded(at("20T10:00:00"), DrillResult::Ok)), now);
    assert_eq!(ok.drill_success, Some(at("20T10:00:00")));
    // The metrics remember the last success, the record in the bucket is that of a later failure.
    let sample = crate::telemetry::metrics::DrillSample { ended: at("15T10:00:00"), result: "ok", duration: None };
    metrics.drilled(&sample);
    let failed = Facts::gather(&heartbeat, &bucket(recorded(at("20T10:00:00"), DrillResult::Fail)), now);
    assert_eq!(failed.drill.map(|drill| drill.result), Some("fail"));
    assert_eq!(failed.drill_success, Some(at("15T10:00:00")));
}
