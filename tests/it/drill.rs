//! The drill: a good backup passes, a bad one fails, a drill that cannot be run is neither, and no scratch database is left.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::monitoring::{assert_valid_metrics, sample};
use crate::restore::{bucket_with, dump_with, empty};
use crate::restore_scratch::role;
use crate::support::client::eventually;
use crate::support::program::{Outcome, Program};
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{Postgres, own_postgres, postgres, s3};
use crate::support::setup::{backup_program, only_backup, s3_program};

const CHECK_FAILED: i32 = 14;
const SLOW: &str =
    "CREATE TABLE public.t (a int);\nCOPY public.t (a) FROM stdin;\n1\n\\.\nSELECT pg_catalog.pg_sleep(600);\n";

/// A drill of the latest backup of a bucket on a server.
pub fn drill(bucket: &str, server: &Postgres) -> Program {
    s3_program(bucket).env("DRILL_CONNECTION_STRING", server.uri("postgres")).args([
        "check",
        "--bucket-only",
        "--max-age",
        "none",
    ])
}

/// A database with a table, a large object and a role, in a bucket of its own.
fn backed_up() -> (Database, String) {
    let source = empty("source");
    let owner = unique_name("owner");
    source
        .psql(&format!(
            "CREATE ROLE {owner}; CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 20000) g; \
             ALTER TABLE t OWNER TO {owner}; GRANT SELECT ON t TO PUBLIC; SELECT lo_from_bytea(0, 'x')"
        ))
        .expect("objects");
    let bucket = s3().create_bucket("drill");
    backup_program(&source, &bucket).run().assert_code(0);
    (source, bucket)
}

/// The result in `--json`, and the line of the check.
#[track_caller]
pub fn answer(outcome: &Outcome) -> (String, Value) {
    outcome.assert_no_children_left();
    let report: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["check"] == "drill");
    let result = report["drill"]["result"].as_str().expect("a result").to_owned();
    (result, check.expect("a line").clone())
}

pub fn record(bucket: &str) -> Option<Value> {
    let key = s3().keys(bucket, "").into_iter().find(|key| key.ends_with(".drill.json"))?;
    Some(serde_json::from_slice(&s3().get(bucket, &key).expect("the record")).expect("JSON"))
}

#[track_caller]
pub fn assert_nothing_left(server: &Postgres, outcome: &Outcome) {
    let left = server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'pg_s3_drill_%'");
    assert_eq!(left.as_deref(), Ok("0"), "{}", outcome.stderr);
}

/// The drill could not be run, for this reason, and nothing is written.
#[track_caller]
pub fn assert_not_proven(bucket: &str, outcome: &Outcome, reason: &str) {
    outcome.assert_code(CHECK_FAILED);
    let (result, line) = answer(outcome);
    let (detail, hint) = (line["detail"].as_str().expect("a detail"), line["hint"].as_str().unwrap_or_default());
    let is_named = detail.contains(reason) || hint.contains(reason);
    assert!(result == "not_proven" && detail.starts_with("not proven: ") && is_named, "{line}");
    assert!(!hint.is_empty() || !detail.contains("--allow-"), "the hint is not apart: {line}");
    assert_eq!(record(bucket), None);
}

