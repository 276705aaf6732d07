//! The drills of the daemon: on schedule, beside backups, reported to the log, the metrics and `/status`, and stopped cleanly.

use pg_s3_backup::archive::name::BackupName;
use serde_json::Value;

use crate::daemon::{YEARLY, count, stop, wait_for};
use crate::drill::assert_nothing_left;
use crate::monitoring::{address, assert_valid_metrics, page_with, sample, status_with};
use crate::restore::{bucket_with, dump_with, empty};
use crate::support::client::{eventually, get};
use crate::support::program::{Program, Running};
use crate::support::servers::database::Database;
use crate::support::servers::{Postgres, own_postgres, s3};
use crate::support::session::Session;
use crate::support::setup::{backup_program, gzipped, only_backup, s3_program};
use crate::support::stored::put;

const EVERY_SECOND: &str = "* * * * * *";
const SLOW: &str = "CREATE TABLE public.t (a int);\nSELECT pg_catalog.pg_sleep(600);\n";
const SLEEPING: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND datname LIKE 'pg_s3_drill_%'";

/// A database with a table, and a bucket with its backup.
fn backed_up() -> (Database, String) {
    let source = empty("source");
    source.psql("CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 1000) g").expect("a table");
    let bucket = s3().create_bucket("drill");
    backup_program(&source, &bucket).run().assert_code(0);
    (source, bucket)
}

/// A daemon that drills on this server.
fn daemon(source: &Database, bucket: &str, server: &Postgres) -> Program {
    s3_program(bucket)
        .args(["daemon", "--catch-up=false"])
        .env("POSTGRES_CONNECTION_STRING", source.uri())
        .env("BACKUP_INTERVAL", YEARLY)
        .env("LISTEN", "127.0.0.1:0")
        .env("DRILL_CONNECTION_STRING", server.uri("postgres"))
        .env("DRILL_INTERVAL", EVERY_SECOND)
}

fn status(address: &str) -> Value {
    serde_json::from_str(&get(address, "/status").body).expect("JSON")
}

/// Waits until a drill runs a statement that sleeps.
#[track_caller]
fn until_it_sleeps(server: &Postgres, running: &Running) {
    eventually(|| server.psql("postgres", SLEEPING).as_deref() == Ok("1"), || running.stderr_so_far());
}

#[test]
fn drills_on_schedule_and_reports_result() {
    let (source, bucket) = backed_up();
    let (server, key) = (own_postgres(&[]), only_backup(&bucket));
    let dir = tempfile::tempdir().expect("a directory");
    let queries = dir.path().join("queries.sql");
    std::fs::write(&queries, "SELECT count(*) = 1000 FROM public.t;").expect("written");
    let running = daemon(&source, &bucket, &server).arg("--check-sql").arg(&queries).spawn();
    let address = address(&running);
    wait_for(&running, "drill completed", 1);
    let destination = format!("s3://{bucket}/");
    let page = page_with(&running, &address, |page| {
        sample(page, "drills_total", &destination, ",result=\"ok\"").is_some_and(|drills| drills >= 1.0)
    });
    assert_valid_metrics(&page.body);
    let value = |name: &str, own: &str| sample(&page.body, name, &destination, own);
    for (name, own) in [
        ("last_drill_success_timestamp_seconds", ""),
        ("last_drill_success_duration_seconds", ""),
        ("last_drill_timestamp_seconds", ""),
        ("next_drill_timestamp_seconds", ""),
        ("last_drill_result", ",result=\"ok\""),
    ] {
        assert!(value(name, own).is_some_and(|value| value > 0.0), "{name}: {}", page.body);
    }
    assert_eq!(value("last_drill_result", ",result=\"fail\""), Some(0.0), "{}", page.body);
    let health = status(&address);
    let last = &health["last_drill"];
    assert_eq!((&last["file_name"], &last["result"]), (&key.as_str().into(), &"ok".into()), "{health}");
    assert!(last["ended_at"].is_string() && last["duration"].as_f64().is_some_and(|seconds| seconds > 0.0), "{health}");
    assert!(health["next_drill"].is_string(), "{health}");
    let log = stop(running, "TERM", 143);
    assert!(log.contains("1000 rows in 1 table, as recorded; 1 query of --check-sql returned true"), "{log}");
    assert_eq!(server.psql("postgres", LEFT).as_deref(), Ok("0"), "{log}");
    let listed = s3_program(&bucket).args(["list", "--json"]).run().assert_code(0).stdout_text();
    assert!(listed.contains("\"drill_result\":\"ok\""), "{listed}");
}

const LEFT: &str = "SELECT count(*) FROM pg_database WHERE datname LIKE 'pg_s3_drill_%'";

