//! Tests of the runner itself, with `/bin/sh` in the product's place.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Program;

const SOON: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Program {
    Program::at(Path::new("/bin/sh")).args(["-c", script])
}

#[test]
fn exit_output_stdin_and_environment() {
    let outcome = shell("cat; env >&2; exit 7").env("A", "1").env("B", "2").env_remove("B").stdin("in").run();
    outcome.assert_code(7).assert_no_children_left();
    assert_eq!(outcome.stdout_text(), "in");
    let mut names: Vec<_> = outcome.stderr.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    names.retain(|name| *name != "LLVM_PROFILE_FILE");
    assert_eq!(names, ["A", "HOME", "PATH", "PWD"], "the shell itself adds PWD");
    assert!(!outcome.output_held_open);
}

#[test]
fn signals_and_waiting_for_words() {
    let mut running = shell("trap 'echo bye >&2; exit 3' TERM; echo ready >&2; sleep 60 & wait").spawn();
    running.wait_for_stderr("ready", SOON);
    let started = Instant::now();
    while running.descendants().is_empty() && started.elapsed() < SOON {}
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(3);
    assert_eq!(outcome.stderr, "ready\nbye\n");
    // The sleep is left behind on purpose: it must be noticed, by what was seen and by the open pipe.
    assert!(outcome.output_held_open);
    let left = outcome.leftover_children();
    assert_eq!(left.iter().map(super::super::process::Process::command_line).collect::<Vec<_>>(), ["sleep 60"]);
    for process in &left {
        process.signal("KILL");
    }
    outcome.assert_no_children_left();
    assert_eq!(shell("kill -9 $$").run().signal, Some(9));
}

#[test]
fn a_child_in_a_session_of_its_own_is_noticed() {
    let outcome = shell("setsid sleep 61 >/dev/null 2>&1 & sleep 3").run();
    let left = outcome.leftover_children();
    for process in &left {
        process.signal("KILL");
    }
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn peak_memory_is_seen() {
    // It holds its 64 MiB for a moment only; the kernel's mark stays until it ends, and a slow watcher sees it, too.
    let script = "import sys, time; sys.stdout.buffer.write(b\"x\" * (64 << 20)); sys.stdout.flush(); time.sleep(3)";
    let outcome = shell(&format!("exec python3 -c '{script}'")).run();
    outcome.assert_code(0);
    assert_eq!(outcome.stdout.len(), 64 << 20);
    assert!(outcome.peak_rss_bytes > 60 << 20, "{}", outcome.peak_rss_bytes);
}

#[test]
#[should_panic(expected = "still running after")]
fn a_hang_is_ended() {
    shell("echo hello; sleep 62").timeout(Duration::from_millis(200)).run();
}
