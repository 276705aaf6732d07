//! Restores databases that people reported as failures of other tools.
//!
//! Functions and operators that shadow those of the system are in `crate::hijack`, a server with few locks is in
//! [`super::new_database`], connection strings are in `crate::connections_refused`.

use super::{FAILED, assert_same, assert_untouched, empty, restore_program, target_of_a_plain_role};
use crate::globals::{load, run_globals};
use crate::restore_commands::archive;
use crate::support::pgbouncer::PgBouncer;
use crate::support::program::{Outcome, Program};
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{own_postgres, postgres, s3};
use crate::support::setup::{backup_program, globals, manifest, only_backup, s3_program};

/// A database with the content of `tests/fixtures/field_cases/FILE.sql`.
fn source(file: &str, options: &str) -> Database {
    let source = postgres().create_database_with("field", options);
    load(&source, &format!("tests/fixtures/field_cases/{file}.sql"));
    source
}

/// A bucket with a backup by `pg_dump` with these arguments.
fn backed_up_with(source: &Database, arguments: &str) -> String {
    let bucket = s3().create_bucket("field");
    backup_program(source, &bucket).env("PG_DUMP_ARGS", arguments).run().assert_code(0);
    bucket
}

fn backed_up(source: &Database) -> String {
    backed_up_with(source, "")
}

/// `restore --create-db` on the shared server, and the database that it creates.
fn create(bucket: &str) -> (Program, Database) {
    let name = unique_name("made");
    let program = s3_program(bucket).env("RESTORE_CONNECTION_STRING", postgres().uri("postgres"));
    (program.args(["restore", "--create-db", &name]), postgres().adopt_database(&name))
}

/// The restore failed, said these words, and left nothing.
#[track_caller]
fn assert_fails(outcome: &Outcome, target: &Database, words: &str) {
    outcome.assert_code(FAILED).assert_no_children_left();
    assert!(outcome.stderr.contains(words), "{words:?} wanted in {}", outcome.stderr);
    assert_untouched(target, outcome);
}

#[test]
fn restores_configuration_of_an_extension_that_is_installed() {
    let source = source("extension_row_security", "");
    let bucket = backed_up(&source);
    let target = empty("target");
    load(&target, "tests/fixtures/field_cases/extension_row_security.sql");
    target.psql("DELETE FROM clockwork.errand; DROP TABLE crew").expect("as its installation leaves it");
    restore_program(&bucket, &target).run().assert_code(0);
    assert_same(&source, &target);
    assert_eq!(target.psql("SELECT what FROM clockwork.errand").as_deref(), Ok("VACUUM"));
}

#[test]
fn restores_hash_partitions_by_their_root() {
    let source = source("hash_partitions", "");
    let target = empty("target");
    // The hash is of the OIDs of the labels, which differ in another database.
    let outcome = restore_program(&backed_up(&source), &target).run();
    assert_fails(&outcome, &target, "back up with PG_DUMP_ARGS=--load-via-partition-root");
    let bucket = backed_up_with(&source, "--load-via-partition-root");
    restore_program(&bucket, &target).run().assert_code(0);
    for rows in ["SELECT h, n FROM swatch ORDER BY n", "SELECT s, n FROM swirl ORDER BY n"] {
        assert_eq!(target.psql(rows), source.psql(rows));
    }
}

#[test]
fn restores_functions_that_need_a_search_path() {
    let source = source("functions_search_path", "");
    let bucket = backed_up(&source);
    let target = empty("target");
    assert_fails(&restore_program(&bucket, &target).run(), &target, "use --search-path public");
    let with_path = |bucket: &str| restore_program(bucket, &target).args(["--search-path", "public"]).run();
    // PostgreSQL does not support a CHECK that reads another table.
    assert_fails(&with_path(&bucket), &target, "make it NOT VALID in the source database");
    let constraint = "ALTER TABLE arrival DROP CONSTRAINT arrival_code_check, \
                      ADD CONSTRAINT arrival_code_check CHECK (berth_known(code)) NOT VALID";
    source.psql(constraint).expect("not valid");
    with_path(&backed_up(&source)).assert_code(0);
    assert_same(&source, &target);
}

#[test]
fn restores_materialized_views_that_need_a_search_path() {
    let source = source("matview_query", "");
    let bucket = backed_up(&source);
    let target = empty("target");
    assert_fails(&restore_program(&bucket, &target).run(), &target, "use --search-path public");
    restore_program(&bucket, &target).args(["--search-path", "public"]).run().assert_code(0);
    assert_same(&source, &target);
    for rows in ["SELECT word, ndoc FROM note_words ORDER BY word", "SELECT total FROM note_total"] {
        assert_eq!(target.psql(rows), source.psql(rows));
    }
}

