//! Monitoring: the daemon's HTTP server, the metrics file, the alerts and the dashboard. Prometheus's promtool checks them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use pg_s3_backup::telemetry::metrics::METRICS;
use serde_json::{Value, json};

use crate::daemon::{YEARLY, stop, wait_for};
use crate::support::client::{Answer, eventually, get, request};
use crate::support::fake_pg_dump::{End, FakeDump};
use crate::support::faulty::Stage;
use crate::support::program::Running;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::s3;
use crate::support::setup::repository_file;
use crate::support::stored::{EMPTY_GZIP, FUTURE, put_backups};

/// Prometheus's promtool, installed if it is missing.
fn promtool() -> Command {
    static TOOL: LazyLock<PathBuf> = LazyLock::new(|| {
        let install =
            Command::new(repository_file("scripts/install")).arg("promtool").output().expect("scripts/install");
        assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
        repository_file("target/tools/promtool/bin/promtool")
    });
    Command::new(&*TOOL)
}

/// Asserts that promtool accepts these metrics without a warning.
#[track_caller]
pub fn assert_valid_metrics(text: &str) {
    let mut check = promtool();
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = check.spawn().expect("promtool");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("its end");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{text}", String::from_utf8_lossy(&said));
}

#[track_caller]
fn assert_succeeds(mut command: Command) {
    let output = command.output().expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&said));
}

/// The value of a metric's sample with these labels.
pub fn sample(text: &str, name: &str, destination: &str, own: &str) -> Option<f64> {
    let beginning = format!("pg_s3_backup_{name}{{destination=\"{destination}\"{own}}} ");
    text.lines().find_map(|line| line.strip_prefix(&beginning)?.parse().ok())
}

/// The address that the daemon listens on.
#[track_caller]
pub fn address(running: &Running) -> String {
    wait_for(running, "listening address=", 1);
    let log = running.stderr_so_far();
    let (_, rest) = log.split_once("listening address=").expect("the address");
    rest.lines().next().expect("the line").to_owned()
}

/// Waits until the status page has this HTTP status.
#[track_caller]
pub fn status_with(running: &Running, address: &str, status: u16) -> Answer {
    let mut page = get(address, "/status");
    let is_so = || {
        page = get(address, "/status");
        page.status == status
    };
    eventually(is_so, || running.stderr_so_far());
    page
}

/// Waits until the metrics are as wanted.
#[track_caller]
pub fn page_with(running: &Running, address: &str, is_wanted: impl Fn(&str) -> bool) -> Answer {
    let mut page = get(address, "/metrics");
    let is_so = || {
        page = get(address, "/metrics");
        is_wanted(&page.body)
    };
    eventually(is_so, || format!("{}\n{}", get(address, "/metrics").body, running.stderr_so_far()));
    page
}

#[test]
fn daemon_serves_health_and_metrics() {
    let stage = Stage::new(FakeDump::new().end(End::Exit(0)));
    let running = stage.daemon("*/2 * * * * *").args(["--listen", "127.0.0.1:0", "--catch-up=false"]).spawn();
    let address = address(&running);
    for path in ["/livez", "/healthz"] {
        let live = get(&address, path);
        assert!(live.status == 200 && live.body.contains("\"alive\":true"), "{live:?}");
        assert!(live.body.contains("\"heartbeat_age_ms\":"), "{live:?}");
    }
    let health: Value = serde_json::from_str(&status_with(&running, &address, 200).body).expect("JSON");
    assert!(health["healthy"] == true && health["last_success"].is_string() && health["next_run"].is_string());
    assert!(health["expected_since"].is_string() && health["heartbeat_age_ms"].is_u64(), "{health}");

    let destination = format!("s3://{}/app", stage.bucket);
    // A run is counted shortly after it logged its result.
    let page = page_with(&running, &address, |page| {
        sample(page, "runs_total", &destination, ",result=\"success\"").is_some_and(|runs| runs >= 2.0)
    });
    assert!(page.status == 200 && page.head.contains("content-type: text/plain; version=0.0.4"), "{page:?}");
    assert_valid_metrics(&page.body);
    let value = |name: &str, own: &str| {
        sample(&page.body, name, &destination, own).unwrap_or_else(|| panic!("no {name}: {}", page.body))
    };
    let plain = stage.dump.output().len();
    let now = chrono::Utc::now().timestamp();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small integers")]
    let number = |name: &str, own: &str| value(name, own) as usize;
    assert_eq!(number("last_success_dump_bytes", ""), plain);
    assert!((1..plain * 2).contains(&number("last_success_stored_bytes", "")));
    assert!(value("last_success_compression_ratio", "") > 0.5 && value("last_success_duration_seconds", "") > 0.0);
    assert!(value("last_run_exit_code", "").abs() < 0.5, "{}", page.body);
    for name in ["last_success_timestamp_seconds", "last_run_timestamp_seconds", "next_run_timestamp_seconds"] {
        assert!((i64::try_from(number(name, "")).expect("a time") - now).abs() < 60, "{name}");
    }
    assert!(number("stored_backups", "") >= 2, "{}", page.body);
    assert_eq!(number("build_info", concat!(",version=\"", env!("CARGO_PKG_VERSION"), "\"")), 1);

    assert_eq!(request(&address, "POST", "/metrics").status, 405);
    assert_eq!((get(&address, "/").status, get(&address, "/index.html").status), (200, 404));
    let head = request(&address, "HEAD", "/livez");
    assert!(head.status == 200 && head.body.is_empty(), "{head:?}");
    stop(running, "TERM", 143);
}

