//! What a restore reports about its transaction is true, even if the dump has committed it, or the server crashes.

use std::time::Duration;

use super::faults::wait_for_query;
use super::restarts::SLOW_COMMIT;
use super::{FAILED, assert_untouched, backed_up, bucket_with, dump_with, empty, restore_program};
use crate::support::process::write_script;
use crate::support::program::Program;
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{installed_tools, own_postgres, postgres};
use crate::support::session::Session;
use crate::support::setup::s3_program;

const SOON: Duration = Duration::from_mins(1);

/// With a psql that runs some strings as statements: as if it read a dump otherwise than this program does.
fn with_other_psql(program: Program) -> Program {
    let (bin, real) = (program.home().join("bin"), installed_tools().expect("installed"));
    std::fs::create_dir(&bin).expect("made");
    for name in ["pg_dump", "pg_dumpall"] {
        std::os::unix::fs::symlink(real.join(name), bin.join(name)).expect("linked");
    }
    let psql = real.join("psql");
    let edit = "sed -u \"s/^SELECT 'COMMIT';/COMMIT;BEGIN;/\" 2>/dev/null";
    let script = format!("#!/bin/bash\nexec '{}' \"$@\" < <({edit})\n", psql.display());
    write_script(&bin.join("psql"), &script);
    program.env("PG_DUMP_PATH", bin.join("pg_dump"))
}

#[test]
fn a_transaction_that_the_dump_has_committed_is_reported() {
    for (end, signal) in [("", None), ("SELECT 1/0;\n", None), ("SELECT pg_catalog.pg_sleep(600);\n", Some("TERM"))] {
        let target = empty("target");
        let dump = dump_with(&format!("CREATE TABLE public.t (a int);\nSELECT 'COMMIT';\n{end}"));
        let running = with_other_psql(restore_program(&bucket_with(&dump), &target)).spawn();
        if let Some(signal) = signal {
            wait_for_query(&target, "pg_sleep", &running);
            running.signal(signal);
        }
        let outcome = running.wait();
        outcome.assert_code(FAILED).assert_no_children_left();
        assert_eq!(target.psql("SELECT count(*) FROM t").as_deref(), Ok("0"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("has committed a part of it: drop and create"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("the target is unchanged"), "{}", outcome.stderr);
    }
}

/// In place of a long sleep: until a session holds an advisory lock.
const UNTIL_LOCKED: &str = "WHILE NOT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = ''advisory'' AND objid = 4712) \
    LOOP PERFORM pg_catalog.pg_sleep(0.02); END LOOP";

#[test]
fn a_signal_during_commit_waits_for_it_or_has_it_rolled_back() {
    for (ends, code, rows) in [(true, 0, "1"), (false, 143, "")] {
        let target = empty("target");
        let mut other = Session::open(&target);
        let dump = SLOW_COMMIT.replace("PERFORM pg_catalog.pg_sleep(600)", UNTIL_LOCKED);
        let mut running = restore_program(&bucket_with(&dump_with(&dump)), &target).spawn();
        wait_for_query(&target, "COMMIT;", &running);
        running.signal("TERM");
        running.wait_for_stderr("stopping", SOON);
        if ends {
            other.run("SELECT pg_advisory_lock(4712)");
        }
        let outcome = running.wait();
        drop(other);
        outcome.assert_code(code).assert_no_children_left();
        assert_eq!(target.psql("SELECT a FROM t").unwrap_or_default(), rows, "{}", outcome.stderr);
        let sessions =
            format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND query LIKE 'COMMIT%'", target.name);
        assert_eq!(postgres().psql("postgres", &sessions).as_deref(), Ok("0"), "{}", outcome.stderr);
        if !ends {
            assert_untouched(&target, &outcome);
        }
    }
}

#[test]
fn what_is_reported_as_restored_survives_a_crash_of_the_server() {
    let (_source, bucket) = backed_up("CREATE TABLE t AS SELECT 7 AS a");
    let server = own_postgres(&[]);
    for setting in ["synchronous_commit = off", "wal_writer_delay = '10s'", "autovacuum = off"] {
        server.psql("postgres", &format!("ALTER SYSTEM SET {setting}")).expect("set");
    }
    let restarted = Restarted(&server);
    restarted.stop(Shutdown::Fast);
    restarted.start();
    let target = server.create_database("target");
    for create in [true, false] {
        let program = s3_program(&bucket).env("RESTORE_CONNECTION_STRING", target.uri()).arg("restore");
        let program = if create { program.args(["--create-db", "made"]) } else { program };
        let outcome = program.arg("--no-analyze").run();
        outcome.assert_code(0);
        restarted.stop(Shutdown::Immediate);
        restarted.start();
        let name = if create { "made" } else { &target.name };
        assert_eq!(server.psql(name, "SELECT a FROM t").as_deref(), Ok("7"), "{}", outcome.stderr);
    }
}
