//! A short S3 outage, throttling and reset connections only delay a backup. An outage longer than `BACKUP_MAX_UPLOAD_OUTAGE` ends
//! the run, which reports its duration and the last failure.
//!
//! Two minutes of a real outage are four seconds here, with a budget of a minute.

use std::time::Duration;

use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::proxy::{Calls, Fault, ResetAt, Rule, S3Verb, StallAt};
use crate::support::servers::s3;
use crate::support::setup::prune_program;
use crate::support::stored::put_backups;
use crate::support::tcp_proxy::TcpProxy;

const SOON: Duration = Duration::from_mins(1);
const OUTAGE: Duration = Duration::from_secs(4);
/// The time until a server's timestamp, in full seconds, is a second old.
const UNTIL_STALE: Duration = Duration::from_millis(2_100);

/// Seven parts.
fn seven_parts() -> Stage {
    Stage::new(FakeDump::new().body(Body::Random(31 << 20)))
}

/// Begins an outage during the upload, however late this test's thread is: only one part is uploaded by then.
fn begin_outage(stage: &Stage) {
    stage.proxy.wait_for(S3Verb::UploadPart, 2, SOON);
    stage.proxy.pause();
    stage.proxy.clear_rules();
}

/// A stage for [`begin_outage`].
fn with_outage() -> Stage {
    let stage = seven_parts();
    let reset = Fault::Reset { at: ResetAt::BeforeRequest };
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(2), reset));
    stage
}

/// Resets this many requests in a thousand: before it, in it, and after it took effect.
fn reset_some(stage: &Stage, per_mille: u64) {
    for (number, at) in (1..).zip([ResetAt::BeforeRequest, ResetAt::InRequestBody, ResetAt::AfterEffect]) {
        let calls = Calls::Drawn { seed: number << 32, per_mille: per_mille.div_ceil(3) };
        stage.proxy.rule(Rule::any(calls, Fault::Reset { at }));
    }
}

/// The number of requests with a fault.
fn met(stage: &Stage) -> usize {
    stage.proxy.log().iter().filter(|seen| seen.fault.is_some()).count()
}

#[test]
fn an_outage_in_the_middle_costs_time_alone() {
    let stage = with_outage();
    let running = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "1m").spawn();
    begin_outage(&stage);
    std::thread::sleep(OUTAGE);
    stage.proxy.resume();
    let outcome = running.wait();
    stage.assert_committed(&outcome, "an outage");
    assert!(outcome.stderr.contains("S3 request failed, retrying"), "{}", outcome.stderr);
}

#[test]
fn throttling_all_the_time_costs_time_alone() {
    let stage = seven_parts();
    stage.proxy.rule(Rule::any(Calls::EveryNth(3), Fault::slow_down()));
    let outcome = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "1m").run();
    stage.assert_committed(&outcome, "every third request a 503");
    assert!(met(&stage) >= 5, "{} requests were throttled", met(&stage));
}

#[test]
fn resets_now_and_then_cost_time_alone() {
    let stage = seven_parts();
    // A backup of seven parts sends about twenty requests: one in five, so that some are reset.
    reset_some(&stage, 200);
    let outcome = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "1m").run();
    stage.assert_committed(&outcome, "one request in five is reset");
    assert!(met(&stage) >= 2, "{} requests were reset", met(&stage));
}

#[test]
fn one_reset_in_a_hundred_costs_neither_backup_nor_retention() {
    let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
    // Retention reads and deletes enough for several hundred requests.
    put_backups(&stage.bucket, "app", &(1..=200).collect::<Vec<u32>>());
    reset_some(&stage, 10);
    let outcome = stage.backup().env("BACKUP_KEEP_LAST", "110").run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(met(&stage) > 0, "none of {} requests was reset", stage.proxy.log().len());
    let backups = stage.backups();
    assert_eq!(backups.len(), 110, "{}", outcome.stderr);
    let newest = backups.last().expect("a backup");
    assert!(outcome.stdout_text().contains(newest.as_str()), "{}", outcome.stdout_text());
    let object = s3().get(&stage.bucket, newest).expect("it is there");
    assert!(crate::support::setup::gunzipped(&object) == stage.dump.output(), "the backup is not the dump");
}

