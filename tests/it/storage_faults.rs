//! Every fault on every verb of an upload, once and for good: committed and whole, or a clean failure with nothing left
//! behind. The dump is whole in all of them; S3 is not.

use std::sync::Mutex;
use std::time::Duration;

use crate::support::fake_pg_dump::{Body, End, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::Outcome;
use crate::support::proxy::{Calls, Fault, ResetAt, Rule, S3Verb, StallAt, When};
use crate::support::servers::s3;

const STORAGE_FAILED: i32 = 12;
const DUMP_FAILED: i32 = 11;

/// What becomes of a backup under a fault that does not pass.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Effect {
    /// The request never reaches S3.
    Lost,
    /// The request takes effect, its answer is lost.
    Done,
}

fn faults() -> Vec<(&'static str, Effect, Fault)> {
    vec![
        ("503 SlowDown", Effect::Lost, Fault::slow_down()),
        ("500 after the effect", Effect::Done, Fault::internal_error(When::After)),
        ("200 with an error inside", Effect::Lost, Fault::OkWithError { when: When::Before }),
        ("200 with an error inside, after the effect", Effect::Done, Fault::OkWithError { when: When::After }),
        ("reset in the middle of the request", Effect::Lost, Fault::Reset { at: ResetAt::InRequestBody }),
        ("reset after the effect", Effect::Done, Fault::Reset { at: ResetAt::AfterEffect }),
    ]
}

fn stalls() -> Vec<(&'static str, Effect, Fault)> {
    vec![
        ("stall before the effect", Effect::Lost, Fault::Stall { at: StallAt::BeforeEffect }),
        ("stall after the effect", Effect::Done, Fault::Stall { at: StallAt::BeforeAnswer }),
    ]
}

fn all_faults() -> Vec<(&'static str, Effect, Fault)> {
    faults().into_iter().chain(stalls()).collect()
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

/// A small dump in one part, except where several are what the test is about.
fn small() -> Stage {
    Stage::new(FakeDump::new())
}

/// Faults that pass: the backup is committed, whatever the verb.
fn passes(stage: &Stage, verb: S3Verb, calls: Calls, (name, _, fault): (&str, Effect, Fault)) {
    stage.proxy.rule(Rule::on(verb, calls, fault));
    let outcome = stage.backup().run();
    let case = format!("{verb:?} {calls:?}: {name}");
    stage.assert_committed(&outcome, &case);
    assert!(stage.proxy.log().iter().any(|seen| seen.fault.is_some()), "{case}: the fault was never met");
}

#[test]
fn a_fault_that_passes_costs_no_backup_whatever_the_verb() {
    let verbs = [
        S3Verb::ListObjects,
        S3Verb::HeadObject,
        S3Verb::CreateMultipartUpload,
        S3Verb::UploadPart,
        S3Verb::CompleteMultipartUpload,
        S3Verb::PutObject,
    ];
    let cases = verbs.into_iter().flat_map(|verb| all_faults().into_iter().map(move |fault| (verb, fault))).collect();
    // A HEAD that says 200 and nothing more is not told from one that is true: the name counts as taken. The first
    // PutObject is that of the globals.
    each(cases, |(verb, fault)| passes(&small(), verb, Calls::First(1), fault));
}

#[test]
fn a_fault_that_outlasts_the_sdk_costs_no_backup() {
    let verbs = [S3Verb::CreateMultipartUpload, S3Verb::UploadPart, S3Verb::CompleteMultipartUpload];
    let cases = verbs.into_iter().flat_map(|verb| faults().into_iter().map(move |fault| (verb, fault))).collect();
    each(cases, |(verb, fault)| passes(&small(), verb, Calls::First(4), fault));
}

#[test]
fn a_fault_on_the_first_the_middle_or_the_last_part_costs_no_backup() {
    let cases = (1..=3).flat_map(|nth| faults().into_iter().map(move |fault| (nth, fault))).collect();
    each(cases, |(nth, fault)| {
        passes(&Stage::new(FakeDump::new().body(THREE_PARTS)), S3Verb::UploadPart, Calls::Nth(nth), fault);
    });
}

#[test]
fn a_fault_on_the_head_behind_the_commit_costs_no_backup() {
    each(all_faults(), |fault| {
        // The first HEAD looks whether the name is free, the second checks what was committed. What says 200 without
        // being true is caught: the metadata are not there.
        if !matches!(fault.2, Fault::OkWithError { .. }) {
            passes(&small(), S3Verb::HeadObject, Calls::Nth(2), fault);
        }
    });
}

/// Faults that do not pass: by verb and effect, committed or cleanly failed.
fn lasts(verb: S3Verb, (name, effect, fault): (&str, Effect, Fault)) {
    let stage = small();
    stage.proxy.rule(Rule::on(verb, Calls::All, fault));
    let outcome = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "2s").env("S3_REQUEST_TIMEOUT", "1s").run();
    let case = format!("{verb:?} always: {name}");
    match (verb, effect) {
        // The answer to Complete never comes, but HEAD shows that it took effect. Sidecars are not worth a backup, nor
        // is the question whose backups are there.
        (S3Verb::CompleteMultipartUpload, Effect::Done) | (S3Verb::PutObject | S3Verb::ListObjects, _) => {
            stage.assert_committed(&outcome, &case);
        }
        _ => {
            stage.assert_failed(&outcome, STORAGE_FAILED, &case);
            assert!(outcome.stderr.contains("BACKUP_MAX_UPLOAD_OUTAGE"), "{case}: {}", outcome.stderr);
        }
    }
}

