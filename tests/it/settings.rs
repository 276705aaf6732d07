//! Missing and wrong settings, alone and together: the exit code, and the name of each. The program contacts no server before
//! all settings are valid. [`super::settings_sources`] tests the sources of values.

use crate::support::fake_pg_dump::FakeDump;
use crate::support::program::{Outcome, Program};
use crate::support::proxy::FaultProxy;
use crate::support::servers::{postgres, s3};
use crate::support::tcp_proxy::TcpProxy;

/// Every setting with an invalid value, and the exit code for it.
const WRONG: &[(&str, &str, i32)] = &[
    ("S3_BUCKET", "s3://bucket", 3),
    ("S3_BUCKET", "bucket/path", 3),
    ("S3_BUCKET", "ab", 3),
    ("S3_PATH", "a//b", 3),
    ("S3_PATH", "../b", 3),
    ("S3_PATH", "s3://bucket/a", 3),
    ("S3_URL", "s3.example.com", 3),
    ("S3_URL", "ftp://s3.example.com", 3),
    ("S3_URL", "https://s3.example.com/?x=1", 3),
    ("S3_URL", "https://user:sentinel@s3.example.com", 3),
    ("S3_URL", "https://sentinel@s3.example.com", 3),
    ("S3_URL", "http://127.0.0.1:99999", 3),
    ("S3_URL", "http://127.0.0.1:port", 3),
    ("S3_REGION", "us-east\n-1", 3),
    ("S3_REGION", "eu central", 3),
    ("S3_ACCESS_KEY", "sentinel\nsentinel", 3),
    ("S3_SECRET_KEY", "sentinel\rsentinel", 3),
    ("S3_SESSION_TOKEN", "sentinel\u{1}", 3),
    ("S3_FORCE_PATH_STYLE", "perhaps", 4),
    ("S3_CA_BUNDLE", "/does/not/exist.pem", 3),
    ("S3_CA_BUNDLE", "/etc/hostname", 3),
    ("S3_CHECKSUM", "sha1", 3),
    ("S3_MAX_PARTS", "0", 4),
    ("S3_MAX_PARTS", "10001", 4),
    ("S3_EQUAL_PARTS", "2", 4),
    ("S3_REQUEST_TIMEOUT", "soon", 4),
    ("S3_REQUEST_TIMEOUT", "0", 4),
    ("S3_REQUEST_TIMEOUT", "1ns", 4),
    ("POSTGRES_CONNECTION_STRING", "nonsense", 4),
    ("BACKUP_COMPRESSION_LEVEL", "10", 4),
    ("BACKUP_COMPRESSION_LEVEL", "0", 4),
    ("BACKUP_THREADS", "0", 4),
    ("BACKUP_THREADS", "-1", 4),
    ("BACKUP_PART_SIZE", "4MiB", 4),
    ("BACKUP_PART_SIZE", "6GiB", 4),
    ("BACKUP_PART_SIZE", "large", 4),
    ("BACKUP_UPLOAD_CONCURRENCY", "0", 4),
    ("BACKUP_UPLOAD_CONCURRENCY", "many", 4),
    ("BACKUP_MAX_UPLOAD_OUTAGE", "15", 4),
    ("BACKUP_MAX_UPLOAD_OUTAGE", "off", 4),
    ("BACKUP_MAX_DURATION", "-1h", 4),
    ("BACKUP_STALL_TIMEOUT", "30 minuets", 4),
    ("BACKUP_LOCK_WAIT_TIMEOUT", "0ms", 4),
    ("LOG_LEVEL", "loud", 4),
    ("LOG_FORMAT", "xml", 4),
];

