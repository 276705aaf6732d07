//! A `pg_dump` that fails in every way it can: exit 11, the cause in one line, and nothing is left.
//!
//! The fakes end by exit code and by signal, truncate, double, drown in stderr, and hang. The complete one is in
//! `storage_faults`.

use std::time::Duration;

use crate::support::fake_pg_dump::{CutAt, End, FakeDump};
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::Outcome;

const FAILED: i32 = 11;

/// The one line that says why.
fn error_line(outcome: &Outcome) -> String {
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(" ERROR ")).collect();
    let [line] = lines.as_slice() else { panic!("one ERROR line wanted:\n{}", outcome.stderr) };
    (*line).to_owned()
}

fn fails(dump: FakeDump, wanted: &str, case: &str) {
    let stage = Stage::new(dump);
    assert_says(&stage, &stage.backup().run(), wanted, case);
}

/// Silence alone ends it: no other dump may be given so little time, which a busy machine uses up.
fn hangs(dump: FakeDump, case: &str) {
    let stage = Stage::new(dump);
    let outcome = stage.backup().env("BACKUP_STALL_TIMEOUT", "2s").run();
    assert_says(&stage, &outcome, "pg_dump wrote nothing for 2s", case);
}

fn assert_says(stage: &Stage, outcome: &Outcome, wanted: &str, case: &str) {
    stage.assert_failed(outcome, FAILED, case);
    let line = error_line(outcome);
    assert!(line.contains(wanted), "{case}: {wanted:?} wanted in {line}");
}

/// At its beginning, in the middle, and just before its end.
const PLACES: [f64; 3] = [0.0, 0.5, 0.99];

#[test]
fn a_pg_dump_that_dies_by_exit_code_leaves_nothing() {
    for place in PLACES {
        let dump = FakeDump::new()
            .body(THREE_PARTS)
            .cut_at(CutAt::Fraction(place))
            .stderr_line("pg_dump: error: query failed: ERROR:  permission denied for table secret_plans")
            .stderr_line("pg_dump: detail: Query was: LOCK TABLE")
            .end(End::Exit(1));
        let case = format!("exit 1 at {place}");
        fails(dump, "pg_dump failed (exit code 1): pg_dump: error: query failed: ERROR:  permission denied", &case);
    }
}

#[test]
fn a_pg_dump_that_dies_by_signal_leaves_nothing() {
    for place in PLACES {
        let cut = |signal| FakeDump::new().body(THREE_PARTS).cut_at(CutAt::Fraction(place)).end(End::Signal(signal));
        fails(cut(9), "SIGKILL, probably out of memory", &format!("SIGKILL at {place}"));
        fails(cut(11), "SIGSEGV", &format!("SIGSEGV at {place}"));
    }
}

#[test]
fn rejects_complete_dump_with_a_bad_exit_code() {
    fails(FakeDump::new().body(THREE_PARTS).end(End::Exit(1)), "exit code 1", "complete, exit 1");
    fails(FakeDump::new().end(End::Signal(15)), "SIGTERM", "complete, SIGTERM");
}

#[test]
fn a_truncated_dump_with_exit_code_0_is_not_taken() {
    for place in PLACES {
        let dump = FakeDump::new().body(THREE_PARTS).cut_at(CutAt::Fraction(place));
        fails(dump, "not complete", &format!("truncated at {place}"));
    }
    for missing in [1, 2, 3, 40, 80, 100, 110, 120, 160] {
        let dump = FakeDump::new().cut_at(CutAt::FromEnd(missing));
        fails(dump, "not complete", &format!("without its last {missing} bytes"));
    }
}

#[test]
fn two_dumps_in_one_are_not_taken() {
    fails(FakeDump::new().twice(), "something follows its end", "small, twice");
    fails(FakeDump::new().body(THREE_PARTS).twice(), "something follows its end", "twice");
}

#[test]
fn megabytes_of_stderr_neither_hang_nor_hide_the_cause() {
    let noisy = || FakeDump::new().stderr_bytes(10 << 20);
    let dump = noisy().stderr_line("pg_dump: error: the cause").end(End::Exit(1));
    fails(dump, "pg_dump: error: the cause", "10 MB of stderr, exit 1");
    let stage = Stage::new(noisy());
    stage.assert_committed(&stage.backup().run(), "10 MB of stderr, complete");
}

#[test]
fn a_pg_dump_that_hangs_is_ended() {
    hangs(FakeDump::new().end(End::Hang), "hangs at once");
    hangs(FakeDump::new().body(THREE_PARTS).end(End::HangAfterOutput), "hangs after its output");
    let half = FakeDump::new().body(THREE_PARTS).cut_at(CutAt::Fraction(0.5)).end(End::HangAfterOutput);
    hangs(half, "hangs in the middle");
    hangs(FakeDump::new().end(End::Hang).ignore_sigterm(), "hangs and ignores SIGTERM");
}

#[test]
fn a_grandchild_that_holds_the_output_open_is_ended_too() {
    hangs(FakeDump::new().with_grandchild(), "grandchild");
}

#[test]
fn a_slow_pg_dump_is_not_taken_for_one_that_hangs() {
    // Sixteen pieces: longer than the limit together, and each of them ten times as fast as it asks for.
    let stage = Stage::new(FakeDump::new().pause_between(Duration::from_millis(800)));
    let outcome = stage.backup().env("BACKUP_STALL_TIMEOUT", "8s").run();
    stage.assert_committed(&outcome, "slow");
    assert!(outcome.elapsed > Duration::from_secs(8), "it was not slow");
}

#[test]
fn a_run_that_takes_too_long_is_ended() {
    let stage = Stage::new(FakeDump::new().end(End::Hang));
    let outcome = stage.backup().env("BACKUP_MAX_DURATION", "3s").run();
    stage.assert_failed(&outcome, FAILED, "too long");
    assert!(error_line(&outcome).contains("BACKUP_MAX_DURATION"));
}

#[test]
fn a_program_that_is_no_pg_dump_is_refused_before_anything_is_started() {
    let stage = Stage::new(FakeDump::new().version("mysqldump  Ver 8.0"));
    let outcome = stage.backup().run();
    stage.assert_failed(&outcome, 10, "no pg_dump");
    let outcome = stage.backup().env("PG_DUMP_PATH", "/does/not/exist").run();
    stage.assert_failed(&outcome, 10, "not there");
    assert!(error_line(&outcome).contains("/does/not/exist"));
}
