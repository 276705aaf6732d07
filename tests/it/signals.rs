//! A run that is told to stop: exit 143 or 130, and nothing left behind, wherever it was.

use std::time::Duration;

use crate::support::fake_pg_dump::{Body, End, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, StallAt};

const SIGNALS: [(&str, i32); 2] = [("TERM", 143), ("INT", 130)];
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_signal_in_the_middle_of_a_dump_leaves_nothing() {
    for (signal, code) in SIGNALS {
        let stage = Stage::new(FakeDump::new().body(THREE_PARTS).end(End::HangAfterOutput));
        let running = stage.backup().spawn();
        stage.proxy.wait_for(S3Verb::UploadPart, 2, SOON);
        running.signal(signal);
        stage.assert_failed(&running.wait(), code, signal);
    }
}

#[test]
fn a_signal_ends_a_pg_dump_that_ignores_sigterm() {
    let stage = Stage::new(FakeDump::new().end(End::Hang).ignore_sigterm());
    let running = stage.backup().spawn();
    stage.proxy.wait_for(S3Verb::CreateMultipartUpload, 1, SOON);
    // The child exists a moment after the upload does.
    while stage.dump.alive().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    running.signal("TERM");
    stage.assert_failed(&running.wait(), 143, "ignores SIGTERM");
}

#[test]
fn a_signal_while_the_upload_is_being_begun_leaves_nothing() {
    let stage = Stage::new(FakeDump::new());
    let stall = Fault::Stall { at: StallAt::BeforeAnswer };
    stage.proxy.rule(Rule::on(S3Verb::CreateMultipartUpload, Calls::All, stall));
    let running = stage.backup().env("S3_REQUEST_TIMEOUT", "60s").spawn();
    stage.proxy.wait_for(S3Verb::CreateMultipartUpload, 1, SOON);
    // Long enough for the request to take effect at the server.
    std::thread::sleep(Duration::from_secs(1));
    running.signal("TERM");
    stage.assert_failed(&running.wait(), 143, "while it is begun");
}

#[test]
fn a_signal_while_s3_takes_nothing_does_not_wait_for_the_outage_to_end() {
    let stage = Stage::new(FakeDump::new().body(Body::Whole(30 << 20)));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::slow_down()));
    let running = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").spawn();
    stage.proxy.wait_for(S3Verb::UploadPart, 5, SOON);
    running.signal("TERM");
    stage.assert_failed(&running.wait(), 143, "in an outage");
}

#[test]
fn a_signal_during_the_commit_ends_in_a_commit_or_in_nothing() {
    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::All, Fault::Stall { at: StallAt::BeforeEffect }));
    let running = stage.backup().env("S3_REQUEST_TIMEOUT", "60s").spawn();
    stage.proxy.wait_for(S3Verb::CompleteMultipartUpload, 1, SOON);
    running.signal("TERM");
    stage.assert_failed(&running.wait(), 143, "Complete is never answered");

    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::Nth(1), Fault::slow_down()));
    let running = stage.backup().spawn();
    stage.proxy.wait_for(S3Verb::CompleteMultipartUpload, 1, SOON);
    running.signal("TERM");
    stage.assert_committed(&running.wait(), "Complete is answered in time");
}