/// `backup` with valid settings that name unreachable servers.
fn valid() -> Program {
    Program::new()
        .arg("backup")
        .env("S3_URL", "http://127.0.0.1:9")
        .env("S3_BUCKET", "bucket")
        .env("S3_ACCESS_KEY", "access")
        .env("S3_SECRET_KEY", "the-secret")
        .env("POSTGRES_CONNECTION_STRING", "postgres://user:sentinel@127.0.0.1:9/database")
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

/// Asserts one line of stderr for each of these settings, none for others, and no secret.
#[track_caller]
fn assert_named(outcome: &Outcome, code: i32, settings: &[&str]) {
    outcome.assert_code(code);
    for setting in settings {
        assert!(outcome.stderr.contains(setting), "{setting} is not named:\n{}", outcome.stderr);
    }
    assert_eq!(outcome.stderr.lines().count(), settings.len(), "a line each:\n{}", outcome.stderr);
    assert!(!outcome.stderr.contains("sentinel"), "{}", outcome.stderr);
    assert_eq!(outcome.stdout_text(), "");
}

#[test]
fn names_each_wrong_setting() {
    for (variable, value, code) in WRONG {
        assert_named(&valid().env(variable, value).run(), *code, &[variable]);
    }
}

#[test]
fn names_each_missing_setting() {
    for variable in ["S3_BUCKET", "POSTGRES_CONNECTION_STRING"] {
        assert_named(&valid().env_remove(variable).run(), 1, &[&format!("{variable} is not set")]);
        assert_named(&valid().env(variable, "").run(), 1, &[&format!("{variable} is not set")]);
    }
}

#[test]
fn reports_misspelled_setting_except_in_the_health_check() {
    let program = Program::new().env("S3_BUCKTE", "sentinel").env("BACKUP_RETENTION_DAY", "sentinel");
    let outcome = program.clone().arg("list").run();
    let expected = ["BACKUP_RETENTION_DAY is set, but", "is S3_BUCKET meant?", "S3_BUCKET is not set"];
    assert_named(&outcome, 1, &expected);
    assert_eq!(outcome.stderr.matches(" WARN ").count(), 2, "{}", outcome.stderr);
    // It runs every half minute.
    assert_named(&program.arg("health").run(), 1, &["LISTEN is not set"]);
}

#[test]
fn reports_settings_of_other_tools_at_start_and_in_check() {
    let theirs = [
        ("S3_ENDPOINT", "is S3_URL meant?"),
        ("S3_PREFIX", "is S3_PATH meant?"),
        ("SCHEDULE", "is BACKUP_INTERVAL meant?"),
        ("PASSPHRASE", "not encrypted"),
        ("LOG_LEVL", "is LOG_LEVEL meant?"),
        ("BACKUP_ANYTHING_ELSE", "has no effect"),
    ];
    let program = theirs.iter().fold(Program::new(), |program, (name, _)| program.env(name, "sentinel"));
    // Kubernetes sets this for a service that is called `backup`.
    let program = program.env("BACKUP_SERVICE_HOST", "sentinel").args(["check", "--bucket-only", "--json"]);
    let outcome = program.run();
    outcome.assert_code(1);
    let report: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    assert_eq!(report["warned"], theirs.len(), "{report}");
    for (name, words) in theirs {
        let line = outcome.stderr.lines().find(|line| line.contains(&format!(" WARN {name} is set")));
        assert!(line.is_some_and(|line| line.contains(words)), "{name}: {}", outcome.stderr);
        let of_name = |check: &&serde_json::Value| check["detail"].as_str().is_some_and(|text| text.starts_with(name));
        let check = report["checks"].as_array().expect("checks").iter().find(of_name).expect(name);
        assert!(check["status"] == "warn" && check.to_string().contains(words), "{check}");
    }
    assert!(!outcome.stderr.contains("sentinel") && !outcome.stdout_text().contains("sentinel"), "{}", outcome.stderr);
}

#[test]
fn reports_unused_system_time_zone_once() {
    let outcome = Program::new().arg("daemon").env("TZ", "America/Los_Angeles").env("BACKUP_INTERVAL", "@daily").run();
    outcome.assert_code(1);
    let warnings: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(" WARN ")).collect();
    assert!(
        warnings.len() == 1 && warnings[0].contains("set BACKUP_TIMEZONE to America/Los_Angeles"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn refuses_quoted_values() {
    // `docker run --env-file` and ConfigMaps keep quotes.
    for (variable, value, code) in [
        ("POSTGRES_CONNECTION_STRING", "postgres://user:sentinel@127.0.0.1:9/database?sslmode=prefer", 4),
        ("S3_BUCKET", "bucket", 3),
        ("S3_URL", "http://127.0.0.1:9", 3),
        ("S3_ACCESS_KEY", "sentinel", 3),
        ("S3_SECRET_KEY", "sentinel", 3),
        ("S3_REGION", "us-east-1", 3),
        ("S3_PATH", "app", 3),
        ("PING_URL", "https://hc-ping.com/sentinel", 4),
        ("PG_DUMP_ARGS", "--no-owner --no-privileges", 4),
    ] {
        for quoted in [format!("\"{value}\""), format!("'{value}'"), format!("'{value}'\n")] {
            let outcome = valid().env(variable, &quoted).run();
            assert_named(&outcome, code, &[&format!("{variable}: begins and ends with a quote: take the quotes off")]);
        }
    }
}

#[test]
fn refuses_one_half_of_the_credentials() {
    for (given, missing) in [("S3_ACCESS_KEY", "S3_SECRET_KEY"), ("S3_SECRET_KEY", "S3_ACCESS_KEY")] {
        let program = valid().env_remove(missing).env(given, "sentinel");
        assert_named(&program.run(), 1, &[&format!("{missing} is not set, but {given} is")]);
        // The AWS chain must not supply the other half: the two would not belong together.
        let program = program.env("AWS_ACCESS_KEY_ID", "sentinel").env("AWS_SECRET_ACCESS_KEY", "sentinel");
        assert_named(&program.run(), 1, &[missing]);
    }
}

#[test]
fn names_both_settings_without_any_credentials() {
    let list = Program::new().arg("list").env("S3_BUCKET", "bucket").env("AWS_EC2_METADATA_DISABLED", "true");
    for program in [valid().env_remove("S3_ACCESS_KEY").env_remove("S3_SECRET_KEY"), list] {
        let outcome = program.run();
        outcome.assert_code(1);
        let line = outcome.stderr.lines().last().unwrap_or_default();
        assert!(line.contains("S3_ACCESS_KEY") && line.contains("S3_SECRET_KEY"), "{}", outcome.stderr);
    }
}

#[test]
fn names_all_problems_and_exits_with_the_lowest_code() {
    let all_wrong = |accept: &dyn Fn(i32) -> bool| {
        let chosen = WRONG.iter().filter(|(_, _, code)| accept(*code));
        let mut names: Vec<&str> = chosen.clone().map(|(name, _, _)| *name).collect();
        names.dedup();
        (chosen.fold(valid(), |program, (name, value, _)| program.env(name, value)), names)
    };
    let (program, names) = all_wrong(&|code| code == 4);
    assert_named(&program.run(), 4, &names);
    let (program, mut names) = all_wrong(&|_| true);
    assert_named(&program.run(), 3, &names);
    // With a missing setting, and half of the credentials.
    names.retain(|name| !matches!(*name, "S3_BUCKET" | "S3_SECRET_KEY"));
    names.extend(["S3_BUCKET is not set", "S3_SECRET_KEY is not set"]);
    assert_named(&program.env_remove("S3_BUCKET").env_remove("S3_SECRET_KEY").run(), 1, &names);
    let nothing = Program::new().arg("backup").run();
    assert_named(&nothing, 1, &["S3_BUCKET is not set", "POSTGRES_CONNECTION_STRING is not set"]);
}

#[test]
fn names_wrong_flag_by_its_variable() {
    let program = valid().env("BACKUP_THREADS", "2").args(["--threads", "none", "--s3-path=a//b"]);
    assert_named(&program.run(), 3, &["BACKUP_THREADS", "S3_PATH"]);
}

#[test]
fn contacts_no_server_before_all_settings_are_valid() {
    let database = postgres().create_database("untouched");
    let bucket = s3().create_bucket("untouched");
    let s3_proxy = FaultProxy::start(s3().addr());
    let pg_proxy = TcpProxy::start(&postgres().addr());
    let fake = FakeDump::new().install();
    let program = valid()
        .env("S3_URL", s3_proxy.url())
        .env("S3_BUCKET", &bucket)
        .env("S3_ACCESS_KEY", &s3().access_key)
        .env("S3_SECRET_KEY", &s3().secret_key)
        .env("POSTGRES_CONNECTION_STRING", database.uri_via(&pg_proxy.host(), pg_proxy.port()))
        .env("PG_DUMP_PATH", fake.path());
    let others = |name: &str| !matches!(name, "S3_URL" | "POSTGRES_CONNECTION_STRING");
    for (variable, value, code) in WRONG.iter().filter(|(name, _, _)| others(name)) {
        program.clone().env(variable, value).run().assert_code(*code);
    }
    assert_eq!(s3_proxy.log().len(), 0, "requests to S3");
    assert_eq!(pg_proxy.bytes_to_client(), 0, "answers of PostgreSQL");
    assert_eq!(fake.pids(), [0; 0], "calls of pg_dump");
    program.run().assert_code(0);
    assert!(!s3_proxy.log().is_empty() && pg_proxy.bytes_to_client() > 0 && !fake.pids().is_empty());
}

#[test]
fn refuses_malformed_connection_string_without_showing_it() {
    for text in [
        "sentinel",
        "sentinel/database",
        "mysql://sentinel@sentinel/sentinel",
        "host=sentinel password=two sentinel",
        "host=sentinel password='sentinel",
        "host=sentinel sentinel=sentinel",
        "host=h passwort=sentinel",
        "postgres://user:sentinel%zz@host/database",
        "postgres://user:sentinel%@host/database",
        "postgres://user:sentinel%00@host/database",
        "postgres://user:p@sentinel@host/database",
        "postgres://user:sentinel@[::1/database",
        "postgres://user:sentinel@[::1]x/database",
        "postgres://host/database?password",
        "postgres://host/database?other=sentinel",
        "postgres://host/database?password=sentinel=sentinel",
    ] {
        assert_named(&valid().env("POSTGRES_CONNECTION_STRING", text).run(), 4, &["POSTGRES_CONNECTION_STRING"]);
    }
}
