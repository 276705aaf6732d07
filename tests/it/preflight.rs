//! Warnings before a dump about what could make it fail, each with a hint.

use crate::support::program::Outcome;
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::backup_program;

/// Backs up as a role of little power that was made by `sql`; `ROLE` stands for its name.
fn as_role(sql: &str) -> (Outcome, Database) {
    let database = postgres().create_database("preflight");
    let role = format!("{}_reader", database.name);
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'reader'; {}", sql.replace("ROLE", &role));
    database.psql(&create).expect("a role");
    let bucket = s3().create_bucket("preflight");
    let uri = format!("postgres://{role}:reader@{}/{}", postgres().addr(), database.name);
    let outcome = backup_program(&database, &bucket).env("POSTGRES_CONNECTION_STRING", uri).run();
    database.psql(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).expect("dropped");
    (outcome, database)
}

fn says(outcome: &Outcome, words: &[&str]) {
    for word in words {
        assert!(outcome.stderr.contains(word), "{word:?} wanted in:\n{}", outcome.stderr);
    }
}

#[test]
fn warns_of_unreadable_objects_before_pg_dump_fails() {
    let (outcome, _database) =
        as_role("CREATE TABLE secret_plans (a int); CREATE SEQUENCE counter; SELECT lo_create(0)");
    assert_eq!(outcome.code, Some(11), "{}", outcome.stderr);
    says(
        &outcome,
        &["1 table (public.secret_plans)", "1 sequence (public.counter)", "1 large object", "pg_read_all_data"],
    );
}

#[test]
fn warns_of_row_level_security_before_pg_dump_fails() {
    let (outcome, _database) =
        as_role("CREATE TABLE t (a int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO ROLE");
    assert_eq!(outcome.code, Some(11), "{}", outcome.stderr);
    says(&outcome, &["row-level security would hide rows of 1 table (public.t)", "BYPASSRLS"]);
}

#[test]
fn names_table_with_invalid_utf8_as_well_as_possible() {
    let without = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    let database = postgres().create_database_with("preflight", without);
    let role = format!("{}_reader", database.name);
    // Latin-1: the server converts nothing.
    let table = r"quote_ident('gr' || convert_from('\xf6', 'SQL_ASCII') || 'n')";
    let create = format!("DO $$ BEGIN EXECUTE 'CREATE TABLE ' || {table} || ' ()'; END $$");
    database.psql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'reader'; {create}")).expect("a table");
    let uri = format!("postgres://{role}:reader@{}/{}", postgres().addr(), database.name);
    let bucket = s3().create_bucket("preflight");
    let outcome = backup_program(&database, &bucket).env("POSTGRES_CONNECTION_STRING", uri).run();
    database.psql(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).expect("dropped");
    assert_eq!(outcome.code, Some(11), "{}", outcome.stderr);
    says(&outcome, &["1 table (public.\"gr\u{fffd}n\")"]);
}

#[test]
fn warns_of_tcp_user_timeout_without_spool() {
    let (database, bucket) = (postgres().create_database("impatient"), s3().create_bucket("impatient"));
    let set = |value| database.psql(&format!("ALTER DATABASE \"{}\" SET tcp_user_timeout = '{value}'", database.name));
    let words = "closes a connection that is not read for 90000 ms";
    let backup = || backup_program(&database, &bucket);
    set("90s").expect("set");
    let outcome = backup().run();
    outcome.assert_code(0);
    says(&outcome, &[words, "BACKUP_SPOOL_DIR", "SET tcp_user_timeout = 0"]);
    let spool = tempfile::tempdir().expect("a directory");
    let spooled = backup().env("BACKUP_SPOOL_DIR", spool.path().to_str().expect("a path")).run();
    set("0").expect("set");
    for untold in [spooled, backup().run()] {
        untold.assert_code(0);
        assert!(!untold.stderr.contains("nothing is read"), "{}", untold.stderr);
    }
}

#[test]
fn does_not_warn_role_that_may_read_everything() {
    let (outcome, _database) = as_role("CREATE TABLE t (a int); GRANT pg_read_all_data TO ROLE");
    outcome.assert_code(0);
    assert!(!outcome.stderr.contains(" WARN "), "{}", outcome.stderr);
}

#[test]
fn refused_query_keeps_lock_and_backup() {
    let refuse = "REVOKE EXECUTE ON FUNCTION row_security_active(oid) FROM PUBLIC";
    let (outcome, _database) = as_role(&format!("CREATE TABLE t (a int); GRANT pg_read_all_data TO ROLE; {refuse}"));
    outcome.assert_code(0);
    says(&outcome, &["permission denied for function row_security_active"]);
    assert!(!outcome.stderr.contains("its lock are lost"), "{}", outcome.stderr);
}

#[test]
fn warns_of_host_named_like_a_pooler() {
    let (database, bucket) = (postgres().create_database("pooler"), s3().create_bucket("pooler"));
    let program = backup_program(&database, &bucket);
    for (host, is_pooler) in [("PgBouncer.invalid", true), ("db-pooler.invalid", true), ("db.invalid", false)] {
        let connection = format!("{}?hostaddr=127.0.0.1", database.uri_via(host, postgres().port));
        let outcome = program.clone().env("POSTGRES_CONNECTION_STRING", connection).run();
        outcome.assert_code(0);
        let is_named = outcome.stderr.contains(&format!("{host}:{} looks like a connection pooler", postgres().port));
        assert_eq!(is_named, is_pooler, "{host}: {}", outcome.stderr);
    }
}

#[test]
fn excluding_arguments_make_backup_partial() {
    let database = postgres().create_database("partial");
    database.psql("CREATE TABLE a AS SELECT 1 AS n; CREATE TABLE b AS SELECT 2 AS n").expect("tables");
    let bucket = s3().create_bucket("partial");
    let program = || backup_program(&database, &bucket);
    let outcome = program().args(["--json", "--", "--exclude-table-data", "b", "--verbose"]).run();
    outcome.assert_code(0);
    says(&outcome, &["this backup is partial", "--exclude-table-data b"]);
    let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!(report["partial"], serde_json::Value::Bool(true));
    let outcome = program().env("PG_DUMP_ARGS", "--no-owner --inserts").arg("--json").run();
    let report: serde_json::Value = serde_json::from_slice(&outcome.assert_code(0).stdout).expect("JSON");
    assert_eq!(report["partial"], serde_json::Value::Bool(false));
    let refused = program().env("PG_DUMP_ARGS", "--schema-only").run();
    says(refused.assert_code(4), &["PG_DUMP_ARGS", "--schema-only"]);
}
