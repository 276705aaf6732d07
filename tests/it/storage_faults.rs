//! What the fault matrix (`fault_matrix`) does not cover: faults that outlast the SDK's own attempts, damage in
//! transit, and stores that answer wrongly.

use std::sync::Mutex;
use std::time::Duration;

use crate::support::fake_pg_dump::{End, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::Outcome;
use crate::support::proxy::{Calls, Fault, ResetAt, Rule, S3Verb, StallAt, When};
use crate::support::servers::s3;

const STORAGE_FAILED: i32 = 12;
const DUMP_FAILED: i32 = 11;

/// Faults with and without an effect.
fn faults() -> Vec<(&'static str, Fault)> {
    vec![
        ("503 SlowDown", Fault::slow_down()),
        ("500 after the effect", Fault::internal_error(When::After)),
        ("200 with an error inside", Fault::OkWithError { when: When::Before }),
        ("200 with an error inside, after the effect", Fault::OkWithError { when: When::After }),
        ("reset in the middle of the request", Fault::Reset { at: ResetAt::InRequestBody }),
        ("reset after the effect", Fault::Reset { at: ResetAt::AfterEffect }),
    ]
}

/// Runs cases four at a time: most of them wait.
pub fn each<C: Send>(cases: Vec<C>, check: impl Fn(C) + Sync) {
    let cases = Mutex::new(cases);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(case) = cases.lock().expect("no case panics while it is taken").pop() else { break };
                    check(case);
                }
            });
        }
    });
}

/// A small dump in one part, except in tests about several.
fn small() -> Stage {
    Stage::new(FakeDump::new())
}

#[test]
fn a_fault_that_outlasts_the_sdk_costs_no_backup() {
    let verbs = [S3Verb::CreateMultipartUpload, S3Verb::UploadPart, S3Verb::CompleteMultipartUpload];
    let cases = verbs.into_iter().flat_map(|verb| faults().into_iter().map(move |fault| (verb, fault))).collect();
    each(cases, |(verb, (name, fault))| {
        let stage = small();
        stage.proxy.rule(Rule::on(verb, Calls::First(4), fault));
        let case = format!("{verb:?}, four times: {name}");
        stage.assert_committed(&stage.backup().run(), &case);
        let met = stage.proxy.log().iter().filter(|seen| seen.fault.is_some()).count();
        // A request that took effect is not repeated.
        assert!(met > 0, "{case}: the fault was never met");
    });
}

#[test]
fn a_store_that_has_every_name_is_a_clean_failure() {
    let stage = small();
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, Fault::OkWithError { when: When::Before }));
    stage.assert_failed(&stage.backup().run(), STORAGE_FAILED, "every name is taken");
}

#[test]
fn an_abort_that_never_succeeds_does_not_hide_the_cause() {
    let stage = Stage::new(FakeDump::new().stderr_line("pg_dump: error: the cause").end(End::Exit(1)));
    stage.proxy.rule(Rule::on(S3Verb::AbortMultipartUpload, Calls::All, Fault::slow_down()));
    let outcome = stage.backup().run();
    assert_eq!(outcome.code, Some(DUMP_FAILED), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the cause") && outcome.stderr.contains("left behind"), "{}", outcome.stderr);
    assert_eq!(stage.keys(), Vec::<String>::new());
}

#[test]
fn a_part_that_is_damaged_on_its_way_is_sent_again() {
    for checksum in ["md5", "crc64nvme"] {
        let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
        stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::Nth(2), Fault::CorruptBody));
        let outcome = stage.backup().env("S3_CHECKSUM", checksum).run();
        stage.assert_committed(&outcome, checksum);
        assert!(stage.proxy.count(S3Verb::UploadPart) > 3, "{checksum}: sent again");
    }
}

