//! A server that restarts in the middle of a restore, and one with a full disk: nothing is half restored, and what is reported is
//! true.

use std::path::Path;
use std::time::Duration;

use super::faults::SLOW;
use super::{FAILED, backed_up, bucket_with, dump_with};
use crate::support::client::eventually;
use crate::support::program::{Outcome, Program, Running};
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{OwnPostgres, Postgres, own_postgres};
use crate::support::setup::s3_program;
use crate::support::tcp_proxy::TcpProxy;

/// Much longer than the server takes to restart.
const PATIENCE: Duration = Duration::from_mins(3);

/// A server with an empty database `target`.
fn server() -> OwnPostgres {
    let server = own_postgres(&[]);
    server.psql("postgres", "CREATE DATABASE target").expect("made");
    server
}

/// `restore` into `target`, or into a new database `made`.
fn restore(bucket: &str, server: &OwnPostgres, create: Option<&str>) -> Program {
    let database = if create.is_some() { "postgres" } else { "target" };
    let program = s3_program(bucket).env("RESTORE_CONNECTION_STRING", server.uri(database)).arg("restore");
    program.args(create.into_iter().flat_map(|name| ["--create-db", name])).timeout(PATIENCE)
}

fn wait_for_query(server: &OwnPostgres, word: &str, running: &Running) {
    let question = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{word}%' AND pid <> pg_backend_pid()"
    );
    eventually(|| server.psql("postgres", &question).as_deref() == Ok("1"), || running.stderr_so_far());
}

/// The databases that were made, and the tables of `target`.
fn state(server: &OwnPostgres) -> String {
    let databases =
        "SELECT coalesce(string_agg(datname, ' ' ORDER BY datname), '') FROM pg_database WHERE datname ~ 'made|pg_s3'";
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    format!("{}{}", server.psql("postgres", databases).expect("asked"), server.psql("target", tables).expect("asked"))
}

