//! Facts of every state that the page can show, at one fixed time.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pg_s3_backup::archive::drill::DrillResult;
use pg_s3_backup::archive::name::BackupName;
use pg_s3_backup::archive::{BackupStatus, StoredBackup};
use pg_s3_backup::health::facts::{DatabaseFacts, DrillFacts, Facts, State};
use pg_s3_backup::inventory::{DatabaseSnapshot, Failure, Known, Snapshot};
use pg_s3_backup::retention::{Forecast, PlannedDeletion};
use pg_s3_backup::scheduler::{DatabaseHealth, DrillState, Health};
use pg_s3_backup::telemetry::RunningDump;
use pg_s3_backup::telemetry::metrics::{FailedRun, RunHistory};

/// Names that must stay text.
pub const HOSTILE: [&str; 6] = [
    "<script>document.title='run'</script>",
    "it's \"quoted\" & <b>bold</b>",
    "\u{5d2}\u{5d9}\u{5d1}\u{5d5}\u{5d9} 2026",
    "\u{202e}desrever\u{202c}",
    "x' onmouseover='document.title=1",
    "a_database_with_a_name_of_sixty_three_bytes_that_must_be_broken",
];

/// When the pages are made.
pub fn now() -> DateTime<Utc> {
    "2026-11-23T07:40:12Z".parse().expect("a time")
}

/// The backup of so many nights before, the last of which was at 2 o'clock.
fn backup(night: i64, database: Option<&str>) -> StoredBackup {
    let started = "2026-11-23T02:00:00Z".parse::<DateTime<Utc>>().expect("a time") - TimeDelta::days(night);
    // Growing, with a wave and a jump.
    let wave = u64::try_from((night * 37) % 11).unwrap_or_default();
    let grown = 400_u64.saturating_sub(u64::try_from(night).unwrap_or(400) * 2) + if night < 20 { 120 } else { 0 };
    let file_size = (grown + 8 * wave) << 20;
    let file_name = BackupName::new(started).to_string();
    StoredBackup {
        s3_location: format!("s3://backups/shop/{file_name}"),
        file_name,
        started_at: started.to_rfc3339(),
        file_size,
        compression_ratio: (night < 100).then_some(5.0 + f64::from(u32::try_from(wave).unwrap_or_default()) / 20.0),
        duration: (night < 100).then_some(250.0 + f64::from(u32::try_from(wave).unwrap_or_default()) * 9.0),
        database: database.map(str::to_owned),
        status: if night < 100 { BackupStatus::Valid } else { BackupStatus::Unverified },
        encrypted: false,
        drilled_at: (night == 2).then(|| "2026-11-21T04:00:00Z".to_owned()),
        drill_result: (night == 2).then_some(DrillResult::Ok),
        started,
    }
}

fn snapshot(name: Option<&str>, count: usize) -> DatabaseSnapshot {
    let shown = i64::try_from(count.min(100)).expect("few");
    let backups: Vec<StoredBackup> = (0..shown).map(|night| backup(night, Some(name.unwrap_or("shop")))).collect();
    let deletion = |night| PlannedDeletion {
        file_name: backup(night, None).file_name,
        file_size: 300 << 20,
        reasons: vec!["31 days old".to_owned(), "not of the last 7".to_owned()],
    };
    DatabaseSnapshot {
        name: name.map(str::to_owned),
        newest: backups.first().map(|backup| backup.started),
        bytes: count as u64 * (400 << 20),
        count,
        uploads: 0,
        backups,
        drill: None,
        forecast: Some(Forecast {
            deletions: 2,
            bytes: 600 << 20,
            blocked_by: Vec::new(),
            backups: vec![deletion(98), deletion(99)],
        }),
    }
}

fn drill(result: &'static str) -> DrillFacts {
    let ended = "2026-11-21T04:06:40Z".parse().expect("a time");
    let file_name = Some(backup(2, None).file_name);
    DrillFacts { database: None, file_name, ended, result, duration: Some(400.0) }
}

