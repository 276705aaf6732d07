//! PostgreSQL: what is well, what stops a dump, and that the statement which is named fixes it.

use std::io::Write as _;
use std::process::Stdio;

use crate::secrets::Blocker;
use crate::support::fake_pg_dump::{CutAt, End, FakeDump};
use crate::support::program::Program;
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{Postgres, own_postgres, postgres, s3};
use crate::support::setup::{backup_program, repository_file};

use super::{Checked, PROBE, assert_untouched, backed_up, check_program};

/// What is tried where everything is well, in this order.
const ALL: [&str; 16] = [
    "settings",
    "postgres",
    "pg_dump",
    "postgres_clock",
    "privileges",
    "schema_dump",
    "s3_list",
    "s3_clock",
    "s3_delete",
    "s3_put",
    "s3_head",
    "s3_get",
    "s3_multipart",
    "freshness",
    "manifest",
    "object",
];

fn shop() -> Database {
    let database = postgres().create_database("shop");
    database.psql("CREATE TABLE t AS SELECT generate_series(1, 100) AS n").expect("a table");
    database
}

/// A role of little power in a database of its own, and `check` as that role.
pub(super) struct Reader {
    pub role: String,
    pub database: Database,
    pub bucket: String,
}

impl Reader {
    /// `sql` is run by a superuser before; `ROLE` stands for the role's name.
    pub fn new(sql: &str) -> Self {
        Self::on(postgres(), sql)
    }

    pub fn on(server: &Postgres, sql: &str) -> Self {
        let (database, role) = (server.create_database("read"), format!("\"{}\"", unique_name("O'Reader %s")));
        let sql = sql.replace("ROLE", &role);
        database.psql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'reader'; {sql}")).expect("a role");
        let bucket = s3().create_bucket("read");
        // So that there is a newest backup.
        backup_program(&database, &bucket).run().assert_code(0);
        Self { role, database, bucket }
    }

    /// The role's connection string.
    pub fn uri(&self) -> String {
        let user = self.role.trim_matches('"').replace('\'', "\\'");
        let server = self.database.server();
        let (host, port, name) = (&server.host, server.port, &self.database.name);
        format!("host={host} port={port} dbname={name} user='{user}' password=reader")
    }

    pub fn program(&self) -> Program {
        check_program(&self.database, &self.bucket).env("POSTGRES_CONNECTION_STRING", self.uri())
    }

