//! Retention as the last step of `backup`: only after the commit, and without effect on the exit code.

use std::time::Duration;

use serde_json::Value;

use crate::storage_faults::each;
use crate::support::fake_pg_dump::{End, FakeDump};
use crate::support::faulty::Stage;
use crate::support::program::Outcome;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, StallAt};
use crate::support::servers::s3;
use crate::support::stored::{name_of_day, put_backups};

/// A destination with old backups of these days, before a backup is taken.
fn stage(days: &[u32]) -> Stage {
    let stage = Stage::new(FakeDump::new());
    put_backups(&stage.bucket, "app", days);
    stage
}

/// Exit 0, and the new backup is there with its manifest; returns the days with an old backup left, and the report.
#[track_caller]
fn after(stage: &Stage, outcome: &Outcome) -> (Vec<u32>, Value) {
    outcome.assert_code(0);
    let report: Value = serde_json::from_slice(&outcome.stdout).expect("one JSON object");
    assert_eq!(report["success"], true, "{report}");
    let keys = s3().every_key(&stage.bucket);
    let new = format!("app/{}", report["file_name"].as_str().expect("a name"));
    assert!(keys.contains(&new) && keys.contains(&format!("{new}.json")), "{keys:?}");
    let left = (1..=10).filter(|day| keys.contains(&format!("app/{}", name_of_day(*day)))).collect();
    (left, report["retention"].clone())
}

#[test]
fn deletes_what_no_rule_keeps_after_the_commit() {
    let stage = stage(&[1, 2, 3, 4]);
    let outcome = stage.backup().env("BACKUP_KEEP_LAST", "3").args(["--json", "--min-keep", "1"]).run();
    let (left, report) = after(&stage, &outcome);
    assert_eq!(left, [3, 4]);
    assert_eq!((&report["retained"], &report["deleted"], &report["blocked"]), (&3.into(), &2.into(), &false.into()));
    assert!(report["deleted_bytes"].as_u64().is_some_and(|bytes| bytes > 2), "{report}");
    assert!(outcome.stderr.contains("retention") && outcome.stderr.contains("deleted=2"), "{}", outcome.stderr);
    let log = stage.proxy.log();
    let first = |verb| log.iter().position(|seen| seen.verb == verb).expect("sent");
    assert!(first(S3Verb::CompleteMultipartUpload) < first(S3Verb::DeleteObject), "only then");
}

#[test]
fn does_nothing_without_a_rule() {
    let stage = stage(&[1, 2, 3, 4]);
    let outcome = stage.backup().env("BACKUP_MIN_KEEP", "1").arg("--json").run();
    let (left, report) = after(&stage, &outcome);
    assert_eq!((left.len(), report), (4, Value::Null));
    let log = stage.proxy.log();
    let commit = log.iter().position(|seen| seen.verb == S3Verb::CompleteMultipartUpload).expect("a commit");
    assert!(log[commit..].iter().all(|seen| seen.verb != S3Verb::ListObjects), "what is listed is before the dump");
    assert!(!outcome.stderr.contains("retention"), "{}", outcome.stderr);
}

#[test]
fn a_backup_that_fails_deletes_nothing() {
    let stage = Stage::new(FakeDump::new().end(End::Exit(1)));
    put_backups(&stage.bucket, "app", &[1, 2, 3, 4]);
    let before = s3().every_key(&stage.bucket);
    stage.backup().env("BACKUP_KEEP_LAST", "1").run().assert_code(11);
    assert_eq!(s3().every_key(&stage.bucket), before);
}

#[test]
fn reports_wrong_rule_before_doing_anything() {
    let stage = stage(&[1]);
    let outcome = stage.backup().env("BACKUP_KEEP_DAILY", "-1").run();
    outcome.assert_code(4);
    assert!(outcome.stderr.contains("BACKUP_KEEP_DAILY"), "{}", outcome.stderr);
    assert_eq!(stage.proxy.log().len(), 0);
}

#[test]
fn a_denied_delete_is_a_warning() {
    let stage = stage(&[1, 2, 3, 4]);
    let denied = name_of_day(1);
    stage.proxy.rule(Rule::on(S3Verb::DeleteObject, Calls::All, Fault::access_denied()).key_suffix(&denied));
    let outcome = stage.backup().env("BACKUP_KEEP_LAST", "3").arg("--json").run();
    let (left, report) = after(&stage, &outcome);
    assert_eq!(left, [1, 3, 4]);
    assert_eq!((&report["retained"], &report["deleted"]), (&4.into(), &1.into()));
    assert_warned(&outcome, &denied);
}