#[test]
fn unhealthy_after_two_ticks_without_a_backup() {
    let stage = Stage::new(FakeDump::new());
    let daemon = stage.daemon("*/2 * * * * *").args(["--listen", "127.0.0.1:0"]);
    let running = daemon.env("BACKUP_MAX_UPLOAD_OUTAGE", "1ms").env("BACKUP_RETRY_DELAYS", "off").spawn();
    let address = address(&running);
    eventually(|| get(&address, "/status").status == 200, || running.stderr_so_far());
    let fault = Fault::slow_down();
    stage.proxy.rule(Rule::on(S3Verb::CreateMultipartUpload, Calls::All, fault));
    let health = status_with(&running, &address, 503).body;
    assert!(health.contains("no backup since the tick before last"), "{health}");
    for path in ["/livez", "/healthz"] {
        assert_eq!(get(&address, path).status, 200, "{path}: a failed backup must not restart the daemon");
    }
    let destination = format!("s3://{}/app", stage.bucket);
    // The first failing run may still be in progress.
    let metrics = page_with(&running, &address, |page| {
        sample(page, "last_failure_timestamp_seconds", &destination, ",exit_code=\"12\"").is_some()
    });
    assert_valid_metrics(&metrics.body);
    running.signal("TERM");
    running.wait().assert_code(143).assert_no_children_left();
}

#[test]
fn counts_backups_of_the_destination_from_the_start() {
    let stage = Stage::new(FakeDump::new());
    // Neither counts as a success: a name in the future, and the empty file of a failed pipe.
    let just_now = pg_s3_backup::archive::name::BackupName::new(chrono::Utc::now()).to_string();
    for (name, body) in [(FUTURE, &[b'x'; 900][..]), (&*just_now, EMPTY_GZIP)] {
        s3().request("PUT", &format!("/{}/app/{name}", stage.bucket), body).expect("stored");
    }
    let daemon = stage.daemon(YEARLY).args(["--listen", "127.0.0.1:0", "--catch-up=false"]);
    let running = daemon.spawn();
    let address = address(&running);
    wait_for(&running, "destination listed", 1);
    let health = status_with(&running, &address, 503).body;
    assert!(health.contains("no backup is known yet"), "{health}");
    let metrics = get(&address, "/metrics").body;
    assert!(!metrics.contains("last_success_timestamp"), "{metrics}");
    let destination = format!("s3://{}/app", stage.bucket);
    for result in ["success", "failure", "skipped"] {
        let own = format!(",result=\"{result}\"");
        assert_eq!(sample(&metrics, "runs_total", &destination, &own), Some(0.0), "{metrics}");
    }
    assert_valid_metrics(&metrics);
    stop(running, "TERM", 143);
    for name in [FUTURE, &just_now] {
        s3().request("DELETE", &format!("/{}/app/{name}", stage.bucket), b"").expect("deleted");
    }
    stage.assert_committed(&stage.backup().run(), "a backup before the daemon starts");
    let running = daemon.spawn();
    let address = self::address(&running);
    eventually(|| get(&address, "/status").status == 200, || running.stderr_so_far());
    let metrics = get(&address, "/metrics").body;
    assert_eq!(sample(&metrics, "stored_backups", &destination, ""), Some(1.0), "{metrics}");
    assert!(sample(&metrics, "stored_bytes", &destination, "").is_some_and(|bytes| bytes > 100.0), "{metrics}");
    let log = stop(running, "INT", 130);
    assert!(!log.contains("a backup is due"), "{log}");
}

