//! `prune` with an S3 server that refuses, fails, keeps versions or locks objects; and `prune` stopped by a signal.

use std::time::Duration;

use crate::support::program::Program;
use crate::support::proxy::{Calls, Fault, FaultProxy, ResetAt, Rule, S3Verb, StallAt, When};
use crate::support::servers::s3;
use crate::support::setup::prune_program;
use crate::support::stored::{name_of_day, put_backups};

const SOON: Duration = Duration::from_mins(1);

/// Ten backups under `app`, behind a proxy. `--keep-last=5` keeps the last five.
struct Stage {
    proxy: FaultProxy,
    bucket: String,
}

impl Stage {
    fn new() -> Self {
        let bucket = s3().create_bucket("prune-faults");
        put_backups(&bucket, "app", &(1..=10).collect::<Vec<u32>>());
        Self { proxy: FaultProxy::start(s3().addr()), bucket }
    }

    fn prune(&self) -> Program {
        let program = prune_program(&self.bucket).env("S3_URL", self.proxy.url()).env("S3_PATH", "app");
        program.arg("--keep-last=5")
    }

    /// The days that have a backup, and the days that have a manifest.
    fn left(&self) -> (Vec<u32>, Vec<u32>) {
        let keys = s3().every_key(&self.bucket);
        let days = |suffix: &str| -> Vec<u32> {
            (1..=10).filter(|day| keys.contains(&format!("app/{}{suffix}", name_of_day(*day)))).collect()
        };
        (days(""), days(".json"))
    }
}

#[test]
fn continues_after_denied_delete() {
    let stage = Stage::new();
    let denied = name_of_day(3);
    stage.proxy.rule(Rule::on(S3Verb::DeleteObject, Calls::All, Fault::access_denied()).key_suffix(&denied));
    let outcome = stage.prune().arg("--json").run();
    outcome.assert_code(13);
    assert!(outcome.stderr.contains(&denied) && outcome.stderr.contains("AccessDenied"), "{}", outcome.stderr);
    let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!((&report["retained"], &report["deleted"], &report["blocked"]), (&6.into(), &4.into(), &false.into()));
    assert!(report["problems"][0].as_str().is_some_and(|problem| problem.contains(&denied)), "{report}");
    // Its sidecars are kept, too.
    let left = vec![3, 6, 7, 8, 9, 10];
    assert_eq!(stage.left(), (left.clone(), left));
}

#[test]
fn next_run_deletes_sidecar_of_denied_delete() {
    let stage = Stage::new();
    let denied = name_of_day(3) + ".json";
    stage.proxy.rule(Rule::on(S3Verb::DeleteObject, Calls::All, Fault::access_denied()).key_suffix(&denied));
    let outcome = stage.prune().run();
    outcome.assert_code(13);
    assert!(outcome.stderr.contains(&denied), "{}", outcome.stderr);
    assert_eq!(stage.left(), (vec![6, 7, 8, 9, 10], vec![3, 6, 7, 8, 9, 10]));
    stage.proxy.clear_rules();
    stage.prune().run().assert_code(0);
    assert_eq!(stage.left().1, [6, 7, 8, 9, 10]);
}