    /// The check fails for what it may not read, and the statements that it names fix it.
    #[track_caller]
    pub fn assert_printed_statements_fix_it(&self, words: &[&str]) {
        let broken = Checked::of(&self.program());
        let failed = broken.with("fail");
        assert!(failed.contains(&"privileges"), "{:#}", broken.report);
        broken.says("privileges", words);
        for check in broken.checks().iter().filter(|check| check["check"] == "privileges") {
            self.database.psql(check["hint"].as_str().expect("a statement")).expect("it can be run");
        }
        Checked::of(&self.program()).assert(&[], &[]).says("privileges", &["may read everything"]);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The server is removed at the end.
        let _ = self.database.psql(&format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", self.role));
    }
}

#[test]
fn everything_that_is_well_is_ok_and_leaves_nothing() {
    let database = shop();
    let (bucket, _) = backed_up(&database);
    let keys = s3().keys(&bucket, "");
    let checked = Checked::of(&check_program(&database, &bucket));
    let expected: Vec<&str> = ALL.into_iter().chain(["size"]).collect();
    assert_eq!(checked.assert(&[], &[]).with("ok"), expected);
    checked.says("postgres", &[&database.name, "127.0.0.1", "primary"]);
    checked.says("schema_dump", &["--schema-only", "completed"]);
    assert_untouched(&bucket, &keys);
}

#[test]
fn lists_changed_settings_without_secrets() {
    let database = shop();
    let (bucket, _) = backed_up(&database);
    let program =
        check_program(&database, &bucket).env("S3_PATH", "/app/").args(["--keep-daily", "7", "--max-age", "none"]);
    let settings = Checked::of(&program).report["settings"].clone();
    for (variable, value) in [
        ("S3_BUCKET", &*bucket),
        ("S3_PATH", "app"),
        ("BACKUP_KEEP_DAILY", "7"),
        ("POSTGRES_CONNECTION_STRING", "set"),
        ("S3_SECRET_KEY", "set"),
    ] {
        assert_eq!(settings[variable], value, "{settings:#}");
    }
    assert!(settings.get("BACKUP_COMPRESSION_LEVEL").is_none(), "a default is not listed: {settings:#}");
    let text = program.run().stdout_text();
    assert!(text.contains("\n                      BACKUP_KEEP_DAILY=7\n"), "{text}");
    let secrets = [&database.server().password, &s3().secret_key];
    assert!(secrets.iter().all(|secret| !text.contains(secret.as_str())), "{text}");
}

#[test]
fn json_matches_the_documented_form() {
    let database = shop();
    let (bucket, key) = backed_up(&database);
    let checked = Checked::of(&check_program(&database, &bucket).arg("--deep"));
    let server = database.server();
    let version = database.psql("SHOW server_version").expect("a version");
    let pg_dump = server.bin.join("pg_dump");
    let values = [
        (PROBE, "PROBE"),
        (&*key, "NAME"),
        (&*bucket, "BUCKET"),
        (&*database.name, "DATABASE"),
        (&*server.host, "HOST"),
        (&*pg_dump.to_string_lossy(), "PG_DUMP"),
        (&*version, "VERSION"),
        (version.split_whitespace().next().expect("a version"), "VERSION"),
    ];
    let mut report = checked.report.clone();
    // They differ from machine to machine; `lists_changed_settings_without_secrets` checks them.
    report["settings"] = serde_json::json!({});
    for check in report["checks"].as_array_mut().expect("an array") {
        check["elapsed_ms"] = 0.into();
        let detail = check["detail"].as_str().expect("a text").to_owned();
        let detail = values.iter().fold(detail, |text, (value, word)| text.replace(value, word));
        check["detail"] = without_numbers(&detail).into();
    }
    let text = serde_json::to_string_pretty(&report).expect("JSON");
    let file = repository_file("tests/fixtures/check.json");
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(text.trim() == expected.trim(), "{} should be:\n{text}", file.display());
}

/// Sizes, checksums and times differ from run to run: `N` for each number.
fn without_numbers(text: &str) -> String {
    let mut clean = String::new();
    for character in text.chars() {
        match character {
            '0'..='9' if clean.ends_with('N') => {}
            '0'..='9' => clean.push('N'),
            other => clean.push(other),
        }
    }
    clean
}

#[test]
fn prints_one_line_for_each_check_and_one_for_each_hint() {
    let database = shop();
    let (bucket, _) = backed_up(&database);
    let outcome = check_program(&database, &bucket).args(["--min-size", "1GiB"]).run();
    outcome.assert_code(super::CHECK_FAILED);
    let text = outcome.stdout_text();
    let (settings, lines): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.contains('=') && line.starts_with(' '));
    assert!(settings.iter().any(|line| line.trim() == format!("S3_BUCKET={bucket}")), "{text}");
    assert_eq!(lines.len(), ALL.len() + 2, "{text}");
    assert!(lines[0].starts_with("ok    settings        backups are at s3://"), "{text}");
    assert!(lines[16].starts_with("fail  size            ") && lines[17].contains("-> check whether"), "{text}");
    let errors: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(" ERROR ")).collect();
    assert_eq!(errors.len(), 1, "{}", outcome.stderr);
    assert!(errors[0].contains("1 of 17 checks failed: size") && errors[0].contains("exit_code=14"), "{}", errors[0]);
}

#[test]
fn invalid_settings_come_first_and_keep_their_exit_code() {
    let database = shop();
    let bucket = s3().create_bucket("settings");
    let program = check_program(&database, &bucket);
    for (program, code, word) in [
        (program.clone().env_remove("S3_BUCKET"), 1, "S3_BUCKET is not set"),
        (program.clone().env_remove("POSTGRES_CONNECTION_STRING"), 1, "POSTGRES_CONNECTION_STRING is not set"),
        (program.clone().env("S3_URL", "ftp://h"), 3, "S3_URL"),
        // What only a backup uses is checked for the backup.
        (program.clone().env("BACKUP_PART_SIZE", "1"), 4, "BACKUP_PART_SIZE"),
        (program.env("PG_DUMP_ARGS", "--schema-only"), 4, "PG_DUMP_ARGS"),
    ] {
        let checked = Checked::from(program.clone().arg("--json").run());
        checked.outcome.assert_code(code);
        assert_eq!((checked.with("fail"), checked.checks().len()), (vec!["settings"], 1), "{word}");
        assert_eq!(checked.report["success"], false);
        checked.says("settings", &[word]);
        let people = program.run();
        assert!(people.assert_code(code).stdout_text().starts_with("fail  settings "), "{}", people.stdout_text());
    }
}

