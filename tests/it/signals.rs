//! A signal at any time ends the run with exit code 143 or 130, and leaves nothing behind.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use crate::support::client::eventually;
use crate::support::fake_pg_dump::{Body, End, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::Outcome;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, StallAt};
use crate::support::servers::s3;

const SIGNALS: [(&str, i32); 2] = [("TERM", 143), ("INT", 130)];
const SOON: Duration = Duration::from_mins(1);

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
fn a_signal_while_the_upload_is_being_started_leaves_nothing() {
    let stage = Stage::new(FakeDump::new());
    let stall = Fault::Stall { at: StallAt::BeforeAnswer };
    stage.proxy.rule(Rule::on(S3Verb::CreateMultipartUpload, Calls::All, stall));
    let running = stage.backup().env("S3_REQUEST_TIMEOUT", "60s").spawn();
    stage.proxy.wait_for(S3Verb::CreateMultipartUpload, 1, SOON);
    // It has taken effect at the server.
    eventually(|| !s3().open_uploads(&stage.bucket).is_empty(), || running.stderr_so_far());
    running.signal("TERM");
    stage.assert_failed(&running.wait(), 143, "while it is started: its id never came, and it has no part");
}

#[test]
fn signal_during_outage_ends_the_run() {
    let stage = Stage::new(FakeDump::new().body(Body::Random(30 << 20)));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::slow_down()));
    let running = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").spawn();
    stage.proxy.wait_for(S3Verb::UploadPart, 5, SOON);
    running.signal("TERM");
    stage.assert_failed(&running.wait(), 143, "in an outage");
}

#[test]
fn signal_during_commit_leaves_complete_backup_or_nothing() {
    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::All, Fault::Stall { at: StallAt::BeforeEffect }));
    let running = stage.backup().env("S3_REQUEST_TIMEOUT", "60s").spawn();
    stage.proxy.wait_for(S3Verb::CompleteMultipartUpload, 1, SOON);
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(143).assert_no_children_left();
    assert!(outcome.stderr.contains("its Complete may still take effect"), "{}", outcome.stderr);
    let (keys, aborts) = (stage.keys(), stage.proxy.count(S3Verb::AbortMultipartUpload));
    assert_eq!((keys.len(), aborts), (0, 0), "what the store may be at is not taken from under it: {keys:?}");

    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::Nth(1), Fault::slow_down()));
    let running = stage.backup().spawn();
    stage.proxy.wait_for(S3Verb::CompleteMultipartUpload, 1, SOON);
    running.signal("TERM");
    stage.assert_committed(&running.wait(), "Complete is answered in time");
}

/// A run that waits for an unanswered request is stopped; how it must end.
fn stopped_while_silent(verb: S3Verb, suffix: &str) -> (Stage, Outcome) {
    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(verb, Calls::All, Fault::Stall { at: StallAt::BeforeEffect }).key_suffix(suffix));
    let running = stage.backup().env("S3_REQUEST_TIMEOUT", "60s").spawn();
    let is_there = || stage.proxy.log().iter().any(|seen| seen.verb == verb && seen.key().ends_with(suffix));
    eventually(is_there, || format!("no {verb:?} *{suffix}: {}", running.stderr_so_far()));
    running.signal("TERM");
    let outcome = running.wait();
    (stage, outcome)
}

#[test]
fn a_signal_before_anything_is_started_leaves_nothing() {
    for verb in [S3Verb::ListObjects, S3Verb::HeadObject] {
        let (stage, outcome) = stopped_while_silent(verb, "");
        stage.assert_failed(&outcome, 143, &format!("{verb:?}"));
        assert_eq!(stage.dump.pids(), [0; 0], "{verb:?}");
    }
}

#[test]
fn a_signal_after_the_commit_costs_no_backup() {
    for sidecar in [".globals.sql.gz", ".index.json.gz", ".sql.gz.json"] {
        let (stage, outcome) = stopped_while_silent(S3Verb::PutObject, sidecar);
        stage.assert_committed(&outcome, sidecar);
    }
}

#[test]
fn a_signal_while_the_database_does_not_answer_ends_the_run() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    silent.set_nonblocking(true).expect("a listener that does not wait");
    let stage = Stage::new(FakeDump::new());
    let source = format!("postgresql://u:p@{}/d", silent.local_addr().expect("its address"));
    let running = stage.backup().env("POSTGRES_CONNECTION_STRING", source).spawn();
    let mut connected = None;
    eventually(
        || {
            connected = connected.take().or_else(|| silent.accept().ok());
            connected.is_some()
        },
        || running.stderr_so_far(),
    );
    running.signal("TERM");
    stage.assert_failed(&running.wait(), 143, "connecting");
}

#[test]
fn signal_ends_hanging_listing() {
    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(S3Verb::ListObjects, Calls::All, Fault::Stall { at: StallAt::BeforeEffect }));
    let program = Path::new(env!("CARGO_BIN_EXE_pg-s3-backup"));
    let running = stage.backup().executed_by(program).arg("list").env("S3_REQUEST_TIMEOUT", "60s").spawn();
    stage.proxy.wait_for(S3Verb::ListObjects, 1, SOON);
    running.signal("TERM");
    running.wait().assert_code(143);
}
