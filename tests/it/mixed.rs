//! One `S3_PATH` holds backups of one database: `backup` refuses another database's path before it starts anything, warns of
//! another server, and runs if it cannot know the database.

use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::program::{Outcome, Program};
use crate::support::proxy::{FaultProxy, S3Verb};
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, manifest, only_backup};
use crate::support::stored::put;

/// The key of a backup that was started so many days ago. It does not change while a test runs.
fn key_of(days: i64) -> String {
    static NOW: LazyLock<DateTime<Utc>> = LazyLock::new(Utc::now);
    let started = *NOW - TimeDelta::days(days) - TimeDelta::hours(1);
    format!("app/postgres-backup-{}.sql.gz", started.format("%Y-%m-%d_%H-%M-%S"))
}

/// Stores a backup of another database with a minimal manifest.
fn put_foreign(bucket: &str, days: i64) {
    let manifest = json!({"database": "another", "system_identifier": "1"});
    put(bucket, &key_of(days), b"x");
    put(bucket, &format!("{}.json", key_of(days)), manifest.to_string().as_bytes());
}

fn program(database: &Database, bucket: &str) -> Program {
    backup_program(database, bucket).env("S3_PATH", "app").env("LOG_LEVEL", "debug")
}

#[track_caller]
fn assert_refused(outcome: &Outcome, database: &Database, bucket: &str) {
    outcome.assert_code(4).assert_no_children_left();
    let errors: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(" ERROR ")).collect();
    assert_eq!(errors.len(), 1, "{}", outcome.stderr);
    for word in ["another", &*database.name, &format!("s3://{bucket}/app/"), "--allow-mixed", "S3_PATH"] {
        assert!(errors[0].contains(word), "{word} is not in {}", errors[0]);
    }
    assert_eq!(s3().open_uploads(bucket), [""; 0]);
}

#[test]
fn refuses_path_of_another_database_before_it_starts() {
    let database = postgres().create_database("mixed");
    let bucket = s3().create_bucket("mixed");
    let proxy = FaultProxy::start(s3().addr());
    put_foreign(&bucket, 0);
    let program = program(&database, &bucket).env("S3_URL", proxy.url());
    assert_refused(&program.run(), &database, &bucket);
    assert_eq!(proxy.count(S3Verb::CreateMultipartUpload), 0);
    assert_eq!(s3().keys(&bucket, "").len(), 2, "nothing was added");
    // Also with --json. Other paths are not refused.
    let failed = program.clone().arg("--json").run();
    let report: Value = serde_json::from_slice(&failed.assert_code(4).stdout).expect("JSON");
    assert_eq!(report["success"], false);
    for path in ["app2", "app/deeper", ""] {
        program.clone().env("S3_PATH", path).run().assert_code(0);
    }
    // --allow-mixed permits it; then the newest backup is of this database.
    program.clone().arg("--allow-mixed").run().assert_code(0);
    program.run().assert_code(0);
}

#[test]
fn compares_with_newest_backup_of_any_age() {
    let database = postgres().create_database("old");
    for days in [1, 30, 500, 5_000] {
        let bucket = s3().create_bucket("old");
        put_foreign(&bucket, days);
        assert_refused(&program(&database, &bucket).run(), &database, &bucket);
    }
    // An older one of another database (from a time of --allow-mixed) does not count.
    let bucket = s3().create_bucket("old");
    put_foreign(&bucket, 5);
    program(&database, &bucket).arg("--allow-mixed").run().assert_code(0);
    program(&database, &bucket).run().assert_code(0);
}

#[test]
fn compares_with_future_backup_only_if_there_is_no_other() {
    let database = postgres().create_database("ahead");
    let bucket = s3().create_bucket("ahead");
    put_foreign(&bucket, -4_000);
    assert_refused(&program(&database, &bucket).run(), &database, &bucket);
    put(&bucket, &key_of(100), b"x");
    let ours = json!({"database": database.name});
    put(&bucket, &format!("{}.json", key_of(100)), ours.to_string().as_bytes());
    program(&database, &bucket).run().assert_code(0);
}

