//! Signals, kills, outages and a spool with several databases under way: each leaves what one leaves.

use std::time::Duration;

use serde_json::Value;

use crate::memory::{assert_as_announced, by_default};
use crate::spool_full::{UNSPOOLED, on_disk};
use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::{Outcome, Program};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::gunzipped;

use super::server::reports;

const SOON: Duration = Duration::from_mins(1);

/// Four databases of the shared server, and a stage that backs them up at once.
struct Several {
    stage: Stage,
    databases: Vec<Database>,
}

impl Several {
    fn new(dump: FakeDump) -> Self {
        let databases = (0..4).map(|_| postgres().create_database("several")).collect();
        Self { stage: Stage::new(dump), databases }
    }

    fn names(&self) -> Vec<&str> {
        self.databases.iter().map(|database| database.name.as_str()).collect()
    }

    fn program(&self, program: Program) -> Program {
        program.env("BACKUP_DATABASES", self.names().join(",")).env("BACKUP_DATABASE_JOBS", "3")
    }

    fn backup(&self) -> Program {
        self.program(self.stage.backup()).arg("--json")
    }

    /// Asserts one backup of each of these databases, equal to the output of `pg_dump`, and nothing else.
    #[track_caller]
    fn assert_backups(&self, names: &[&str]) {
        let mut names = names.to_vec();
        // As the bucket sorts them: `a_10` is before `a_9`.
        names.sort_unstable();
        let backups = self.stage.backups();
        let of = |key: &String| key.split('/').nth(1).expect("a sub-path").to_owned();
        assert_eq!(backups.iter().map(of).collect::<Vec<_>>(), names, "{backups:?}");
        for key in backups {
            let object = s3().get(&self.stage.bucket, &key).expect("the backup");
            assert!(gunzipped(&object) == self.stage.dump.output(), "{key} is not the dump");
        }
        assert_eq!(s3().open_uploads(&self.stage.bucket), [""; 0]);
    }

    /// The exit code of each database, 0 for a backup.
    fn codes(&self, outcome: &Outcome) -> Vec<u64> {
        let reports = reports(&outcome.stdout);
        let code = |report: &Value| report["exit_code"].as_u64().unwrap_or_default();
        self.names().iter().map(|name| code(&reports[*name])).collect()
    }
}

#[test]
fn a_signal_stops_all_that_run_and_starts_no_other() {
    let several = Several::new(FakeDump::new().held());
    let mut running = several.backup().spawn();
    for name in &several.names()[..3] {
        running.wait_for_stderr(&format!("database=\"{name}\" user="), SOON);
    }
    while several.stage.dump.pids().len() < 3 {
        std::thread::sleep(Duration::from_millis(20));
    }
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(143).assert_no_children_left();
    assert_eq!(several.codes(&outcome), [143; 4], "{}", outcome.stderr);
    assert!(!outcome.stderr.contains(&format!("database=\"{}\" user", several.names()[3])), "{}", outcome.stderr);
    several.assert_backups(&[]);
    several.stage.assert_nothing_open(&outcome, "SIGTERM");
}

#[test]
fn a_killed_run_shows_nothing_and_the_next_one_succeeds() {
    let several = Several::new(FakeDump::new().held());
    let source = several.stage.named_source();
    let running = several.backup().env("POSTGRES_CONNECTION_STRING", source).spawn();
    while several.stage.dump.pids().len() < 3 {
        std::thread::sleep(Duration::from_millis(20));
    }
    several.stage.kill(running);
    assert_eq!(several.stage.keys(), [""; 0]);
    several.stage.dump.let_go();
    for upload in s3().open_uploads(&several.stage.bucket) {
        assert!(upload.contains("several_"), "{upload}");
    }
    several.backup().run().assert_code(0);
    assert_eq!(several.stage.backups().len(), 4);
}

