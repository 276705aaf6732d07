//! The command line: help, version, usage errors; and what is written where: results as JSON on stdout, logs on stderr.

use serde_json::Value;

use crate::support::fake_pg_dump::{End, FakeDump};
use crate::support::program::{Outcome, Program};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, list_program, only_backup};

const VARIABLES: &[&str] = &[
    "S3_BUCKET",
    "S3_PATH",
    "S3_URL",
    "S3_REGION",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "S3_SESSION_TOKEN",
    "S3_FORCE_PATH_STYLE",
    "S3_CA_BUNDLE",
    "S3_CHECKSUM",
    "S3_MAX_PARTS",
    "S3_EQUAL_PARTS",
    "S3_REQUEST_TIMEOUT",
    "POSTGRES_CONNECTION_STRING",
    "BACKUP_COMPRESSION_LEVEL",
    "BACKUP_THREADS",
    "BACKUP_PART_SIZE",
    "BACKUP_UPLOAD_CONCURRENCY",
    "BACKUP_MAX_UPLOAD_OUTAGE",
    "BACKUP_MAX_DURATION",
    "BACKUP_STALL_TIMEOUT",
    "BACKUP_LOCK_WAIT_TIMEOUT",
    "PG_DUMP_PATH",
    "METRICS_FILE",
    "PING_URL",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "NO_COLOR",
    "PGPASSWORD",
    "PGDATABASE",
    "AWS_SECRET_ACCESS_KEY",
];

/// The program with every variable at a value that must not be shown.
fn all_set(arguments: &[&str]) -> Outcome {
    let set = |program: Program, name: &&str| program.env(name, format!("sentinel-{name}"));
    VARIABLES.iter().fold(Program::new().args(arguments), set).run()
}

/// Every line of stderr is a JSON object with a time, a level and a message.
#[track_caller]
fn assert_json_lines(outcome: &Outcome) {
    assert!(!outcome.stderr.is_empty());
    for line in outcome.stderr.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["timestamp", "level", "message"] {
            assert!(object[field].is_string(), "no {field}: {line}");
        }
    }
}

/// stdout is one JSON object in one line with the seed's fields; gives it.
#[track_caller]
fn result_of(outcome: &Outcome) -> Value {
    let stdout = outcome.stdout_text();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 1, "{stdout}");
    let result: Value = serde_json::from_str(lines[0]).expect("one JSON object");
    let fields = result.as_object().expect("an object");
    for field in ["success", "file_name", "file_size", "s3_location", "duration", "error"] {
        assert!(fields.contains_key(field), "no {field}: {stdout}");
    }
    assert!(result["duration"].is_number() && result["file_size"].is_u64(), "{stdout}");
    result
}

#[test]
fn help_and_version_succeed_and_show_no_value() {
    for arguments in [
        ["--help", ""].as_slice(),
        &["-h"],
        &["--version"],
        &["-V"],
        &["backup", "--help"],
        &["backup", "-h"],
        &["list", "--help"],
        &["list", "-h"],
        &["check", "--help"],
        &["check", "-h"],
        &["daemon", "--help"],
        &["daemon", "-h"],
        &["health", "--help"],
        &["health", "-h"],
        &["help"],
        &["help", "backup"],
    ] {
        let outcome = all_set(&arguments.iter().copied().filter(|word| !word.is_empty()).collect::<Vec<_>>());
        outcome.assert_code(0);
        assert_eq!(outcome.stderr, "", "{arguments:?}");
        let shown = outcome.stdout_text();
        assert!(!shown.is_empty() && !shown.contains("sentinel"), "{shown}");
    }
    assert_eq!(all_set(&["--version"]).stdout_text(), format!("pg-s3-backup {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn help_lists_the_most_used_commands_first() {
    let help = Program::new().arg("--help").run().stdout_text();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).filter(|line| line.starts_with("  "));
    let names = listed.filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|name| !name.is_empty());
    let names: Vec<&str> = names.take_while(|name| !name.starts_with('-')).collect();
    let expected = ["backup", "list", "check", "restore", "prune", "delete", "daemon", "health", "completions", "help"];
    assert_eq!(names, expected, "{help}");
}