#[test]
fn blocked_retention_is_a_warning() {
    // The previous backup is months old: a retention of a week would delete all old ones.
    let stage = stage(&[1, 2, 3, 4, 5, 6]);
    let outcome = stage.backup().env("BACKUP_RETENTION_DAYS", "7").arg("--json").run();
    let (left, report) = after(&stage, &outcome);
    assert_eq!(left.len(), 6);
    assert_eq!((&report["retained"], &report["deleted"], &report["blocked"]), (&7.into(), &0.into(), &true.into()));
    assert!(report["problems"][0].as_str().is_some_and(|problem| problem.contains("prune --force")), "{report}");
    assert_warned(&outcome, "no valid backup in the");
    // One more backup is not enough.
    let again = stage.backup().env("BACKUP_RETENTION_DAYS", "7").arg("--json").run();
    assert_eq!(after(&stage, &again).1["blocked"], true);
    assert_warned(&again, "only 2 of BACKUP_MIN_KEEP=3 valid ones");
}

#[test]
fn failed_listing_is_a_warning() {
    let stall = Fault::Stall { at: StallAt::BeforeAnswer };
    // Where S3 falls silent, it still has a few seconds for what it answers.
    let cases = vec![(Fault::access_denied(), "20s"), (Fault::slow_down(), "20s"), (stall, "4s")];
    each(cases, |(fault, request_timeout)| {
        let stage = stage(&[1, 2, 3, 4]);
        stage.proxy.rule(Rule::on(S3Verb::ListObjects, Calls::All, fault));
        let program = stage.backup().env("BACKUP_KEEP_LAST", "3").env("BACKUP_MAX_UPLOAD_OUTAGE", "8s");
        let outcome = program.env("S3_REQUEST_TIMEOUT", request_timeout).arg("--json").run();
        let (left, report) = after(&stage, &outcome);
        assert_eq!(left.len(), 4);
        assert_eq!(report["problems"].as_array().map(Vec::len), Some(1), "{report}");
        assert_warned(&outcome, "nothing was deleted");
    });
}

#[test]
fn a_signal_during_retention_does_not_undo_the_backup() {
    let stage = stage(&[1, 2, 3, 4]);
    stage.proxy.rule(Rule::on(S3Verb::DeleteObject, Calls::All, Fault::Stall { at: StallAt::BeforeEffect }));
    let program = stage.backup().env("BACKUP_KEEP_LAST", "3").env("S3_REQUEST_TIMEOUT", "60s");
    let running = program.arg("--json").spawn();
    stage.proxy.wait_for(S3Verb::DeleteObject, 2, Duration::from_mins(1));
    running.signal("TERM");
    let (left, report) = after(&stage, &running.wait());
    assert_eq!(left.len(), 4);
    assert!(report["problems"].to_string().contains("stopped: 2 backups not tried"), "{report}");
}

/// A WARN line says it, and no ERROR line is there.
#[track_caller]
fn assert_warned(outcome: &Outcome, words: &str) {
    let is_there = outcome.stderr.lines().any(|line| line.contains(" WARN ") && line.contains(words));
    assert!(is_there && !outcome.stderr.contains(" ERROR "), "{words:?} wanted in:\n{}", outcome.stderr);
}

#[test]
fn never_deletes_new_backup() {
    let stage = Stage::new(FakeDump::new());
    // A clock that was ahead, by less than what blocks the plan.
    for minutes in [10, 20, 30] {
        let started = chrono::Utc::now() + chrono::TimeDelta::minutes(minutes);
        let name = pg_s3_backup::archive::name::BackupName::new(started);
        s3().request("PUT", &format!("/{}/app/{name}", stage.bucket), &[b'x'; 1000]).expect("stored");
    }
    let outcome = stage.backup().env("BACKUP_KEEP_LAST", "1").args(["--json", "--min-keep", "1"]).run();
    let (_, report) = after(&stage, &outcome);
    assert_eq!(report["deleted"], 0, "{report}");
    assert!(outcome.stderr.contains("the new backup: nothing was deleted"), "{}", outcome.stderr);
    assert_eq!(stage.backups().len(), 4);
}

#[test]
fn deletes_nothing_when_the_owner_of_the_backups_is_unknown() {
    let stage = stage(&[1, 2, 3, 4]);
    // Only the question before the dump goes unanswered; a later listing would show what to delete.
    stage.proxy.rule(Rule::on(S3Verb::ListObjects, Calls::Nth(1), Fault::access_denied()));
    let outcome = stage.backup().env("BACKUP_KEEP_LAST", "1").args(["--json", "--min-keep", "1"]).run();
    let (left, report) = after(&stage, &outcome);
    assert_eq!((left.len(), &report["deleted"]), (4, &0.into()), "{report}");
    assert!(outcome.stderr.contains("not known which database the backups here belong to"), "{}", outcome.stderr);
}
