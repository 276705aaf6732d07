//! SIGHUP, a closed terminal, `nohup`, an unread pipe, a dead parent, and a second Ctrl-C.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::client::eventually;
use crate::support::fake_pg_dump::{Body, End, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::Program;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, StallAt};
use crate::support::servers::s3;
use crate::support::setup::gunzipped;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pg-s3-backup");
const SOON: Duration = Duration::from_mins(1);
/// Longer than what the program takes for one wish.
const LATER: Duration = Duration::from_millis(500);
/// Runs its arguments in a terminal of their own, which is closed when it is killed.
const TERMINAL: &str = "import pty, sys; pty.spawn(sys.argv[1:])";

/// A shell script. `$1` is the program, `$2` a file for its exit code.
fn in_shell(program: &Program, script: &str, code: &Path) -> Program {
    program.clone().executed_by(Path::new("/bin/sh")).args(["-c", script, "sh", PROGRAM]).arg(code)
}

/// A dump that takes a second at least.
fn unhurried() -> FakeDump {
    FakeDump::new().body(Body::Random(6 << 20)).pause_between(Duration::from_millis(60))
}

/// One backup, and it is what was dumped.
#[track_caller]
fn assert_one_complete_backup(stage: &Stage, case: &str) {
    let backups = stage.backups();
    assert_eq!(backups.len(), 1, "{case}: {backups:?}");
    let object = s3().get(&stage.bucket, &backups[0]).expect("it is there");
    assert!(gunzipped(&object) == stage.dump.output(), "{case}: not the dump");
}

/// The exit code that a script wrote to its file, once it did.
fn written_code(file: &Path) -> String {
    let code = || fs::read_to_string(file).unwrap_or_default();
    eventually(|| code().ends_with('\n'), || "no exit code".to_owned());
    code().trim_end().to_owned()
}

#[test]
fn sighup_stops_backup_like_sigterm() {
    let stage = Stage::new(FakeDump::new().body(THREE_PARTS).end(End::HangAfterOutput));
    let running = stage.backup().with_hang_up("default").spawn();
    stage.proxy.wait_for(S3Verb::UploadPart, 2, SOON);
    running.signal("HUP");
    stage.assert_failed(&running.wait(), 129, "SIGHUP").then_names(&["stopped by SIGHUP"]);
}

#[test]
fn sighup_is_ignored_under_nohup() {
    let stage = Stage::new(FakeDump::new().body(Body::Random(6 << 20)).held());
    let running = stage.backup().with_hang_up("ignore").spawn();
    eventually(|| !stage.dump.alive().is_empty(), || "no pg_dump".to_owned());
    running.signal("HUP");
    stage.dump.let_go();
    stage.assert_committed(&running.wait(), "nohup");
}

#[test]
fn sighup_does_not_stop_daemon_without_terminal() {
    let stage = Stage::new(FakeDump::new());
    let mut running = stage.daemon("0 0 1 1 *").arg("--catch-up=false").with_hang_up("default").spawn();
    running.wait_for_stderr("waiting", SOON);
    running.signal("HUP");
    running.wait_for_stderr("each backup reloads its settings", SOON);
    running.signal("TERM");
    running.wait().assert_code(143);
}

#[test]
fn closing_the_terminal_stops_the_run() {
    for command in ["backup", "daemon --run-on-start"] {
        let stage = Stage::new(FakeDump::new().body(THREE_PARTS).end(End::HangAfterOutput));
        let dir = tempfile::tempdir().expect("a directory");
        let code = dir.path().join("code");
        // The terminal's own shell dies of the signal, and with it all in the terminal get it. The one in between outlives
        // it, by a handler: what it ignored, the program would ignore, too.
        let inner = format!("trap : HUP; \"$1\" {command}; echo $? >\"$2\"");
        let script = format!("sh -c '{inner}' sh \"$@\"; :");
        let terminal = stage.daemon("0 0 1 1 *").executed_by(Path::new("python3")).args(["-c", TERMINAL]);
        let shell = terminal.args(["/bin/sh", "-c", &script, "sh", PROGRAM]).arg(&code);
        let running = shell.with_hang_up("default").spawn();
        stage.proxy.wait_for(S3Verb::UploadPart, 2, SOON);
        running.signal("KILL");
        running.wait();
        assert_eq!(written_code(&code), "129", "{command}");
        assert_eq!(stage.keys(), [""; 0], "{command}");
        assert_eq!(s3().open_uploads(&stage.bucket), [""; 0], "{command}");
        eventually(|| stage.dump.alive().is_empty(), || format!("{command}: pg_dump still runs"));
    }
}

