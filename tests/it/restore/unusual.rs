//! Databases and targets out of the ordinary: each is restored, or refused beforehand with what to do.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::new_database::create;
use super::{FAILED, NAME, assert_same, backed_up, dump_with, empty, restore_program};
use crate::support::process::write_script;
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{installed_tools, own_postgres, own_standby, postgres, s3};
use crate::support::setup::{backup_program, manifest, only_backup, s3_program};
use crate::support::stored::put;

const MANY_TABLES: u64 = 5_000;
const MANY_LARGE_OBJECTS: u64 = 20_000;

/// `restore --create-db` on the server that all tests share, and the database.
fn created(bucket: &str, hint: &str) -> Database {
    let name = unique_name(hint);
    let target = postgres().adopt_database("postgres");
    restore_program(bucket, &target).args(["--create-db", &name]).run().assert_code(0);
    postgres().adopt_database(&name)
}

#[test]
fn thousands_of_tables_and_large_objects_are_restored_or_refused_beforehand() {
    let source = empty("many");
    let tables = "SELECT format('CREATE TABLE t%s (id int PRIMARY KEY)', i) FROM generate_series";
    source
        .psql(&format!(
            "DO $$ DECLARE s text; BEGIN FOR s IN {tables}(1, {MANY_TABLES}) i LOOP EXECUTE s; END LOOP; END $$; \
             INSERT INTO t7 VALUES (7); \
             SELECT count(lo_from_bytea(0, decode(md5(i::text), 'hex'))) FROM generate_series(1, {MANY_LARGE_OBJECTS}) i"
        ))
        .expect("many objects");
    let bucket = s3().create_bucket("many");
    backup_program(&source, &bucket).timeout(Duration::from_mins(5)).run().assert_code(0);
    let manifest = manifest(&bucket, &only_backup(&bucket));
    // Each table has an index.
    let counted = (&manifest["relations"], &manifest["large_objects"]);
    assert_eq!(counted, (&(2 * MANY_TABLES).into(), &MANY_LARGE_OBJECTS.into()));

    // A server with PostgreSQL's own default.
    let server = own_postgres(&[]);
    server.psql("postgres", "ALTER SYSTEM SET max_locks_per_transaction = 64").expect("set");
    let restarted = Restarted(&server);
    restarted.stop(Shutdown::Fast);
    restarted.start();
    let refused = restore_program(&bucket, &server.create_database("target")).run();
    refused.assert_code(FAILED);
    for words in
        ["creates 10000 relations and 20000 large objects", "set max_locks_per_transaction to 1", "--create-db"]
    {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }

    let target = empty("target");
    restore_program(&bucket, &target).timeout(Duration::from_mins(5)).run().assert_code(0);
    let count = "SELECT (SELECT count(*) FROM pg_tables WHERE schemaname = 'public'), count(*), \
                 (SELECT count(DISTINCT md5(data)) FROM pg_largeobject), (SELECT id FROM t7) FROM pg_largeobject_metadata";
    let expected = format!("{MANY_TABLES}|{MANY_LARGE_OBJECTS}|{MANY_LARGE_OBJECTS}|7");
    assert_eq!(target.psql(count), Ok(expected));
}

#[test]
fn a_row_of_200_megabytes_takes_no_more_memory_than_a_small_one() {
    const ROW: usize = 200 << 20;
    let dump = dump_with("CREATE TABLE public.t (a text);\nCOPY public.t (a) FROM stdin;\n@\n\\.\n");
    let (before, after) = dump.split_once('@').expect("a row");
    let mut object = GzEncoder::new(Vec::new(), Compression::fast());
    object.write_all(before.as_bytes()).expect("to memory");
    let piece = vec![b'x'; 1 << 20];
    (0..ROW >> 20).for_each(|_| object.write_all(&piece).expect("to memory"));
    object.write_all(after.as_bytes()).expect("to memory");
    let bucket = s3().create_bucket("row");
    put(&bucket, NAME, &object.finish().expect("to memory"));
    let target = empty("target");
    let outcome = restore_program(&bucket, &target).timeout(Duration::from_mins(5)).run();
    assert!(outcome.assert_code(0).peak_rss_bytes < 50 << 20, "{} bytes", outcome.peak_rss_bytes);
    assert_eq!(target.psql("SELECT length(a) FROM t"), Ok(ROW.to_string()));
}

#[test]
fn an_event_trigger_a_subscription_and_an_icu_collation_are_restored() {
    let (source, bucket) = backed_up(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no %'', tg_tag; END'; \
         CREATE COLLATION phonebook (provider = icu, locale = 'de-u-co-phonebk'); \
         CREATE TABLE t (a text COLLATE phonebook PRIMARY KEY); INSERT INTO t VALUES ('Aerger'), ('Ärger'), ('Azur'); \
         CREATE SUBSCRIPTION a_subscription CONNECTION 'host=/nowhere' PUBLICATION p WITH (connect = false); \
         CREATE EVENT TRIGGER refuse ON ddl_command_end EXECUTE FUNCTION refuse()",
    );
    let in_place = empty("target");
    restore_program(&bucket, &in_place).run().assert_code(0);
    for target in [in_place, created(&bucket, "made")] {
        assert_same(&source, &target);
        assert_eq!(target.psql("SELECT string_agg(a, ' ' ORDER BY a) FROM t").as_deref(), Ok("Aerger Ärger Azur"));
        assert!(target.psql("CREATE TABLE u ()").expect_err("refused").contains("no CREATE TABLE"));
        forget_subscription(&target);
    }
    forget_subscription(&source);

    // Only a superuser may create them.
    let (_server, target, uri) = super::target_of_a_plain_role();
    let flags = ["--no-owner", "--no-privileges"];
    let refused = restore_program(&bucket, &target).env("RESTORE_CONNECTION_STRING", uri).args(flags).run();
    refused.assert_code(FAILED);
    assert!(refused.stderr.contains("superuser"), "{}", refused.stderr);
}