/// One database that is backed up each night, with so many backups.
pub fn covered(count: usize) -> Facts {
    let at = |text: &str| Some(text.parse().expect("a time"));
    let last_success: Option<DateTime<Utc>> = at("2026-11-23T02:04:41Z");
    let health = Health {
        is_healthy: true,
        last_success,
        databases: None,
        expected_since: at("2026-11-22T02:00:00Z"),
        running_since: None,
        next_run: at("2026-11-24T02:00:00Z"),
        drill: DrillState::default(),
    };
    let failed = |day: u32, exit_code| FailedRun {
        ended: format!("2026-11-{day}T02:15:00Z").parse().expect("a time"),
        exit_code,
    };
    let history = RunHistory {
        last_success,
        last_run: last_success,
        exit_code: Some(0),
        failures: vec![failed(10, 12), failed(17, 10)],
        ..RunHistory::default()
    };
    Facts {
        now: now(),
        location: "s3://backups/shop".to_owned(),
        state: State::Covered,
        is_alive: true,
        heartbeat_age: Duration::from_millis(120),
        health,
        history,
        dumps: Vec::new(),
        drill: Some(drill("ok")),
        drill_success: Some(drill("ok").ended),
        databases: None,
        bucket: listed(vec![snapshot(None, count)]),
    }
}

fn listed(databases: Vec<DatabaseSnapshot>) -> Known {
    let snapshot = Snapshot { listed: now() - TimeDelta::minutes(4), has_retention: true, databases };
    Known { snapshot: Some(Arc::new(snapshot)), failure: None }
}

/// Every state, with its name.
pub fn all() -> Vec<(&'static str, Facts)> {
    vec![
        ("unknown", unknown()),
        ("no-backup", no_backup()),
        ("covered", covered(120)),
        ("first-backups", covered(3)),
        ("running", running()),
        ("stale", stale()),
        ("failing", failing()),
        ("retention-blocked", blocked()),
        ("damaged", damaged()),
        ("drill-failed", Facts { drill: Some(drill("fail")), drill_success: None, ..covered(120) }),
        ("s3-away", away()),
        ("databases", databases()),
        ("hostile-names", hostile()),
    ]
}

fn no_backup() -> Facts {
    let mut facts = Facts { state: State::NoBackup, drill: None, drill_success: None, ..covered(0) };
    (facts.health.is_healthy, facts.health.last_success) = (false, None);
    facts.history = RunHistory::default();
    let snapshot = listed(vec![DatabaseSnapshot { forecast: None, ..snapshot(None, 0) }]).snapshot;
    let snapshot = snapshot.map(|snapshot| Arc::new(Snapshot { has_retention: false, ..(*snapshot).clone() }));
    facts.bucket = Known { snapshot, failure: None };
    facts
}

/// S3 is away from the daemon's start.
fn unknown() -> Facts {
    let failure = away().bucket.failure;
    Facts { state: State::Unknown, bucket: Known { snapshot: None, failure }, ..no_backup() }
}

/// The newest backup is damaged, one is in the future, and one is being uploaded.
pub fn damaged() -> Facts {
    let mut facts = covered(40);
    let mut stored = snapshot(None, 40);
    stored.backups[0].status = BackupStatus::SizeMismatch;
    let other = |days: i64, status| {
        let other = backup(-days, Some("shop"));
        StoredBackup { file_size: 0, compression_ratio: None, duration: None, status, ..other }
    };
    stored.backups.insert(0, other(1, BackupStatus::Uploading));
    stored.backups.insert(0, other(9, BackupStatus::Future));
    (stored.count, stored.uploads) = (41, 1);
    facts.bucket = listed(vec![stored]);
    facts
}

fn running() -> Facts {
    let mut facts = covered(120);
    let since = now() - TimeDelta::seconds(134);
    facts.health.running_since = Some(since);
    let (dumped, uploaded, estimate) = (1_400 << 20, 260 << 20, 3_900 << 20);
    facts.dumps = vec![RunningDump { database: None, since, dumped, uploaded, estimate }];
    facts
}

fn stale() -> Facts {
    let mut facts = Facts { state: State::Stale, now: now() + TimeDelta::days(3), ..covered(40) };
    facts.health.is_healthy = false;
    facts.health.expected_since = Some(now() + TimeDelta::days(1));
    facts.health.next_run = Some(now() + TimeDelta::days(4));
    facts
}

