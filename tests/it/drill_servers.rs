//! Drills of backups that need something of the server, of named and partial backups, and on servers that differ from the source.

use serde_json::json;

use crate::drill::{answer, assert_not_proven, assert_nothing_left, drill, record};
use crate::restore::{NAME, bucket_with, dump_with, empty};
use crate::restore_scratch::role;
use crate::support::program::{Outcome, Program};
use crate::support::servers::database::Database;
use crate::support::servers::{Postgres, own_postgres, s3};
use crate::support::setup::{backup_program, gzipped, installed_clients, only_backup, s3_program};
use crate::support::stored::put;

/// The program with the client programs of this major version.
fn with_clients(program: Program, major: &str) -> Program {
    program.env("PATH", format!("{}:/usr/bin:/bin", installed_clients(major).display()))
}

/// A bucket with a backup of this database.
fn bucket_of(source: &Database, change: impl Fn(Program) -> Program) -> String {
    let bucket = s3().create_bucket("drill");
    change(backup_program(source, &bucket)).run().assert_code(0);
    bucket
}

#[track_caller]
fn assert_ok(bucket: &str, server: &Postgres, outcome: &Outcome, rows: u64) {
    outcome.assert_code(0);
    let record = record(bucket).expect("a record");
    assert_eq!((&record["result"], &record["rows"]), (&"ok".into(), &rows.into()), "{record:#}");
    assert_nothing_left(server, outcome);
}

#[test]
fn newer_server_takes_the_backup_of_an_older_one() {
    let original = own_postgres(&["--major", "13"]);
    let source = original.create_database("source");
    source.psql("CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 10) g").expect("a table");
    let bucket = bucket_of(&source, |program| program);
    for major in ["13", "18"] {
        let server = own_postgres(&["--major", major]);
        let outcome = with_clients(drill(&bucket, &server), "18").arg("--json").run();
        assert_ok(&bucket, &server, &outcome, 10);
        let record = record(&bucket).expect("a record");
        assert!(record["server_version"].as_str().is_some_and(|version| version.starts_with(major)), "{record:#}");
        assert!(record["source_server_version"].as_str().is_some_and(|version| version.starts_with("13")));
    }
}

#[test]
fn older_server_that_refuses_a_statement_says_nothing_about_the_backup() {
    let original = own_postgres(&["--major", "18"]);
    let source = original.create_database("source");
    source.psql("CREATE TABLE t AS SELECT 1 AS a").expect("a table");
    let older = own_postgres(&[]);
    let bucket = bucket_of(&source, |program| with_clients(program, "18"));
    let outcome = drill(&bucket, &older).arg("--json").run();
    assert_ok(&bucket, &older, &outcome, 1);

    source.psql("CREATE TABLE v (a int, b int GENERATED ALWAYS AS (a + 1) VIRTUAL)").expect("a table");
    let bucket = bucket_of(&source, |program| with_clients(program, "18"));
    let outcome = drill(&bucket, &older).arg("--json").run();
    assert_not_proven(&bucket, &outcome, "use a server of PostgreSQL 18 or later");
    assert_nothing_left(&older, &outcome);
}

#[test]
fn counts_configuration_tables_of_an_extension_which_the_server_must_have() {
    let directory = tempfile::tempdir().expect("a directory");
    let extension = directory.path().join("extension");
    std::fs::create_dir(&extension).expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(extension.join(name), text).expect("written");
    write("atlas.control", "default_version = '1'\nrelocatable = false\nschema = public\n");
    // As PostGIS: its own rows come with the extension, and the user's with the dump.
    write(
        "atlas--1.sql",
        "CREATE TABLE places (id int PRIMARY KEY, name text);\nINSERT INTO places SELECT g, 'own' FROM generate_series(1, 100) g;\n\
         SELECT pg_catalog.pg_extension_config_dump('places', 'WHERE id > 100');\n",
    );
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("readable");
    let server = || {
        let server = own_postgres(&["--major", "18"]);
        let path = format!("ALTER SYSTEM SET extension_control_path = '{}:$system'", directory.path().display());
        server.psql("postgres", &path).expect("set");
        server.psql("postgres", "SELECT pg_reload_conf()").expect("reloaded");
        server
    };
    let original = server();
    let source = original.create_database("source");
    source
        .psql("CREATE EXTENSION atlas; INSERT INTO places VALUES (101, 'ours'), (102, 'ours')")
        .expect("an extension");
    let bucket = bucket_of(&source, |program| with_clients(program, "18"));
    let without = own_postgres(&["--major", "18"]);
    let outcome = with_clients(drill(&bucket, &without), "18").arg("--json").run();
    assert_not_proven(&bucket, &outcome, "lacks the extensions \"atlas\"");
    assert_nothing_left(&without, &outcome);
    let with = server();
    let outcome = with_clients(drill(&bucket, &with), "18").arg("--json").run();
    assert_ok(&bucket, &with, &outcome, 2);
}