#[test]
fn backup_succeeds_with_unread_output() {
    for redirection in ["2>&1 | true", "2>&-", ">&-", ">&- 2>&-", "<&- >/dev/full 2>/dev/full", "2>/dev/full"] {
        let stage = Stage::new(unhurried());
        let dir = tempfile::tempdir().expect("a directory");
        let code = dir.path().join("code");
        let (closed, pipe) = redirection.split_once('|').map_or((redirection, ":"), |(closed, to)| (closed, to));
        let script = format!("{{ \"$1\" backup {closed}; echo $? >\"$2\"; }} | {pipe}");
        let script = if pipe == ":" { format!("\"$1\" backup {closed}; echo $? >\"$2\"") } else { script };
        let outcome = in_shell(&stage.backup(), &script, &code).run();
        assert_eq!(written_code(&code), "0", "{redirection}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("panicked"), "{redirection}: {}", outcome.stderr);
        assert_one_complete_backup(&stage, redirection);
    }
}

#[test]
fn an_unread_listing_ends_quietly() {
    let stage = Stage::new(FakeDump::new());
    stage.backup().run().assert_code(0);
    let dir = tempfile::tempdir().expect("a directory");
    for list in ["list", "list --quiet", "list --json", "list latest", "--help", "list --help"] {
        let code = dir.path().join(list.replace(' ', "_"));
        // Until the reader is gone.
        let script = format!("{{ sleep 0.2; \"$1\" {list}; echo $? >\"$2\"; }} | true");
        let outcome = in_shell(&stage.backup(), &script, &code).env("LOG_LEVEL", "info").run();
        assert_eq!((written_code(&code).as_str(), outcome.stderr.as_str()), ("0", ""), "{list}");
    }
}

#[test]
fn unwritable_stdout_has_its_own_exit_code() {
    let stage = Stage::new(FakeDump::new());
    stage.backup().run().assert_code(0);
    let dir = tempfile::tempdir().expect("a directory");
    for list in ["list", "list --quiet", "list --json", "list latest"] {
        let code = dir.path().join(list.replace(' ', "_"));
        let script = format!("\"$1\" {list} >/dev/full; echo $? >\"$2\"");
        let outcome = in_shell(&stage.backup(), &script, &code).env("LOG_LEVEL", "info").run();
        assert_eq!(written_code(&code), "74", "{list}: {}", outcome.stderr);
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        assert!(
            matches!(lines[..], [line] if line.contains("write the result to stdout")),
            "{list}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn backup_continues_when_its_parent_dies() {
    let stage = Stage::new(FakeDump::new().body(Body::Random(6 << 20)).held());
    let parent = in_shell(&stage.backup(), "\"$1\" backup & wait", Path::new("")).spawn();
    eventually(|| !stage.dump.alive().is_empty(), || "no pg_dump".to_owned());
    parent.signal("KILL");
    assert_eq!(parent.wait().signal, Some(9));
    stage.dump.let_go();
    eventually(|| stage.keys().iter().any(|key| key.ends_with(".sql.gz.json")), || format!("{:?}", stage.keys()));
    assert_one_complete_backup(&stage, "the parent died");
}

#[test]
fn a_second_sigint_ends_the_run_at_once() {
    // A wrapper of pg_dump's, with a child of its own.
    let dump = FakeDump::new().body(THREE_PARTS).end(End::HangAfterOutput).ignore_sigterm().with_grandchild();
    let stage = Stage::new(dump);
    stage.proxy.rule(Rule::on(S3Verb::AbortMultipartUpload, Calls::All, Fault::Stall { at: StallAt::BeforeEffect }));
    let mut running = stage.backup().env("S3_REQUEST_TIMEOUT", "60s").spawn();
    stage.proxy.wait_for(S3Verb::UploadPart, 2, SOON);
    running.signal("INT");
    running.wait_for_stderr("stopping", SOON);
    stage.proxy.wait_for(S3Verb::AbortMultipartUpload, 1, SOON);
    std::thread::sleep(LATER);
    running.signal("INT");
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("SIGINT again"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("no answer in time"), "it waited for its deadline: {}", outcome.stderr);
    assert_eq!(stage.keys(), [""; 0]);
    eventually(|| stage.dump.alive().is_empty(), || "pg_dump still runs".to_owned());
    outcome.assert_no_children_left();
}

#[test]
fn two_sigints_of_one_ctrl_c_are_one_request() {
    let stage = Stage::new(FakeDump::new().body(THREE_PARTS).end(End::HangAfterOutput).ignore_sigterm());
    let running = stage.backup().spawn();
    stage.proxy.wait_for(S3Verb::UploadPart, 2, SOON);
    let pid = running.pid().to_string();
    let kill = Program::at(Path::new("/bin/sh")).args(["-c", "kill -s INT \"$1\" \"$1\"", "sh", &pid]);
    kill.run().assert_code(0);
    stage.assert_failed(&running.wait(), 130, "twice at once");
}

#[test]
fn second_sigint_ends_daemon_and_its_backup() {
    let dump = FakeDump::new().body(THREE_PARTS).end(End::HangAfterOutput).ignore_sigterm().with_grandchild();
    let stage = Stage::new(dump);
    // So that the first takes all of its 10 s, and the second cannot come too late.
    stage.proxy.rule(Rule::on(S3Verb::AbortMultipartUpload, Calls::All, Fault::Stall { at: StallAt::BeforeEffect }));
    let mut running = stage.daemon("0 0 1 1 *").arg("--run-on-start").env("S3_REQUEST_TIMEOUT", "60s").spawn();
    stage.proxy.wait_for(S3Verb::UploadPart, 2, SOON);
    running.signal("INT");
    running.wait_for_stderr("stopping", SOON);
    std::thread::sleep(LATER);
    running.signal("INT");
    let outcome = running.wait();
    assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("SIGINT again"), "{}", outcome.stderr);
    eventually(|| stage.dump.alive().is_empty(), || "pg_dump still runs".to_owned());
    outcome.assert_no_children_left();
}