#[test]
fn changes_nothing_if_all_deletes_are_denied() {
    let stage = Stage::new();
    let program = stage.prune().env("S3_ACCESS_KEY", &s3().readonly_access_key);
    let outcome = program.env("S3_SECRET_KEY", &s3().readonly_secret_key).run();
    outcome.assert_code(13);
    assert!(outcome.stderr.contains("5 files could not be deleted"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("allow these credentials"), "{}", outcome.stderr);
    assert_eq!(stage.left().0.len(), 10);
}

#[test]
fn retries_temporary_faults_of_each_verb() {
    let faults = [
        Fault::slow_down(),
        Fault::internal_error(When::After),
        Fault::Reset { at: ResetAt::AfterEffect },
        Fault::Reset { at: ResetAt::BeforeRequest },
        Fault::Stall { at: StallAt::BeforeAnswer },
        Fault::TruncatedAnswer,
    ];
    for verb in [S3Verb::ListObjects, S3Verb::GetObject, S3Verb::DeleteObject] {
        let stage = Stage::new();
        // Each fault once; then three requests in a row fail in all attempts of the SDK, so that the program's own loop retries.
        for (index, fault) in faults.iter().enumerate() {
            stage.proxy.rule(Rule::on(verb, Calls::Nth(1 + 2 * index), fault.clone()));
        }
        stage.proxy.rule(Rule::on(verb, Calls::First(5), Fault::slow_down()));
        // The timeout is short for a stall, but long enough for answers.
        let program = stage.prune().env("S3_REQUEST_TIMEOUT", "4s").env("BACKUP_MAX_UPLOAD_OUTAGE", "1m");
        program.run().assert_code(0);
        let kept = vec![6, 7, 8, 9, 10];
        assert_eq!(stage.left(), (kept.clone(), kept), "{verb:?}");
        assert!(stage.proxy.log().iter().filter(|seen| seen.fault.is_some()).count() >= 5, "{verb:?}: faults were met");
    }
}

#[test]
fn outage_ends_deletion_and_counts_remaining() {
    let stage = Stage::new();
    stage.proxy.rule(Rule::on(S3Verb::DeleteObject, Calls::From(4), Fault::slow_down()));
    let outcome = stage.prune().env("BACKUP_MAX_UPLOAD_OUTAGE", "1s").run();
    outcome.assert_code(13);
    assert!(outcome.stderr.contains("BACKUP_MAX_UPLOAD_OUTAGE"), "{}", outcome.stderr);
    stage.proxy.clear_rules();
    stage.prune().run().assert_code(0);
    assert_eq!(stage.left().1, [6, 7, 8, 9, 10]);
}

#[test]
fn deletes_nothing_if_a_fact_is_unknown() {
    let manifest = name_of_day(8) + ".json";
    for (fault, code, words) in [
        (Fault::access_denied(), 3, "AccessDenied"),
        (Fault::slow_down(), 12, "BACKUP_MAX_UPLOAD_OUTAGE"),
        (Fault::Stall { at: StallAt::BeforeAnswer }, 12, "BACKUP_MAX_UPLOAD_OUTAGE"),
        // A backup that was listed but is not found must not count as a valid backup without a manifest.
        (Fault::Status { code: 404, s3_code: "NoSuchKey", when: When::Before }, 12, "cannot be found"),
    ] {
        let stage = Stage::new();
        // Only stalls have a short timeout, so that answers of a busy machine are in time.
        let patience = if matches!(fault, Fault::Stall { .. }) { "1s" } else { "20s" };
        stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::All, fault).key_suffix(&manifest));
        let program = stage.prune().env("BACKUP_MAX_UPLOAD_OUTAGE", "1s").env("S3_REQUEST_TIMEOUT", patience);
        let outcome = program.arg("--force").run();
        outcome.assert_code(code);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        assert_eq!(stage.left().0.len(), 10, "{words}");
    }
}

#[test]
fn deletes_nothing_after_incomplete_listing() {
    let stage = Stage::new();
    stage.proxy.rule(Rule::on(S3Verb::ListObjects, Calls::All, Fault::TruncatedAnswer));
    let outcome = stage.prune().env("BACKUP_MAX_UPLOAD_OUTAGE", "1s").run();
    outcome.assert_code(12);
    assert_eq!(stage.left().0.len(), 10);
}

#[test]
fn reports_bytes_that_stay_as_versions() {
    let bucket = s3().create_bucket("versioned");
    let versioning = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Status>Enabled</Status>\
                      </VersioningConfiguration>";
    s3().request("PUT", &format!("/{bucket}?versioning="), versioning.as_bytes()).expect("it keeps versions");
    assert_hidden_but_kept(&bucket);
}