/// One line says why it failed.
#[track_caller]
fn assert_failed(outcome: &Outcome, words: &str) {
    outcome.assert_code(FAILED).assert_no_children_left();
    assert_eq!(outcome.stderr.matches(" ERROR ").count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
}

#[test]
fn a_server_that_restarts_leaves_nothing_of_the_restore() {
    let (_source, good) = backed_up("CREATE TABLE t AS SELECT 7 AS a");
    let (server, bucket) = (server(), bucket_with(&dump_with(SLOW)));
    let restarted = Restarted(&server);
    for shutdown in [Shutdown::Fast, Shutdown::Immediate] {
        for create in [None, Some("made")] {
            let running = restore(&bucket, &server, create).spawn();
            wait_for_query(&server, "pg_sleep", &running);
            restarted.stop(shutdown);
            restarted.start();
            let outcome = running.wait();
            assert_failed(&outcome, "the target is unchanged");
            assert_eq!(state(&server), "0", "{shutdown:?} {create:?}: {}", outcome.stderr);
        }
    }
    restore(&good, &server, None).run().assert_code(0);
    restore(&good, &server, Some("made")).run().assert_code(0);
    assert_eq!(state(&server), "made1");
}

#[test]
fn a_server_that_stays_away_leaves_a_scratch_database_that_is_reported() {
    let (_source, good) = backed_up("CREATE TABLE t AS SELECT 7 AS a");
    let server = server();
    let restarted = Restarted(&server);
    let running = restore(&bucket_with(&dump_with(SLOW)), &server, Some("made")).spawn();
    wait_for_query(&server, "pg_sleep", &running);
    restarted.stop(Shutdown::Immediate);
    let outcome = running.wait();
    restarted.start();
    assert_failed(&outcome, "the target is unchanged");
    let left = state(&server);
    let name = left.strip_suffix('0').expect("no table in the target");
    assert!(name.starts_with("pg_s3_restore_") && outcome.stderr.contains(name), "{left}: {}", outcome.stderr);
    let next = restore(&good, &server, Some("made")).run();
    next.assert_code(0);
    let drop = format!("DROP DATABASE {name} WITH (FORCE);");
    assert!(next.stderr.replace(['"', '\\'], "").contains(&drop), "{}", next.stderr);
}

/// A COMMIT that takes its time.
pub const SLOW_COMMIT: &str = "CREATE TABLE public.t (a int);\n\
    CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_sleep(600); RETURN NULL; END';\n\
    CREATE CONSTRAINT TRIGGER g AFTER INSERT ON public.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.f();\n\
    COPY public.t (a) FROM stdin;\n1\n\\.\n";

#[test]
fn a_server_that_crashes_at_commit_is_asked_for_the_outcome() {
    let server = server();
    let restarted = Restarted(&server);
    // The crash loses the id of the transaction. Another transaction may get it, and commit.
    server.psql("postgres", "ALTER SYSTEM SET wal_writer_delay = '10s'").expect("set");
    restarted.stop(Shutdown::Fast);
    restarted.start();
    for is_reused in [false, true] {
        let proxy = TcpProxy::start(&server.addr());
        let through = Postgres { host: proxy.host(), port: proxy.port(), ..server.clone() };
        let program = restore(&bucket_with(&dump_with(SLOW_COMMIT)), &server, None);
        let running = program.env("RESTORE_CONNECTION_STRING", through.uri("target")).spawn();
        wait_for_query(&server, "COMMIT;", &running);
        proxy.refuse();
        restarted.stop(Shutdown::Immediate);
        restarted.start();
        if is_reused {
            for _ in 0..20 {
                server
                    .psql("postgres", "SELECT pg_current_xact_id(); CREATE TABLE x (); DROP TABLE x")
                    .expect("others");
            }
        }
        proxy.resume();
        let outcome = running.wait();
        assert_failed(&outcome, "it was rolled back: the target is unchanged");
        assert_eq!(state(&server), "0", "{}", outcome.stderr);
    }
}

#[test]
fn a_server_that_crashes_after_commit_is_asked_for_the_outcome() {
    let server = server();
    let restarted = Restarted(&server);
    // The transaction is committed, and its answer waits for a standby that does not exist.
    server.psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'absent'").expect("set");
    server.psql("postgres", "SELECT pg_reload_conf()").expect("reloaded");
    let dump = dump_with("CREATE TABLE public.t (a int);\nCOPY public.t (a) FROM stdin;\n7\n\\.\n");
    let running = restore(&bucket_with(&dump), &server, None).spawn();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'COMMIT%'";
    eventually(|| server.psql("postgres", waits).as_deref() == Ok("1"), || running.stderr_so_far());
    restarted.stop(Shutdown::Immediate);
    std::fs::remove_file(server.data_dir.join("postgresql.auto.conf")).expect("no standby any more");
    restarted.start();
    let outcome = running.wait();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains("the server says that it took effect"), "{}", outcome.stderr);
    assert_eq!(server.psql("target", "SELECT a FROM t").as_deref(), Ok("7"));
}

#[test]
fn a_full_disk_of_the_server_leaves_nothing_of_the_restore() {
    let server = server();
    let restarted = Restarted(&server);
    restarted.stop(Shutdown::Fast);
    // Large enough for its databases and one more that is nearly empty. WAL is elsewhere.
    restarted.start_with_small_disk(Path::new("base"), "64m");
    let rows = "0123456789abcdef0123456789abcdef0123456789abcdef\n".repeat(1_200_000);
    let bucket = bucket_with(&dump_with(&format!(
        "CREATE TABLE public.t (a text);\nCOPY public.t (a) FROM stdin;\n{rows}\\.\n"
    )));
    for create in [None, Some("made")] {
        let outcome = restore(&bucket, &server, create).run();
        assert_failed(&outcome, "No space left on device");
        assert!(outcome.stderr.contains("free disk space on the server"), "{}", outcome.stderr);
        assert_eq!(state(&server), "0", "{create:?}: {}", outcome.stderr);
        server.psql("postgres", "CHECKPOINT").expect("its files are removed");
    }
}
