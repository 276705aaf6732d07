//! Pings: sent when a backup starts, succeeds or fails; a failing ping server does not change the result.

use crate::daemon::{YEARLY, stop, wait_for};
use crate::support::client::eventually;
use crate::support::fake_pg_dump::{End, FakeDump};
use crate::support::faulty::Stage;
use crate::support::program::{Outcome, Program, Running};
use crate::support::servers::own_s3;
use crate::support::web::{Reply, Web};

/// A path that must not be shown, and a query that is kept.
const PATH: &str = "/ping/zq7Kx9jR-Wv3pLtHd?create=1";

/// A server that takes every ping.
fn taking() -> Web {
    Web::start(|_, _| Reply::ok("OK"))
}

fn targets(inbox: &Web) -> Vec<String> {
    inbox.asked().into_iter().map(|asked| asked.target).collect()
}

fn target(suffix: &str) -> String {
    format!("/ping/zq7Kx9jR-Wv3pLtHd{suffix}?create=1")
}

/// Lets a run go on to its end once its start was reported: where it ends sooner, its start is not reported.
fn let_go(stage: &Stage, inbox: &Web, running: &Running) {
    eventually(|| !targets(inbox).is_empty(), || running.stderr_so_far());
    stage.dump.let_go();
}

/// As [`let_go`], for a run that is to be started.
fn ended(backup: &Program, stage: &Stage, inbox: &Web) -> Outcome {
    let running = backup.spawn();
    let_go(stage, inbox, &running);
    running.wait()
}

/// These were sent, in this order; again only where the log says that no answer came in time.
#[track_caller]
fn assert_sent(inbox: &Web, log: &str, wanted: &[String]) {
    let mut sent = targets(inbox);
    let count = sent.len();
    sent.dedup();
    assert_eq!(sent, wanted, "{log}");
    assert!(count - sent.len() <= log.matches("PING_URL was not reached yet").count(), "{:?}\n{log}", targets(inbox));
}

#[track_caller]
fn assert_hidden(text: &str) {
    assert!(!text.contains("zq7Kx9jR"), "the ping's path is shown:\n{text}");
}

#[test]
fn a_backup_pings_at_its_beginning_and_at_its_end() {
    let (stage, inbox) = (Stage::new(FakeDump::new().held()), taking());
    let backup = stage.backup().env("PING_URL", format!("{}{PATH}", inbox.url())).env("LOG_LEVEL", "trace");
    let outcome = ended(&backup, &stage, &inbox);
    stage.assert_committed(&outcome, "with a ping");
    assert_sent(&inbox, &outcome.stderr, &[target("/start"), target("")]);
    let asked = inbox.asked();
    assert!(asked.iter().all(|asked| asked.method == "POST"), "{asked:?}");
    let body = &asked.last().expect("a ping").body;
    assert!(body.contains("s3://") && body.contains("ratio"), "{asked:?}");
    assert_hidden(&outcome.stderr);
}

#[test]
fn a_backup_that_fails_pings_with_its_cause_and_without_secrets() {
    let secret = "sentinel-password";
    let dump = FakeDump::new()
        .held()
        .stderr_line(&format!("pg_dump: error: cannot use {secret} here, nor zq7Kx9jR-Wv3pLtHd"))
        .end(End::Exit(1));
    let stage = Stage::new(dump);
    let inbox = taking();
    let backup = stage.backup().env("PING_URL", format!("{}{PATH}", inbox.url())).env("PGPASSWORD", secret);
    let outcome = ended(&backup, &stage, &inbox);
    stage.assert_failed(&outcome, 11, "a failing pg_dump").then_names(&["nor [hidden]"]);
    assert_hidden(&outcome.stderr);
    assert_sent(&inbox, &outcome.stderr, &[target("/start"), target("/fail")]);
    let body = inbox.asked().pop().expect("a ping").body;
    assert!(body.starts_with("exit code 11: ") && body.contains("cannot use [hidden] here"), "{body}");
    // Settings that cannot be used are a failed backup, too.
    let inbox = taking();
    let outcome = stage.backup().env("PING_URL", format!("{}{PATH}", inbox.url())).env_remove("S3_BUCKET").run();
    outcome.assert_code(1);
    assert_eq!(targets(&inbox).last(), Some(&target("/fail")));
    assert!(inbox.asked().iter().any(|asked| asked.body.contains("S3_BUCKET is not set")), "{:?}", inbox.asked());
}