#[test]
fn slow_and_hostile_clients_do_not_block_others() {
    let stage = Stage::new(FakeDump::new());
    let running = stage.daemon(YEARLY).args(["--listen", "127.0.0.1:0", "--catch-up=false"]).spawn();
    let address = address(&running);
    // More connections than it serves at once, each with half a request.
    let connect = || {
        let mut stream = TcpStream::connect(&address).expect("a connection");
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nx-slow: ").expect("sent");
        stream
    };
    let slow: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    assert_eq!(get(&address, "/livez").status, 200);
    // An endless head, and an invalid one: it answers or closes the connection soon.
    for bytes in [vec![b'a'; 1 << 20], b"\x16\x03\x01\x02\x00nonsense\r\n\r\n".to_vec()] {
        let mut stream = TcpStream::connect(&address).expect("a connection");
        stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a timeout");
        // It may close before it has read everything.
        let _ = stream.write_all(&bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert_eq!(get(&address, "/metrics").status, 200);
    drop(slow);
    stop(running, "TERM", 143);
}

#[test]
fn metrics_file_keeps_last_success_after_a_failed_run() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backup.prom");
    let stage = Stage::new(FakeDump::new());
    let backup = stage.backup().arg("--metrics-file").arg(&file);
    stage.assert_committed(&backup.run(), "with a metrics file");
    let destination = format!("s3://{}/app", stage.bucket);
    let text = std::fs::read_to_string(&file).expect("the file");
    assert_valid_metrics(&text);
    for file in [&file, &dir.path().join("backup.prom.state.json")] {
        assert_eq!(std::fs::metadata(file).expect("the file").permissions().mode() & 0o777, 0o644);
    }
    let success = sample(&text, "last_success_timestamp_seconds", &destination, "").expect("a success");
    assert_eq!(sample(&text, "runs_total", &destination, ",result=\"success\""), Some(1.0));

    let failing = FakeDump::new().end(End::Exit(1)).install();
    backup.clone().env("PG_DUMP_PATH", failing.path()).run().assert_code(11);
    // A run with invalid settings counts as failed, too.
    backup.clone().env("BACKUP_THREADS", "none").run().assert_code(4);
    let text = std::fs::read_to_string(&file).expect("the file");
    assert_valid_metrics(&text);
    assert_eq!(sample(&text, "last_success_timestamp_seconds", &destination, ""), Some(success));
    assert_eq!(sample(&text, "last_run_exit_code", &destination, ""), Some(4.0));
    assert_eq!(sample(&text, "runs_total", &destination, ",result=\"failure\""), Some(2.0));
    for code in ["11", "4"] {
        let own = format!(",exit_code=\"{code}\"");
        assert!(sample(&text, "last_failure_timestamp_seconds", &destination, &own).is_some(), "{text}");
    }
    // Also after a run without a valid destination, or with another one.
    let wrong = [("S3_BUCKET", ""), ("S3_BUCKET", "s3://x"), ("S3_PATH", "a//b"), ("S3_PATH_FILE", "/no/such/file")];
    for (variable, value) in wrong {
        let program = if variable == "S3_PATH_FILE" { backup.clone().env_remove("S3_PATH") } else { backup.clone() };
        let outcome = program.env(variable, value).run();
        assert!(matches!(outcome.code, Some(1..=4)), "{variable}={value}: {}", outcome.stderr);
    }
    backup.clone().env("S3_PATH", "elsewhere").env("PG_DUMP_PATH", failing.path()).run().assert_code(11);
    let text = std::fs::read_to_string(&file).expect("the file");
    assert_valid_metrics(&text);
    assert_eq!(sample(&text, "last_success_timestamp_seconds", &destination, ""), Some(success), "{text}");
    assert_eq!(sample(&text, "runs_total", &destination, ",result=\"failure\""), Some(6.0), "{text}");
    let elsewhere = format!("s3://{}/elsewhere", stage.bucket);
    assert_eq!(sample(&text, "runs_total", &elsewhere, ",result=\"failure\""), Some(1.0), "{text}");
    // After a successful backup to the other destination, the file is about that one.
    backup.clone().env("S3_PATH", "elsewhere").run().assert_code(0);
    let text = std::fs::read_to_string(&file).expect("the file");
    assert_eq!(sample(&text, "last_success_timestamp_seconds", &destination, ""), None, "{text}");
    assert!(sample(&text, "last_success_timestamp_seconds", &elsewhere, "").is_some(), "{text}");
    let mut names: Vec<_> =
        dir.path().read_dir().expect("the directory").flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["backup.prom", "backup.prom.state.json"], "no temporary file is left");
}

