//! The spool: a slow S3 does not stall the dump, and the next run delivers a complete dump of any failed or killed run.

use std::time::Duration;

use crate::support::client::eventually;
use crate::support::fake_pg_dump::{Body, CutAt, End, FakeDump};
use crate::support::faulty::THREE_PARTS;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, StallAt, When};
use crate::support::servers::s3;
use crate::support::spooled::{DUMP_ON_DISK, Spooled};

const STORAGE_FAILED: i32 = 12;
const SOON: Duration = Duration::from_mins(1);
/// A run logs this if it keeps a complete dump.
const KEPT: &str = "the next backup to this destination delivers it";

fn three_parts() -> Spooled {
    Spooled::new(FakeDump::new().body(THREE_PARTS))
}

#[test]
fn backup_through_the_spool_is_equal_and_leaves_no_file() {
    for dump in [FakeDump::new(), FakeDump::new().body(THREE_PARTS)] {
        for checksum in ["md5", "crc64nvme", "none"] {
            let stage = Spooled::new(dump.clone());
            let outcome = stage.backup().env("S3_CHECKSUM", checksum).run();
            stage.assert_committed(&outcome, checksum);
            stage.assert_delivered(&outcome, (1, 1), checksum);
        }
    }
}

#[test]
fn large_dump_completes_while_s3_accepts_nothing() {
    // The dump is ten times the memory for parts with one in flight.
    let stage = Spooled::new(FakeDump::new().body(Body::Random(100 << 20)));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::slow_down()));
    let patient = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").env("BACKUP_UPLOAD_CONCURRENCY", "1");
    let mut running = patient.spawn();
    running.wait_for_stderr(DUMP_ON_DISK, SOON);
    assert!(stage.dump.alive().is_empty(), "pg_dump still holds its snapshot");
    stage.proxy.clear_rules();
    stage.assert_delivered(&running.wait(), (1, 1), "S3 works again");
}

#[test]
fn next_run_delivers_after_an_outage_from_the_start() {
    let stage = three_parts();
    stage.proxy.pause();
    let outcome = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "3s").run();
    stage.assert_failed(&outcome, STORAGE_FAILED, "an outage").then_names(&[
        "the dump goes to the spool meanwhile",
        DUMP_ON_DISK,
        KEPT,
        "BACKUP_MAX_UPLOAD_OUTAGE",
    ]);
    assert_eq!(stage.kept().len(), 1);
    stage.proxy.resume();
    let outcome = stage.backup().run();
    stage.assert_delivered(&outcome, (2, 2), "S3 works again");
    assert!(outcome.stderr.contains("the backup of an earlier run is delivered"), "{}", outcome.stderr);
    // It has its own start time, and is marked as delivered later.
    let keys = stage.backups();
    assert!(outcome.stdout_text().contains(&keys[1]), "the report is of the new one: {}", outcome.stdout_text());
}

#[test]
fn outage_beyond_the_budget_does_not_end_a_spooled_dump() {
    let stage = Spooled::new(FakeDump::new().body(THREE_PARTS).held());
    stage.proxy.pause();
    let mut running = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "1s").spawn();
    running.wait_for_stderr("meanwhile", SOON);
    let used_up = |log: &str| {
        let outages = log.split("outage_s=").skip(1).filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok());
        outages.max().is_some_and(|seconds| seconds >= 1)
    };
    while !used_up(&running.stderr_so_far()) {
        assert!(running.is_running(), "{}", running.stderr_so_far());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!running.stderr_so_far().contains(DUMP_ON_DISK), "the dump takes longer: {}", running.stderr_so_far());
    stage.proxy.resume();
    stage.dump.let_go();
    stage.assert_delivered(&running.wait(), (1, 1), "S3 works again during the dump");
}

#[test]
fn next_run_keeps_dump_and_takes_none_while_the_outage_lasts() {
    let stage = three_parts();
    stage.killed_from(1);
    stage.proxy.pause();
    let outcome = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "2s").run();
    assert_eq!(outcome.code, Some(STORAGE_FAILED), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(KEPT), "{}", outcome.stderr);
    assert_eq!((stage.kept().len(), stage.dump.pids().len()), (1, 1));
    stage.proxy.resume();
    stage.assert_delivered(&stage.backup().run(), (2, 2), "S3 works again");
}

#[test]
fn delivers_complete_dump_of_killed_run_without_sending_a_part_twice() {
    let stage = three_parts();
    stage.killed_from(3);
    let outcome = stage.backup().run();
    stage.assert_delivered(&outcome, (2, 2), "killed with two parts taken");
    let of_first = stage
        .proxy
        .log()
        .into_iter()
        .filter(|seen| seen.verb == S3Verb::UploadPart && seen.fault.is_none() && seen.key() == stage.backups()[0]);
    assert_eq!(of_first.count(), 3, "each part of the first was taken once: {}", outcome.stderr);
}

#[test]
fn discards_incomplete_dump_of_killed_run() {
    let stage = Spooled::new(FakeDump::new().body(THREE_PARTS).end(End::HangAfterOutput));
    let running = stage.backup().spawn();
    stage.proxy.wait_for(S3Verb::UploadPart, 2, SOON);
    stage.kill(running);
    assert_eq!((stage.kept().len(), s3().open_uploads(&stage.bucket).len()), (1, 1));
    let complete = FakeDump::new().install();
    let outcome = stage.backup().env("PG_DUMP_PATH", complete.path()).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("stopped before its dump was complete"), "{}", outcome.stderr);
    assert_eq!((stage.backups().len(), s3().open_uploads(&stage.bucket).len()), (1, 0));
    stage.assert_nothing_kept("unfinished");
}

