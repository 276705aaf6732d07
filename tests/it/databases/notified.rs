//! Who is notified of a run with several databases: the metrics, the ping and the daemon's `/status`, one of the run and one of each
//! database.

use serde_json::Value;

use crate::monitoring::{address, assert_valid_metrics};
use crate::support::client::{Answer, eventually, get};
use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::servers::postgres;
use crate::support::web::{Reply, Web};

/// A `pg_dump` that fails for a database with this name.
fn failing_for(name: &str) -> FakeDump {
    FakeDump::new().first(&format!("case $connection in *{name}*) exit 3 ;; esac"))
}

#[test]
fn a_run_is_one_ping_and_one_metric_of_each_database() {
    let [good, bad] = ["good", "bad"].map(|hint| postgres().create_database(hint));
    let stage = Stage::new(failing_for(&bad.name));
    let (inbox, directory) = (Web::start(|_, _| Reply::ok("OK")), tempfile::tempdir().expect("a directory"));
    let file = directory.path().join("backup.prom");
    let backup = stage.backup().env("BACKUP_DATABASES", format!("{},{}", good.name, bad.name));
    let backup = backup.env("PING_URL", format!("{}/ping", inbox.url())).env("METRICS_FILE", &file);
    backup.run().assert_code(11);
    let bodies: Vec<(String, String)> = inbox.asked().into_iter().map(|asked| (asked.target, asked.body)).collect();
    let (target, body) = bodies.last().expect("a ping");
    assert_eq!(target, "/ping/fail", "{bodies:?}");
    for part in ["exit code 11: 1 of 2 databases failed", &format!("{}: exit code 11: ", bad.name)] {
        assert!(body.contains(part), "{part} is not in {body}");
    }
    let text = std::fs::read_to_string(&file).expect("the metrics");
    assert_valid_metrics(&text);
    let root = format!("destination=\"s3://{}/app", stage.bucket);
    let of = |name: &str| format!("{{{root}/{name}\",database=\"{name}\"}}");
    for line in [
        format!("pg_s3_backup_databases_expected{{{root}\"}} 2"),
        format!("pg_s3_backup_databases_failed{{{root}\"}} 1"),
        format!("pg_s3_backup_last_run_exit_code{{{root}\"}} 11"),
        format!("pg_s3_backup_last_run_exit_code{} 0", of(&good.name)),
        format!("pg_s3_backup_last_run_exit_code{} 11", of(&bad.name)),
    ] {
        assert!(text.contains(&line), "{line} is not in {text}");
    }
    assert!(text.contains(&format!("last_success_timestamp_seconds{}", of(&good.name))), "{text}");
    assert!(!text.contains(&format!("last_success_timestamp_seconds{}", of(&bad.name))), "{text}");
    // A dropped database is forgotten, and then all is well.
    drop(bad);
    // A pattern for it alone: its name may begin that of another test's.
    backup.env("BACKUP_DATABASES", format!("?{}", &good.name[1..])).run().assert_code(0);
    let text = std::fs::read_to_string(&file).expect("the metrics");
    assert!(!text.contains("database=\"bad") && text.contains(&format!("databases_failed{{{root}\"}} 0")), "{text}");
    assert_eq!(inbox.asked().last().map(|asked| asked.target.clone()).as_deref(), Some("/ping"));
}

#[test]
fn status_of_the_daemon_has_each_database() {
    let [good, bad] = ["good", "bad"].map(|hint| postgres().create_database(hint));
    let stage = Stage::new(failing_for(&bad.name));
    let daemon = stage.daemon("0 0 1 1 *").env("BACKUP_DATABASES", format!("{},{}", good.name, bad.name));
    let daemon = daemon.env("LISTEN", "127.0.0.1:0").env("BACKUP_RETRY_DELAYS", "off");
    let running = daemon.arg("--run-on-start").spawn();
    eventually(|| running.stderr_so_far().contains("databases failed"), || running.stderr_so_far());
    let address = address(&running);
    let answer = || get(&address, "/status");
    eventually(|| answer().body.contains("\"running_since\":null"), || answer().body);
    let Answer { status, body, .. } = answer();
    assert_eq!(status, 503, "{body}");
    let page: Value = serde_json::from_str(&body).expect("JSON");
    let databases = page["databases"].as_array().expect("databases");
    let healthy = |name: &str| {
        databases.iter().find(|database| database["name"] == name).map(|database| database["healthy"] == true)
    };
    assert_eq!((healthy(&good.name), healthy(&bad.name)), (Some(true), Some(false)), "{body}");
    running.signal("TERM");
    running.wait().assert_code(143).assert_no_children_left();
}