#[test]
fn restores_good_backup_and_records_evidence() {
    let (source, bucket) = backed_up();
    let key = only_backup(&bucket);
    let server = own_postgres(&[]);
    let dir = tempfile::tempdir().expect("a directory");
    let queries = dir.path().join("queries.sql");
    fs::write(&queries, "-- ours\nSELECT count(*) = 20000 FROM public.t;\nSELECT true;\n").expect("written");
    let drill = drill(&bucket, &server).arg("--json").arg("--check-sql").arg(&queries);
    let outcome = drill.run();
    outcome.assert_code(0);
    assert_nothing_left(&server, &outcome);
    let (result, line) = answer(&outcome);
    assert_eq!((result.as_str(), &line["status"]), ("ok", &"ok".into()), "{line}");
    assert!(line["detail"].as_str().is_some_and(|detail| detail.contains("20000 rows in 1 table,")), "{line}");
    assert!(outcome.stderr.contains("the drill needs "), "{}", outcome.stderr);

    let record = record(&bucket).expect("a record");
    let expected = [
        ("file_name", key.as_str().into()),
        ("result", "ok".into()),
        ("failed", Value::Null),
        ("database", source.name.as_str().into()),
        ("rows", 20000.into()),
        ("tables", 1.into()),
        ("check_sql", 2.into()),
        ("unchecked", Value::Null),
        // The server of the drill lacks the role.
        ("left_out", serde_json::json!(["2 owners", "1 statement about privileges"])),
    ];
    for (field, value) in expected {
        assert_eq!(record[field], value, "{field}: {record:#}");
    }
    assert!(record["duration"].as_f64().is_some_and(|seconds| seconds > 0.0), "{record:#}");
    assert_ne!(record["system_identifier"], record["source_system_identifier"], "{record:#}");
    let listed = s3_program(&bucket).args(["list", "--json"]).run();
    let listed: Value = serde_json::from_str(&listed.assert_code(0).stdout_text()).expect("JSON");
    assert_eq!((&listed[0]["drill_result"], &listed[0]["drilled_at"]), (&record["result"], &record["drilled_at"]));
    let shown = s3_program(&bucket).args(["list", "latest", "--json"]).run();
    let shown: Value = serde_json::from_str(&shown.assert_code(0).stdout_text()).expect("JSON");
    assert_eq!(shown["drill"], record);
    let table = s3_program(&bucket).arg("list").run().assert_code(0).stdout_text();
    assert!(table.contains(" restored ") && table.contains(" ago"), "{table}");
    let shown = s3_program(&bucket).args(["list", &key]).run().assert_code(0).stdout_text();
    assert!(shown.contains("20000 rows in 1 table"), "{shown}");
    // The record is written anew, and goes with its backup.
    drill.run().assert_code(0);
    let delete = s3_program(&bucket).args(["prune", "--keep-last", "1", "--dry-run"]).run();
    delete.assert_code(0);
    assert_eq!(s3().keys(&bucket, "").iter().filter(|key| key.ends_with(".drill.json")).count(), 1);
}

#[test]
fn restores_owners_and_grants_if_their_roles_exist() {
    let source = empty("source");
    source.psql("CREATE TABLE t AS SELECT 1 AS a; GRANT SELECT ON t TO PUBLIC").expect("objects");
    let bucket = s3().create_bucket("drill");
    backup_program(&source, &bucket).run().assert_code(0);
    let server = own_postgres(&[]);
    server.psql("postgres", &format!("CREATE ROLE \"{}\"", postgres().user)).ok();
    let outcome = drill(&bucket, &server).arg("--json").run();
    outcome.assert_code(0);
    assert_eq!(record(&bucket).expect("a record")["left_out"], serde_json::json!([]), "{}", outcome.stderr);
}

#[test]
fn records_what_is_wrong_with_a_backup() {
    let (_source, bucket) = backed_up();
    let server = own_postgres(&[]);
    let key = only_backup(&bucket);
    let object = s3().get(&bucket, &key).expect("the backup");
    let mut damaged = object.clone();
    damaged[object.len() / 2] ^= 0x10;
    s3().request("PUT", &format!("/{bucket}/{key}"), &damaged).expect("put");
    let outcome = drill(&bucket, &server).arg("--json").run();
    outcome.assert_code(CHECK_FAILED);
    assert_eq!(answer(&outcome).0, "fail", "{}", outcome.stderr);
    let found = record(&bucket).expect("a record");
    assert_eq!((&found["result"], &found["failed"]), (&"fail".into(), &"integrity".into()), "{found:#}");
    assert_nothing_left(&server, &outcome);

    // A statement that fails says what to whoever runs the drill, and nothing of it to whoever reads the bucket.
    let failing = bucket_with(&dump_with("CREATE TABLE public.t (a int);\nSELECT 'sentinel'::int;\n"));
    let outcome = drill(&failing, &server).args(["--json", "--allow-same-server"]).run();
    outcome.assert_code(CHECK_FAILED);
    let (result, line) = answer(&outcome);
    assert!(result == "fail" && line["detail"].as_str().is_some_and(|detail| detail.contains("sentinel")), "{line}");
    let found = record(&failing).expect("a record");
    assert!(found["failed"] == "statement" && !found.to_string().contains("sentinel"), "{found:#}");
    assert_nothing_left(&server, &outcome);
}