#[test]
fn signal_keeps_only_a_complete_dump() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let stage = three_parts();
        let running = stage.stuck_from(3);
        running.signal(signal);
        let outcome = running.wait();
        assert_eq!(outcome.code, Some(code), "{signal}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(KEPT), "{signal}: {}", outcome.stderr);
        assert_eq!(stage.keys(), Vec::<String>::new(), "{signal}");
        stage.proxy.clear_rules();
        stage.assert_delivered(&stage.backup().run(), (2, 2), signal);

        let stage = Spooled::new(FakeDump::new().body(THREE_PARTS).end(End::HangAfterOutput));
        let running = stage.backup().spawn();
        stage.proxy.wait_for(S3Verb::UploadPart, 2, SOON);
        running.signal(signal);
        stage.assert_failed(&running.wait(), code, signal);
        stage.assert_nothing_kept(signal);
    }
}

#[test]
fn signal_during_delivery_keeps_the_dump() {
    let stalls = || Fault::Stall { at: StallAt::BeforeEffect };
    for (verb, suffix, fault) in [
        (S3Verb::UploadPart, ".sql.gz", Fault::slow_down()),
        (S3Verb::UploadPart, ".sql.gz", stalls()),
        (S3Verb::HeadObject, ".sql.gz", stalls()),
        (S3Verb::GetObject, ".json", stalls()),
    ] {
        let case = format!("{verb:?} {fault:?}");
        let stage = three_parts();
        stage.killed_from(2);
        stage.proxy.rule(Rule::on(verb, Calls::All, fault).key_suffix(suffix));
        let from = stage.proxy.log().len();
        let backup = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").env("S3_REQUEST_TIMEOUT", "5m");
        let running = backup.spawn();
        let is_there =
            || stage.proxy.log()[from..].iter().any(|seen| seen.verb == verb && seen.key().ends_with(suffix));
        eventually(is_there, || format!("{case}: {}", running.stderr_so_far()));
        running.signal("TERM");
        let outcome = running.wait();
        assert_eq!(outcome.code, Some(143), "{case}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(KEPT), "{case}: {}", outcome.stderr);
        stage.proxy.clear_rules();
        stage.assert_delivered(&stage.backup().run(), (2, 2), &case);
    }
}

#[test]
fn finds_commit_of_a_killed_run() {
    let stage = three_parts();
    // The program does not learn of it: the answers to Complete and HEAD are lost.
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::All, Fault::internal_error(When::After)));
    stage.proxy.rule(Rule::on(S3Verb::HeadObject, Calls::From(3), Fault::slow_down()));
    let running = stage.backup().spawn();
    stage.proxy.wait_for(S3Verb::HeadObject, 3, SOON);
    stage.kill(running);
    assert_eq!((stage.backups().len(), stage.keys().len()), (1, 1), "committed, without a manifest");
    stage.proxy.clear_rules();
    let outcome = stage.backup().run();
    stage.assert_delivered(&outcome, (2, 2), "committed already");
    let sent = stage.proxy.log().into_iter().filter(|seen| seen.verb == S3Verb::UploadPart);
    assert_eq!(sent.count(), 6, "three parts for each: {}", outcome.stderr);
}

#[test]
fn uploads_again_if_the_upload_was_aborted() {
    let stage = three_parts();
    stage.killed_from(3);
    let part = stage.proxy.log().into_iter().find(|seen| seen.verb == S3Verb::UploadPart).expect("a part was sent");
    let id = part.query.split('&').find(|pair| pair.starts_with("uploadId=")).expect("an id");
    s3().request("DELETE", &format!("{}?{id}", part.path), b"").expect("aborted");
    let outcome = stage.backup().run();
    stage.assert_delivered(&outcome, (2, 2), "aborted by another program");
}

#[test]
fn never_replaces_another_object_of_that_name() {
    let stage = three_parts();
    stage.killed_from(3);
    let key = stage.proxy.log().last().expect("a request").key();
    s3().request("PUT", &format!("/{}/{key}", stage.bucket), b"something else").expect("stored");
    let outcome = stage.backup().run();
    outcome.assert_code(0);
    assert_eq!(s3().get(&stage.bucket, &key).expect("it is there"), b"something else");
    assert_eq!(stage.backups().len(), 3, "delivered under a later name: {}", outcome.stderr);
    stage.assert_nothing_kept("delivered");
}

#[test]
fn failed_dump_leaves_no_file() {
    let half = FakeDump::new().body(THREE_PARTS).cut_at(CutAt::Fraction(0.7));
    for (dump, code) in [(half.clone().end(End::Exit(1)), 11), (half, 11)] {
        let stage = Spooled::new(dump);
        stage.assert_failed(&stage.backup().run(), code, "a dump that fails");
        stage.assert_nothing_kept("a dump that fails");
    }
    let stage = three_parts();
    stage.proxy.rule(Rule::on(S3Verb::CreateMultipartUpload, Calls::All, Fault::access_denied()));
    stage.assert_failed(&stage.backup().run(), 3, "refused at once");
    stage.assert_nothing_kept("refused at once");
    assert_eq!(stage.dump.pids(), [0; 0], "no dump was started");
}

#[test]
fn keeps_dump_if_s3_refuses_a_part() {
    let stage = three_parts();
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(2), Fault::access_denied()));
    let outcome = stage.backup().run();
    assert_eq!(outcome.code, Some(STORAGE_FAILED), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(KEPT) && outcome.stderr.contains("AccessDenied"), "{}", outcome.stderr);
    stage.proxy.clear_rules();
    stage.assert_delivered(&stage.backup().run(), (2, 2), "allowed again");
}
