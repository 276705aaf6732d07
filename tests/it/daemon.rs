//! The daemon: ticks, overlaps, signals, and notifications of systemd. Ticks are seconds apart here.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::client::eventually;
use crate::support::fake_pg_dump::{End, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::Running;
use crate::support::proxy::S3Verb;
use crate::support::servers::s3;
use crate::support::setup::gunzipped;

const SOON: Duration = Duration::from_mins(1);
/// Never within a test.
pub const YEARLY: &str = "0 0 1 1 *";

/// How often this stands in what it has written so far.
pub fn count(running: &Running, words: &str) -> usize {
    running.stderr_so_far().matches(words).count()
}

/// Waits until this stands so often in what it writes.
#[track_caller]
pub fn wait_for(running: &Running, words: &str, times: usize) {
    eventually(|| count(running, words) >= times, || format!("{times} times {words:?}:\n{}", running.stderr_so_far()));
}

/// Stops it while it waits: at once, with this exit code and nothing left.
#[track_caller]
pub fn stop(running: Running, signal: &str, code: i32) -> String {
    running.signal(signal);
    let outcome = running.wait();
    outcome.assert_code(code).assert_no_children_left();
    assert_eq!(outcome.stdout_text(), "", "stdout is for results");
    assert!(outcome.stderr.contains("the daemon has stopped"), "{}", outcome.stderr);
    outcome.stderr
}

#[test]
fn each_tick_starts_a_backup() {
    let stage = Stage::new(FakeDump::new());
    let running = stage.daemon("*/3 * * * * *").arg("--catch-up=false").env("LOG_FORMAT", "json").spawn();
    wait_for(&running, "\"waiting\"", 3);
    let log = stop(running, "TERM", 143);
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let due: Vec<&serde_json::Value> = lines.iter().filter(|line| line["message"] == "a backup is due").collect();
    assert!(due.len() >= 2, "{log}");
    for line in due {
        let time = |field: &str| -> chrono::DateTime<chrono::Utc> {
            line[field].as_str().expect("a time").parse().unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        let (scheduled, next) = (time("scheduled"), time("next"));
        assert_eq!((scheduled.timestamp() % 3, (next - scheduled).num_seconds()), (0, 3), "{line}");
        assert_eq!(line["reason"], "schedule");
    }
    let backups = stage.backups();
    assert!(backups.len() >= 2, "{backups:?}\n{log}");
    for key in backups {
        let object = s3().get(&stage.bucket, &key).expect("the backup");
        assert!(gunzipped(&object) == stage.dump.output(), "{key} is not the dump");
    }
    assert_eq!(s3().open_uploads(&stage.bucket), Vec::<String>::new());
}

#[test]
fn skips_ticks_during_backup_and_reports_second() {
    // Sixteen pieces: eight seconds.
    let stage = Stage::new(FakeDump::new().pause_between(Duration::from_millis(500)));
    let running = stage.daemon("*/2 * * * * *").arg("--catch-up=false").spawn();
    wait_for(&running, "this counts as a failed backup", 1);
    eventually(|| !stage.backups().is_empty(), || running.stderr_so_far());
    let log = running.stderr_so_far();
    let first = log.find("skipped: the backup before it still runs").expect("a first skip");
    let second = log.find("this counts as a failed backup").expect("a failure");
    assert!(first < second && log[first..second].contains("in_a_row=2"), "{log}");
    assert!(log.contains("exit_code=16"), "{log}");
    running.signal("TERM");
    running.wait().assert_code(143).assert_no_children_left();
    assert_eq!(s3().open_uploads(&stage.bucket), Vec::<String>::new());
}

#[test]
fn a_signal_in_the_middle_of_a_backup_stops_it_and_leaves_nothing() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let stage = Stage::new(FakeDump::new().body(THREE_PARTS).end(End::HangAfterOutput));
        let running = stage.daemon(YEARLY).arg("--run-on-start").spawn();
        stage.proxy.wait_for(S3Verb::UploadPart, 2, SOON);
        running.signal(signal);
        let outcome = running.wait();
        stage.assert_failed(&outcome, code, signal).then_names(&["backup failed", "the daemon has stopped"]);
        assert!(!outcome.output_held_open);
    }
}

#[test]
fn signal_ends_look_at_start() {
    let stage = Stage::new(FakeDump::new());
    // Nothing listens there: the look tries for 20 s.
    let running = stage.daemon(YEARLY).env("S3_URL", "http://127.0.0.1:9").spawn();
    wait_for(&running, "S3 request failed, retrying", 1);
    let log = stop(running, "INT", 130);
    assert!(!log.contains("a backup is due"), "{log}");
}

#[test]
fn notifies_systemd() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    let stage = Stage::new(FakeDump::new());
    let running =
        stage.daemon(YEARLY).arg("--run-on-start").env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "2000000").spawn();
    let mut heard = String::new();
    let mut until = |words: &str, times: usize| {
        let mut buffer = [0; 4096];
        while heard.matches(words).count() < times {
            let count = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{words}: {error}\n{heard}"));
            heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        heard.clone()
    };
    let started = until("READY=1", 1);
    assert!(started.contains("STATUS=the next backup is due at ") && started.contains("-01-01T00:00:00Z"), "{started}");
    until("STATUS=a backup runs since ", 1);
    until("STATUS=the next backup is due at ", 2);
    until("WATCHDOG=1", 3);
    running.signal("TERM");
    running.wait().assert_code(143);
    until("STOPPING=1", 1);
    assert!(!stage.dump.environ().iter().any(|variable| variable.contains("NOTIFY") || variable.contains("WATCHDOG")));
}
