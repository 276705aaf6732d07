//! A failed index causes a warning, never a failed backup; and a dump in the spool keeps its index.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::Stage;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, index, manifest, only_backup};
use crate::support::spooled::Spooled;

const NO_INDEX: &str = "the backup is committed, but without its index";

#[test]
fn a_refused_index_costs_no_backup() {
    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(S3Verb::PutObject, Calls::All, Fault::access_denied()).key_suffix(".index.json.gz"));
    let outcome = stage.backup().run();
    stage.assert_committed(&outcome, "a refused index");
    assert!(
        outcome.stderr.lines().any(|line| line.contains(" WARN ") && line.contains(NO_INDEX)),
        "{}",
        outcome.stderr
    );
    let key = stage.backups().remove(0);
    assert_eq!(stage.keys(), [key.clone(), format!("{key}.globals.sql.gz"), format!("{key}.json")]);
    let manifest = manifest(&stage.bucket, &key);
    assert_eq!(manifest["index"], Value::Null);
    assert_eq!(manifest["warnings"], serde_json::json!(["index: S3 did not take the file"]));
}

#[test]
fn a_dump_without_an_index_says_so() {
    // Rows where pg_dump writes none.
    let body = "--\n-- PostgreSQL database dump\n--\n\nCOPY public.t (a) FROM stdin;\n1\n\\.\n\n\
                --\n-- PostgreSQL database dump complete\n--\n\n";
    let stage = Stage::new(FakeDump::new().body(Body::Raw(body.as_bytes().to_vec())));
    let outcome = stage.backup().run();
    stage.assert_committed(&outcome, "no index");
    assert!(!outcome.stderr.contains(" WARN "), "{}", outcome.stderr);
    let manifest = manifest(&stage.bucket, &stage.backups()[0]);
    assert_eq!(manifest["index"], Value::Null);
    let why = "index: the dump has too many entries, or is not as pg_dump writes it";
    assert_eq!(manifest["warnings"], serde_json::json!([why]));
}

#[test]
fn a_dump_that_waits_in_the_spool_keeps_its_index() {
    let stage = Spooled::new(FakeDump::new());
    stage.killed_from(1);
    let kept = stage.only_kept().join("index.json.gz");
    let mode = std::fs::metadata(&kept).expect("the index").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    stage.assert_delivered(&stage.backup().run(), (2, 2), "delivered");
    for key in stage.backups() {
        let manifest = manifest(&stage.bucket, &key);
        assert_eq!(index(&stage.bucket, &key).run_id, manifest["run_id"].as_str().expect("an id"));
        assert_eq!(
            manifest["index"]["file_name"],
            format!("{}.index.json.gz", manifest["file_name"].as_str().expect("it"))
        );
        assert_eq!(manifest["warnings"], Value::Array(Vec::new()));
    }
}

#[test]
fn warns_of_an_index_missing_in_the_spool() {
    let stage = Spooled::new(FakeDump::new());
    stage.killed_from(1);
    std::fs::remove_file(stage.only_kept().join("index.json.gz")).expect("removed");
    let outcome = stage.backup().run();
    stage.assert_delivered(&outcome, (2, 2), "delivered");
    assert!(outcome.stderr.contains(NO_INDEX), "{}", outcome.stderr);
    let manifest = manifest(&stage.bucket, &stage.backups()[0]);
    assert_eq!(manifest["index"], Value::Null);
    assert_eq!(manifest["warnings"], serde_json::json!(["index: the spool does not have the file that it had"]));
}

#[test]
fn an_index_has_the_number_of_invalid_partitioned_indexes() {
    let database = postgres().create_database("invalid");
    let sql = "CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); \
               CREATE INDEX ON ONLY p (a); CREATE INDEX ON ONLY p ((a + 1)); CREATE INDEX ON p ((a + 2))";
    database.psql(sql).expect("indexes");
    let bucket = s3().create_bucket("invalid");
    backup_program(&database, &bucket).run().assert_code(0);
    assert_eq!(index(&bucket, &only_backup(&bucket)).invalid_indexes, Some(2));
}
