//! No secret appears in stdout, in logs of any level and format, in manifests, or in the arguments of any process.
//! Child processes get only their own password in the environment.
//!
//! Each sentinel begins and ends with a word that occurs nowhere else, so that the tests find it in every spelling: raw,
//! percent-encoded, escaped for JSON, for libpq or by Rust.

use std::io::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::connections::{Role, percent_encoded, quoted};
use crate::support::client::eventually;
use crate::support::fake_pg_dump::{End, FakeDump};
use crate::support::process::Process;
use crate::support::program::{Outcome, Program};
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{assert_empty, backup_program, clear, gunzipped, list_program, only_backup, s3_program};

const FIRST: &str = "zq7Kx9jR";
const LAST: &str = "Wv3pLtHd";
/// Every printable special character between the two.
const SENTINEL: &str = "zq7Kx9jR !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~%41\té漢🐘 Wv3pLtHd";
/// The same with line breaks, for variables that allow them.
const LINES: &str = "zq7Kx9jR \"\\'\r\n%0A\n\n Wv3pLtHd";

#[track_caller]
fn assert_hidden(text: &str, origin: &str) {
    let bucket_keys = [&s3().access_key, &s3().secret_key, &postgres().password];
    for secret in [FIRST, LAST].into_iter().chain(bucket_keys.map(String::as_str)) {
        assert!(!text.contains(secret), "a secret in {origin}:\n{text}");
    }
}

#[track_caller]
fn assert_nothing_shown(outcome: &Outcome) {
    assert_hidden(&outcome.stderr, "stderr");
    assert_hidden(&outcome.stdout_text(), "stdout");
}

/// The same run in both log formats at the most detailed level, with and without `--json`.
fn loud(program: &Program) -> [Program; 2] {
    let program = program.clone().env("LOG_LEVEL", "trace");
    [program.clone().env("LOG_FORMAT", "text"), program.env("LOG_FORMAT", "json").arg("--json")]
}

/// Every form of settings for a connection with this role and password.
fn connections(role: &str, password: &str, database: &Database) -> Vec<Vec<(&'static str, String)>> {
    let (server, name) = (database.server(), &database.name);
    let (host, port, encoded) = (&server.host, server.port, percent_encoded(password));
    let variables = [
        ("PGHOST", host.clone()),
        ("PGPORT", port.to_string()),
        ("PGDATABASE", name.clone()),
        ("PGUSER", role.to_owned()),
    ];
    let mut by_variables = vec![("PGPASSWORD", password.to_owned())];
    by_variables.extend(variables);
    let string = |text: String| vec![("POSTGRES_CONNECTION_STRING", text)];
    vec![
        string(format!("postgres://{role}:{encoded}@{host}:{port}/{name}")),
        string(format!("postgres://{host}:{port}/{name}?password={encoded}&user={role}")),
        string(format!("host={host} port={port} user={role} dbname={name} password={}", quoted(password))),
        by_variables,
    ]
}

