//! Which backup `restore` takes, and what it says before it reads it; and what it wants to know first.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::program::Program;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, When};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, manifest, only_backup, plain, s3_program};
use crate::support::stored::{FUTURE, name_of_day, put};

const RESTORE_FAILED: i32 = 15;

fn restore(bucket: &str) -> Program {
    s3_program(bucket).arg("restore")
}

/// A bucket with one backup, copied under these names; and its plain dump.
fn copied_as(names: &[String]) -> (String, Vec<u8>) {
    let database = postgres().create_database("choice");
    let bucket = s3().create_bucket("choice");
    backup_program(&database, &bucket).run().assert_code(0);
    let key = only_backup(&bucket);
    let (object, manifest) = (s3().get(&bucket, &key).expect("the backup"), manifest(&bucket, &key));
    let dump = plain(&bucket, &key);
    for key in s3().keys(&bucket, "") {
        s3().request("DELETE", &format!("/{bucket}/{key}"), b"").expect("deleted");
    }
    for name in names {
        put(&bucket, name, &object);
        put(&bucket, &format!("{name}.json"), manifest.to_string().as_bytes());
    }
    (bucket, dump)
}

/// The name of the backup that it would restore.
#[track_caller]
fn chosen(program: &Program) -> String {
    let outcome = program.clone().args(["--dry-run", "--json"]).run();
    let report: Value = serde_json::from_slice(&outcome.assert_code(0).stdout).expect("one object");
    report["file_name"].as_str().expect("a name").to_owned()
}

#[test]
fn the_latest_is_the_newest_valid_backup_of_this_destination() {
    let [first, second, third, fourth] = [1, 2, 3, 4].map(name_of_day);
    let (bucket, dump) = copied_as(&[first.clone(), second.clone(), FUTURE.to_owned(), format!("app2/{fourth}")]);
    // Cut off; and what a failed pipe leaves.
    put(&bucket, &third, &s3().get(&bucket, &first).expect("the backup")[1..]);
    put(&bucket, &format!("{third}.json"), &s3().get(&bucket, &format!("{first}.json")).expect("the manifest"));
    put(&bucket, &fourth, b"empty");
    assert_eq!(chosen(&restore(&bucket)), second);
    assert_eq!(chosen(&restore(&bucket).arg("latest")), second);
    let said = restore(&bucket).arg("--dry-run").run().assert_code(0).stderr.clone();
    for (name, why) in [
        (FUTURE, "its name is in the future"),
        (&fourth, "it has no manifest and 5 bytes; the smallest possible dump has more than 200: pg_dump failed"),
        (&third, "its manifest says otherwise"),
    ] {
        let line = said.lines().find(|line| line.contains("skipped") && line.contains(name));
        assert!(line.is_some_and(|line| line.contains(why)), "{why}: {said}");
    }
    assert!(!said.lines().any(|line| line.contains("skipped") && line.contains(&first)), "{said}");
    for named in [first.clone(), format!("s3://{bucket}/{first}")] {
        assert_eq!(chosen(&restore(&bucket).arg(named)), first);
    }
    let outcome = restore(&bucket).arg(FUTURE).run();
    assert!(outcome.assert_code(0).stdout == dump, "named, it is taken");
    assert!(outcome.stderr.contains("is in the future"), "{}", outcome.stderr);
}

#[test]
fn a_time_means_the_newest_backup_that_was_started_by_then() {
    let [first, second, third] = [1, 2, 3].map(name_of_day);
    let (bucket, _) = copied_as(&[first.clone(), second.clone(), third.clone()]);
    let at = |time: &str| restore(&bucket).args(["--at", time]);
    for (time, name) in [
        ("2026-01-02T02:00:00Z", &second),
        ("2026-01-02T01:59:59Z", &first),
        ("2026-01-02 03:00:00+01:00", &second),
        ("2026-01-02 02:00", &second),
        ("2099-01-01 00:00", &third),
    ] {
        assert_eq!(chosen(&at(time)), *name, "{time}");
    }
    let berlin = |time| at(time).env("BACKUP_TIMEZONE", "Europe/Berlin");
    assert_eq!(chosen(&berlin("2026-01-02 03:00")), second);
    assert_eq!(chosen(&berlin("2026-01-02 02:00")), first);
    let outcome = at("2025-12-31 00:00").run();
    outcome.assert_code(RESTORE_FAILED);
    assert!(outcome.stderr.contains("started by 2025-12-31T00:00:00Z"), "{}", outcome.stderr);
    for wrong in ["yesterday", "2026-01-02"] {
        let outcome = at(wrong).run();
        assert!(outcome.assert_code(4).stderr.contains("--at: must be a time such as"), "{}", outcome.stderr);
    }
}

#[test]
fn a_backup_that_is_not_there_or_another_destinations_is_named() {
    let bucket = s3().create_bucket("nothing");
    let name = name_of_day(1);
    for (program, word) in [
        (restore(&bucket), "there is no backup at"),
        (restore(&bucket).arg(&name), "correct S3_BUCKET or S3_PATH"),
        (restore(&bucket).arg(format!("s3://elsewhere/{name}")), "set S3_BUCKET and S3_PATH"),
    ] {
        let outcome = program.run();
        outcome.assert_code(RESTORE_FAILED);
        assert!(outcome.stderr.contains(word) && outcome.stdout.is_empty(), "{}", outcome.stderr);
    }
}