#[test]
fn runs_without_facts_in_the_manifests() {
    let database = postgres().create_database("no-facts");
    for damaged in ["", "{", "[]", "null", "{\"database\": 7}"] {
        let bucket = s3().create_bucket("no-facts");
        for days in [0, 30, 60] {
            put(&bucket, &key_of(days), b"x");
            put(&bucket, &format!("{}.json", key_of(days)), damaged.as_bytes());
        }
        // Their database is unknown: none is deleted, although the rule keeps none of them.
        let outcome = program(&database, &bucket).args(["--retention-days", "1", "--min-keep", "1"]).run();
        let warned = outcome.assert_code(0).stderr.contains("the newest manifests here are damaged");
        assert!(warned && outcome.stderr.contains("nothing was deleted"), "{damaged}: {}", outcome.stderr);
        let kept = s3().keys(&bucket, "app/").len();
        assert_eq!(kept, 3 * 2 + 4, "{damaged}: each of them, and the new backup with its three sidecars");
    }
    // A backup without a manifest, and a key that is no backup.
    let bucket = s3().create_bucket("no-facts");
    put(&bucket, &key_of(1), b"x");
    put(&bucket, "app/postgres-backup-notes.json", b"{\"database\": \"another\"}");
    program(&database, &bucket).run().assert_code(0);
    // A damaged manifest precedes one with the facts.
    let bucket = s3().create_bucket("no-facts");
    put(&bucket, &format!("{}.json", key_of(0)), b"{");
    put_foreign(&bucket, 1);
    assert_refused(&program(&database, &bucket).run(), &database, &bucket);
}

#[test]
fn warns_of_same_database_on_another_server() {
    let database = postgres().create_database("moved");
    let bucket = s3().create_bucket("moved");
    put(&bucket, &key_of(1), b"x");
    let manifest = json!({"database": database.name, "system_identifier": "7000000000000000001"});
    put(&bucket, &format!("{}.json", key_of(1)), manifest.to_string().as_bytes());
    let outcome = program(&database, &bucket).run();
    outcome.assert_code(0);
    let warning = outcome.stderr.lines().find(|line| line.contains("on another server")).expect("a warning");
    assert!(warning.contains(" WARN ") && warning.contains("7000000000000000001"), "{warning}");
    // Now the newest is of this server.
    let outcome = program(&database, &bucket).run();
    assert!(!outcome.assert_code(0).stderr.contains("on another server"), "{}", outcome.stderr);
}

#[test]
fn reads_only_the_newest_manifests() {
    let database = postgres().create_database("many");
    let bucket = s3().create_bucket("many");
    let days = (2..602).flat_map(|day| [key_of(day), format!("{}.json", key_of(day))]);
    s3().put_many(&bucket, &days.collect::<Vec<_>>());
    put_foreign(&bucket, 0);
    let proxy = FaultProxy::start(s3().addr());
    let outcome = program(&database, &bucket).env("S3_URL", proxy.url()).run();
    assert_refused(&outcome, &database, &bucket);
    assert_eq!((proxy.count(S3Verb::ListObjects), proxy.count(S3Verb::GetObject)), (1, 1));
}

#[test]
fn runs_with_write_only_credentials() {
    let database = postgres().create_database("writer");
    let bucket = s3().create_bucket("writer");
    let outcome = backup_program(&database, &bucket)
        .env("S3_ACCESS_KEY", &s3().writeonly_access_key)
        .env("S3_SECRET_KEY", &s3().writeonly_secret_key)
        .env("LOG_LEVEL", "debug")
        .run();
    outcome.assert_code(0);
    assert!(!outcome.stderr.contains(" WARN "), "{}", outcome.stderr);
    let logged = outcome.stderr.lines().find(|line| line.contains("may not see which database"));
    assert!(logged.is_some_and(|line| line.contains("DEBUG")), "{}", outcome.stderr);
    assert_eq!(manifest(&bucket, &only_backup(&bucket))["warnings"], json!([]));
}
