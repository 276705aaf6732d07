//! Monitoring of several databases: what their metrics file and the daemon's HTTP server have of each.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use pg_s3_backup::health::Server;
use pg_s3_backup::scheduler::{Heartbeat, Schedule};
use pg_s3_backup::telemetry::metrics::{MetricsStore, RunResult, ServerRun};
use serde_json::{Value, json};

use crate::monitoring::assert_valid_metrics;
use crate::support::client::get;
use crate::support::fake_pg_dump::{End, FakeDump};
use crate::support::faulty::Stage;

/// A run that backed up the databases with exit code 0.
fn record_run(store: &MetricsStore, databases: &[(&str, &str, u8)]) {
    let (ended, elapsed) = (Utc::now() - TimeDelta::minutes(1), Duration::from_secs(1));
    for (database, destination, exit_code) in databases {
        let bytes = (*exit_code == 0).then_some((1000, 100));
        let run = RunResult { bytes, ..RunResult::without_backup(ended, elapsed, *exit_code) };
        store.of_database(database, destination).ended(&run);
    }
    let codes = || databases.iter().map(|(.., code)| *code).filter(|code| *code != 0);
    let (exit_code, failed) = (codes().min().unwrap_or(0), codes().count() as u64);
    let databases: Vec<_> = databases.iter().map(|(database, destination, _)| (*database, *destination)).collect();
    store.server_ended(&ServerRun { ended, elapsed, exit_code, databases: &databases, failed });
}

fn read(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("the file");
    assert_valid_metrics(&text);
    text
}

/// The lines about databases, without the version: the program may be another one.
fn of_databases(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("database=") && !line.contains("build_info")).collect()
}

#[test]
fn metrics_file_keeps_the_databases_after_failed_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backup.prom");
    let stage = Stage::new(FakeDump::new());
    let root = format!("s3://{}/app", stage.bucket);
    let [shop, quoted] = ["shop", "a%20%22b%22"].map(|below| format!("{root}/{below}"));
    let store = MetricsStore::open(Some(&root), Some(file.clone())).of_server();
    record_run(&store, &[("shop", &shop, 0), ("a \"b\"", &quoted, 11)]);
    let before = read(&file);
    assert!(before.contains(&format!("_databases_failed{{destination=\"{root}\"}} 1\n")), "{before}");
    let labels = format!("{{destination=\"{quoted}\",database=\"a \\\"b\\\"\"}} 11\n");
    assert!(before.contains(&format!("_last_run_exit_code{labels}")), "{before}");
    assert!(of_databases(&before).len() > 20, "{before}");

    let backup = stage.backup().arg("--metrics-file").arg(&file);
    let failing = FakeDump::new().end(End::Exit(1)).install();
    backup.clone().env("PG_DUMP_PATH", failing.path()).run().assert_code(11);
    for (variable, value) in [("BACKUP_THREADS", "none"), ("S3_BUCKET", ""), ("S3_PATH", "a//b")] {
        let outcome = backup.clone().env(variable, value).run();
        assert!(matches!(outcome.code, Some(1..=4)), "{variable}={value}: {}", outcome.stderr);
    }
    backup.clone().env("S3_PATH", "elsewhere").env("PG_DUMP_PATH", failing.path()).run().assert_code(11);
    let text = read(&file);
    assert_eq!(of_databases(&text), of_databases(&before));
    let failures = format!("_runs_total{{destination=\"{root}\",result=\"failure\"}} 5\n");
    assert!(text.contains(&failures), "one of several databases, and four of this program:\n{text}");

    // What it holds is about one destination again.
    backup.run().assert_code(0);
    let text = read(&file);
    assert!(!text.contains("database=") && !text.contains("_databases_"), "{text}");
}

#[test]
fn metrics_file_of_the_only_database_goes_on_as_that_of_one_of_several() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backup.prom");
    let stage = Stage::new(FakeDump::new());
    let backup = stage.backup().arg("--metrics-file").arg(&file);
    stage.assert_committed(&backup.run(), "the only database");
    let (root, app) = (format!("s3://{}", stage.bucket), format!("s3://{}/app", stage.bucket));
    let of = |text: &str, labels: &str| {
        let wanted = format!("_last_success_dump_bytes{{destination=\"{app}\"{labels}}}");
        text.lines().find_map(|line| line.split_once(&wanted).map(|(_, value)| value.to_owned()))
    };
    let bytes = of(&read(&file), "").expect("its size");
    let store = MetricsStore::open(Some(&root), Some(file.clone())).of_server();
    record_run(&store, &[("app", &app, 11)]);
    let text = read(&file);
    assert_eq!(of(&text, ",database=\"app\""), Some(bytes), "{text}");
    assert_eq!(of(&text, ""), None, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn daemon_serves_the_health_and_the_metrics_of_each_database() {
    let metrics = Arc::new(MetricsStore::open(Some("s3://b/srv"), None).of_server());
    let schedule = Schedule::parse("0 2 * * *", chrono_tz::Tz::UTC).expect("a schedule");
    let heartbeat = Arc::new(Heartbeat::new(schedule, Arc::clone(&metrics)));
    let server = Server::start("127.0.0.1:0", heartbeat, Arc::default()).await.expect("a server");
    let address = server.address().to_string();
    let status = || {
        let page = get(&address, "/status");
        (page.status, serde_json::from_str::<Value>(&page.body).expect("JSON"))
    };
    let (code, page) = status();
    assert_eq!((code, &page["databases"], &page["reason"]), (503, &json!([]), &json!("no backup is known yet")));
    record_run(&metrics, &[("shop", "s3://b/srv/shop", 0), ("app", "s3://b/srv/app", 10)]);
    let (code, page) = status();
    assert_eq!((code, &page["reason"]), (503, &json!("1 of 2 databases has no backup since the tick before last")));
    assert_eq!((&page["healthy"], &page["last_success"]), (&json!(false), &Value::Null));
    let of_app = &page["databases"][0];
    assert_eq!((&of_app["name"], &of_app["healthy"]), (&json!("app"), &json!(false)));
    assert_eq!((&of_app["last_success"], &of_app["state"]), (&Value::Null, &json!("failing")));
    assert_eq!((&of_app["last_run"]["result"], &page["state"]), (&json!("PostgreSQL unavailable"), &json!("failing")));
    assert_eq!((&page["databases"][1]["name"], &page["databases"][1]["healthy"]), (&json!("shop"), &json!(true)));
    record_run(&metrics, &[("shop", "s3://b/srv/shop", 11), ("app", "s3://b/srv/app", 0)]);
    let (code, page) = status();
    assert_eq!((code, &page["healthy"]), (200, &json!(true)), "{page}");
    let metrics = get(&address, "/metrics").body;
    assert_valid_metrics(&metrics);
    let labels = "{destination=\"s3://b/srv/shop\",database=\"shop\",result=\"failure\"} 1\n";
    assert!(metrics.contains(&format!("_runs_total{labels}")), "{metrics}");
}