#[test]
fn restores_partitions_and_constraints_that_sort_by_icu() {
    let options = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'und' LOCALE 'C.UTF-8'";
    let source = source("icu_partitions", options);
    let bucket = backed_up(&source);
    let target = empty("target");
    assert_fails(&restore_program(&bucket, &target).run(), &target, "another locale than the source, use --create-db");
    let (program, made) = create(&bucket);
    program.run().assert_code(0);
    assert_same(&source, &made);
    let target = postgres().create_database_with("target", options);
    restore_program(&bucket, &target).run().assert_code(0);
    assert_same(&source, &target);
}

#[test]
fn restores_bytes_of_no_encoding() {
    let options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'";
    let source = source("sql_ascii", options);
    let bucket = backed_up(&source);
    let utf8 = empty("target");
    assert_fails(&restore_program(&bucket, &utf8).run(), &utf8, "the dump needs SQL_ASCII");
    let (program, made) = create(&bucket);
    program.run().assert_code(0);
    let target = postgres().create_database_with("target", options);
    restore_program(&bucket, &target).run().assert_code(0);
    let bytes = "SELECT id, t::bytea, obj_description('letter'::regclass)::bytea FROM letter ORDER BY id";
    for restored in [made, target] {
        assert_eq!(restored.psql(bytes), source.psql(bytes));
    }
}

#[test]
fn restores_large_objects_with_their_owner_and_many_tables() {
    let role = unique_name("archivist");
    let source = archive(&role);
    let bucket = backed_up(&source);
    let (program, made) = create(&bucket);
    program.run().assert_code(0);
    assert_same(&source, &made);
    let owners = "SELECT lomowner::regrole, count(*) FROM pg_largeobject_metadata GROUP BY 1";
    assert_eq!(made.psql(owners), source.psql(owners));
    drop((source, made));
    postgres().psql("postgres", &format!("DROP ROLE {role}")).expect("dropped");
}

#[test]
fn restores_as_a_plain_role_beside_extensions_of_the_provider() {
    let source = empty("source");
    let extensions = "CREATE EXTENSION pg_trgm; CREATE EXTENSION pg_stat_statements";
    let table = "CREATE TABLE shelf (id int PRIMARY KEY, t text); CREATE INDEX ON shelf USING gin (t gin_trgm_ops); \
                 INSERT INTO shelf VALUES (1, 'nuts')";
    source.psql(&format!("{extensions}; {table}")).expect("a database");
    let bucket = backed_up(&source);
    let (_server, target, uri) = target_of_a_plain_role();
    target.psql(extensions).expect("made by the provider");
    let program = restore_program(&bucket, &target).env("RESTORE_CONNECTION_STRING", uri);
    let outcome = program.args(["--no-owner", "--no-privileges", "--json"]).run();
    outcome.assert_code(0);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout_text()).expect("JSON");
    let left_out = report["left_out"].to_string();
    assert!(left_out.contains("the comment on the extension pg_"), "{left_out}");
    assert_eq!(
        target.psql("SELECT id, t, tableowner FROM shelf, pg_tables WHERE tablename = 'shelf'").as_deref(),
        Ok("1|nuts|app")
    );
}

#[test]
fn restores_a_subscription_disabled_or_without_it() {
    let server = own_postgres(&[]);
    let source = server.create_database("quay");
    load(&source, "tests/fixtures/field_cases/subscription.sql");
    let bucket = backed_up(&source);
    let state = "SELECT subname, subenabled, subconninfo FROM pg_subscription s, pg_database d \
                 WHERE d.oid = subdbid AND datname = current_database()";
    let create = |bucket: &str, name: &str| {
        let program = s3_program(bucket).env("RESTORE_CONNECTION_STRING", server.uri("postgres"));
        program.args(["restore", "--create-db", name]).run()
    };
    let target = server.create_database("target");
    let outcomes = [restore_program(&bucket, &target).run(), create(&bucket, "made")];
    for (outcome, restored) in outcomes.iter().zip([&target, &server.adopt_database("made")]) {
        outcome.assert_code(0);
        assert!(!outcome.stderr.contains("tidesecret"), "{}", outcome.stderr);
        assert_eq!(restored.psql(state), source.psql(state));
        assert_eq!(restored.psql("SELECT id FROM quay").as_deref(), Ok("1"));
        restored.psql("ALTER SUBSCRIPTION tide SET (slot_name = NONE)").expect("detached");
        restored.psql("DROP SUBSCRIPTION tide").expect("dropped");
    }
    // A role that is no superuser does not dump it.
    let uri = format!("postgresql://nightwatch:nw@{}/{}", server.addr(), source.name);
    let bucket = s3().create_bucket("field");
    backup_program(&source, &bucket).env("POSTGRES_CONNECTION_STRING", uri).run().assert_code(0);
    let warnings = manifest(&bucket, &only_backup(&bucket))["warnings"].to_string();
    assert!(warnings.contains("subscriptions not dumped"), "{warnings}");
    create(&bucket, "without").assert_code(0);
    assert_eq!(server.psql("without", &format!("SELECT id FROM quay; {state}")).as_deref(), Ok("1"));
    source.psql("ALTER SUBSCRIPTION tide SET (slot_name = NONE)").expect("detached");
    source.psql("DROP SUBSCRIPTION tide").expect("dropped");
}

