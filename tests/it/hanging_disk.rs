//! A file system that hangs: no run waits longer than it must for it, and a signal ends each run while it hangs.

use std::time::Duration;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::{Stage, THREE_PARTS};
use crate::support::hanging_disk::{Call, HangingDisk};
use crate::support::program::Program;

const UNSPOOLED: &str = "cannot be resumed";

/// What hangs, and what of a run is on the disk.
struct Case {
    call: Call,
    name: &'static str,
    setting: (&'static str, &'static str),
    /// How the run is to end after SIGTERM.
    code: i32,
}

const SPOOL: (&str, &str) = ("BACKUP_SPOOL_DIR", "spool");
const CASES: [Case; 8] = [
    // At the start, when a child is started (it closes inherited files), during a dump, and after the commit.
    Case { call: Call::Create, name: "lock", setting: SPOOL, code: 143 },
    Case { call: Call::OpenDir, name: "", setting: SPOOL, code: 143 },
    Case { call: Call::Flush, name: "lock", setting: SPOOL, code: 143 },
    Case { call: Call::Write, name: "part-00002", setting: SPOOL, code: 143 },
    Case { call: Call::Fsync, name: "part-00001", setting: SPOOL, code: 143 },
    Case { call: Call::Unlink, name: "journal", setting: SPOOL, code: 0 },
    Case { call: Call::Rename, name: "prom", setting: ("METRICS_FILE", "backup.prom"), code: 0 },
    LAST_RESORT,
];
/// Read with no other deadline pending: the rest must end without it.
const LAST_RESORT: Case = Case { call: Call::Lookup, name: "ca.pem", setting: ("S3_CA_BUNDLE", "ca.pem"), code: 143 };

fn backup(stage: &Stage, disk: &HangingDisk, (variable, below): (&str, &str)) -> Program {
    stage.backup().env(variable, disk.path().join(below)).timeout(Duration::from_mins(4))
}

#[test]
fn a_signal_ends_a_run_whatever_hangs_and_a_hang_alone_costs_no_backup() {
    std::thread::scope(|scope| {
        for case in &CASES {
            scope.spawn(|| stops_on_signal(case));
        }
        scope.spawn(left_alone);
    });
}

fn stops_on_signal(case: &Case) {
    let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
    let disk = HangingDisk::new(case.call, case.name);
    let backup = backup(&stage, &disk, case.setting);
    let running = disk.spawn(&backup);
    running.wait_until_it_hangs();
    running.signal("TERM");
    let (outcome, what) = (running.wait_for_exit(), format!("{:?} of {:?}", case.call, case.name));
    if case.code == 0 {
        stage.assert_committed(&outcome, &what);
    } else {
        stage.assert_failed(&outcome, case.code, &what).then_names(&["stopped by SIGTERM"]);
    }
    let is_last_resort = outcome.stderr.contains("something does not stop");
    assert_eq!(is_last_resort, case.name == LAST_RESORT.name, "{what}: {}", outcome.stderr);
}

/// No signal stops it: after the disk's deadline the run continues without it.
fn left_alone() {
    let stage = Stage::new(FakeDump::new().body(THREE_PARTS));
    let disk = HangingDisk::new(Call::Fsync, "part-00003");
    let backup = backup(&stage, &disk, SPOOL);
    let running = disk.spawn(&backup);
    running.wait_until_it_hangs();
    let outcome = running.wait_for_exit();
    stage.assert_committed(&outcome, "left alone");
    let warned = outcome.stderr.lines().filter(|line| line.contains(UNSPOOLED)).collect::<Vec<_>>();
    assert!(warned.len() == 1 && warned[0].contains("hangs"), "{}", outcome.stderr);
}
