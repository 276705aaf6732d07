//! A disk that is full at each phase of the spool: the backup succeeds, and logs once that it cannot be resumed. The
//! disk is a small tmpfs in the run's own mount namespace; if that is impossible, the test fails.

use std::path::Path;
use std::time::Duration;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::{Outcome, Program};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::s3;
use crate::support::setup::gunzipped;

/// Mounts the disk, runs the program, and lists the files that it leaves.
const SCRIPT: &str = r#"
mount -t tmpfs -o "$1" tmpfs "$2" || exit 99
"$3" backup
status=$?
find "$2" -type f ! -name lock -printf 'left behind: %p\n' >&2
exit "$status"
"#;
/// The same, and fills the disk when the run's journal has a line like `$4`. Then it creates the file `$FILLED`.
const FILLED_AT: &str = r#"
mount -t tmpfs -o "$1" tmpfs "$2" || exit 99
(until grep -qs -- "$4" "$2"/*/*/journal; do sleep 0.01; done; cat /dev/zero >"$2/filler" 2>/dev/null; : >"$FILLED") &
filler=$!
"$3" backup
status=$?
kill "$filler" 2>/dev/null
wait "$filler"
rm -f "$2/filler"
find "$2" -type f ! -name lock -printf 'left behind: %p\n' >&2
exit "$status"
"#;
/// Kills a run when its journal has a line like `$4`, fills the disk, reports that, and starts another run when the file
/// `go` exists.
const RESUMED: &str = r#"
mount -t tmpfs -o "$1" tmpfs "$2" || exit 99
"$3" backup 2>/dev/null &
killed=$!
until grep -qs -- "$4" "$2"/*/*/journal; do kill -0 "$killed" || exit 98; sleep 0.01; done
kill -s KILL "$killed"
wait "$killed"
cat /dev/zero >"$2/filler" 2>/dev/null
echo 'the disk is full' >&2
until [ -e "$HOME/go" ]; do sleep 0.01; done
"$3" backup
status=$?
rm -f "$2/filler"
find "$2" -type f ! -name lock -printf 'left behind: %p\n' >&2
exit "$status"
"#;
/// Enters a mount namespace: as root, or as root of a user namespace if the system allows that.
const NAMESPACE: &str = r#"
unshare --mount true 2>/dev/null || flag=--map-root-user
exec unshare $flag --mount sh -c "$@"
"#;
/// The size of a disk with enough space.
const ENOUGH: &str = "size=64m";
pub const UNSPOOLED: &str = "cannot be resumed";

/// Runs a backup with its spool on a disk with these options.
pub fn on_disk(backup: &Program, options: &str) -> Outcome {
    in_namespace(backup, (SCRIPT, ""), options)
}

/// Runs a script of this file on a disk with these options; its last argument is a pattern.
fn in_namespace(backup: &Program, script: (&str, &str), options: &str) -> Outcome {
    let mount = tempfile::tempdir().expect("a directory");
    mounted(backup, script, options, mount.path()).run()
}

/// The same with the directory of the disk.
fn mounted(backup: &Program, (script, pattern): (&str, &str), options: &str, mount: &Path) -> Program {
    let program = env!("CARGO_BIN_EXE_pg-s3-backup");
    backup
        .clone()
        .executed_by(Path::new("/bin/sh"))
        .args(["-c", NAMESPACE, "sh", script, "sh", options])
        .arg(mount)
        .args([program, pattern])
        .env("BACKUP_SPOOL_DIR", mount)
}

/// Each phase, and how often the log says that the run cannot be resumed.
fn phases() -> Vec<(String, usize)> {
    // The disk itself has one inode; the next are of the subdirectory, its lock, the run, the journal, and each part.
    let inodes = (1..=8).map(|count| (format!("size=64m,nr_inodes={count}"), usize::from(count < 8)));
    let pages = ["4k", "8k", "12k", "16k", "20k", "1m"].map(|size| (format!("size={size}"), 1));
    // 8 MiB must be free after each part of 5, 5 and 1 MiB.
    let sizes = (10..=24).step_by(2).map(|mebibytes| (format!("size={mebibytes}m"), usize::from(mebibytes < 20)));
    inodes.chain(pages).chain(sizes).chain([(ENOUGH.to_owned(), 0)]).collect()
}

#[test]
fn backup_succeeds_with_a_full_disk_at_each_phase() {
    for (options, warnings) in phases() {
        let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
        let outcome = on_disk(&stage.backup(), &options);
        stage.assert_committed(&outcome, &options);
        let said = outcome.stderr.lines().filter(|line| line.contains(UNSPOOLED)).count();
        assert_eq!(said, warnings, "{options}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("left behind"), "{options}: {}", outcome.stderr);
    }
}

#[test]
fn fails_clearly_with_a_full_disk_and_an_outage() {
    for options in ["size=14m", "size=64m,nr_inodes=4"] {
        let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
        stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(2), Fault::slow_down()));
        let backup = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "2s");
        let outcome = on_disk(&backup, options);
        stage.assert_failed(&outcome, 12, options);
        assert!(!outcome.stderr.contains("left behind") && outcome.stderr.contains(UNSPOOLED), "{}", outcome.stderr);
    }
}

#[test]
fn backup_succeeds_if_the_disk_fills_up() {
    let mut counts = Vec::new();
    for line in ["{\"start\"", "{\"started\"", "\"number\":1,", "\"number\":2,", "\"number\":3,", "{\"verified\""] {
        let dump = FakeDump::new().body(THREE_PARTS).pause_between(Duration::from_millis(30));
        // The disk must be full before the first part.
        let is_first = line == "{\"start\"";
        let stage = Stage::new(if is_first { dump.after("filled") } else { dump });
        // The journal gets ETags after the dump is complete.
        stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::First(4), Fault::slow_down()));
        let backup = stage.backup().env("FILLED", stage.dump.dir().join("filled"));
        let outcome = in_namespace(&backup, (FILLED_AT, line), "size=40m");
        stage.assert_committed(&outcome, line);
        assert!(!outcome.stderr.contains("left behind"), "{line}: {}", outcome.stderr);
        counts.push(outcome.stderr.lines().filter(|line| line.contains(UNSPOOLED)).count());
    }
    assert!(counts[0] == 1 && counts[5] == 0 && counts.iter().all(|count| *count < 2), "it is logged once: {counts:?}");
}

#[test]
fn delivers_complete_dump_from_a_full_disk() {
    let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
    // S3 accepts nothing until the first run is dead.
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::slow_down()));
    let (mount, backup) = (tempfile::tempdir().expect("a directory"), stage.backup());
    let backup = backup.env("BACKUP_MAX_UPLOAD_OUTAGE", "1m").env("POSTGRES_CONNECTION_STRING", stage.named_source());
    let mut running = mounted(&backup, (RESUMED, "{\"verified\""), "size=40m", mount.path()).spawn();
    running.wait_for_stderr("the disk is full", Duration::from_mins(1));
    stage.proxy.clear_rules();
    stage.wait_for_end_of_sessions();
    std::fs::write(backup.home().join("go"), "").expect("written");
    let outcome = running.wait();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains("the backup of an earlier run is delivered"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("left behind"), "{}", outcome.stderr);
    let backups = stage.backups();
    assert_eq!((backups.len(), stage.dump.pids().len()), (2, 2), "{}", outcome.stderr);
    for key in backups {
        let object = s3().get(&stage.bucket, &key).expect("the backup");
        assert!(gunzipped(&object) == stage.dump.output(), "{key} is not the dump");
    }
}
