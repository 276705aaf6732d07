//! Two restores at the same time: at most one succeeds, and the other changes nothing.

use pg_s3_backup::postgres::NameLock;

use super::{FAILED, assert_untouched, backed_up, bucket_with, dump_with, empty, restore_program};
use crate::restore::faults::{SLOW, wait_for_query};
use crate::support::client::eventually;
use crate::support::program::{Outcome, Program};
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{own_postgres, postgres};
use crate::support::setup::s3_program;

/// One line says why it failed.
#[track_caller]
fn assert_refused(outcome: &Outcome, words: &[&str]) {
    outcome.assert_code(FAILED).assert_no_children_left();
    let errors: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("ERROR")).collect();
    let [error] = errors.as_slice() else { panic!("one line: {}", outcome.stderr) };
    assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
}

#[test]
fn a_second_restore_into_a_database_is_refused() {
    let (_source, bucket) = backed_up("CREATE TABLE other AS SELECT 7 AS a");
    let target = empty("target");
    // Two backups that have no object in common: the server itself would take both.
    let running = restore_program(&bucket_with(&dump_with(SLOW)), &target).spawn();
    wait_for_query(&target, "pg_sleep", &running);
    let second = restore_program(&bucket, &target).run();
    assert_refused(&second, &["another restore into it is running", "pg_terminate_backend("]);
    let replacing = s3_program(&bucket).env("RESTORE_CONNECTION_STRING", postgres().uri("postgres"));
    let replacing = replacing.args(["restore", "--create-db", &target.name, "--replace"]).run();
    assert_refused(&replacing, &["another restore into it is running"]);
    running.signal("TERM");
    let first = running.wait();
    first.assert_code(143);
    assert_untouched(&target, &first);
    restore_program(&bucket, &target).run().assert_code(0);
}

#[test]
fn of_two_restores_that_begin_at_once_one_succeeds() {
    for _ in 0..3 {
        let buckets = ["a", "b"].map(|table| {
            let rows = "1\n".repeat(50_000);
            bucket_with(&dump_with(&format!(
                "CREATE TABLE public.{table} (a int);\nCOPY public.{table} (a) FROM stdin;\n{rows}\\.\n"
            )))
        });
        let target = empty("target");
        let running = buckets.map(|bucket| restore_program(&bucket, &target).spawn());
        let outcomes = running.map(crate::support::program::Running::wait);
        let codes = outcomes.each_ref().map(|outcome| outcome.code);
        let loser = match codes {
            [Some(0), Some(FAILED)] => &outcomes[1],
            [Some(FAILED), Some(0)] => &outcomes[0],
            _ => panic!("{codes:?}: {} {}", outcomes[0].stderr, outcomes[1].stderr),
        };
        let words = if loser.stderr.contains("not empty") { "is not empty" } else { "another restore" };
        assert_refused(loser, &[words]);
        let tables = target.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
        assert_eq!(tables.as_deref(), Ok("1"), "{}", loser.stderr);
    }
}

/// `restore --create-db`, by way of a maintenance database.
fn create(bucket: &str, name: &str, maintenance: &str) -> Program {
    s3_program(bucket).env("RESTORE_CONNECTION_STRING", postgres().uri(maintenance)).args([
        "restore",
        "--create-db",
        name,
    ])
}

#[test]
fn a_second_restore_that_creates_the_same_database_is_refused_at_once() {
    let (_source, bucket) = backed_up("CREATE TABLE t AS SELECT 7 AS a");
    let name = unique_name("made");
    let running = create(&bucket_with(&dump_with(SLOW)), &name, "postgres").spawn();
    let question =
        "SELECT datname FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND datname LIKE 'pg_s3_restore_%'";
    eventually(|| !postgres().psql("postgres", question).expect("asked").is_empty(), || running.stderr_so_far());
    for maintenance in ["postgres", "template1"] {
        let second = create(&bucket, &name, maintenance).run();
        assert_refused(&second, &["another restore into it is running"]);
    }
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND datname LIKE 'pg_s3_restore_%'";
    postgres().psql("postgres", end).expect("ended");
    running.wait().assert_code(FAILED);
    create(&bucket, &name, "postgres").run().assert_code(0);
    let made: Database = postgres().adopt_database(&name);
    assert_eq!(made.psql("SELECT a FROM t").as_deref(), Ok("7"));
}

#[test]
fn a_prepared_transaction_with_the_lock_is_named_and_not_waited_for() {
    let server = own_postgres(&[]);
    server.psql("postgres", "ALTER SYSTEM SET max_prepared_transactions = 1").expect("set");
    let restarted = Restarted(&server);
    restarted.stop(Shutdown::Fast);
    restarted.start();
    let target = server.create_database("target");
    let take =
        NameLock::on(&format!("restore into {}", target.name)).take().replace("advisory_lock", "advisory_xact_lock");
    target.psql(&format!("BEGIN; {take}; PREPARE TRANSACTION 'held'")).expect("prepared");
    let bucket = bucket_with(&dump_with("CREATE TABLE public.t (a int);"));
    let create = s3_program(&bucket).env("RESTORE_CONNECTION_STRING", server.uri("postgres")).arg("restore");
    for program in [restore_program(&bucket, &target), create.args(["--create-db", &target.name, "--replace"])] {
        assert_refused(&program.run(), &["another restore into it is running", "pg_prepared_xacts"]);
    }
    target.psql("ROLLBACK PREPARED 'held'").expect("ended");
    restore_program(&bucket, &target).run().assert_code(0);
}
