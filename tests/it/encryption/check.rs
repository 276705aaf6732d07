//! `check` says whom the latest backup is encrypted for, and reads it as far as it can.

use serde_json::Value;

use super::{Stage, backed_up, reader};
use crate::support::age::AgeKey;
use crate::support::program::Program;
use crate::support::setup::{backup_program, s3_program};

/// The result of a check in the report.
pub(super) fn result(program: &Program, check: &str) -> Option<(String, String)> {
    let outcome = program.clone().arg("--json").run();
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.stderr));
    let found = report["checks"].as_array().expect("checks").iter().find(|result| result["check"] == check)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Some((text("status"), text("detail")))
}

#[test]
fn other_recipients_than_the_latest_backup_has_are_a_warning() {
    let Stage { database, bucket, key, .. } = backed_up();
    let other = AgeKey::new();
    let check = s3_program(&bucket).env("POSTGRES_CONNECTION_STRING", database.uri()).arg("check");
    let with = |recipients: &str| result(&check.clone().env("BACKUP_AGE_RECIPIENTS", recipients), "encryption");
    let (same, both) = (key.recipient.clone(), format!("{} {}", other.recipient, key.recipient));
    assert_eq!(with(&same).expect("a result").0, "ok");
    for recipients in [other.recipient.as_str(), &both] {
        let (status, detail) = with(recipients).expect("a result");
        assert!(status == "warn" && detail.contains(&other.recipient[..9]), "{status} {detail}");
    }
    let (status, detail) = result(&check, "encryption").expect("a result");
    assert!(status == "warn" && detail.contains("BACKUP_AGE_RECIPIENTS is not set"), "{status} {detail}");
    assert_eq!(result(&s3_program(&bucket).args(["check", "--bucket-only"]), "encryption"), None);

    backup_program(&database, &bucket).run().assert_code(0);
    let (status, detail) = with(&same).expect("a result");
    assert!(status == "warn" && detail.contains("is not encrypted"), "{status} {detail}");
    assert_eq!(result(&check, "encryption"), None);
}

#[test]
fn without_an_identity_the_checksum_is_verified_and_the_rest_is_named() {
    let Stage { bucket, key, .. } = backed_up();
    let deep = |program: Program| program.args(["check", "--bucket-only", "--deep"]);
    let closed = deep(s3_program(&bucket));
    closed.run().assert_code(0);
    assert_eq!(result(&closed, "checksum").expect("a result").0, "ok");
    let (status, detail) = result(&closed, "decryption").expect("a result");
    assert!(status == "skip" && detail.contains("BACKUP_AGE_IDENTITY") && detail.contains("rows"), "{status} {detail}");
    assert_eq!(result(&closed, "gzip"), None);
    let open = deep(reader(&bucket, &key));
    for check in ["checksum", "decryption", "gzip", "dump_integrity", "index"] {
        assert_eq!(result(&open, check).expect("a result").0, "ok", "{check}");
    }
    let wrong = deep(reader(&bucket, &AgeKey::new()));
    assert_eq!(result(&wrong, "decryption").expect("a result").0, "fail");
    assert_eq!(result(&wrong, "checksum").expect("a result").0, "ok");
}