#[test]
fn a_server_that_hangs_refuses_or_is_not_there_does_not_fail_a_backup() {
    // Connections are made, but not accepted.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let refusing = Web::start(|_, _| Reply::status(500));
    for (url, words, format) in [
        (format!("http://{}{PATH}", hanging.local_addr().expect("its address")), "no answer within", "text"),
        (format!("{}{PATH}", refusing.url()), "it answered 500", "text"),
        (format!("{}{PATH}", refusing.url()), "it answered 500", "json"),
        (format!("http://127.0.0.1:9{PATH}"), "PING_URL was not reached", "text"),
        (format!("https://no-such-host.invalid{PATH}"), "PING_URL was not reached", "json"),
    ] {
        let stage = Stage::new(FakeDump::new());
        let backup = stage.backup().env("PING_URL", &url).env("LOG_LEVEL", "trace").env("LOG_FORMAT", format);
        let outcome = backup.run();
        stage.assert_committed(&outcome, words);
        assert!(outcome.stderr.contains(words), "{words}:\n{}", outcome.stderr);
        assert_hidden(&outcome.stderr);
    }
    let ends = |inbox: &Web| targets(inbox).iter().filter(|target| !target.contains("/start")).count();
    assert_eq!(ends(&refusing), 6, "two retries each: {:?}", targets(&refusing));
}

#[test]
fn https_is_trusted_by_the_systems_roots_alone() {
    let server = own_s3(&["--tls"]);
    let stage = Stage::new(FakeDump::new());
    let backup = stage.backup().env("PING_URL", format!("{}{PATH}", server.url));
    // The S3 server refuses what is not signed: an answer, and so the handshake was good.
    let trusting = backup.clone().env("SSL_CERT_FILE", server.ca_file.as_ref().expect("a CA file")).run();
    stage.assert_committed(&trusting, "trusted");
    assert!(
        trusting.stderr.contains("PING_URL was not reached") && trusting.stderr.contains("it answered 4"),
        "{}",
        trusting.stderr
    );
    let stage = Stage::new(FakeDump::new());
    let outcome = stage.backup().env("PING_URL", format!("{}{PATH}", server.url)).run();
    stage.assert_committed(&outcome, "not trusted");
    assert!(outcome.stderr.to_lowercase().contains("certificate"), "{}", outcome.stderr);
}

#[test]
fn a_proxy_of_the_environment_is_used() {
    let proxy = taking();
    let stage = Stage::new(FakeDump::new().held());
    let backup = stage.backup().env("PING_URL", "http://pings.invalid/zq7Kx9jR").env("HTTP_PROXY", proxy.url());
    let outcome = ended(&backup.env("NO_PROXY", "127.0.0.1"), &stage, &proxy);
    stage.assert_committed(&outcome, "by way of a proxy");
    let wanted = ["http://pings.invalid/zq7Kx9jR/start", "http://pings.invalid/zq7Kx9jR"].map(str::to_owned);
    assert_sent(&proxy, &outcome.stderr, &wanted);
}

#[test]
fn the_daemon_pings_for_each_of_its_runs() {
    let (stage, inbox) = (Stage::new(FakeDump::new().held()), taking());
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("ping-url");
    std::fs::write(&file, format!("{}{PATH}", inbox.url())).expect("written");
    let running = stage.daemon(YEARLY).env("PING_URL_FILE", &file).env("LOG_LEVEL", "trace").spawn();
    let_go(&stage, &inbox, &running);
    eventually(|| targets(&inbox).contains(&target("")), || running.stderr_so_far());
    wait_for(&running, " waiting ", 2);
    let log = stop(running, "TERM", 143);
    assert_sent(&inbox, &log, &[target("/start"), target("")]);
    assert_hidden(&log);

    // Stopped in the middle: it says so, quickly.
    let stage = Stage::new(FakeDump::new().end(End::HangAfterOutput));
    let inbox = taking();
    let daemon = stage.daemon(YEARLY).env("PING_URL", format!("{}{PATH}", inbox.url())).env("LOG_LEVEL", "debug");
    let running = daemon.spawn();
    let is_reported = || !targets(&inbox).is_empty();
    eventually(|| is_reported() && !stage.dump.alive().is_empty(), || running.stderr_so_far());
    running.signal("TERM");
    let outcome = running.wait();
    stage.assert_failed(&outcome, 143, "stopped");
    assert_sent(&inbox, &outcome.stderr, &[target("/start"), target("/fail")]);
    assert!(inbox.asked().pop().expect("a ping").body.contains("stopped by SIGTERM"), "{:?}", inbox.asked());
}