#[test]
fn a_partial_backup_restores_with_a_warning() {
    let database = postgres().create_database("partial");
    database.psql("CREATE TABLE t AS SELECT 1 AS n").expect("a table");
    let bucket = s3().create_bucket("partial");
    backup_program(&database, &bucket).args(["--", "--exclude-table-data=t"]).run().assert_code(0);
    let outcome = restore(&bucket).run();
    assert!(outcome.assert_code(0).stderr.contains("this backup is partial"), "{}", outcome.stderr);
}

#[test]
fn an_object_that_was_written_after_its_manifest_is_a_warning() {
    let (bucket, _) = copied_as(&[name_of_day(1)]);
    let key = format!("{}.json", name_of_day(1));
    let warned = |finished: DateTime<Utc>| {
        let mut manifest = manifest(&bucket, &name_of_day(1));
        manifest["finished_at"] = finished.to_rfc3339().into();
        put(&bucket, &key, manifest.to_string().as_bytes());
        let outcome = restore(&bucket).run();
        outcome.assert_code(0).stderr.contains("written after its manifest says")
    };
    assert!(!warned(Utc::now()));
    assert!(warned(Utc::now() - TimeDelta::minutes(62)));
}

#[test]
fn an_archived_object_is_to_be_asked_for_and_the_request_is_shown() {
    let stage = Stage::new(FakeDump::new());
    stage.backup().run().assert_code(0);
    let key = stage.backups().swap_remove(0);
    let archived = Fault::Status { code: 403, s3_code: "InvalidObjectState", when: When::Before };
    stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::All, archived).key_suffix(&key));
    let program = s3_program(&stage.bucket).env("S3_URL", stage.proxy.url()).env("S3_PATH", "app").arg("restore");
    let outcome = program.run();
    outcome.assert_code(RESTORE_FAILED);
    let command = format!(
        "aws --endpoint-url {} s3api restore-object --bucket {} --key {key} --restore-request",
        stage.proxy.url(),
        stage.bucket
    );
    assert!(outcome.stderr.contains(&command), "{}", outcome.stderr);

    let headers = vec![("x-amz-restore".to_owned(), "ongoing-request=\"true\"".to_owned())];
    let ongoing = Fault::Reply { status: 200, headers, body: vec![], when: When::Before };
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, ongoing).key_suffix(&key));
    let outcome = program.run();
    assert!(outcome.assert_code(RESTORE_FAILED).stderr.contains("try again in some hours"), "{}", outcome.stderr);
}

#[test]
fn nothing_is_restored_to_where_nobody_asked() {
    let (bucket, _) = copied_as(&[name_of_day(1)]);
    // What is backed up is no target.
    let source = restore(&bucket).env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres"));
    assert!(!source.run().assert_code(0).stdout.is_empty(), "stdout it is");
    for (program, code, words) in [
        (restore(&bucket).args(["--create-db", "new"]), 1, ["RESTORE_CONNECTION_STRING is not set", "--create-db"]),
        (restore(&bucket).arg("--no-owner"), 1, ["RESTORE_CONNECTION_STRING is not set", "--no-owner"]),
        (restore(&bucket).arg("--json"), 4, ["--json", "--output"]),
        (
            restore(&bucket).args(["--to", "postgresql://u:sentinel@h/d"]),
            4,
            ["(--to)", "RESTORE_CONNECTION_STRING_FILE"],
        ),
        (
            restore(&bucket).env("RESTORE_CONNECTION_STRING", "'postgresql://u:sentinel@h/d'"),
            4,
            ["RESTORE_CONNECTION_STRING: begins and ends with a quote", "take the quotes off"],
        ),
        (restore(&bucket).args(["--to", "h"]), 4, ["RESTORE_CONNECTION_STRING", "--to"]),
        (
            restore(&bucket).args(["--to", "host=h", "--create-db", &"x".repeat(64)]),
            4,
            ["--create-db", "at most 63 bytes"],
        ),
        (restore(&bucket).args(["--to", "host=h", "--output", "f"]), 64, ["--output", "--to"]),
        (restore(&bucket).args(["--create-db", "d", "--raw"]), 64, ["--raw", "--create-db"]),
        (restore(&bucket).arg("--replace"), 64, ["--create-db", "required"]),
    ] {
        let outcome = program.run();
        outcome.assert_code(code);
        assert!(words.iter().all(|word| outcome.stderr.contains(word)), "{words:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("sentinel"), "{}", outcome.stderr);
    }
}

#[test]
fn a_dump_does_not_go_to_a_terminal() {
    let (bucket, _) = copied_as(&[name_of_day(1)]);
    let line = format!("{} restore", env!("CARGO_BIN_EXE_pg-s3-backup"));
    let program = restore(&bucket).executed_by(Path::new("/usr/bin/script")).args(["-qec", &line, "/dev/null"]);
    let outcome = program.run();
    let shown = outcome.assert_code(1).stdout_text();
    assert!(shown.contains("stdout is a terminal") && shown.contains("--output FILE"), "{shown}");
    assert!(!shown.contains("PostgreSQL database dump"), "{shown}");
    for flags in ["--raw", "--output -"] {
        let line = format!("{line} {flags}");
        let program = restore(&bucket).executed_by(Path::new("/usr/bin/script")).args(["-qec", &line, "/dev/null"]);
        let outcome = program.env("RESTORE_CONNECTION_STRING", postgres().uri("postgres")).run();
        let shown = outcome.assert_code(1).stdout_text();
        assert!(shown.contains("stdout is a terminal: use --output FILE or a pipe"), "{shown}");
        assert!(!shown.contains("is not set"), "{shown}");
    }
}
