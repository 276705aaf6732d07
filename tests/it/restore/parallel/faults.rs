//! Whatever fails while several sessions restore: nothing of the database's name exists, and the message names the place.

use std::path::Path;

use super::{create, large};
use crate::restore::new_database::databases;
use crate::restore::{FAILED, backed_up, empty};
use crate::support::client::eventually;
use crate::support::program::{Outcome, Running};
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{Postgres, own_postgres, s3};
use crate::support::setup::{backup_program, only_backup};
use crate::support::stored::put;

/// An index that takes its time while it is restored.
const SLOW: &str = "CREATE FUNCTION slow(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN \
    IF current_database() LIKE 'pg_s3_restore_%' THEN PERFORM pg_catalog.pg_sleep(600); END IF; RETURN $1; END $$; \
    CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 9) g; CREATE INDEX ON t (slow(a)); \
    CREATE TABLE u AS SELECT g AS a FROM generate_series(1, 9) g; CREATE INDEX ON u (slow(a)); \
    CREATE TABLE v AS SELECT g AS a FROM generate_series(1, 9) g; CREATE INDEX ON v (a)";
const SLEEPING: &str =
    "FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%' AND state = 'active' AND datname LIKE 'pg_s3_restore_%'";

#[track_caller]
fn assert_nothing(server: &Postgres, outcome: &Outcome) {
    outcome.assert_no_children_left();
    assert_eq!(databases(server, "made"), "", "{}", outcome.stderr);
}

/// A restore that waits for an index.
fn waiting(server: &Postgres, bucket: &str) -> Running {
    let running = create(bucket, server, ("made", 3)).spawn();
    let question = format!("SELECT count(*) > 0 {SLEEPING}");
    eventually(|| server.psql("postgres", &question).as_deref() == Ok("t"), || running.stderr_so_far());
    running
}

#[test]
fn a_session_that_ends_or_a_signal_leaves_nothing_and_a_killed_restore_is_named() {
    let (_source, bucket) = backed_up(SLOW);
    let server = own_postgres(&[]);

    let running = waiting(&server, &bucket);
    server.psql("postgres", &format!("SELECT pg_terminate_backend(pid) {SLEEPING}")).expect("terminated");
    let outcome = running.wait();
    outcome.assert_code(FAILED);
    assert_nothing(&server, &outcome);

    let running = waiting(&server, &bucket);
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(143);
    assert_nothing(&server, &outcome);

    let running = waiting(&server, &bucket);
    running.signal("KILL");
    drop(running.wait());
    assert_eq!(databases(&server, "made"), "pg_s3_restore_");
    let mut said = String::new();
    eventually(
        || {
            said = create(&bucket, &server, ("made", 3)).arg("--dry-run").run().stderr.clone();
            said.contains("a scratch database of an earlier restore exists") && said.contains("DROP DATABASE")
        },
        || "it was not named".to_owned(),
    );
}

#[test]
fn a_damaged_range_and_a_wrong_row_name_their_place() {
    let source = large();
    let bucket = s3().create_bucket("damaged");
    backup_program(&source, &bucket).run().assert_code(0);
    let (server, key) = (own_postgres(&[]), only_backup(&bucket));
    let object = s3().get(&bucket, &key).expect("the backup");
    for part in [2, 3] {
        let mut damaged = object.clone();
        damaged[object.len() / 4 * part] ^= 0x10;
        put(&bucket, &key, &damaged);
        let outcome = create(&bucket, &server, ("made", 2)).run();
        outcome.assert_code(FAILED);
        assert!(
            outcome.stderr.contains("the range from byte ") && outcome.stderr.contains("damaged"),
            "{}",
            outcome.stderr
        );
        assert_nothing(&server, &outcome);
    }
    // The function is created, and the check then fails for rows.
    let (_source, bucket) = backed_up(
        "CREATE FUNCTION fails(int) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT current_database() NOT LIKE 'pg_s3_restore_%' $$; \
         CREATE TABLE wrong (a int CHECK (public.fails(a))); INSERT INTO wrong VALUES (1); CREATE TABLE right_one AS SELECT 1 AS a",
    );
    let outcome = create(&bucket, &server, ("made", 2)).run();
    outcome.assert_code(FAILED);
    assert!(outcome.stderr.contains("(public.wrong): "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("violates check constraint"), "{}", outcome.stderr);
    assert_nothing(&server, &outcome);
}

#[test]
fn a_full_disk_of_the_server_names_the_table_or_the_index_and_leaves_nothing() {
    let server = own_postgres(&[]);
    let restarted = Restarted(&server);
    restarted.stop(Shutdown::Fast);
    // Large enough for its databases and one more with the smaller table, without its indexes. WAL is elsewhere.
    restarted.start_with_small_disk(Path::new("base"), "64m");
    let (rows, indexes) = (large(), empty("indexes"));
    let narrow = "CREATE TABLE narrow AS SELECT md5(g::text) AS a FROM generate_series(1, 150000) g; \
        CREATE INDEX one ON narrow (a); CREATE INDEX two ON narrow (a DESC); CREATE INDEX three ON narrow (lower(a)); \
        CREATE INDEX four ON narrow (upper(a))";
    indexes.psql(narrow).expect("a table");
    for (source, names) in [
        (&rows, &["(public.big", "(public.other"][..]),
        (&indexes, &["INDEX one", "INDEX two", "INDEX three", "INDEX four"]),
    ] {
        let bucket = s3().create_bucket("full");
        backup_program(source, &bucket).run().assert_code(0);
        let outcome = create(&bucket, &server, ("made", 2)).run();
        outcome.assert_code(FAILED);
        assert_nothing(&server, &outcome);
        for words in ["No space left on device", "free disk space on the server"] {
            assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
        }
        assert!(names.iter().any(|name| outcome.stderr.contains(name)), "{}", outcome.stderr);
        server.psql("postgres", "CHECKPOINT").expect("its files are removed");
    }
}