/// A database with a subscription cannot be dropped.
fn forget_subscription(database: &Database) {
    let subscription = "a_subscription";
    for statement in [
        "DROP EVENT TRIGGER refuse",
        &format!("ALTER SUBSCRIPTION {subscription} SET (slot_name = NONE)"),
        &format!("DROP SUBSCRIPTION {subscription}"),
    ] {
        database.psql(statement).expect("forgotten");
    }
}

#[test]
fn what_the_target_lacks_is_named_beforehand() {
    let space = unique_name("space");
    postgres().create_in_place_tablespace(&space);
    let (source, bucket) = backed_up(&format!("CREATE EXTENSION citext; CREATE TABLE t (a citext) TABLESPACE {space}"));
    let key = only_backup(&bucket);
    let mut manifest = manifest(&bucket, &key);
    let extension = serde_json::json!({"name": "no such extension", "version": "1", "schema": "app"});
    manifest["extensions"].as_array_mut().expect("an array").push(extension);
    put(&bucket, &format!("{key}.json"), manifest.to_string().as_bytes());

    let server = own_postgres(&[]);
    let standby = own_standby(&server);
    let target = server.create_database("target");
    let refused = restore_program(&bucket, &target).run();
    refused.assert_code(FAILED);
    for words in
        [&format!("the tablespaces \"{space}\""), "--no-tablespaces", "lacks the extensions \"no such extension\""]
    {
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    assert_eq!(target.psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").as_deref(), Ok("0"));
    let flags = ["--no-tablespaces", "--exclude-schema", "app"];
    restore_program(&bucket, &target).args(flags).run().assert_code(0);

    let restore =
        s3_program(&bucket).env("RESTORE_CONNECTION_STRING", standby.uri("postgres")).args(["restore"]).args(flags);
    for program in [restore.clone(), restore.args(["--create-db", "made"])] {
        let refused = program.run();
        refused.assert_code(FAILED);
        assert!(refused.stderr.contains("the target is a standby and read-only"), "{}", refused.stderr);
    }
    drop((source, target));
}

#[test]
fn an_analyze_that_fails_is_a_warning() {
    let (_source, bucket) = backed_up(
        "CREATE TABLE t AS SELECT 1 AS a; CREATE FUNCTION f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \
         'BEGIN IF current_query() LIKE ''ANALYZE%'' THEN RAISE ''not now''; END IF; RETURN 1; END'; CREATE INDEX ON t (f(a)); \
         CREATE TABLE \"U\" AS SELECT 1 AS a; CREATE TABLE p (a int) PARTITION BY LIST (a); \
         CREATE TABLE p1 PARTITION OF p DEFAULT; INSERT INTO p VALUES (1)",
    );
    let target = empty("target");
    let outcome = restore_program(&bucket, &target).run();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains("ANALYZE failed") && outcome.stderr.contains("not now"), "{}", outcome.stderr);
    assert_eq!(target.psql("SELECT a FROM t").as_deref(), Ok("1"));
    let outcome = restore_program(&bucket, &empty("target")).arg("--no-analyze").run();
    assert!(!outcome.assert_code(0).stderr.contains("ANALYZE"), "{}", outcome.stderr);

    // Several sessions analyze each table by itself, so the others have statistics.
    let name = unique_name("made");
    let outcome = create(&bucket, postgres(), &name).args(["--jobs", "2"]).run();
    let warning = outcome.assert_code(0).stderr.lines().filter(|line| line.contains("ANALYZE failed"));
    assert_eq!(warning.filter(|line| line.contains("not now")).count(), 1, "{}", outcome.stderr);
    let known =
        "SELECT string_agg(DISTINCT tablename, ' ' ORDER BY tablename) FROM pg_stats WHERE schemaname = 'public'";
    assert_eq!(postgres().adopt_database(&name).psql(known).as_deref(), Ok("U p p1"));
}

/// A psql that says that it is of another version, and keeps what it is sent.
#[test]
fn a_psql_that_does_not_know_restrict_is_not_sent_it() {
    let (source, bucket) = backed_up("CREATE TABLE t AS SELECT 1 AS a");
    let tools = installed_tools().expect("psql");
    for (version, knows) in [("150013", false), ("150014", true)] {
        let directory = tempfile::tempdir().expect("a directory");
        let [pg_dump, psql, sent] = ["pg_dump", "psql", "sent"].map(|name| directory.path().join(name));
        std::os::unix::fs::symlink(tools.join("pg_dump"), &pg_dump).expect("a link");
        let real = tools.join("psql").display().to_string();
        let script = format!("#!/bin/sh\ntee -a '{}' | '{real}' -v VERSION_NUM={version} \"$@\"\n", sent.display());
        write_script(&psql, &script);
        let target = empty("target");
        restore_program(&bucket, &target).env("PG_DUMP_PATH", &pg_dump).run().assert_code(0);
        let sent = std::fs::read_to_string(&sent).expect("what was sent");
        assert_eq!(sent.contains("\\restrict "), knows, "{version}");
        assert_same(&source, &target);
    }
}