#[test]
fn a_fault_that_does_not_pass_is_a_clean_failure_or_a_commit() {
    let verbs = [
        S3Verb::ListObjects,
        S3Verb::CreateMultipartUpload,
        S3Verb::UploadPart,
        S3Verb::CompleteMultipartUpload,
        S3Verb::PutObject,
    ];
    let cases = verbs.into_iter().flat_map(|verb| all_faults().into_iter().map(move |fault| (verb, fault))).collect();
    each(cases, |(verb, fault)| lasts(verb, fault));
}

#[test]
fn a_name_that_cannot_be_looked_up_is_a_clean_failure() {
    each(all_faults(), |(name, effect, fault)| {
        if !matches!(fault, Fault::OkWithError { .. }) {
            lasts(S3Verb::HeadObject, (name, effect, fault));
        }
    });
    // Every name is taken: this must end, too.
    let stage = small();
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, Fault::OkWithError { when: When::Before }));
    stage.assert_failed(&stage.backup().run(), STORAGE_FAILED, "every name is taken");
}

#[test]
fn a_failed_dump_is_aborted_through_every_fault_that_passes() {
    each(all_faults(), |(name, _, fault)| {
        let stage = Stage::new(FakeDump::new().body(THREE_PARTS).end(End::Exit(1)));
        stage.proxy.rule(Rule::on(S3Verb::AbortMultipartUpload, Calls::First(1), fault));
        stage.assert_failed(&stage.backup().run(), DUMP_FAILED, &format!("Abort once: {name}"));
    });
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

/// Runs a backup up to its commit, puts something else under its name with `run_id` of the metadata there, and lets the
/// check behind the commit see that.
fn overwritten_behind_the_commit(stage: &Stage, run_id: impl FnOnce(String) -> String) -> Outcome {
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::From(2), Fault::slow_down()));
    let running = stage.backup().spawn();
    stage.proxy.wait_for(S3Verb::HeadObject, 2, Duration::from_mins(1));
    let key = stage.backups().pop().expect("it is committed");
    let target = format!("/{}/{key}", stage.bucket);
    let head = String::from_utf8_lossy(&s3().request("HEAD", &target, b"").expect("it is there")).to_lowercase();
    let id = head.lines().find_map(|line| line.strip_prefix("x-amz-meta-run-id:")).expect("a run-id").trim().to_owned();
    let header = format!("x-amz-meta-run-id:{}", run_id(id));
    s3().request_with("PUT", &target, &[&header], b"something else").expect("overwritten");
    stage.proxy.clear_rules();
    running.wait()
}

#[test]
fn an_object_that_is_not_what_was_sent_does_not_stay() {
    let stage = small();
    let outcome = overwritten_behind_the_commit(&stage, |ours| ours);
    stage.assert_failed(&outcome, STORAGE_FAILED, "damaged behind the commit");
    assert!(outcome.stderr.contains("it has 14 bytes"), "{}", outcome.stderr);
}

#[test]
fn an_object_of_another_run_is_left_alone() {
    let stage = small();
    let outcome = overwritten_behind_the_commit(&stage, |_| "another".to_owned());
    assert_eq!(outcome.code, Some(STORAGE_FAILED), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("another object stands there"), "{}", outcome.stderr);
    assert_eq!(stage.keys().len(), 1, "it is still there");
}

#[test]
fn a_store_that_drops_metadata_is_believed_by_its_checksum() {
    let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
    let drops = Fault::StripAnswerHeader("x-amz-meta-run-id".to_owned());
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::All, drops));
    stage.assert_committed(&stage.backup().run(), "no metadata");
}

#[test]
fn an_outage_in_the_middle_costs_time_alone() {
    let stage = Stage::new(FakeDump::new().body(Body::Whole(30 << 20)));
    stage.proxy.rule(Rule::any(Calls::EveryNth(3), Fault::slow_down()));
    let running = stage.backup().spawn();
    stage.proxy.wait_for(S3Verb::UploadPart, 2, Duration::from_mins(1));
    stage.proxy.pause();
    std::thread::sleep(Duration::from_secs(4));
    stage.proxy.resume();
    stage.assert_committed(&running.wait(), "an outage of 4 s, and every third request a 503");
}