#[test]
fn a_stopped_server_does_not_hide_the_state_of_s3() {
    let server = own_postgres(&[]);
    let database = server.create_database("stopped");
    let (bucket, _) = backed_up(&database);
    server.stop();
    let checked = Checked::of(&check_program(&database, &bucket));
    checked.assert(&["postgres"], &[]).says("postgres", &["refused", &server.addr()]);
    assert!(checked.with("ok").contains(&"s3_multipart") && checked.with("ok").contains(&"freshness"));
}

#[test]
fn a_pg_dump_that_is_too_old_is_named_with_both_versions() {
    let database = shop();
    let (bucket, _) = backed_up(&database);
    let old = FakeDump::new().version("pg_dump (PostgreSQL) 12.22").install();
    let checked = Checked::of(&check_program(&database, &bucket).env("PG_DUMP_PATH", old.path()));
    let version = database.psql("SHOW server_version").expect("a version");
    let version = version.split_whitespace().next().expect("a version");
    checked.assert(&["pg_dump"], &[]).says("pg_dump", &["12.22", version, "install postgresql-client-"]);
    let missing = Checked::of(&check_program(&database, &bucket).env("PG_DUMP_PATH", "/does/not/exist"));
    missing.assert(&["pg_dump"], &[]).says("pg_dump", &["/does/not/exist"]);
}

#[test]
fn named_grant_makes_tables_and_sequences_readable() {
    let reader = Reader::new("CREATE TABLE secret_plans (a int); CREATE SEQUENCE counter");
    reader.assert_printed_statements_fix_it(&["public.secret_plans", "public.counter", "GRANT pg_read_all_data TO"]);
}

#[test]
fn before_postgresql_14_each_schema_is_granted() {
    let server = own_postgres(&["--major", "13"]);
    let tables = "CREATE SCHEMA \"Odd name\"; CREATE TABLE \"Odd name\".t (a serial); CREATE TABLE u (a serial)";
    let reader = Reader::on(&server, tables);
    let schemas = r#"GRANT USAGE ON SCHEMA \"Odd name\", public TO"#;
    reader.assert_printed_statements_fix_it(&[schemas, "GRANT SELECT ON ALL TABLES IN SCHEMA"]);
}

#[test]
fn named_grant_makes_large_objects_readable() {
    let reader = Reader::new("SELECT lo_create(7001); SELECT lo_create(7002)");
    reader
        .assert_printed_statements_fix_it(&["2 large objects (7001, 7002)", "GRANT SELECT ON LARGE OBJECT 7001, 7002"]);
    // Of more than a few, psql makes the statements itself.
    let reader = Reader::new("SELECT lo_create(0) FROM generate_series(1, 8)");
    let hint = Checked::of(&reader.program()).hint("privileges");
    let script = hint.strip_suffix(" (in psql)").expect("for psql");
    let mut psql = reader.database.server().client("psql", &reader.database.name);
    let mut child = psql.stdin(Stdio::piped()).spawn().expect("psql");
    child.stdin.take().expect("its input").write_all(script.as_bytes()).expect("written");
    assert!(child.wait().expect("its end").success());
    Checked::of(&reader.program()).assert(&[], &[]);
}

#[test]
fn named_statement_lifts_row_level_security() {
    let reader =
        Reader::new("CREATE TABLE t (a int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO ROLE");
    reader.assert_printed_statements_fix_it(&["row-level security", "public.t", "BYPASSRLS"]);
}

#[test]
fn a_role_that_pg_dump_takes_on_is_the_one_that_must_read() {
    let reader = Reader::new("CREATE TABLE t (a int)");
    let power = unique_name("power");
    let sql = format!("CREATE ROLE {power}; GRANT pg_read_all_data TO {power}; GRANT {power} TO {}", reader.role);
    reader.database.psql(&sql).expect("a role");
    reader.database.psql(&format!("ALTER ROLE {} NOINHERIT", reader.role)).expect("without its rights");
    assert!(Checked::of(&reader.program()).with("fail").contains(&"privileges"));
    let program = reader.program().env("PG_DUMP_ARGS", format!("--role={power}"));
    Checked::of(&program).assert(&[], &[]);
    reader.database.psql(&format!("DROP OWNED BY {power}; DROP ROLE {power}")).expect("dropped");
}

