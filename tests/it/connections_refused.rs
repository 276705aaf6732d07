//! Refused connections: one line says why and what to do, without any part of a secret.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::connections::Role;
use crate::support::program::{Outcome, Program};
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{assert_empty, backup_program, manifest, only_backup, s3_program};

/// `backup`, `check` and `restore` as loud as they can be, as people read it and in JSON.
fn runs(bucket: &str, connection: &str) -> Vec<Outcome> {
    let program = s3_program(bucket).env("LOG_LEVEL", "trace");
    let with = |variable: &str, words: &[&str]| program.clone().env(variable, connection).args(words).run();
    let source = |words: &[&str]| with("POSTGRES_CONNECTION_STRING", words);
    let target = |words: &[&str]| with("RESTORE_CONNECTION_STRING", words);
    vec![
        source(&["backup"]),
        source(&["backup", "--json"]),
        source(&["check"]),
        source(&["check", "--json"]),
        target(&["restore"]),
        target(&["restore", "--json"]),
    ]
}

/// Each run ends with 4 and these words, and shows none of the pieces.
#[track_caller]
fn assert_refused(bucket: &str, connection: &str, words: &[&str], pieces: &[&str]) {
    for outcome in runs(bucket, connection) {
        outcome.assert_code(4);
        let output = format!("{}{}", outcome.stderr, outcome.stdout_text());
        assert!(!output.contains("cannot connect"), "nothing is tried: {output}");
        for word in words {
            assert!(output.contains(word), "{word:?} wanted in {output}");
        }
        for piece in pieces {
            assert!(!output.contains(piece), "{piece:?} of {connection:?} is shown: {output}");
        }
    }
}

#[test]
fn refuses_unencoded_password_without_showing_it() {
    let bucket = s3().create_bucket("unescaped");
    let address = postgres().addr();
    for (password, pieces) in [
        ("k9/Quay-77", ["k9", "Quay-77", "77@"]),
        ("4711/Quay-77", ["4711", "Quay-77", "77@"]),
        ("k9@Quay/77q", ["k9", "Quay", "77q"]),
        ("k9@Quay-77q", ["k9", "Quay", "77q"]),
        ("4711?Quay=1/zz77", ["4711", "Quay", "zz77"]),
        ("4711/k9?Quay&zz77", ["4711", "Quay", "zz77"]),
        ("k9[/Quay]zz77", ["k9", "Quay", "zz77"]),
    ] {
        let connection = format!("postgresql://harbor:{password}@{address}/harbor_db");
        assert_refused(&bucket, &connection, &["write / in the password as %2F"], &pieces);
    }
    assert_refused(&bucket, "postgresql://harbor:k9%Zz77@h/d", &["percent-encode the password"], &["k9", "Zz77"]);
    assert_empty(&bucket);
}

#[test]
fn names_parameters_and_schemes_of_other_drivers() {
    let bucket = s3().create_bucket("drivers");
    let (_, rest) =
        postgres().uri("postgres").split_once("://").map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a URI");
    let password = postgres().password.as_str();
    for (tail, word) in [
        ("?schema=tickets", "schema"),
        ("?pgbouncer=true&connection_limit=1", "pgbouncer"),
        ("?sslmode=no-verify", "sslmode must be one of"),
        ("?sslmode=require&uselibpqcompat=true", "uselibpqcompat"),
        ("?application_name=x&search_path=tickets", "search_path"),
        ("?connect_timeout=10s", "connect_timeout"),
    ] {
        assert_refused(&bucket, &format!("postgresql://{rest}{tail}"), &[word], &[password]);
    }
    for scheme in ["postgresql+asyncpg", "postgres+psycopg2", "jdbc:postgresql", "prisma+postgres"] {
        let words = [&*format!("starts with {scheme}://"), "write postgresql://"];
        assert_refused(&bucket, &format!("{scheme}://{rest}"), &words, &[password]);
    }
    assert_empty(&bucket);
}

#[test]
fn ignores_line_break_at_end_of_connection_string() {
    let (database, bucket) = (postgres().create_database("breaks"), s3().create_bucket("breaks"));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("connection");
    for (index, end) in ["\n", "\r\n", "\n\n"].iter().enumerate() {
        let connection = format!("{}{end}", database.uri());
        fs::write(&file, &connection).expect("written");
        let program = s3_program(&bucket).arg("backup");
        let program = |path: &str| program.clone().env("S3_PATH", format!("{path}{index}"));
        program("variable").env("POSTGRES_CONNECTION_STRING", &connection).run().assert_code(0);
        program("file").env("POSTGRES_CONNECTION_STRING_FILE", &file).run().assert_code(0);
        let restore = s3_program(&bucket).env("S3_PATH", format!("file{index}")).arg("restore");
        restore.clone().env("RESTORE_CONNECTION_STRING", &connection).run().assert_code(0);
        restore.env("RESTORE_CONNECTION_STRING_FILE", &file).run().assert_code(0);
    }
}

/// The one ERROR line; there is no warning.
#[track_caller]
fn only_error(outcome: &Outcome) -> String {
    outcome.assert_code(10).assert_no_children_left();
    assert!(!outcome.stderr.contains(" WARN "), "{}", outcome.stderr);
    let errors: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(" ERROR ")).collect();
    let [error] = errors.as_slice() else { panic!("one line wanted: {}", outcome.stderr) };
    (*error).to_owned()
}