fn with(program: &Program, variables: &[(&'static str, String)]) -> Program {
    variables.iter().fold(program.clone(), |program, (name, value)| program.env(name, value))
}

#[test]
fn successful_backup_shows_no_secret() {
    let database = postgres().create_database("hidden");
    let role = Role::create(SENTINEL);
    for connection in connections(&role.name, SENTINEL, &database) {
        let bucket = s3().create_bucket("hidden");
        for program in loud(&with(&s3_program(&bucket).arg("backup"), &connection)) {
            let outcome = program.run();
            outcome.assert_code(0);
            assert_nothing_shown(&outcome);
            let key = only_backup(&bucket);
            let manifest = s3().get(&bucket, &format!("{key}.json")).expect("a manifest");
            assert_hidden(&String::from_utf8_lossy(&manifest), "the manifest");
            let globals = s3().get(&bucket, &format!("{key}.globals.sql.gz")).expect("the globals");
            assert_hidden(&String::from_utf8_lossy(&gunzipped(&globals)), "the globals");
            for key in s3().keys(&bucket, "") {
                let headers = s3().request("HEAD", &format!("/{bucket}/{key}"), b"").expect("its headers");
                assert_hidden(&String::from_utf8_lossy(&headers), "the metadata");
            }
            clear(&bucket);
        }
    }
}

#[test]
fn drill_and_its_record_show_no_secret() {
    let (database, server) = (postgres().create_database("hidden"), postgres());
    let bucket = s3().create_bucket("hidden");
    backup_program(&database, &bucket).run().assert_code(0);
    let role = Role::create(SENTINEL);
    let encoded = percent_encoded(SENTINEL);
    let uri = format!("postgres://{}:{encoded}@{}:{}/postgres", role.name, server.host, server.port);
    let allowed = ["--allow-same-server", "--allow-shared-server"];
    let drill = s3_program(&bucket).args(["check", "--bucket-only"]).args(allowed);
    let misplaced = drill.clone().args(["--restore-to", &uri]);
    for (program, code) in [(drill.env("DRILL_CONNECTION_STRING", &uri), 0), (misplaced, 4)] {
        for program in loud(&program) {
            let outcome = program.run();
            outcome.assert_code(code);
            assert_nothing_shown(&outcome);
        }
    }
    let record = s3().keys(&bucket, "").into_iter().find(|key| key.ends_with(".drill.json")).expect("a record");
    assert_hidden(&String::from_utf8_lossy(&s3().get(&bucket, &record).expect("the record")), "the record");
}

/// Also if the flag has a password, which only the variable may have.
#[test]
fn restore_and_delete_show_no_secret() {
    let database = postgres().create_database("hidden");
    let bucket = s3().create_bucket("hidden");
    backup_program(&database, &bucket).run().assert_code(0);
    let key = only_backup(&bucket);
    let target = format!("postgres://u:{}@127.0.0.1/d", percent_encoded(SENTINEL));
    let restore = s3_program(&bucket).arg("restore").args(["--output", "/dev/null"]);
    let misplaced = s3_program(&bucket).args(["restore", "--to", &target]);
    let delete = s3_program(&bucket).args(["delete", "--dry-run", "--force", &key]);
    for (program, code) in [(restore.env("RESTORE_CONNECTION_STRING", &target), 0), (misplaced, 4), (delete, 0)] {
        for program in loud(&program) {
            let outcome = program.run();
            outcome.assert_code(code);
            assert_nothing_shown(&outcome);
        }
    }
}

#[test]
fn hides_refused_password() {
    let database = postgres().create_database("hidden");
    let (role, bucket) = (Role::create("another"), s3().create_bucket("hidden"));
    let connections = connections(&role.name, SENTINEL, &database);
    std::thread::scope(|scope| {
        for connection in &connections {
            for program in loud(&with(&s3_program(&bucket).arg("backup"), connection)) {
                scope.spawn(move || {
                    let outcome = program.run();
                    outcome.assert_code(10);
                    assert_nothing_shown(&outcome);
                    assert!(outcome.stderr.contains("password authentication failed"), "{}", outcome.stderr);
                });
            }
        }
    });
}

#[test]
fn hides_refused_s3_credentials() {
    let database = postgres().create_database("hidden");
    let bucket = s3().create_bucket("hidden");
    let one_line = SENTINEL.replace('\t', " ");
    for variable in ["S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN"] {
        for value in [SENTINEL, LINES, &one_line, &format!("{FIRST}/+={LAST}")] {
            for command in [backup_program(&database, &bucket), list_program(&bucket)] {
                for program in loud(&command.env(variable, value)) {
                    let outcome = program.run();
                    assert_nothing_shown(&outcome);
                    // This server ignores a token that belongs to no temporary credentials.
                    if variable != "S3_SESSION_TOKEN" {
                        outcome.assert_code(3);
                    }
                }
            }
        }
    }
}

#[test]
fn hides_secrets_among_other_problems() {
    let database = postgres().create_database("hidden");
    let bucket = s3().create_bucket("hidden");
    let base = backup_program(&database, &bucket);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("secret");
    // Without a tab, which credentials must not have.
    let one_line = SENTINEL.replace('\t', " ");
    std::fs::write(&file, format!("{one_line}\n")).expect("written");
    let all = ["S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_SESSION_TOKEN", "PGPASSWORD", "AWS_SECRET_ACCESS_KEY"];
    let all_set = all.iter().fold(base.clone(), |program, name| program.env(name, &one_line));
    for (program, code) in [
        (all_set.clone().env_remove("S3_BUCKET"), 1),
        (all_set.clone().env("S3_PATH", "a//b").env("BACKUP_THREADS", "x"), 3),
        (all_set.clone().env("POSTGRES_CONNECTION_STRING", SENTINEL), 4),
        (all_set.clone().env("POSTGRES_CONNECTION_STRING", format!("postgres://u:{SENTINEL}@h/d")), 4),
        (all_set.clone().env("POSTGRES_CONNECTION_STRING", format!("host=h password={SENTINEL}")), 4),
        (all_set.clone().env("S3_URL", format!("https://user:{FIRST}@h")), 3),
        (all_set.clone().env("S3_URL", format!("https://user:{SENTINEL}@h")), 3),
        (all_set.clone().env_remove("S3_ACCESS_KEY"), 1),
        (all_set.env("S3_SECRET_KEY_FILE", &file), 4),
        (base.clone().env_remove("S3_SECRET_KEY").env("S3_SECRET_KEY_FILE", &file), 3),
        (base.clone().env("S3_URL", "http://127.0.0.1:9").env("BACKUP_MAX_UPLOAD_OUTAGE", "1s"), 12),
    ] {
        for program in loud(&program) {
            let outcome = program.run();
            outcome.assert_code(code);
            assert_nothing_shown(&outcome);
        }
    }
    assert_empty(&bucket);
}

#[test]
fn hides_secrets_in_output_of_pg_dump() {
    let database = postgres().create_database("hidden");
    let role = Role::create(SENTINEL);
    let bucket = s3().create_bucket("hidden");
    let talkative = FakeDump::new()
        .stderr_line(&format!("pg_dump: warning: connecting with {SENTINEL}"))
        .stderr_line(&format!("pg_dump: error: could not connect with password {SENTINEL} to {}", s3().secret_key))
        .end(End::Exit(1))
        .install();
    for connection in connections(&role.name, SENTINEL, &database) {
        let program = s3_program(&bucket).arg("backup").env("PG_DUMP_PATH", talkative.path());
        for program in loud(&with(&program, &connection)) {
            let outcome = program.run();
            outcome.assert_code(11);
            assert_nothing_shown(&outcome);
            assert!(outcome.stderr.contains("could not connect with password"), "{}", outcome.stderr);
        }
    }
    assert_empty(&bucket);
}

/// A `psql` that locks a table, so that `pg_dump` waits; killed when it is dropped.
pub struct Blocker(Child);

impl Blocker {
    pub fn of_table(database: &Database) -> Self {
        let mut psql = database.server().client("psql", &database.name);
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("psql");
        child.stdin.as_mut().expect("its input").write_all(b"BEGIN;\nLOCK TABLE t;\n").expect("written");
        let held =
            "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessExclusiveLock' AND granted";
        eventually(|| database.psql(held) == Ok("1".to_owned()), || "the lock is not held".to_owned());
        Self(child)
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        // psql ends when its input ends.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Returns arguments and environment of the children when both `psql` and `pg_dump` run.
fn children(running: &crate::support::program::Running) -> Vec<(String, Vec<String>)> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        // Read the arguments first: before exec, a child has this program's arguments and environment.
        let look = |process: Process| (process.command_line(), process.environ());
        let is_child = |(arguments, _): &(String, _)| !arguments.starts_with(env!("CARGO_BIN_EXE_pg-s3-backup"));
        let seen: Vec<_> = running.descendants().into_iter().map(look).filter(is_child).collect();
        let has = |words: &str| seen.iter().any(|(arguments, _)| arguments.contains(words));
        if has("psql -X") && has("pg_dump --format=plain") {
            return seen;
        }
        assert!(Instant::now() < deadline, "no psql and pg_dump: {seen:#?}\n{}", running.stderr_so_far());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn children_get_only_their_password() {
    let database = postgres().create_database("children");
    database.psql("CREATE TABLE t ()").expect("a table");
    let role = Role::create(SENTINEL);
    for connection in connections(&role.name, SENTINEL, &database) {
        let bucket = s3().create_bucket("children");
        let foreign = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "S3_UNKNOWN", "SECRET"];
        let program = with(&s3_program(&bucket).arg("backup"), &connection);
        let program = foreign.iter().fold(program, |program, name| program.env(name, LINES));
        let blocker = Blocker::of_table(&database);
        let running = program.spawn();
        let seen = children(&running);
        drop(blocker);
        running.wait().assert_code(0);
        for (arguments, environment) in seen {
            assert_hidden(&arguments, "arguments");
            for variable in environment {
                let (name, value) = variable.split_once('=').expect("a variable");
                let is_known = name.starts_with("PG") || ["PATH", "HOME", "LANG", "TZ", "LC_ALL"].contains(&name);
                assert!(is_known, "{name} in the environment of {arguments}");
                if name == "PGPASSWORD" {
                    assert_eq!(value, SENTINEL, "{arguments}");
                } else {
                    assert_hidden(value, &format!("{name} of {arguments}"));
                }
            }
        }
    }
}