#[test]
fn what_partial_arguments_leave_out_need_not_be_read() {
    let reader = Reader::new("CREATE TABLE t (a int); CREATE TABLE hidden (a int); GRANT SELECT ON t TO ROLE");
    let checked = Checked::of(&reader.program().env("PG_DUMP_ARGS", "-T hidden"));
    checked.assert(&[], &["privileges", "schema_dump"]).says("schema_dump", &["-T hidden", "leave a part"]);
}

#[test]
fn a_question_that_the_server_refuses_is_not_taken_for_an_answer() {
    let refuse = "REVOKE EXECUTE ON FUNCTION row_security_active(oid) FROM PUBLIC";
    let reader = Reader::new(&format!("GRANT pg_read_all_data TO ROLE; {refuse}"));
    Checked::of(&reader.program()).assert(&[], &["privileges"]).says("privileges", &["does not report whether"]);
}

#[test]
fn an_incomplete_schema_dump_fails_its_check_whatever_pg_dump_says() {
    let database = shop();
    let (bucket, _) = backed_up(&database);
    for (dump, limit, word) in [
        (FakeDump::new().cut_at(CutAt::FromEnd(20)), "30m", "not complete"),
        (FakeDump::new().stderr_line("pg_dump: error: the cause").end(End::Exit(1)), "30m", "the cause"),
        (FakeDump::new().end(End::Hang), "5s", "did not end within 5s"),
        (FakeDump::new().end(End::HangAfterOutput), "5s", "did not end within 5s"),
    ] {
        let dump = dump.install();
        let program =
            check_program(&database, &bucket).env("PG_DUMP_PATH", dump.path()).env("BACKUP_STALL_TIMEOUT", limit);
        Checked::of(&program).assert(&["schema_dump"], &[]).says("schema_dump", &[word]);
        assert!(dump.alive().is_empty(), "{word}");
        assert!(dump.args().contains(&"--schema-only".to_owned()), "{:?}", dump.args());
    }
}

#[test]
fn a_lock_that_pg_dump_does_not_get_fails_the_schema_dump() {
    let database = shop();
    let (bucket, _) = backed_up(&database);
    let _blocker = Blocker::of_table(&database);
    let program = check_program(&database, &bucket).env("BACKUP_LOCK_WAIT_TIMEOUT", "500ms");
    Checked::of(&program)
        .assert(&["schema_dump"], &[])
        .says("schema_dump", &["statement timeout", "BACKUP_LOCK_WAIT_TIMEOUT"]);
}

#[test]
fn a_pooler_is_a_warning() {
    let database = shop();
    let (bucket, _) = backed_up(&database);
    let server = database.server();
    let (host, port, user, password, name) =
        (&server.host, server.port, &server.user, &server.password, &database.name);
    let connection =
        format!("host=pgbouncer.internal hostaddr={host} port={port} user={user} password='{password}' dbname={name}");
    let checked = Checked::of(&check_program(&database, &bucket).env("POSTGRES_CONNECTION_STRING", connection));
    checked.assert(&[], &["privileges"]).says("privileges", &["pgbouncer.internal", "connection pooler"]);
}

#[test]
fn a_server_that_ends_connections_which_are_not_read_is_a_warning_without_a_spool() {
    let database = shop();
    let (bucket, _) = backed_up(&database);
    let set = format!("ALTER DATABASE \"{}\" SET tcp_user_timeout = '90s'", database.name);
    database.psql(&set).expect("set");
    let program = check_program(&database, &bucket);
    Checked::of(&program).assert(&[], &["privileges"]).says("privileges", &["tcp_user_timeout", "90000 ms"]);
    let spool = tempfile::tempdir().expect("a directory");
    Checked::of(&program.env("BACKUP_SPOOL_DIR", spool.path())).assert(&[], &[]);
}

#[test]
fn an_unwritable_spool_fails_and_a_writable_one_has_space() {
    let database = postgres().create_database("spooling");
    let (bucket, _) = backed_up(&database);
    let dir = tempfile::tempdir().expect("a directory");
    let check =
        |spool: &std::path::Path| Checked::of(&check_program(&database, &bucket).env("BACKUP_SPOOL_DIR", spool));
    check(dir.path()).assert(&[], &[]).says("spool", &["free in"]);
    let file = dir.path().join("file");
    std::fs::write(&file, "").expect("a file");
    check(&file).assert(&["spool"], &[]).says("spool", &["BACKUP_SPOOL_DIR"]);
}