const VALID_UNTIL: &str = "SELECT rolvaliduntil FROM pg_roles WHERE rolname LIKE 'back\\\\%'";

#[test]
fn restores_whatever_the_database_sets_for_its_sessions() {
    let role = unique_name("back\\slash 'quoted' \"");
    let quoted = format!("\"{}\"", role.replace('"', "\"\""));
    postgres().psql("postgres", &format!("CREATE ROLE {quoted} VALID UNTIL '2030-02-01'")).expect("a role");
    let source = source("odd_settings", "");
    let own = "SELECT unnest(setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase \
               WHERE datname = current_database() ORDER BY 1";
    let change = format!("SET TRANSACTION READ WRITE; ALTER TABLE odd.r OWNER TO {quoted}");
    source.psql(&change).expect("an owner");
    let bucket = backed_up(&source);
    let (program, made) = create(&bucket);
    program.run().assert_code(0);
    assert_same(&source, &made);
    assert_eq!(made.psql(own), source.psql(own));
    // Into a database with the same settings.
    made.psql("SET TRANSACTION READ WRITE; DROP SCHEMA odd CASCADE").expect("emptied");
    restore_program(&bucket, &made).run().assert_code(0);
    assert_same(&source, &made);
    // On a server without the role.
    let server = own_postgres(&[]);
    let program = s3_program(&bucket).env("RESTORE_CONNECTION_STRING", server.uri("postgres"));
    program.args(["restore", "--create-db", "made", "--globals"]).run().assert_code(0);
    assert_same(&source, &server.adopt_database("made"));
    assert_eq!(server.psql("postgres", VALID_UNTIL), postgres().psql("postgres", VALID_UNTIL));
    // psql creates the same role from the globals.
    server.psql("postgres", &format!("DROP ROLE {quoted}")).expect("dropped");
    run_globals(&globals(&bucket, &only_backup(&bucket)), &server.create_database("by_hand"));
    server.psql("postgres", &format!("DROP ROLE {quoted}")).expect("it is there");
    drop((source, made));
    postgres().psql("postgres", &format!("DROP ROLE {quoted}")).expect("dropped");
}

#[test]
fn restores_arrays_and_views_whatever_the_target_sets() {
    let source = empty("source");
    source
        .psql("CREATE TABLE t AS SELECT ARRAY[NULL, 'x'] AS a; CREATE VIEW v AS SELECT a = NULL AS b FROM t")
        .expect("a view");
    let bucket = backed_up(&source);
    let target = empty("target");
    for setting in ["array_nulls = off", "transform_null_equals = on"] {
        target.psql(&format!("ALTER DATABASE \"{}\" SET {setting}", target.name)).expect("set");
    }
    restore_program(&bucket, &target).run().assert_code(0);
    for question in ["SELECT a[1] IS NULL FROM t", "SELECT b IS NULL FROM v"] {
        assert_eq!(target.psql(question).as_deref(), Ok("t"), "{question}");
    }
}

#[test]
fn refuses_a_transaction_pooler_and_takes_a_session_pooler() {
    let (_source, bucket) = super::backed_up("CREATE TABLE t AS SELECT 7 AS a");
    let target = empty("target");
    let through = |mode: &str| {
        let pooler = PgBouncer::start(&target, mode, false);
        let uri = target.uri_via("127.0.0.1", pooler.port);
        let outcome = restore_program(&bucket, &target).env("RESTORE_CONNECTION_STRING", uri).run();
        (pooler, outcome)
    };
    let (_pooler, refused) = through("transaction");
    refused.assert_code(4).assert_no_children_left();
    assert!(refused.stderr.contains("is a transaction pooler"), "{}", refused.stderr);
    assert_untouched(&target, &refused);
    let (_pooler, outcome) = through("session");
    outcome.assert_code(0);
    assert_eq!(target.psql("SELECT a FROM t").as_deref(), Ok("7"));
}