#[test]
fn failed_drill_is_reported_and_known_after_a_restart() {
    let (source, bucket) = backed_up();
    let (server, key) = (own_postgres(&[]), only_backup(&bucket));
    let mut damaged = s3().get(&bucket, &key).expect("the backup");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x10;
    s3().request("PUT", &format!("/{bucket}/{key}"), &damaged).expect("put");
    let daemon = daemon(&source, &bucket, &server);
    let running = daemon.spawn();
    let address = address(&running);
    wait_for(&running, "drill failed", 1);
    let destination = format!("s3://{bucket}/");
    let failed = |page: &str| sample(page, "last_drill_result", &destination, ",result=\"fail\"") == Some(1.0);
    let page = page_with(&running, &address, failed);
    assert_eq!(sample(&page.body, "last_drill_success_timestamp_seconds", &destination, ""), None, "{}", page.body);
    // Whether backups succeed on schedule is another question.
    status_with(&running, &address, 200);
    assert_eq!(status(&address)["last_drill"]["result"], "fail");
    let log = stop(running, "TERM", 143);
    assert!(log.contains("exit_code=14") && log.contains(&format!("verify {key}: ")), "{log}");

    let running = daemon.env("DRILL_INTERVAL", YEARLY).spawn();
    let address = self::address(&running);
    page_with(&running, &address, failed);
    assert_eq!(status(&address)["last_drill"]["file_name"], key.as_str());
    stop(running, "TERM", 143);
}

#[test]
fn drill_that_cannot_be_run_is_reported() {
    let (source, bucket) = backed_up();
    let away = Postgres { port: 1, ..source.server().clone() };
    let running = daemon(&source, &bucket, &away).spawn();
    let address = address(&running);
    wait_for(&running, "drill could not be run", 1);
    eventually(|| status(&address)["last_drill"]["result"] == "not_proven", || running.stderr_so_far());
    status_with(&running, &address, 200);
    stop(running, "TERM", 143);
    assert!(s3().keys(&bucket, "").iter().all(|key| !key.ends_with(".drill.json")));
}

#[test]
fn signal_during_a_drill_leaves_no_database() {
    let source = empty("source");
    let (server, bucket) = (own_postgres(&[]), bucket_with(&dump_with(SLOW)));
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let running = daemon(&source, &bucket, &server).arg("--allow-same-server").spawn();
        let address = address(&running);
        until_it_sleeps(&server, &running);
        assert!(status(&address)["drilling_since"].is_string());
        let log = stop(running, signal, code);
        assert!(log.contains("the drill was stopped"), "{log}");
        assert_eq!(server.psql("postgres", LEFT).as_deref(), Ok("0"), "{log}");
    }
}

#[test]
fn backup_starts_beside_a_running_drill() {
    let (source, server, bucket) = (empty("source"), own_postgres(&[]), s3().create_bucket("drill"));
    // Newer than all backups of this test, so that each drill takes it.
    let name = BackupName::new(chrono::Utc::now() + chrono::TimeDelta::minutes(30)).to_string();
    put(&bucket, &name, &gzipped(dump_with(SLOW).as_bytes()));
    let daemon = daemon(&source, &bucket, &server).arg("--allow-same-server");
    let running = daemon.env("BACKUP_INTERVAL", "*/5 * * * * *").spawn();
    until_it_sleeps(&server, &running);
    let address = address(&running);
    let since = status(&address)["drilling_since"].clone();
    let before = count(&running, "backup completed");
    wait_for(&running, "backup completed", before + 2);
    let skipped = "skipped: the drill before it still runs";
    wait_for(&running, skipped, count(&running, skipped) + 2);
    assert_eq!(status(&address)["drilling_since"], since, "the drill has not been started again");
    assert_eq!(server.psql("postgres", SLEEPING).as_deref(), Ok("1"), "{}", running.stderr_so_far());
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(143).assert_no_children_left();
    assert_nothing_left(&server, &outcome);
    assert!(s3().keys(&bucket, "").iter().any(|key| key.ends_with(".sql.gz") && *key != name));
}

#[test]
fn drill_waits_for_the_end_of_a_backup() {
    let (source, bucket) = backed_up();
    let server = own_postgres(&[]);
    let mut session = Session::open(&source);
    session.run("BEGIN; LOCK TABLE t");
    let running = daemon(&source, &bucket, &server).arg("--run-on-start").spawn();
    wait_for(&running, "a drill is due: it waits for the end of the backup", 1);
    let log = running.stderr_so_far();
    assert!(!log.contains("a drill is due scheduled="), "{log}");
    drop(session);
    wait_for(&running, "drill completed", 1);
    let log = stop(running, "TERM", 143);
    let [backup, drill] = ["backup completed", "a drill is due scheduled="].map(|words| log.find(words));
    assert!(backup.is_some() && backup < drill, "{log}");
}

#[test]
fn refuses_invalid_drill_settings() {
    let source = empty("source");
    let bucket = s3().create_bucket("drill");
    let (server, variable) = (source.server(), "DRILL_CONNECTION_STRING");
    let daemon = || daemon(&source, &bucket, server);
    for (program, code, said) in [
        (daemon().env_remove(variable), 1, "DRILL_CONNECTION_STRING is not set: DRILL_INTERVAL needs"),
        (daemon().env("DRILL_INTERVAL", "weekly"), 2, "DRILL_INTERVAL: "),
        (daemon().args(["--check-sql", "/none"]), 4, "cannot be read"),
        (
            daemon().env_remove("DRILL_INTERVAL").env_remove(variable).arg("--allow-same-server"),
            1,
            "--allow-same-server",
        ),
        (
            s3_program(&bucket).args(["check", "--bucket-only"]).env("DRILL_INTERVAL", "@daily"),
            1,
            "DRILL_INTERVAL needs",
        ),
    ] {
        let outcome = program.run();
        outcome.assert_code(code);
        let all = outcome.stderr.clone() + &outcome.stdout_text();
        assert!(all.contains(said), "{said}: {all}");
    }
}
