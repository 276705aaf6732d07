//! Connection poolers: a transaction pooler is detected and refused, and the pooler's shared sessions stay unchanged.

use std::process::Stdio;

use crate::support::pgbouncer::PgBouncer;
use crate::support::program::Program;
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{assert_empty, clear, manifest, s3_program};

/// A database with an application that finds its tables by the database's search_path.
fn shop() -> Database {
    let database = postgres().create_database("pooled");
    let sql = format!(
        "CREATE SCHEMA store; CREATE TABLE store.item AS SELECT generate_series(1, 100) AS id; \
         ALTER DATABASE \"{}\" SET search_path = store, public; ALTER DATABASE \"{0}\" SET statement_timeout = '77s'",
        database.name
    );
    database.psql(&sql).expect("a shop");
    database
}

fn program(database: &Database, pooler: &PgBouncer, bucket: &str) -> Program {
    s3_program(bucket).env("POSTGRES_CONNECTION_STRING", database.uri_via("127.0.0.1", pooler.port))
}

/// The application's question, by as many connections as the pool has sessions, each of which must answer as at first.
#[track_caller]
fn assert_application_finds_its_tables(database: &Database, pooler: &PgBouncer, when: &str) {
    let ask = || {
        let mut psql = database.server().client("psql", &database.name);
        psql.env("PGPORT", pooler.port.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Held for a moment, so that the others meet other sessions.
        let question = "SELECT count(*), current_setting('statement_timeout'), pg_sleep(0.1) FROM item";
        psql.args(["-c", question]).spawn().expect("psql")
    };
    let asked: Vec<_> = (0..3).map(|_| ask()).collect();
    for child in asked {
        let output = child.wait_with_output().expect("its answer");
        let (answer, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(answer.trim(), "100|77s|", "{when}: {said}");
    }
}

#[test]
fn refuses_transaction_pooler_and_leaves_its_sessions_unchanged() {
    let (database, bucket) = (shop(), s3().create_bucket("pooled"));
    // Sessions that are there already, of one pooler that goes around among them and one that does not; and none.
    for (goes_around, is_fresh) in [(false, false), (true, false), (false, true), (true, true)] {
        let pooler = PgBouncer::start(&database, "transaction", goes_around);
        let case = format!("around: {goes_around}, fresh: {is_fresh}");
        if !is_fresh {
            assert_application_finds_its_tables(&database, &pooler, &case);
        }
        let program = program(&database, &pooler, &bucket);
        let checked = program.clone().args(["check"]).run();
        let output = checked.assert_code(14).stdout_text();
        assert!(output.contains("fail  postgres") && output.contains("is a transaction pooler"), "{case}: {output}");
        assert_application_finds_its_tables(&database, &pooler, &case);
        let refused = program.arg("backup").run();
        refused.assert_code(4).assert_no_children_left();
        for word in ["is a transaction pooler", "--allow-pooler", &pooler.port.to_string()] {
            assert!(refused.stderr.contains(word), "{case}: {word} wanted: {}", refused.stderr);
        }
        assert_application_finds_its_tables(&database, &pooler, &case);
    }
    assert_empty(&bucket);
}

#[test]
fn warns_of_allowed_transaction_pooler_and_leaves_its_sessions_unchanged() {
    let (database, bucket) = (shop(), s3().create_bucket("pooled"));
    let pooler = PgBouncer::start(&database, "transaction", false);
    assert_application_finds_its_tables(&database, &pooler, "before");
    let program = program(&database, &pooler, &bucket);
    let outcome = program.clone().args(["backup", "--allow-pooler"]).run();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains("is a transaction pooler"), "{}", outcome.stderr);
    assert_application_finds_its_tables(&database, &pooler, "after the backup");
    let keys = s3().keys(&bucket, "");
    assert_eq!(keys.len(), 3, "the backup, its index and its manifest, without globals: {keys:?}");
    let warnings = manifest(&bucket, &keys[0])["warnings"].to_string();
    assert!(warnings.contains("pg_dumpall") && warnings.contains("transaction pooler"), "{warnings}");
    let checked = program.args(["check", "--allow-pooler"]).run();
    let output = checked.assert_code(0).stdout_text();
    assert!(output.contains("warn  privileges") && output.contains("is a transaction pooler"), "{output}");
    assert_application_finds_its_tables(&database, &pooler, "after the check");
}

#[test]
fn accepts_session_pooler() {
    let (database, bucket) = (shop(), s3().create_bucket("pooled"));
    for is_fresh in [true, false] {
        let pooler = PgBouncer::start(&database, "session", false);
        if !is_fresh {
            assert_application_finds_its_tables(&database, &pooler, "before");
        }
        let outcome = program(&database, &pooler, &bucket).arg("backup").run();
        outcome.assert_code(0);
        assert_eq!(s3().keys(&bucket, "").len(), 4, "with globals: {}", outcome.stderr);
        assert_application_finds_its_tables(&database, &pooler, "after");
        clear(&bucket);
    }
}