#[test]
fn one_that_fails_in_the_middle_is_named_and_the_others_are_there() {
    let several = Several::new(FakeDump::new());
    let failing = several.names()[1].to_owned();
    let dump = FakeDump::new().first(&format!("case $connection in *{failing}*) kill -9 $$ ;; esac"));
    let several = Several { stage: Stage::new(dump), ..several };
    let outcome = several.backup().run();
    outcome.assert_code(11).assert_no_children_left();
    assert_eq!(several.codes(&outcome), [0, 11, 0, 0], "{}", outcome.stderr);
    let names = several.names();
    several.assert_backups(&[names[0], names[2], names[3]]);
    // A person gets a table, and a line that says which failed.
    let outcome = several.program(several.stage.backup()).run();
    let last = outcome.stderr.lines().last().expect("a line");
    assert!(last.contains("1 of 4 databases failed") && last.contains(&failing), "{last}");
    let table = outcome.stdout_text();
    assert!(table.lines().any(|line| line.starts_with(&failing) && line.ends_with("dump failed (11)")), "{table}");
    assert!(table.lines().last().is_some_and(|line| line.contains(": 3 of 4 databases backed up")), "{table}");
}

#[test]
fn an_outage_of_s3_is_waited_for_once() {
    let several = Several::new(FakeDump::new().body(Body::Random(64 << 10)));
    several.stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(1), Fault::slow_down()));
    let outcome = several.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "6s").env("BACKUP_DATABASE_JOBS", "2").run();
    outcome.assert_code(12).assert_no_children_left();
    assert_eq!(several.codes(&outcome), [12; 4], "{}", outcome.stderr);
    several.assert_backups(&[]);
    several.stage.proxy.clear_rules();
    several.backup().run().assert_code(0);
    several.assert_backups(&several.names());
}

#[test]
fn after_an_outage_that_used_up_its_budget_the_other_databases_fail_at_their_first_requests() {
    let several = Several::new(FakeDump::new().held());
    let backup = several.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "6s").env("BACKUP_DATABASE_JOBS", "1");
    let running = backup.spawn();
    while several.stage.dump.pids().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    several.stage.proxy.pause();
    several.stage.dump.let_go();
    let outcome = running.wait();
    outcome.assert_code(12).assert_no_children_left();
    assert_eq!(several.codes(&outcome), [12; 4], "{}", outcome.stderr);
    let retries = outcome.stderr.lines().filter(|line| line.contains("S3 request failed, retrying"));
    let retries: Vec<&str> = retries.collect();
    let names = several.names();
    assert!(retries.iter().any(|line| line.contains(names[0])), "{}", outcome.stderr);
    assert!(retries.iter().all(|line| line.contains(names[0])), "{}", outcome.stderr);
}

#[test]
fn complete_dumps_in_the_spool_are_delivered_though_a_database_or_the_server_is_gone() {
    let spool = tempfile::tempdir().expect("a directory");
    let mut several = Several::new(FakeDump::new().body(THREE_PARTS));
    several.stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(1), Fault::slow_down()));
    let source = several.stage.named_source();
    let backup = several.backup().env("BACKUP_SPOOL_DIR", spool.path()).env("BACKUP_MAX_UPLOAD_OUTAGE", "10m");
    let running = backup.clone().env("POSTGRES_CONNECTION_STRING", source).spawn();
    while running.stderr_so_far().matches("the dump is complete and on disk").count() < 3 {
        std::thread::sleep(Duration::from_millis(20));
    }
    several.stage.kill(running);
    several.stage.proxy.clear_rules();
    let dropped = several.databases.remove(0);
    let names = format!("{},{}", dropped.name, several.names().join(","));
    drop(dropped);
    let gone = backup.clone().env("BACKUP_DATABASES", &names);
    // Nothing answers at this port.
    let unreachable = "postgresql://postgres@127.0.0.1:1/postgres?connect_timeout=1";
    gone.clone().env("POSTGRES_CONNECTION_STRING", unreachable).run().assert_code(10);
    assert_eq!(several.stage.backups().len(), 3, "delivered before it connects");
    let outcome = gone.run();
    outcome.assert_code(10);
    assert!(outcome.stderr.contains("no database of this name"), "{}", outcome.stderr);
    assert_eq!(several.stage.backups().len(), 6);
    assert_eq!(s3().open_uploads(&several.stage.bucket), [""; 0]);
}