#[test]
fn all_of_it_at_once_costs_time_alone() {
    let stage = seven_parts();
    reset_some(&stage, 50);
    stage.proxy.rule(Rule::any(Calls::EveryNth(3), Fault::slow_down()));
    let running = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "1m").spawn();
    stage.proxy.wait_for(S3Verb::UploadPart, 3, SOON);
    stage.proxy.pause();
    std::thread::sleep(OUTAGE);
    stage.proxy.resume();
    stage.assert_committed(&running.wait(), "an outage, throttling and resets");
    assert!(met(&stage) >= 5, "{} requests met with a fault", met(&stage));
}

#[test]
fn an_outage_longer_than_the_budget_ends_the_run_with_its_duration_and_attempts() {
    let stage = with_outage();
    let running = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "6s").spawn();
    begin_outage(&stage);
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(12), "{}", outcome.stderr);
    let last = outcome.stderr.lines().last().unwrap_or_default();
    let (_, rest) = last.split_once("upload a part: S3 took nothing for ").unwrap_or_else(|| panic!("{last}"));
    let (lasted, rest) = rest.split_once(" (").expect("how often");
    assert!(humantime::parse_duration(lasted).is_ok_and(|lasted| lasted >= Duration::from_secs(6)), "{last}");
    let (attempts, rest) = rest.split_once(" attempts failed): ").expect("what was tried last");
    assert!(attempts.parse::<u32>().is_ok_and(|attempts| attempts > 1), "{last}");
    assert!(rest.contains("NoConnection") && rest.contains("BACKUP_MAX_UPLOAD_OUTAGE"), "{last}");
    assert!(outcome.stdout.is_empty() && stage.dump.alive().is_empty(), "{}", outcome.stdout_text());
    assert!(outcome.leftover_children().is_empty(), "{:?}", outcome.leftover_children());
    assert_eq!(stage.keys(), Vec::<String>::new());
    // It could not be aborted while S3 was away: the log says so, and the next run aborts it.
    assert!(outcome.stderr.contains("an open upload is left behind"), "{}", outcome.stderr);
    assert_eq!(s3().open_uploads(&stage.bucket).len(), 1);
    std::thread::sleep(UNTIL_STALE);
    let prune = prune_program(&stage.bucket).env("S3_PATH", "app").args(["--keep-last=1", "--sweep-after=1s"]);
    prune.run().assert_code(0);
    assert_eq!(s3().open_uploads(&stage.bucket), Vec::<String>::new());
}

#[test]
fn a_slow_link_costs_time_alone() {
    let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
    // Each part takes several request timeouts, on a shared link and on one of its own.
    let link = TcpProxy::start_slow(&stage.proxy.address().to_string(), 1_200_000);
    let backup = stage.backup().env("S3_URL", format!("http://{}", link.address()));
    let outcome = backup.env("S3_REQUEST_TIMEOUT", "1s").env("BACKUP_MAX_UPLOAD_OUTAGE", "4s").run();
    stage.assert_committed(&outcome, "a slow link");
    assert_eq!(stage.proxy.count(S3Verb::UploadPart), 3, "each part went out once: {}", outcome.stderr);
}

#[test]
fn an_attempt_in_flight_does_not_extend_the_budget() {
    let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::Stall { at: StallAt::BeforeEffect }));
    let outcome = stage.backup().env("S3_REQUEST_TIMEOUT", "6s").env("BACKUP_MAX_UPLOAD_OUTAGE", "8s").run();
    assert_eq!(outcome.code, Some(12), "{}", outcome.stderr);
    let last = outcome.stderr.lines().last().unwrap_or_default();
    let (_, rest) = last.split_once("upload a part: S3 took nothing for ").unwrap_or_else(|| panic!("{last}"));
    let lasted =
        rest.split_once(" (").and_then(|(lasted, _)| humantime::parse_duration(lasted).ok()).expect("how long");
    // A request timeout beyond it, and two seconds for a busy machine.
    assert!(lasted <= Duration::from_secs(8 + 6 + 2), "{last}");
    assert!(outcome.stderr.contains("fewer go out at once"), "{}", outcome.stderr);
}