/// Runs a backup up to its commit, puts another object under its name with `run_id` of the run's id in the metadata,
/// and lets the check after the commit see it.
fn overwritten_after_the_commit(stage: &Stage, run_id: impl FnOnce(String) -> String) -> Outcome {
    // The first HEAD is for the name, the second comes right before Complete.
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::From(3), Fault::slow_down()));
    let running = stage.backup().spawn();
    stage.proxy.wait_for(S3Verb::HeadObject, 3, Duration::from_mins(1));
    let key = stage.backups().pop().expect("it is committed");
    let target = format!("/{}/{key}", stage.bucket);
    let head = String::from_utf8_lossy(&s3().request("HEAD", &target, b"").expect("it is there")).to_lowercase();
    let id = head.lines().find_map(|line| line.strip_prefix("x-amz-meta-runid:")).expect("a run id").trim().to_owned();
    let header = format!("x-amz-meta-runid:{}", run_id(id));
    s3().request_with("PUT", &target, &[&header], b"something else").expect("overwritten");
    stage.proxy.clear_rules();
    running.wait()
}

#[test]
fn an_object_that_is_not_what_was_sent_does_not_stay() {
    let stage = small();
    let outcome = overwritten_after_the_commit(&stage, |ours| ours);
    stage.assert_failed(&outcome, STORAGE_FAILED, "damaged after the commit");
    assert!(outcome.stderr.contains("it has 14 bytes"), "{}", outcome.stderr);
    assert!(stage.proxy.count(S3Verb::GetObject) > 0, "deleted without having been read");
}

#[test]
fn an_object_of_another_run_is_left_alone() {
    let stage = small();
    let outcome = overwritten_after_the_commit(&stage, |_| "another".to_owned());
    assert_eq!(outcome.code, Some(STORAGE_FAILED), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("another object has this name"), "{}", outcome.stderr);
    assert_eq!(stage.keys().len(), 1, "it is still there");
}

#[test]
fn a_store_that_drops_metadata_is_believed_by_its_checksum() {
    let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
    let drops = Fault::StripAnswerHeader("x-amz-meta-runid".to_owned());
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, drops));
    stage.assert_committed(&stage.backup().run(), "no metadata");
}

/// A Complete without an answer; the next one finds no upload; HEAD answers 404 for some calls.
fn slow_to_complete(stage: &Stage, at: StallAt, not_yet: std::ops::RangeInclusive<usize>) -> Outcome {
    let complete = |calls, fault| Rule::on(S3Verb::CompleteMultipartUpload, calls, fault);
    let gone = Fault::Status { code: 404, s3_code: "NoSuchUpload", when: When::Before };
    stage.proxy.rule(complete(Calls::Nth(1), Fault::Stall { at }));
    stage.proxy.rule(complete(Calls::From(2), gone));
    for call in not_yet {
        let absent = Fault::Status { code: 404, s3_code: "NotFound", when: When::Before };
        stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::Nth(call), absent));
    }
    let backup = stage.backup().env("S3_REQUEST_TIMEOUT", "8s").env("BACKUP_MAX_UPLOAD_OUTAGE", "14s");
    let outcome = backup.run();
    assert_eq!(stage.proxy.count(S3Verb::CompleteMultipartUpload), 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("may still take effect"), "{}", outcome.stderr);
    outcome
}

#[test]
fn a_complete_that_takes_effect_after_its_own_deadline_is_found() {
    let stage = small();
    // The first two HEADs find the name free; the third and the fourth come between the two Completes, the fifth after
    // them.
    let outcome = slow_to_complete(&stage, StallAt::BeforeAnswer, 3..=5);
    stage.assert_committed(&outcome, "seen by the sixth HEAD");
}

#[test]
fn a_complete_that_never_takes_effect_is_not_looked_for_for_ever() {
    let stage = small();
    let outcome = slow_to_complete(&stage, StallAt::BeforeEffect, 1..=1);
    stage.assert_failed(&outcome, STORAGE_FAILED, "the upload is lost").then_names(&["NoSuchUpload"]);
}

#[test]
fn a_pausing_answer_to_complete_gets_its_full_time() {
    // The SDK's own timeout for an answer that has started is 20 s.
    let stage = small();
    let pause = Fault::Stall { at: StallAt::DuringAnswer };
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::Nth(1), pause));
    let outcome = stage.backup().env("S3_REQUEST_TIMEOUT", "24s").run();
    stage.assert_committed(&outcome, "seen by HEAD");
    // The limit of the attempt and that of its silence end together: either may be the first.
    let ends = ["Timeout: no answer in time", "nothing moved for 24."];
    let is_awaited = ends.iter().any(|end| outcome.stderr.contains(end));
    assert!(is_awaited && outcome.stderr.contains("is not clean: HEAD decides"), "{}", outcome.stderr);
}
