//! What a restore reports about its transaction is true, even if the dump has committed it, or the server crashes.

use super::{FAILED, backed_up, bucket_with, dump_with, empty, restore_program};
use crate::support::process::write_script;
use crate::support::program::Program;
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{installed_tools, own_postgres};
use crate::support::setup::s3_program;

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
            super::faults::wait_for_query(&target, "pg_sleep", &running);
            running.signal(signal);
        }
        let outcome = running.wait();
        outcome.assert_code(FAILED).assert_no_children_left();
        assert_eq!(target.psql("SELECT count(*) FROM t").as_deref(), Ok("0"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("has committed a part of it: drop and create"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("nothing of it is in the target"), "{}", outcome.stderr);
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