#[test]
fn a_full_disk_costs_the_spool_and_no_backup() {
    let several = Several::new(FakeDump::new().body(THREE_PARTS));
    let outcome = on_disk(&several.backup(), "size=24m");
    outcome.assert_code(0).assert_no_children_left();
    several.assert_backups(&several.names());
    assert!(outcome.stderr.contains(UNSPOOLED) && !outcome.stderr.contains("left behind"), "{}", outcome.stderr);
}

#[test]
fn four_at_once_take_no_more_memory_than_was_announced_for_one() {
    let several = Several::new(FakeDump::new().body(Body::Random(48 << 20)));
    several.stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::First(6), Fault::slow_down()));
    let outcome = by_default(several.backup().env("BACKUP_DATABASE_JOBS", "4")).run();
    outcome.assert_code(0);
    several.assert_backups(&several.names());
    assert_as_announced(&outcome, "four databases at once");
}

#[test]
fn the_daemon_retries_those_that_failed_alone() {
    let several = Several::new(FakeDump::new());
    let failing = several.names()[2].to_owned();
    let once = format!(
        "case $connection in *{failing}*) [ -e \"$here/failed\" ] || {{ : >\"$here/failed\"; exit 3; }} ;; esac"
    );
    let several = Several { stage: Stage::new(FakeDump::new().first(&once)), ..several };
    let daemon = several.program(several.stage.daemon("0 0 1 1 *")).env("BACKUP_RETRY_DELAYS", "1s");
    let mut running = daemon.arg("--run-on-start").spawn();
    running.wait_for_stderr("backup completed reason=\"retry\"", SOON);
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(143).assert_no_children_left();
    assert_eq!(several.stage.dump.pids().len(), 5, "four, and one once more: {}", outcome.stderr);
    several.assert_backups(&several.names());
}

#[test]
fn a_retry_that_cannot_connect_leaves_the_next_one_those_that_failed() {
    let several = Several::new(FakeDump::new());
    let failing = several.names()[2].to_owned();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("connection-string");
    let good = postgres().uri("postgres");
    std::fs::write(&file, &good).expect("written");
    // The first dump of one database makes the server unreachable and fails; the test puts it right after the retry.
    let (bad, path) = ("postgresql://postgres@127.0.0.1:1/postgres?connect_timeout=1", file.display());
    let once = format!(
        "case $connection in *{failing}*) [ -e \"$here/failed\" ] || {{ : >\"$here/failed\"; echo '{bad}' >{path}; exit 3; }} ;; esac"
    );
    let several = Several { stage: Stage::new(FakeDump::new().first(&once)), ..several };
    let daemon = several.program(several.stage.daemon("0 0 1 1 *")).env("BACKUP_RETRY_DELAYS", "1s,1s,1s,1s");
    let daemon = daemon.env_remove("POSTGRES_CONNECTION_STRING").env("POSTGRES_CONNECTION_STRING_FILE", &file);
    let mut running = daemon.arg("--run-on-start").spawn();
    running.wait_for_stderr("connect to PostgreSQL at 127.0.0.1:1", SOON);
    std::fs::write(&file, &good).expect("written");
    running.wait_for_stderr("backup completed reason=\"retry\"", SOON);
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(143).assert_no_children_left();
    assert_eq!(several.stage.dump.pids().len(), 5, "four, and one once more: {}", outcome.stderr);
}

#[test]
fn the_daemon_catches_up_those_without_a_recent_backup_alone() {
    let several = Several::new(FakeDump::new());
    let names = several.names();
    several.backup().env("BACKUP_DATABASES", format!("{},{}", names[0], names[3])).run().assert_code(0);
    let mut running = several.program(several.stage.daemon("0 0 1 1 *")).spawn();
    running.wait_for_stderr("backup completed reason=\"catch-up\"", SOON);
    running.signal("TERM");
    running.wait().assert_code(143).assert_no_children_left();
    assert_eq!(several.stage.dump.pids().len(), 4);
    several.assert_backups(&names);
}