fn failing() -> Facts {
    let mut facts = Facts { state: State::Failing, ..covered(60) };
    facts.now = now() + TimeDelta::days(1);
    facts.health.next_run = Some(facts.now + TimeDelta::minutes(11));
    let ended = facts.now - TimeDelta::minutes(4);
    (facts.history.last_run, facts.history.exit_code) = (Some(ended), Some(12));
    facts.history.failures.push(FailedRun { ended: ended - TimeDelta::minutes(20), exit_code: 12 });
    facts.history.failures.push(FailedRun { ended, exit_code: 12 });
    facts
}

fn blocked() -> Facts {
    let mut facts = covered(120);
    facts.history.is_retention_blocked = true;
    let mut stored = snapshot(None, 120);
    stored.backups[3].status = BackupStatus::SizeMismatch;
    stored.backups[0].file_size = 20 << 20;
    let forecast = stored.forecast.as_mut().expect("a forecast");
    forecast.blocked_by = vec![format!(
        "{} has 20 MiB, less than half of the median (500 MiB) of the five backups before: verify it, then run `prune --force`",
        stored.backups[0].file_name
    )];
    facts.bucket = listed(vec![stored]);
    facts
}

fn away() -> Facts {
    let mut facts = covered(120);
    let since = now() - TimeDelta::minutes(95);
    let error = "list s3://backups/shop/ at https://s3.example.org: no successful response for 20s: connection refused";
    facts.bucket.failure = Some(Failure { since, error: error.to_owned() });
    let mut snapshot = facts.bucket.snapshot.as_deref().expect("a snapshot").clone();
    snapshot.listed = since - TimeDelta::minutes(10);
    facts.bucket.snapshot = Some(Arc::new(snapshot));
    facts
}

fn of_databases(names: &[&str]) -> Facts {
    let mut facts = Facts { location: "s3://backups/server".to_owned(), ..covered(0) };
    let of = |(index, name): (usize, &&str)| {
        let state = match index {
            3 => Some(State::Failing),
            7 => Some(State::Stale),
            11 => None,
            _ => Some(State::Covered),
        };
        let is_healthy = !matches!(index, 3 | 7);
        let ended = now() - TimeDelta::hours(5);
        let exit_code = Some(if index == 3 { 11 } else { 0 });
        let failures = if index == 3 { vec![FailedRun { ended, exit_code: 11 }] } else { Vec::new() };
        let history = RunHistory { exit_code, last_run: Some(ended), failures, ..RunHistory::default() };
        let last_success = Some(now() - TimeDelta::hours(if is_healthy { 5 } else { 53 }));
        let drill = (index % 3 == 0).then(|| drill(if index == 6 { "fail" } else { "ok" }));
        let (name, is_expected) = ((*name).to_owned(), state.is_some());
        DatabaseFacts { name, state, is_expected, is_healthy, last_success, history, drill }
    };
    let databases: Vec<DatabaseFacts> = names.iter().enumerate().map(of).collect();
    let judged = |of: &DatabaseFacts| DatabaseHealth {
        name: of.name.clone(),
        is_healthy: of.is_healthy,
        last_success: of.last_success,
    };
    facts.health.databases = Some(databases.iter().map(judged).collect());
    facts.health.is_healthy = databases.iter().all(|database| database.is_healthy);
    if !facts.health.is_healthy {
        (facts.state, facts.history.exit_code) = (State::Failing, Some(11));
    }
    facts.history.databases_failed = Some(databases.iter().filter(|of| of.history.exit_code != Some(0)).count() as u64);
    facts.bucket = listed(names.iter().enumerate().map(|(index, name)| snapshot(Some(name), 20 + index)).collect());
    facts.databases = Some(databases);
    facts
}

fn databases() -> Facts {
    let names: Vec<String> = (0..40).map(|number| format!("customer_{number:02}")).collect();
    of_databases(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn hostile() -> Facts {
    let mut facts = of_databases(&HOSTILE);
    "s3://backups/<i>path".clone_into(&mut facts.location);
    let since = now() - TimeDelta::seconds(31);
    facts.health.running_since = Some(since);
    let dump = |database: &&str| RunningDump {
        database: Some((*database).to_owned()),
        since,
        dumped: 7 << 20,
        uploaded: 0,
        estimate: 5 << 20,
    };
    facts.dumps = HOSTILE.iter().map(dump).collect();
    facts
}
