//! One `S3_PATH` holds one database: another's is refused before anything starts, another server's is a warning, and what
//! cannot be known costs nothing.

use std::sync::LazyLock;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::program::{Outcome, Program};
use crate::support::proxy::{FaultProxy, S3Verb};
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, manifest, only_backup};
use crate::support::stored::put;

/// The key of a backup that was started so many days ago: the same in all of a test, which goes on into another second.
fn key_of(days: i64) -> String {
    static NOW: LazyLock<DateTime<Utc>> = LazyLock::new(Utc::now);
    let started = *NOW - TimeDelta::days(days) - TimeDelta::hours(1);
    format!("app/postgres-backup-{}.sql.gz", started.format("%Y-%m-%d_%H-%M-%S"))
}

/// A backup of another database with a manifest of few words.
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
fn another_databases_destination_is_refused_before_anything_is_started() {
    let database = postgres().create_database("mixed");
    let bucket = s3().create_bucket("mixed");
    let proxy = FaultProxy::start(s3().addr());
    put_foreign(&bucket, 0);
    let program = program(&database, &bucket).env("S3_URL", proxy.url());
    assert_refused(&program.run(), &database, &bucket);
    assert_eq!(proxy.count(S3Verb::CreateMultipartUpload), 0);
    assert_eq!(s3().keys(&bucket, "").len(), 2, "nothing was added");
    // As JSON too, and nowhere else: another path is not its concern.
    let failed = program.clone().arg("--json").run();
    let report: Value = serde_json::from_slice(&failed.assert_code(4).stdout).expect("JSON");
    assert_eq!(report["success"], false);
    for path in ["app2", "app/deeper", ""] {
        program.clone().env("S3_PATH", path).run().assert_code(0);
    }
    // Where it is meant, it is taken; and then this database's is the newest.
    program.clone().arg("--allow-mixed").run().assert_code(0);
    program.run().assert_code(0);
}

#[test]
fn the_newest_backup_counts_however_old_it_is() {
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
fn a_name_in_the_future_decides_only_where_there_is_no_other() {
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
fn missing_manifest_facts_cost_no_backup() {
    let database = postgres().create_database("untold");
    for damaged in ["", "{", "[]", "null", "{\"database\": 7}"] {
        let bucket = s3().create_bucket("untold");
        for days in [0, 30, 60] {
            put(&bucket, &key_of(days), b"x");
            put(&bucket, &format!("{}.json", key_of(days)), damaged.as_bytes());
        }
        // Their owner is unknown: none is deleted, though the rule keeps none of them.
        let outcome = program(&database, &bucket).args(["--retention-days", "1", "--min-keep", "1"]).run();
        let warned = outcome.assert_code(0).stderr.contains("the newest manifests here are damaged");
        assert!(warned && outcome.stderr.contains("nothing was deleted"), "{damaged}: {}", outcome.stderr);
        let kept = s3().keys(&bucket, "app/").len();
        assert_eq!(kept, 3 * 2 + 3, "{damaged}: each of them, and the new backup with its two sidecars");
    }
    // Backups of a service that wrote no manifests, and what only looks like a backup.
    let bucket = s3().create_bucket("untold");
    put(&bucket, &key_of(1), b"x");
    put(&bucket, "app/postgres-backup-notes.json", b"{\"database\": \"another\"}");
    program(&database, &bucket).run().assert_code(0);
    // A damaged manifest precedes one with the facts.
    let bucket = s3().create_bucket("untold");
    put(&bucket, &format!("{}.json", key_of(0)), b"{");
    put_foreign(&bucket, 1);
    assert_refused(&program(&database, &bucket).run(), &database, &bucket);
}

#[test]
fn the_same_database_on_another_server_is_a_warning() {
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
fn of_many_backups_only_the_newest_are_looked_at() {
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
fn credentials_that_may_only_write_are_not_asked_for_more() {
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