#[test]
fn tries_refused_password_role_or_database_once() {
    let (database, bucket) = (postgres().create_database("refused"), s3().create_bucket("refused"));
    let role = Role::create("right");
    let (addr, name) = (postgres().addr(), &database.name);
    let log = postgres().data_dir.parent().expect("the server's directory").join("log");
    for (connection, words) in [
        (
            format!("postgres://{}:wrong@{addr}/{name}", role.name),
            ["password authentication failed", "correct the password"],
        ),
        (format!("postgres://{}:right@{addr}/no_such_db", role.name), ["no_such_db", "PGDATABASE"]),
        // A server does not say whether a role is missing or its password wrong.
        (
            format!("postgres://no_such_role_{}:right@{addr}/{name}", role.name),
            ["no_such_role", "correct the password"],
        ),
    ] {
        let outcome = backup_program(&database, &bucket).env("POSTGRES_CONNECTION_STRING", connection).run();
        let error = only_error(&outcome);
        assert!(words.iter().all(|word| error.contains(word)) && !error.contains("tried"), "{error}");
    }
    let log = String::from_utf8_lossy(&fs::read(log).expect("its log")).into_owned();
    let refused = format!("password authentication failed for user \"{}\"", role.name);
    assert_eq!(log.matches(&refused).count(), 1, "it is tried once");
    assert_empty(&bucket);
}

#[test]
fn error_has_warning_of_libpq() {
    let (database, bucket) = (postgres().create_database("passfile"), s3().create_bucket("passfile"));
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("pgpass");
    fs::write(&file, format!("*:*:*:*:{}\n", postgres().password)).expect("written");
    // As Kubernetes mounts it.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("its mode");
    let connection = format!("postgres://postgres@{}/{}", postgres().addr(), database.name);
    let program =
        backup_program(&database, &bucket).env("POSTGRES_CONNECTION_STRING", connection).env("PGPASSFILE", &file);
    let error = only_error(&program.run());
    for word in ["no password supplied", "has group or world access", "mode 0600"] {
        assert!(error.contains(word), "{word} wanted: {error}");
    }
}

/// A backup as a role without superuser rights, after running `sql`.
fn reader(database: &Database, bucket: &str, sql: &str) -> (Role, Program) {
    let role = Role::create("reader");
    database
        .psql(&format!("ALTER ROLE {} NOSUPERUSER; {}", role.name, sql.replace("ROLE", &role.name)))
        .expect("a role");
    let uri = format!("postgres://{}:reader@{}/{}", role.name, postgres().addr(), database.name);
    (role, backup_program(database, bucket).env("POSTGRES_CONNECTION_STRING", uri))
}

#[test]
fn role_and_database_settings_do_not_affect_queries() {
    let (database, bucket) = (postgres().create_database("odd"), s3().create_bucket("odd"));
    database.psql("CREATE SCHEMA pgx; CREATE TABLE pgx.t AS SELECT 1 AS n").expect("a table");
    for set in [
        "standard_conforming_strings = off",
        "quote_all_identifiers = on",
        "search_path = pgx",
        "DateStyle = 'SQL, DMY'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "bytea_output = 'escape'",
        "backslash_quote = off",
        "extra_float_digits = -15",
        "IntervalStyle = 'sql_standard'",
        "statement_timeout = '1ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '1ms'",
    ] {
        let order = format!("ALTER DATABASE \"{}\" SET {set}", database.name);
        postgres().psql("postgres", &order).expect("set");
    }
    backup_program(&database, &bucket).run().assert_code(0);
    // On a busy machine the first statement of `pg_dumpall`, which sets its own timeouts, takes longer than a millisecond.
    let keys = s3().every_key(&bucket);
    let key = keys.iter().find(|key| key.ends_with(".sql.gz") && !key.ends_with(".globals.sql.gz")).expect("a backup");
    assert_eq!(manifest(&bucket, key)["database"], *database.name);
    // What its questions find is found, and named as always.
    let role = Role::create("reader");
    postgres().psql("postgres", &format!("ALTER ROLE {} NOSUPERUSER", role.name)).expect("a reader");
    let uri = format!("postgres://{}:reader@{}/{}", role.name, postgres().addr(), database.name);
    let outcome = backup_program(&database, &bucket).env("POSTGRES_CONNECTION_STRING", uri).run();
    assert!(outcome.assert_code(11).stderr.contains("may not read 1 table (pgx.t)"), "{}", outcome.stderr);
}

#[test]
fn estimates_size_that_the_server_does_not_report() {
    let (database, bucket) = (postgres().create_database("size"), s3().create_bucket("size"));
    database.psql("CREATE TABLE t AS SELECT generate_series(1, 10000) AS n; ANALYZE t").expect("a table");
    let refuse = "GRANT pg_read_all_data TO ROLE; REVOKE EXECUTE ON FUNCTION pg_database_size(name), pg_database_size(oid) FROM PUBLIC";
    let (_role, program) = reader(&database, &bucket, refuse);
    program.run().assert_code(0);
    let bytes = manifest(&bucket, &only_backup(&bucket))["database_bytes"].as_u64();
    assert!(bytes.is_some_and(|bytes| bytes > 300_000), "{bytes:?}");
}

#[test]
fn a_database_name_with_a_line_break_is_tried_once() {
    let (database, bucket) = (postgres().create_database("broken"), s3().create_bucket("broken"));
    let connection = format!("{}%0Ano_such_line", database.uri());
    let error = only_error(&backup_program(&database, &bucket).env("POSTGRES_CONNECTION_STRING", connection).run());
    assert!(error.contains("no_such_line") && error.contains("PGDATABASE") && !error.contains("tried"), "{error}");
}