#[test]
fn query_that_does_not_return_true_fails_the_drill() {
    let bucket = bucket_with(&dump_with("CREATE TABLE public.t (a int);"));
    let server = own_postgres(&[]);
    let dir = tempfile::tempdir().expect("a directory");
    let queries = dir.path().join("queries.sql");
    for (query, said) in [
        ("SELECT true; SELECT count(*) > 0 FROM public.t;", "statement 2 of {} is false"),
        ("SELECT a FROM public.t;", "statement 1 of {} does not return one boolean"),
    ] {
        fs::write(&queries, query).expect("written");
        let drill = drill(&bucket, &server).args(["--json", "--allow-same-server"]);
        let outcome = drill.arg("--check-sql").arg(&queries).run();
        outcome.assert_code(CHECK_FAILED);
        let (result, line) = answer(&outcome);
        let said = said.replace("{}", &queries.display().to_string());
        assert!(result == "fail" && line["detail"].as_str().is_some_and(|detail| detail.contains(&said)), "{line}");
        assert!(line["hint"].as_str().is_some_and(|hint| hint.starts_with("look at statement ")), "{line}");
        let found = record(&bucket).expect("a record");
        assert!(found["failed"] == "check_sql" && !found.to_string().contains("queries.sql"), "{found:#}");
        assert_nothing_left(&server, &outcome);
    }
}

#[test]
fn query_with_a_mistake_says_nothing_about_the_backup() {
    let bucket = bucket_with(&dump_with("CREATE TABLE public.t (a int);"));
    let server = own_postgres(&[]);
    let dir = tempfile::tempdir().expect("a directory");
    let queries = dir.path().join("queries.sql");
    for query in ["SELECT public.nothing();", "SELECT true; SELECT WHERE FROM;"] {
        fs::write(&queries, query).expect("written");
        let drill = drill(&bucket, &server).args(["--json", "--allow-same-server"]);
        let outcome = drill.arg("--check-sql").arg(&queries).run();
        assert_not_proven(&bucket, &outcome, &format!("of {} cannot be run", queries.display()));
        let (_, line) = answer(&outcome);
        assert!(line["hint"].as_str().is_some_and(|hint| hint.starts_with("look at statement ")), "{line}");
        assert_nothing_left(&server, &outcome);
    }
}

#[test]
fn drill_that_cannot_be_run_writes_nothing() {
    let (source, bucket) = backed_up();
    let server = own_postgres(&[]);
    let json = |server: &Postgres| drill(&bucket, server).arg("--json");
    assert_not_proven(&bucket, &json(&role(&server, "")).run(), "run ALTER ROLE ");
    let away = Postgres { port: 1, ..(*server).clone() };
    assert_not_proven(&bucket, &json(&away).run(), "connect to PostgreSQL");
    assert_not_proven(&bucket, &json(&role(source.server(), "CREATEDB")).run(), "--allow-same-server");
    let shared = json(source.server()).arg("--allow-same-server").run();
    assert_not_proven(&bucket, &shared, "--allow-shared-server");
    // A backup that does not say where it is from may be of any server.
    let unknown = bucket_with(&dump_with("CREATE TABLE public.t (a int);"));
    let outcome = drill(&unknown, &server).arg("--json").run();
    assert_not_proven(&unknown, &outcome, "--allow-same-server");
    let lacking =
        bucket_with(&dump_with("CREATE TABLE public.t (a int);\nCREATE POLICY p ON public.t TO absent_role;"));
    let outcome = drill(&lacking, &server).args(["--json", "--allow-same-server"]).run();
    assert_not_proven(&lacking, &outcome, "absent_role");
    assert_nothing_left(&server, &outcome);
    // What was refused can be allowed.
    let outcome = json(&role(source.server(), "CREATEDB")).arg("--allow-same-server").run();
    outcome.assert_code(0);
    json(source.server()).args(["--allow-same-server", "--allow-shared-server"]).run().assert_code(0);
}

#[test]
fn only_a_superuser_is_refused_on_a_shared_server() {
    let (_source, bucket) = backed_up();
    let server = own_postgres(&[]);
    server.psql("postgres", "CREATE DATABASE another").expect("made");
    let outcome = drill(&bucket, &server).arg("--json").run();
    assert_not_proven(&bucket, &outcome, "other databases (another)");
    let outcome = drill(&bucket, &role(&server, "CREATEDB")).arg("--json").run();
    outcome.assert_code(0);
    assert_nothing_left(&server, &outcome);
}

#[test]
fn connects_to_no_publisher() {
    let publisher = TcpListener::bind("127.0.0.1:0").expect("a port");
    publisher.set_nonblocking(true).expect("set");
    let port = publisher.local_addr().expect("an address").port();
    let connection = format!("host=127.0.0.1 port={port} user=u password=sentinel dbname=d connect_timeout=2");
    // Not as pg_dump writes it, which connects at once.
    let bucket = bucket_with(&dump_with(&format!(
        "CREATE SUBSCRIPTION s CONNECTION '{connection}' PUBLICATION p;\nALTER SUBSCRIPTION s OWNER TO CURRENT_USER;\n\
         COMMENT ON SUBSCRIPTION s IS 'ours';\n"
    )));
    let server = own_postgres(&[]);
    let outcome = drill(&bucket, &server).args(["--json", "--allow-same-server"]).run();
    outcome.assert_code(0);
    assert_eq!(record(&bucket).expect("a record")["left_out"][1], "2 statements about subscriptions");
    assert!(publisher.accept().is_err(), "{}", outcome.stderr);
    assert_nothing_left(&server, &outcome);
}