#[test]
fn counts_rows_that_are_loaded_by_the_partition_root() {
    let source = empty("source");
    source
        .psql(
            "CREATE TABLE events (at date, n int) PARTITION BY RANGE (at); \
             CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01'); \
             CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01'); \
             INSERT INTO events SELECT '2026-01-01'::date + g, g FROM generate_series(0, 49) g",
        )
        .expect("partitions");
    let bucket = bucket_of(&source, |program| program.env("PG_DUMP_ARGS", "--load-via-partition-root"));
    let server = own_postgres(&[]);
    let outcome = drill(&bucket, &server).arg("--json").run();
    assert_ok(&bucket, &server, &outcome, 50);
}

#[test]
fn leaves_out_a_subscription_of_the_source() {
    let source = empty("source");
    source
        .psql(
            "CREATE TABLE t AS SELECT 1 AS a; CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1 dbname=d' \
             PUBLICATION p WITH (connect = false)",
        )
        .expect("a subscription");
    let bucket = bucket_of(&source, |program| program);
    let server = own_postgres(&[]);
    let outcome = drill(&bucket, &server).arg("--json").run();
    source.psql("ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s").expect("dropped");
    assert_ok(&bucket, &server, &outcome, 1);
    let left_out = record(&bucket).expect("a record")["left_out"].to_string();
    assert!(left_out.contains("about subscriptions"), "{left_out}");
}

#[test]
fn server_without_a_system_identifier_counts_as_the_source() {
    let source = empty("source");
    let bucket = bucket_of(&source, |program| program);
    let server = own_postgres(&[]);
    let revoke = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC";
    // For the scratch databases' sessions the one in `postgres` counts.
    server.psql("postgres", revoke).expect("revoked");
    let role = role(&server, "CREATEDB");
    let outcome = drill(&bucket, &role).arg("--json").run();
    assert_not_proven(&bucket, &outcome, "does not report its system identifier");
    let outcome = drill(&bucket, &role).args(["--json", "--allow-same-server"]).run();
    assert_ok(&bucket, &server, &outcome, 0);
    assert_eq!(record(&bucket).expect("a record")["system_identifier"], json!(null));
}

#[test]
fn rows_that_the_server_did_not_take_fail_the_drill() {
    // As a trigger of a manipulated dump would do it.
    let bucket = bucket_with(&dump_with(
        "CREATE TABLE public.t (a int);\nCREATE FUNCTION public.none() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;\n\
         CREATE TRIGGER none BEFORE INSERT ON public.t FOR EACH ROW EXECUTE FUNCTION public.none();\n\
         COPY public.t (a) FROM stdin;\n1\n2\n\\.\n",
    ));
    let server = own_postgres(&[]);
    let outcome = drill(&bucket, &server).args(["--json", "--allow-same-server"]).run();
    outcome.assert_code(14);
    let (result, line) = answer(&outcome);
    assert!(result == "fail" && line["detail"].as_str().is_some_and(|detail| detail.contains("0 rows of 2")), "{line}");
    assert_eq!(record(&bucket).expect("a record")["failed"], "rows");
    assert_nothing_left(&server, &outcome);
}

#[test]
fn manifest_with_other_rows_fails_the_drill() {
    let source = empty("source");
    source.psql("CREATE TABLE t AS SELECT 1 AS a").expect("a table");
    let bucket = bucket_of(&source, |program| program);
    let key = format!("{}.json", only_backup(&bucket));
    let text = String::from_utf8(s3().get(&bucket, &key).expect("the manifest")).expect("text");
    let mut manifest: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    manifest["rows"] = json!(2);
    s3().request("PUT", &format!("/{bucket}/{key}"), manifest.to_string().as_bytes()).expect("put");
    let server = own_postgres(&[]);
    let outcome = drill(&bucket, &server).arg("--json").run();
    outcome.assert_code(14);
    assert_eq!(answer(&outcome).0, "fail");
    assert_eq!(record(&bucket).expect("a record")["failed"], "integrity");
    assert_nothing_left(&server, &outcome);
}

