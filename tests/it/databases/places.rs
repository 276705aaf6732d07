//! Where the backups of each database are, and what else is below the same path.

use std::time::Duration;

use serde_json::json;

use crate::support::proxy::{FaultProxy, S3Verb};
use crate::support::servers::{postgres, s3};
use crate::support::session::Session;
use crate::support::setup::{backup_program, list_program, only_backup, s3_program};
use crate::support::stored::put;

use super::server::{key_of, reports};

fn backup(bucket: &str, databases: &str) -> crate::support::program::Program {
    let program = s3_program(bucket).env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres"));
    program.env("BACKUP_DATABASES", databases).env("S3_PATH", "srv").arg("backup").arg("--json")
}

#[test]
fn a_database_dropped_after_the_listing_is_named_and_the_others_are_there() {
    let [first, second, third] = ["drop_a", "drop_b", "drop_c"].map(|hint| postgres().create_database(hint));
    let bucket = s3().create_bucket("dropped");
    first.psql("CREATE TABLE t (a int)").expect("a table");
    let mut holder = Session::open(&first);
    holder.run("BEGIN; LOCK TABLE t");
    let names = format!("{},{},{}", first.name, second.name, third.name);
    let mut running = backup(&bucket, &names).env("LOG_LEVEL", "debug").spawn();
    running.wait_for_stderr(&format!("database=\"{}\" user=", first.name), Duration::from_mins(1));
    let dropped = second.name.clone();
    drop(second);
    holder.run("COMMIT");
    let outcome = running.wait();
    outcome.assert_code(10).assert_no_children_left();
    let reports = reports(&outcome.stdout);
    assert_eq!(reports[&dropped]["exit_code"], 10, "{}", outcome.stderr);
    assert!([&first, &third].iter().all(|database| reports[&database.name]["success"] == true), "{}", outcome.stderr);
}

#[test]
fn backups_of_one_path_stay_when_several_databases_are_meant_and_after_that() {
    let [shop, other] = ["shop", "other"].map(|hint| postgres().create_database(hint));
    let bucket = s3().create_bucket("switch");
    let single =
        backup_program(&shop, &bucket).env("S3_PATH", "srv").env("BACKUP_KEEP_LAST", "1").env("BACKUP_MIN_KEEP", "1");
    single.run().assert_code(0);
    let before = only_backup(&bucket);
    let names = format!("{},{}", shop.name, other.name);
    let several = backup(&bucket, &names).env("BACKUP_KEEP_LAST", "1").env("BACKUP_MIN_KEEP", "1");
    for round in 0..3 {
        let outcome = several.run();
        outcome.assert_code(0);
        let keys = s3().keys(&bucket, "");
        assert!(keys.contains(&before), "{keys:?}");
        assert_eq!(keys.len(), 12, "round {round}: the old one, and one of each database: {keys:?}");
        for (name, report) in reports(&outcome.stdout) {
            let key = key_of(&bucket, &report).to_owned();
            assert!(key.starts_with(&format!("srv/{name}/")) && keys.contains(&key), "{key}");
        }
    }
    // And back.
    single.run().assert_code(0);
    let keys = s3().keys(&bucket, "");
    assert!(!keys.contains(&before) && keys.len() == 12, "retention replaced the old one alone: {keys:?}");
    let list = list_program(&bucket).env("S3_PATH", "srv").arg("--quiet").run();
    assert_eq!(list.assert_code(0).stdout_text().lines().count(), 1);
}

#[test]
fn paths_of_others_below_the_same_path_are_refused_and_left_alone() {
    let [mixed, foreign, ours] = ["mixed", "foreign", "ours"].map(|hint| postgres().create_database(hint));
    let bucket = s3().create_bucket("others");
    let stored = [
        (&mixed.name, json!({"database": "another", "system_identifier": "1"})),
        (&foreign.name, json!({"database": foreign.name, "system_identifier": "1"})),
    ];
    for (path, manifest) in &stored {
        let key = format!("srv/{path}/postgres-backup-2026-01-01_00-00-00.sql.gz");
        put(&bucket, &key, b"x");
        put(&bucket, &format!("{key}.json"), manifest.to_string().as_bytes());
    }
    let before = s3().keys(&bucket, "");
    let proxy = FaultProxy::start(s3().addr());
    let names = format!("{},{},{}", mixed.name, foreign.name, ours.name);
    let backup = backup(&bucket, &names).env("S3_URL", proxy.url()).env("BACKUP_KEEP_LAST", "1");
    let outcome = backup.run();
    outcome.assert_code(4).assert_no_children_left();
    let reports = reports(&outcome.stdout);
    for (name, word) in [(&mixed.name, "of the database another"), (&foreign.name, "on another server")] {
        let error = reports[name]["error"].as_str().expect("an error");
        assert!(reports[name]["exit_code"] == 4 && error.contains(word) && error.contains("--allow-mixed"), "{error}");
    }
    assert_eq!(reports[&ours.name]["success"], true, "{}", outcome.stderr);
    assert_eq!(proxy.count(S3Verb::CreateMultipartUpload), 1);
    assert!(before.iter().all(|key| s3().keys(&bucket, "").contains(key)));
    backup.arg("--allow-mixed").run().assert_code(0);
}

#[test]
fn says_which_databases_there_are_if_none_is_meant() {
    let bucket = s3().create_bucket("none");
    let outcome = backup(&bucket, "nothing_like_this_*").run();
    outcome.assert_code(4);
    assert!(outcome.stderr.contains("means no database") && outcome.stderr.contains("postgres"), "{}", outcome.stderr);
    let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!((&report["success"], &report["databases"]), (&json!(false), &json!([])));
    let outcome = backup(&bucket, "nothing_like_this").run();
    outcome.assert_code(10);
    assert!(outcome.stderr.contains("has no database of this name"), "{}", outcome.stderr);
    let outcome = backup(&bucket, "!postgres").run();
    assert!(outcome.assert_code(4).stderr.contains("begin with `all`"), "{}", outcome.stderr);
}

#[test]
fn names_keep_their_bytes_in_databases_of_other_encodings() {
    let latin1 = "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'";
    let databases = ["größe", "üüü"].map(|hint| postgres().create_database_with(hint, latin1));
    let bucket = s3().create_bucket("encodings");
    let names = databases.each_ref().map(|database| database.name.as_str());
    // The database that lists the others is in LATIN1, too.
    let source = databases[0].uri();
    let outcome = backup(&bucket, &names.join(",")).env("POSTGRES_CONNECTION_STRING", source).run();
    outcome.assert_code(0);
    assert_eq!(reports(&outcome.stdout).keys().collect::<Vec<_>>(), names);
    let list =
        list_program(&bucket).env("S3_PATH", "srv").env("BACKUP_DATABASES", names.join(",")).arg("--quiet").run();
    let list = list.assert_code(0).stdout_text();
    assert_eq!(list.lines().count(), 2, "{list}");
}