#[test]
fn signal_leaves_no_database_and_the_drill_after_a_killed_one_drops_its_database() {
    let server = own_postgres(&[]);
    let slow = drill(&bucket_with(&dump_with(SLOW)), &server).arg("--allow-same-server");
    let sleeping =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND datname LIKE 'pg_s3_drill_%'";
    let until_it_sleeps = || {
        let running = slow.spawn();
        eventually(|| server.psql("postgres", sleeping).as_deref() == Ok("1"), || running.stderr_so_far());
        running
    };
    let running = until_it_sleeps();
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(143).assert_no_children_left();
    assert_nothing_left(&server, &outcome);

    let running = until_it_sleeps();
    running.signal("KILL");
    drop(running.wait());
    server.psql("postgres", "CREATE DATABASE pg_s3_restore_0123456789abcdef").expect("made");
    // The lock is free when the server has noticed that its session is gone.
    let next = drill(&bucket_with(&dump_with("CREATE TABLE public.t (a int);")), &server)
        .args(["--allow-same-server", "--allow-shared-server"]);
    let mut said = String::new();
    eventually(
        || {
            said = next.run().assert_code(0).stderr.clone();
            let left = server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'pg_s3_drill_%'");
            left.as_deref() == Ok("0")
        },
        || "it is left".to_owned(),
    );
    assert!(
        said.contains("dropped the scratch database of a killed drill")
            && said.contains("pg_s3_restore_0123456789abcdef"),
        "{said}"
    );
}

#[test]
fn metrics_file_has_the_drill_and_a_daemons_environment_starts_none() {
    let (_source, bucket) = backed_up();
    let (server, dir) = (own_postgres(&[]), tempfile::tempdir().expect("a directory"));
    let file = dir.path().join("backup.prom");
    let check = drill(&bucket, &server).env("METRICS_FILE", &file);
    let daemons = check.clone().env("DRILL_INTERVAL", "@weekly");
    let outcome = daemons.clone().run();
    outcome.assert_code(0);
    assert!(record(&bucket).is_none() && !file.exists(), "{}", outcome.stderr);
    check.run().assert_code(0);
    let text = fs::read_to_string(&file).expect("the file");
    assert_valid_metrics(&text);
    let value = |text: &str, name: &str, own: &str| sample(text, name, &format!("s3://{bucket}/"), own);
    assert_eq!(value(&text, "drills_total", ",result=\"ok\""), Some(1.0), "{text}");
    assert_eq!(value(&text, "last_drill_result", ",result=\"ok\""), Some(1.0), "{text}");
    assert!(value(&text, "last_drill_success_timestamp_seconds", "").is_some(), "{text}");
    // The flag says that it is meant.
    let password = ("PGPASSWORD", server.password.as_str());
    let conninfo = format!("host={} port={} user={} dbname=postgres", server.host, server.port, server.user);
    daemons.env(password.0, password.1).args(["--restore-to", &conninfo]).run().assert_code(0);
    let text = fs::read_to_string(&file).expect("the file");
    assert_eq!(value(&text, "drills_total", ",result=\"ok\""), Some(2.0), "{text}");
}

#[test]
fn refuses_invalid_settings() {
    let bucket = s3().create_bucket("drill");
    let check = || s3_program(&bucket).args(["check", "--bucket-only"]);
    let dir = tempfile::tempdir().expect("a directory");
    let empty = dir.path().join("empty.sql");
    fs::write(&empty, "-- nothing\n").expect("written");
    for (program, code, said) in [
        (check().args(["--restore-to", "postgresql://u:sentinel@h/d"]), 4, "DRILL_CONNECTION_STRING_FILE"),
        (check().arg("--allow-same-server"), 1, "DRILL_CONNECTION_STRING is not set: --allow-same-server"),
        (check().args(["--restore-to", "host=h"]).arg("--check-sql").arg(&empty), 4, "holds no statement"),
        (check().args(["--restore-to", "host=h", "--check-sql", "/none"]), 4, "cannot be read"),
    ] {
        let outcome = program.run();
        outcome.assert_code(code);
        let all = outcome.stderr.clone() + &outcome.stdout_text();
        assert!(all.contains(said) && !all.contains("sentinel"), "{all}");
    }
}
