//! A disk that is full at every phase of the spool: the backup is taken all the same, and says once that it could not be
//! resumed. The disk is a small tmpfs in a mount namespace of the run's own; where the system grants neither, the test
//! fails.

use std::path::Path;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::program::{Outcome, Program};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};

/// Mounts the disk, runs the program, and lists what it leaves there.
const SCRIPT: &str = r#"
mount -t tmpfs -o "$1" tmpfs "$2" || exit 99
"$3" backup
status=$?
find "$2" -type f ! -name lock -printf 'left behind: %p\n' >&2
exit "$status"
"#;
/// Goes into a mount namespace of its own: as root, or as one's own root where the system lets everybody have one.
const NAMESPACE: &str = r#"
unshare --mount true 2>/dev/null || flag=--map-root-user
exec unshare $flag --mount sh -c "$@"
"#;
/// Where the disk has room for all.
const ENOUGH: &str = "size=64m";
const UNSPOOLED: &str = "cannot be resumed";

/// A backup whose spool is on a disk with these options.
fn on_disk(backup: &Program, options: &str) -> Outcome {
    let mount = tempfile::tempdir().expect("a directory");
    let program = env!("CARGO_BIN_EXE_pg-s3-backup");
    backup
        .clone()
        .executed_by(Path::new("/bin/sh"))
        .args(["-c", NAMESPACE, "sh", SCRIPT, "sh", options])
        .arg(mount.path())
        .arg(program)
        .env("BACKUP_SPOOL_DIR", mount.path())
        .run()
}

/// Each phase with how often the log says that the run cannot be resumed.
fn phases() -> Vec<(String, usize)> {
    // One inode is the disk's own; then there are the room, its lock, the run, the journal, and each part.
    let inodes = (1..=8).map(|count| (format!("size=64m,nr_inodes={count}"), usize::from(count < 8)));
    // 13 MiB must be free for a part of 5 MiB.
    let sizes = ["12k", "1m", "12m", "14m", "18m"].map(|size| (format!("size={size}"), 1));
    inodes.chain(sizes).chain([(ENOUGH.to_owned(), 0)]).collect()
}

#[test]
fn a_disk_that_is_full_at_any_phase_costs_no_backup() {
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
fn a_full_disk_and_an_s3_that_fails_is_a_clean_failure() {
    for options in ["size=14m", "size=64m,nr_inodes=4"] {
        let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
        stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(2), Fault::slow_down()));
        let backup = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "2s");
        let outcome = on_disk(&backup, options);
        stage.assert_failed(&outcome, 12, options);
        assert!(!outcome.stderr.contains("left behind") && outcome.stderr.contains(UNSPOOLED), "{}", outcome.stderr);
    }
}