#[test]
fn drills_named_backup_with_a_search_path() {
    let bucket = bucket_with(&dump_with(
        "CREATE TABLE public.t (a int);\nCREATE FUNCTION public.f() RETURNS bigint LANGUAGE plpgsql AS $$BEGIN RETURN (SELECT count(*) FROM t); END$$;\n\
         SELECT public.f();\n",
    ));
    let newer = "postgres-backup-2026-11-24_02-00-00.sql.gz";
    put(&bucket, newer, &gzipped(dump_with("CREATE TABLE public.first (a int);\nSELECT 1 / 0;").as_bytes()));
    let server = own_postgres(&[]);
    let drill = || drill(&bucket, &server).args(["--json", "--allow-same-server"]);
    assert_eq!(answer(drill().run().assert_code(14)).0, "fail", "the latest");
    let named = drill().args(["--backup", NAME]);
    let outcome = named.clone().run();
    let (result, line) = answer(outcome.assert_code(14));
    assert!(
        result == "fail" && line["detail"].as_str().is_some_and(|detail| detail.contains("--search-path")),
        "{line}"
    );
    let outcome = named.args(["--search-path", "public"]).run();
    let (_, line) = answer(outcome.assert_code(0));
    let detail = line["detail"].as_str().expect("a detail");
    assert!(detail.contains("not verified: ") && !detail.contains("as recorded"), "nothing was recorded: {detail}");
    let key = format!("{NAME}.drill.json");
    assert!(s3().get(&bucket, &key).is_ok_and(|text| String::from_utf8_lossy(&text).contains("\"result\": \"ok\"")));
    let outcome = drill().args(["--backup", "postgres-backup-2026-01-01_00-00-00.sql.gz"]).run();
    let (result, line) = answer(outcome.assert_code(14));
    assert!(
        result == "not_proven" && line["detail"].as_str().is_some_and(|detail| detail.contains("no backup")),
        "{line}"
    );
    assert_nothing_left(&server, &outcome);
}

#[test]
fn record_says_that_a_backup_is_partial() {
    let source = empty("source");
    source.psql("CREATE TABLE t AS SELECT 1 AS a; CREATE TABLE u AS SELECT 1 AS a").expect("tables");
    let bucket = bucket_of(&source, |program| program.env("PG_DUMP_ARGS", "--exclude-table=u"));
    let server = own_postgres(&[]);
    let outcome = drill(&bucket, &server).arg("--json").run();
    assert_ok(&bucket, &server, &outcome, 1);
    assert_eq!(record(&bucket).expect("a record")["partial"], true);
}

#[test]
fn drill_with_a_read_only_key_passes_with_a_warning() {
    let source = empty("source");
    let bucket = bucket_of(&source, |program| program);
    let server = own_postgres(&[]);
    let (key, secret) = (&s3().readonly_access_key, &s3().readonly_secret_key);
    let outcome = drill(&bucket, &server).env("S3_ACCESS_KEY", key).env("S3_SECRET_KEY", secret).arg("--json").run();
    let (result, line) = answer(outcome.assert_code(0));
    assert_eq!((result.as_str(), &line["status"]), ("ok", &"warn".into()), "{line}");
    assert!(line["hint"].as_str().is_some_and(|hint| hint.contains(".drill.json")), "{line}");
    assert!(record(&bucket).is_none());
    assert_nothing_left(&server, &outcome);
}

#[test]
fn drill_drops_a_database_of_a_drill_that_was_killed_before_its_comment() {
    let server = own_postgres(&[]);
    let closed = "CREATE DATABASE pg_s3_drill_0123456789abcdef ALLOW_CONNECTIONS false";
    server.psql("postgres", closed).expect("made");
    let open = "CREATE DATABASE pg_s3_drill_fedcba9876543210";
    server.psql("postgres", open).expect("made");
    let bucket = bucket_with(&dump_with("CREATE TABLE public.t (a int);"));
    let outcome = drill(&bucket, &server).arg("--allow-same-server").run();
    outcome.assert_code(0);
    let left = server.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'pg_s3_drill_%'");
    assert_eq!(left.as_deref(), Ok("pg_s3_drill_fedcba9876543210"), "{}", outcome.stderr);
}

#[test]
fn full_check_runs_the_drill_after_all_other_checks() {
    let source = empty("source");
    let bucket = bucket_of(&source, |program| program);
    let server = own_postgres(&[]);
    let check = s3_program(&bucket).args(["check", "--json"]).env("POSTGRES_CONNECTION_STRING", source.uri());
    let outcome = check.env("DRILL_CONNECTION_STRING", server.uri("postgres")).run();
    outcome.assert_code(0);
    let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    assert!(checks.iter().any(|check| check["check"] == "schema_dump"), "{report}");
    assert_eq!(checks.last().map(|check| &check["check"]), Some(&"drill".into()), "{report}");
    assert_ok(&bucket, &server, &outcome, 0);
}