#[test]
fn metrics_file_reports_retention() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backup.prom");
    let stage = Stage::new(FakeDump::new());
    put_backups(&stage.bucket, "app", &[1, 2, 3, 4, 5, 6]);
    let backup = stage.backup().arg("--metrics-file").arg(&file);
    let destination = format!("s3://{}/app", stage.bucket);
    let after = |text: &str| {
        let names = ["retention_blocked", "retention_failed", "stored_backups", "retention_deleted_backups_total"];
        assert_valid_metrics(text);
        names.map(|name| sample(text, name, &destination, ""))
    };
    let read = || std::fs::read_to_string(&file).expect("the file");
    // It would delete all older backups, as they are older than a week: a safety check blocks it.
    backup.clone().env("BACKUP_RETENTION_DAYS", "7").run().assert_code(0);
    assert_eq!(after(&read()), [1.0, 0.0, 7.0, 0.0].map(Some));
    backup.env("BACKUP_KEEP_LAST", "4").run().assert_code(0);
    let text = read();
    assert_eq!(after(&text), [0.0, 0.0, 4.0, 4.0].map(Some));
    let objects = stage.backups().into_iter().map(|key| s3().get(&stage.bucket, &key).expect("a backup").len());
    let kept: usize = objects.sum();
    assert_eq!(sample(&text, "stored_bytes", &destination, "").map(|bytes| format!("{bytes}")), Some(kept.to_string()));
    assert!(
        sample(&text, "retention_deleted_bytes_total", &destination, "").is_some_and(|bytes| bytes > 0.0),
        "{text}"
    );
}

#[test]
fn unwritable_metrics_file_does_not_fail_a_backup() {
    let stage = Stage::new(FakeDump::new());
    let outcome = stage.backup().env("METRICS_FILE", "/no/such/directory/backup.prom").run();
    stage.assert_committed(&outcome, "without its metrics");
    assert!(outcome.stderr.contains("METRICS_FILE cannot be written"), "{}", outcome.stderr);
}

#[test]
fn daemon_writes_a_metrics_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("daemon.prom");
    let stage = Stage::new(FakeDump::new());
    let running = stage.daemon(YEARLY).env("METRICS_FILE", &file).spawn();
    wait_for(&running, " waiting ", 2);
    stop(running, "TERM", 143);
    let text = std::fs::read_to_string(&file).expect("the file");
    assert_valid_metrics(&text);
    let destination = format!("s3://{}/app", stage.bucket);
    assert_eq!(sample(&text, "run_in_progress", &destination, ""), Some(0.0), "{text}");
    assert!(sample(&text, "next_run_timestamp_seconds", &destination, "").is_some(), "{text}");
    assert_eq!(sample(&text, "runs_total", &destination, ",result=\"success\""), Some(1.0), "{text}");
}

#[test]
fn alerts_fire_at_their_conditions_only() {
    let mut check = promtool();
    check.args(["check", "rules"]).arg(repository_file("monitoring/alerts.yml"));
    assert_succeeds(check);
    for tests in ["monitoring/alerts.test.yml", "monitoring/alerts.databases.test.yml"] {
        let mut test = promtool();
        test.args(["test", "rules"]).arg(repository_file(tests));
        assert_succeeds(test);
    }
}

/// The queries of the dashboard's panels.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    targets
        .map(|target| {
            target["expr"].as_str().expect("a query").replace("$destination", ".*").replace("$database", ".*")
        })
        .collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(repository_file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn dashboard_has_valid_queries() {
    let dashboard: Value = serde_json::from_str(&read("monitoring/dashboard.json")).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("variables").iter();
    let variables: Vec<_> = variables.map(|variable| variable["name"].as_str().expect("a name")).collect();
    assert_eq!(variables, ["datasource", "destination", "database"]);
    let queries = queries(&dashboard);
    assert!(queries.len() > 10 && queries.iter().all(|query| !query.contains('$')), "{queries:?}");
    let rule =
        |(number, query): (usize, &String)| json!({ "record": format!("dashboard:query:{number}"), "expr": query });
    let rules: Vec<Value> = queries.iter().enumerate().map(rule).collect();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("queries.yml");
    // JSON is YAML.
    std::fs::write(&file, json!({ "groups": [{ "name": "dashboard", "rules": rules }] }).to_string()).expect("written");
    let mut check = promtool();
    check.args(["check", "rules"]).arg(&file);
    assert_succeeds(check);
}

#[test]
fn alerts_and_dashboard_use_existing_metrics() {
    let known: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    for path in ["alerts.yml", "alerts.test.yml", "alerts.databases.test.yml", "dashboard.json"] {
        let text = read(&format!("monitoring/{path}"));
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let named: BTreeSet<&str> = words.filter(|word| word.starts_with("pg_s3_backup_")).collect();
        assert!(!named.is_empty() && named.is_subset(&known), "{path}: {:?}", named.difference(&known));
    }
}
