//! A partial backup without a manifest counts as partial because of its object's metadata: it replaces no valid backup.

use std::fs;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::s3;
use crate::support::setup::{list_program, prune_program};
use crate::support::spooled::Spooled;
use crate::support::stored::{name_of_day, put_backups};

/// The status of the only backup in `list`.
fn state(bucket: &str) -> String {
    let outcome = list_program(bucket).env("S3_PATH", "app").arg("--json").run();
    outcome.assert_code(0);
    let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    report[0]["status"].as_str().unwrap_or_else(|| panic!("a status: {report}")).to_owned()
}

/// Stores a partial backup without its manifest.
fn with_partial_backup_without_manifest() -> Stage {
    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(S3Verb::PutObject, Calls::All, Fault::access_denied()).key_suffix(".gz.json"));
    let outcome = stage.backup().args(["--", "--exclude-table-data", "x"]).run();
    outcome.assert_code(0);
    stage.proxy.clear_rules();
    let keys = stage.keys();
    assert!(!keys.iter().any(|key| key.ends_with(".gz.json")), "{keys:?}");
    stage
}

#[test]
fn partial_backup_without_manifest_replaces_no_valid_one() {
    let stage = with_partial_backup_without_manifest();
    assert_eq!(state(&stage.bucket), "partial");
    put_backups(&stage.bucket, "app", &[1, 2]);
    let prune = prune_program(&stage.bucket).env("S3_PATH", "app").args(["--keep-last=1", "--min-keep=1", "--force"]);
    let outcome = prune.run();
    outcome.assert_code(0);
    let left = s3().every_key(&stage.bucket);
    assert!(left.contains(&format!("app/{}", name_of_day(2))), "the newest valid one: {left:?}\n{}", outcome.stderr);
    assert!(!left.contains(&format!("app/{}", name_of_day(1))), "{left:?}");
}

#[test]
fn complete_backup_without_manifest_is_valid() {
    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(S3Verb::PutObject, Calls::All, Fault::access_denied()).key_suffix(".gz.json"));
    stage.backup().run().assert_code(0);
    stage.proxy.clear_rules();
    assert_eq!(state(&stage.bucket), "unverified");
    put_backups(&stage.bucket, "app", &[1, 2]);
    let prune = prune_program(&stage.bucket).env("S3_PATH", "app").args(["--keep-last=1", "--min-keep=1", "--force"]);
    prune.run().assert_code(0);
    assert_eq!(stage.backups().len(), 1);
}

#[test]
fn failing_head_deletes_nothing_and_forbidden_head_counts_as_valid() {
    let stage = with_partial_backup_without_manifest();
    put_backups(&stage.bucket, "app", &[1, 2]);
    let prune = prune_program(&stage.bucket).env("S3_PATH", "app").args(["--keep-last=1", "--min-keep=1", "--force"]);
    let prune = prune.env("S3_URL", stage.proxy.url()).env("BACKUP_MAX_UPLOAD_OUTAGE", "1s");
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, Fault::slow_down()));
    let outcome = prune.run();
    assert_ne!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(stage.backups().len(), 3, "{}", outcome.stderr);
    stage.proxy.clear_rules();
    // A key that may only read manifests, as in docs/security.md.
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, Fault::access_denied()));
    let outcome = prune.run();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains("its object may not be read"), "{}", outcome.stderr);
    assert_eq!(stage.backups().len(), 1, "{}", outcome.stderr);
}

#[test]
fn partial_dump_stays_partial_after_delivery_from_spool() {
    let stage = Spooled::new(FakeDump::new().body(THREE_PARTS));
    stage.proxy.pause();
    let backup = stage.backup().args(["--", "--exclude-table-data", "x"]);
    backup.clone().env("BACKUP_MAX_UPLOAD_OUTAGE", "2s").run().assert_code(12);
    assert!(fs::read_to_string(stage.only_kept().join("journal")).expect("a journal").contains("\"partial\":true"));
    stage.proxy.resume();
    stage.proxy.rule(Rule::on(S3Verb::PutObject, Calls::All, Fault::access_denied()).key_suffix(".gz.json"));
    stage.backup().run().assert_code(0);
    let keys = stage.backups();
    let headers = s3().request("HEAD", &format!("/{}/{}", stage.bucket, keys[0]), b"").expect("its headers");
    let headers = String::from_utf8_lossy(&headers).to_lowercase();
    assert!(headers.contains("x-amz-meta-partial: true"), "{headers}");
    assert_eq!(state(&stage.bucket), "unverified", "the second is complete");
}