#[test]
fn help_names_every_command_setting_and_exit_code() {
    let help = all_set(&["--help"]).stdout_text();
    for word in
        ["backup", "list", "check", "daemon", "missing setting", "invalid cron", "PostgreSQL unavailable", "143"]
    {
        assert!(help.contains(word), "{word}:\n{help}");
    }
    let help = all_set(&["backup", "--help"]).stdout_text();
    for variable in VARIABLES.iter().filter(|name| !name.starts_with("PGP") && !name.starts_with("AWS")) {
        assert!(help.contains(variable), "{variable}:\n{help}");
    }
    let help = all_set(&["list", "--help"]).stdout_text();
    assert!(help.contains("S3_SECRET_KEY") && !help.contains("BACKUP_THREADS"), "{help}");
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for arguments in [
        ["--nonsense"].as_slice(),
        &["nonsense"],
        &["help", "nonsense"],
        &["backup", "extra"],
        &["backup", "--nonsense"],
        &["backup", "--threads"],
        &["backup", "--json=maybe"],
        &["backup", "--s3-secret-key", "sentinel"],
        &["backup", "postgres://user:sentinel@host/database"],
        &["list", "--threads", "2"],
        &["check", "extra"],
        &["check", "--max-age", "postgres://user:sentinel@host/database"],
        &["check", "--max-shrink=password=sentinel"],
        &["list", "password=sentinel"],
        &["list", "password='sentinel with sentinel'"],
        &["list", "postgres://user:two sentinel@host/database"],
        &["backup", "--s3-secret-key=sentinel"],
        &["backup", "--postgres-connection-string=postgres://user:two sentinel@host/database"],
    ] {
        let outcome = all_set(arguments);
        outcome.assert_code(64);
        assert_eq!(outcome.stdout_text(), "", "{arguments:?}");
        assert!(outcome.stderr.contains("--help"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("sentinel"), "{}", outcome.stderr);
    }
}

#[test]
fn without_a_subcommand_help_is_shown_as_a_usage_error() {
    let outcome = all_set(&[]);
    outcome.assert_code(64);
    assert_eq!(outcome.stdout_text(), "");
    assert!(outcome.stderr.contains("Usage:") && outcome.stderr.contains("backup"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("sentinel"), "{}", outcome.stderr);
}

#[test]
fn success_as_json_has_the_result_and_the_manifest() {
    let database = postgres().create_database("json");
    let bucket = s3().create_bucket("json");
    let outcome = backup_program(&database, &bucket).arg("--json").run();
    outcome.assert_code(0);
    let (result, key) = (result_of(&outcome), only_backup(&bucket));
    assert_eq!((&result["success"], &result["error"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(result["file_name"], *key);
    assert_eq!(result["s3_location"], format!("s3://{bucket}/{key}"));
    let manifest: Value = crate::support::setup::manifest(&bucket, &key);
    assert_eq!(result["file_size"], manifest["object_bytes"]);
    for (field, value) in manifest.as_object().expect("an object") {
        assert_eq!(&result[field], value, "{field}");
    }
}

#[test]
fn success_for_people_is_one_line_on_stdout() {
    let database = postgres().create_database("line");
    let bucket = s3().create_bucket("line");
    let outcome = backup_program(&database, &bucket).run();
    outcome.assert_code(0);
    let line = outcome.stdout_text();
    assert!(line.starts_with(&format!("s3://{bucket}/{}: ", only_backup(&bucket))), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
}

#[test]
fn failure_as_json_has_the_cause() {
    let database = postgres().create_database("failure");
    let bucket = s3().create_bucket("failure");
    let fake = FakeDump::new().stderr_line("pg_dump: error: \"sudden\" end").end(End::Exit(1)).install();
    let base = || backup_program(&database, &bucket).arg("--json").env("PG_DUMP_PATH", fake.path());
    for (program, code, cause) in [
        (base().env_remove("S3_BUCKET"), 1, "S3_BUCKET is not set"),
        (base().env("S3_PATH", "a//b").env("BACKUP_THREADS", "x"), 3, "BACKUP_THREADS"),
        (base().env("S3_BUCKET", "no-such-bucket"), 3, "NoSuchBucket"),
        (base().env("POSTGRES_CONNECTION_STRING", postgres().uri("no such database")), 10, "no such database"),
        (base(), 11, "\"sudden\" end"),
    ] {
        let outcome = program.run();
        outcome.assert_code(code);
        let result = result_of(&outcome);
        assert_eq!((&result["success"], &result["file_size"]), (&Value::Bool(false), &0.into()));
        assert!(result["error"].as_str().is_some_and(|text| text.contains(cause)), "{result}");
        // Where the upload had been started, the name is known.
        assert_eq!(result["file_name"].is_string(), code == 11, "{result}");
        assert!(!outcome.stderr.is_empty());
    }
}

#[test]
fn every_command_with_json_says_in_json_why_it_failed() {
    for arguments in [
        ["list", "--json"].as_slice(),
        &["list", "latest", "--json"],
        &["prune", "--json"],
        &["prune", "--dry-run", "--json"],
        &["check", "--json"],
        &["check", "--bucket-only", "--json"],
        &["backup", "--json"],
    ] {
        let outcome = Program::new().args(arguments).run();
        outcome.assert_code(1);
        let stdout = outcome.stdout_text();
        let report: Value = serde_json::from_str(&stdout).expect("one JSON object");
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
        assert_eq!(report["success"], false, "{arguments:?}: {stdout}");
        assert!(report["error"].as_str().is_some_and(|text| text.contains("S3_BUCKET is not set")), "{stdout}");
    }
}

#[test]
fn a_wrong_command_line_with_json_is_an_object_too() {
    for (arguments, cause) in [
        (["list", "--json", "--no-such"].as_slice(), "unexpected argument '--no-such' found"),
        (&["list", "--limit", "-1", "--json"], "invalid value '-1' for '--limit <N|all>'"),
        (&["backup", "--json", "password=sentinel"], "unexpected argument"),
        (&["check", "--json", "--max-age", "soon"], "--max-age"),
    ] {
        let outcome = Program::new().args(arguments).run();
        let stdout = outcome.assert_code(64).stdout_text();
        let report: Value = serde_json::from_str(&stdout).expect("one JSON object");
        assert_eq!((stdout.lines().count(), &report["success"]), (1, &false.into()), "{stdout}");
        let error = report["error"].as_str().expect("a text");
        assert!(error.contains(cause) && !error.starts_with("error") && !stdout.contains("sentinel"), "{stdout}");
        assert!(outcome.stderr.contains(error), "people have it on stderr: {}", outcome.stderr);
    }
    let outcome = Program::new().args(["backup", "--no-such", "--", "--json"]).run();
    assert_eq!(outcome.assert_code(64).stdout_text(), "", "that one is for pg_dump");
}

#[test]
fn every_line_of_a_json_log_is_an_object() {
    let database = postgres().create_database("log");
    let bucket = s3().create_bucket("log");
    let fake = FakeDump::new().stderr_line("pg_dump: error: \"quoted\" \\ \u{1} end").end(End::Exit(1)).install();
    let base = || backup_program(&database, &bucket).env("LOG_FORMAT", "json").env("LOG_LEVEL", "trace");
    for (program, code) in [
        (base(), 0),
        (base().env("S3_BUCKET", "no-such-bucket"), 3),
        (base().env_remove("S3_BUCKET").env("BACKUP_THREADS", "\u{1}\""), 1),
        (base().env("PG_DUMP_PATH", fake.path()), 11),
        (list_program(&bucket).args(["--log-format", "json", "--log-level=trace"]).env("S3_PATH", "nothing"), 0),
        (backup_program(&database, &bucket).args(["--log-format=json"]).env("LOG_LEVEL", "wrong"), 4),
    ] {
        let outcome = program.run();
        outcome.assert_code(code);
        assert_json_lines(&outcome);
        if code != 0 {
            let last = outcome.stderr.lines().last().expect("a line");
            let last: Value = serde_json::from_str(last).expect("JSON");
            assert_eq!((&last["level"], &last["exit_code"]), (&"ERROR".into(), &code.into()), "{last}");
        }
    }
}

#[test]
fn a_log_level_shows_nothing_below_it() {
    let database = postgres().create_database("level");
    let bucket = s3().create_bucket("level");
    let quiet = backup_program(&database, &bucket).env("LOG_LEVEL", "warning").run();
    quiet.assert_code(0);
    assert_eq!(quiet.stderr, "");
    let usual = backup_program(&database, &bucket).run();
    usual.assert_code(0);
    assert!(usual.stderr.contains("INFO") && !usual.stderr.contains("DEBUG"), "{}", usual.stderr);
    assert!(!usual.stderr.contains('\u{1b}'), "no colours off a terminal");
}

#[test]
fn secrets_that_are_common_words_leave_results_as_they_are() {
    let database = postgres().create_database("common");
    let bucket = s3().create_bucket("common");
    // A password that the name of every backup holds.
    let uri = format!("{}?application_name=x", database.uri());
    let program =
        || backup_program(&database, &bucket).env("POSTGRES_CONNECTION_STRING", &uri).env("PGPASSWORD", "backup");
    let outcome = program().env("AWS_SESSION_TOKEN", "true").arg("--json").run();
    outcome.assert_code(0);
    let report: Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!(report["success"], Value::Bool(true));
    assert!(report["file_name"].as_str().is_some_and(|name| name.starts_with("postgres-backup-")), "{report}");
}