#[test]
fn object_lock_hides_deleted_backups() {
    assert_hidden_but_kept(&s3().create_locked_bucket("locked"));
}

/// Prunes ten backups to five. All bytes of the deleted ones stay as versions.
fn assert_hidden_but_kept(bucket: &str) {
    put_backups(bucket, "app", &(1..=10).collect::<Vec<u32>>());
    let outcome = prune_program(bucket).env("S3_PATH", "app").arg("--keep-last=5").run();
    outcome.assert_code(0);
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("NoncurrentVersionExpiration")).collect();
    assert_eq!(lines.len(), 1, "logged once: {}", outcome.stderr);
    // Five backups of one byte with their manifests of 37.
    assert!(lines[0].contains("bytes=310"), "{}", lines[0]);
    let keys = s3().every_key(bucket);
    assert!(keys.len() == 10 && !keys.contains(&format!("app/{}", name_of_day(5))), "{keys:?}");
    let versions = s3().request("GET", &format!("/{bucket}?versions="), b"").expect("versions");
    let versions = String::from_utf8_lossy(&versions).matches("<Version>").count();
    assert_eq!(versions, 20, "all versions exist");
    // The next run does not see hidden objects.
    let again = prune_program(bucket).env("S3_PATH", "app").arg("--keep-last=5").run();
    assert!(again.assert_code(0).stdout_text().contains("5 backups kept, 0 deleted"), "{}", again.stdout_text());
}

#[test]
fn reports_delete_denied_by_object_lock() {
    let stage = Stage::new();
    let locked = Fault::Status { code: 403, s3_code: "ObjectLocked", when: When::Before };
    stage.proxy.rule(Rule::on(S3Verb::DeleteObject, Calls::All, locked).key_suffix(&name_of_day(1)));
    let outcome = stage.prune().run();
    outcome.assert_code(13);
    assert!(outcome.stderr.contains("ObjectLocked"), "{}", outcome.stderr);
    assert_eq!(stage.left().0, [1, 6, 7, 8, 9, 10]);
}

#[test]
fn missing_backup_counts_as_deleted() {
    let stage = Stage::new();
    let gone = Fault::Status { code: 404, s3_code: "NoSuchKey", when: When::After };
    stage.proxy.rule(Rule::on(S3Verb::DeleteObject, Calls::All, gone));
    stage.prune().run().assert_code(0);
    assert_eq!(stage.left().1, [6, 7, 8, 9, 10]);
}

#[test]
fn signal_stops_it_between_deletions() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let stage = Stage::new();
        // The oldest are deleted first; the answer to one deletion never comes.
        stage.proxy.rule(
            Rule::on(S3Verb::DeleteObject, Calls::All, Fault::Stall { at: StallAt::BeforeEffect })
                .key_suffix(&name_of_day(2)),
        );
        let running = stage.prune().env("S3_REQUEST_TIMEOUT", "60s").arg("--json").spawn();
        stage.proxy.wait_for(S3Verb::DeleteObject, 5, SOON);
        running.signal(signal);
        let outcome = running.wait();
        outcome.assert_code(code);
        assert!(outcome.stdout_text().contains("\"success\":false"), "{}", outcome.stdout_text());
        let (backups, _) = stage.left();
        assert!(backups.contains(&2) && backups.ends_with(&[6, 7, 8, 9, 10]), "{signal}: {backups:?}");
    }
}

#[test]
fn signal_during_review_deletes_nothing() {
    let stage = Stage::new();
    stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::All, Fault::Stall { at: StallAt::BeforeAnswer }));
    let running = stage.prune().env("S3_REQUEST_TIMEOUT", "60s").spawn();
    stage.proxy.wait_for(S3Verb::GetObject, 1, SOON);
    running.signal("TERM");
    running.wait().assert_code(143);
    assert_eq!(stage.left().0.len(), 10);
}
