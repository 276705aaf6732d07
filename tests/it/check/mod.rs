//! `check` against everything that can be broken, one thing at a time: that one is named, with what fixes it, and nothing else;
//! and nothing of the check stays in the bucket.

mod deep;
mod monitoring;
mod newest;
mod reads;
mod source;
mod store;

use serde_json::Value;

use crate::support::program::{Outcome, Program};
use crate::support::servers::database::Database;
use crate::support::servers::s3;
use crate::support::setup::{backup_program, s3_program};
use crate::support::stored::put;

const CHECK_FAILED: i32 = 14;
/// The key that `check` writes, reads and deletes again.
const PROBE: &str = "pg-s3-backup-check-probe";

/// `check` of this database and this bucket.
fn check_program(database: &Database, bucket: &str) -> Program {
    s3_program(bucket).env("POSTGRES_CONNECTION_STRING", database.uri()).arg("check")
}

/// `check --bucket-only`, with a key that may only read, and no word of PostgreSQL.
fn bucket_check(bucket: &str) -> Program {
    s3_program(bucket)
        .env("S3_ACCESS_KEY", &s3().readonly_access_key)
        .env("S3_SECRET_KEY", &s3().readonly_secret_key)
        .args(["check", "--bucket-only"])
}

/// What a check found.
struct Checked {
    outcome: Outcome,
    report: Value,
}

impl Checked {
    /// Runs it with `--json`.
    #[track_caller]
    fn of(program: &Program) -> Self {
        Self::from(program.clone().arg("--json").run())
    }

    #[track_caller]
    fn from(outcome: Outcome) -> Self {
        let report = serde_json::from_slice(&outcome.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", outcome.stdout_text(), outcome.stderr));
        outcome.assert_no_children_left();
        Self { outcome, report }
    }

    fn checks(&self) -> &[Value] {
        self.report["checks"].as_array().expect("an array")
    }

    /// The probes with this status, in order.
    fn with(&self, status: &str) -> Vec<&str> {
        let checks = self.checks().iter().filter(|check| check["status"] == status);
        checks.map(|check| check["check"].as_str().expect("a name")).collect()
    }

    /// Exactly these failed and these warn; the exit code and `success` go with it.
    #[track_caller]
    fn assert(&self, failed: &[&str], warned: &[&str]) -> &Self {
        let all = format!("{:#}\n{}", self.report, self.outcome.stderr);
        assert_eq!(self.with("fail"), failed, "{all}");
        assert_eq!(self.with("warn"), warned, "{all}");
        self.outcome.assert_code(if failed.is_empty() { 0 } else { CHECK_FAILED });
        assert_eq!(self.report["success"], failed.is_empty(), "{all}");
        assert_eq!(self.report["failed"], failed.len(), "{all}");
        self
    }

    /// The report of this check contains each of these words.
    #[track_caller]
    fn says(&self, probe: &str, words: &[&str]) -> &Self {
        let lines: Vec<String> =
            self.checks().iter().filter(|check| check["check"] == probe).map(Value::to_string).collect();
        for word in words {
            assert!(lines.iter().any(|line| line.contains(word)), "{word:?} wanted in {probe}: {lines:#?}");
        }
        self
    }

    /// What fixes the first finding of this probe that is not well.
    #[track_caller]
    fn hint(&self, probe: &str) -> String {
        let broken = self.checks().iter().find(|check| check["check"] == probe && !check["hint"].is_null());
        broken.and_then(|check| check["hint"].as_str()).expect("something that fixes it").to_owned()
    }
}

/// A bucket with one backup of this database, and the backup's key.
fn backed_up(database: &Database) -> (String, String) {
    let bucket = s3().create_bucket("checked");
    backup_program(database, &bucket).run().assert_code(0);
    let key = s3().keys(&bucket, "").swap_remove(0);
    (bucket, key)
}

/// No probe object and no open upload is in the bucket, and these keys still are.
#[track_caller]
fn assert_untouched(bucket: &str, keys: &[String]) {
    assert_eq!(s3().keys(bucket, ""), keys, "keys");
    assert_eq!(s3().open_uploads(bucket), [""; 0], "open uploads");
}
