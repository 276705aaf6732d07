//! The sources of a setting: a flag takes precedence over the environment, and that over the default; `X_FILE` for every
//! variable; and the spellings of sizes and durations.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::program::Program;
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, list_program, manifest, only_backup, s3_program};

/// Writes a file with this content, for `X_FILE`.
fn file(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).expect("written");
    path
}

/// Every setting with a valid value.
fn all_settings(database: &Database, bucket: &str) -> Vec<(&'static str, String)> {
    let text = str::to_owned;
    vec![
        ("S3_BUCKET", text(bucket)),
        ("S3_PATH", text("by/file")),
        ("S3_URL", s3().url.clone()),
        ("S3_REGION", s3().region.clone()),
        ("S3_ACCESS_KEY", s3().access_key.clone()),
        ("S3_SECRET_KEY", s3().secret_key.clone()),
        ("S3_FORCE_PATH_STYLE", text("yes")),
        ("S3_CHECKSUM", text("md5")),
        ("S3_MAX_PARTS", text("1000")),
        ("S3_EQUAL_PARTS", text("on")),
        ("S3_REQUEST_TIMEOUT", text("70s")),
        ("POSTGRES_CONNECTION_STRING", database.uri()),
        ("BACKUP_COMPRESSION_LEVEL", text("3")),
        ("BACKUP_THREADS", text("2")),
        ("BACKUP_PART_SIZE", text("6MiB")),
        ("BACKUP_UPLOAD_CONCURRENCY", text("2")),
        ("BACKUP_MAX_UPLOAD_OUTAGE", text("210s")),
        ("BACKUP_MAX_DURATION", text("1h")),
        ("BACKUP_STALL_TIMEOUT", text("2m")),
        ("BACKUP_LOCK_WAIT_TIMEOUT", text("30s")),
        ("PG_DUMP_PATH", postgres().bin.join("pg_dump").display().to_string()),
        ("LOG_LEVEL", text("debug")),
        ("LOG_FORMAT", text("text")),
        ("NO_COLOR", text("1")),
    ]
}

/// The log field of a setting.
fn shown(name: &str, value: &str) -> String {
    let is_secret = ["KEY", "STRING"].iter().any(|part| name.ends_with(part));
    let value = if is_secret { "set" } else { value };
    match value {
        "yes" | "on" => format!(" {name}=true"),
        value if value.parse::<u32>().is_ok() => format!(" {name}={value}"),
        value => format!(" {name}=\"{value}\""),
    }
}

#[test]
fn reads_each_variable_from_a_file_and_trims_line_breaks() {
    let database = postgres().create_database("files");
    for (is_file, before, after) in [(true, "\n", "\n\n"), (true, "", "\r\n"), (false, "", "\n"), (true, "", "")] {
        let bucket = s3().create_bucket("files");
        let dir = tempfile::tempdir().expect("a directory");
        let settings = all_settings(&database, &bucket);
        let program = settings.iter().fold(Program::new(), |program, (name, value)| {
            let given = format!("{before}{value}{after}");
            if is_file {
                program.env(format!("{name}_FILE"), file(dir.path(), name, given))
            } else {
                program.env(name, given)
            }
        });
        let outcome = program.clone().arg("backup").run();
        outcome.assert_code(0);
        // One event with a field for each setting; none has its default value.
        let line = outcome.stderr.lines().find(|line| line.contains(" INFO settings ")).expect("the settings");
        for (name, value) in &settings {
            let field = shown(name, value);
            assert!(line.contains(&field), "{field} is not in:\n{line}");
        }
        let key = only_backup(&bucket);
        assert!(key.starts_with("by/file/"), "{key}");
        assert_eq!(manifest(&bucket, &key)["compression_level"], 3);
        let listed = program.arg("list").run();
        listed.assert_code(0);
        assert!(listed.stdout_text().contains(&database.name), "{}", listed.stdout_text());
    }
}

#[test]
fn refuses_variable_together_with_its_file() {
    let database = postgres().create_database("both");
    let dir = tempfile::tempdir().expect("a directory");
    for (name, value) in all_settings(&database, "bucket") {
        let path = file(dir.path(), name, &value);
        let base = backup_program(&database, "bucket").env(name, &value);
        let outcome = base.env(format!("{name}_FILE"), path).run();
        outcome.assert_code(4);
        assert!(outcome.stderr.contains(&format!("{name} and {name}_FILE are both set")), "{}", outcome.stderr);
    }
}

#[test]
fn names_unusable_file() {
    let database = postgres().create_database("unreadable");
    let dir = tempfile::tempdir().expect("a directory");
    let not_text = file(dir.path(), "not-text", b"sentinel\xff");
    let nul = file(dir.path(), "nul", b"sentinel\0");
    for name in ["S3_BUCKET", "S3_SECRET_KEY", "POSTGRES_CONNECTION_STRING", "BACKUP_THREADS", "LOG_LEVEL"] {
        for path in [Path::new("/does/not/exist"), dir.path(), &not_text, &nul] {
            let program = backup_program(&database, "bucket").env_remove(name).env(format!("{name}_FILE"), path);
            let outcome = program.run();
            outcome.assert_code(4);
            assert!(outcome.stderr.contains(&format!("{name}_FILE")), "{}", outcome.stderr);
            assert!(!outcome.stderr.contains("sentinel"), "{}", outcome.stderr);
        }
    }
}

#[test]
fn empty_variable_counts_as_unset() {
    let database = postgres().create_database("unset");
    let bucket = s3().create_bucket("unset");
    let dir = tempfile::tempdir().expect("a directory");
    let optional =
        ["S3_PATH", "S3_REGION", "S3_SESSION_TOKEN", "S3_CA_BUNDLE", "BACKUP_THREADS", "PG_DUMP_PATH", "LOG_FORMAT"];
    let program = optional.iter().fold(backup_program(&database, &bucket), |program, name| {
        program.env(name, "").env(format!("{name}_FILE"), "")
    });
    // An empty variable does not override its file, and an empty flag does not override its variable.
    let path = file(dir.path(), "bucket", format!("{bucket}\n"));
    let program = program.env("S3_BUCKET", "").env("S3_BUCKET_FILE", path).arg("--s3-bucket=");
    let outcome = program.env("LOG_LEVEL", "debug").run();
    outcome.assert_code(0);
    only_backup(&bucket);
    let line = |words: &str| outcome.stderr.lines().find(|line| line.contains(words)).expect("a line of settings");
    for name in optional {
        assert!(!line(" INFO settings ").contains(&format!(" {name}=")), "{}", outcome.stderr);
        assert!(line(" DEBUG settings at their defaults ").contains(&format!(" {name}=")), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains(&format!("{name}=\"\"")), "{}", outcome.stderr);
    }
    // The effective number, not the description of the default in the documents.
    let threads = line(" DEBUG settings at their defaults ").split(" BACKUP_THREADS=").nth(1).expect("the threads");
    assert!(threads.split(' ').next().is_some_and(|number| number.parse::<u32>().is_ok()), "{threads}");
    let empty = file(dir.path(), "empty", "\n");
    let outcome = backup_program(&database, &bucket).env_remove("S3_BUCKET").env("S3_BUCKET_FILE", empty).run();
    outcome.assert_code(1);
    assert!(outcome.stderr.contains("S3_BUCKET is not set"), "{}", outcome.stderr);
}

#[test]
fn flag_takes_precedence_over_environment_and_default() {
    let database = postgres().create_database("order");
    let (bucket, other) = (s3().create_bucket("order"), s3().create_bucket("order"));
    let dir = tempfile::tempdir().expect("a directory");
    let path = file(dir.path(), "level", "4\n");
    let outcome = backup_program(&database, &other)
        .args(["--s3-bucket", &bucket, "--threads=3", "--compression-level", "5"])
        .env("BACKUP_THREADS", "1")
        .env("BACKUP_COMPRESSION_LEVEL_FILE", path)
        .env("BACKUP_UPLOAD_CONCURRENCY", "2")
        .env("LOG_LEVEL", "debug")
        .run();
    outcome.assert_code(0);
    for (level, shown) in [
        ("INFO", "BACKUP_THREADS=3"),
        ("INFO", "BACKUP_COMPRESSION_LEVEL=5"),
        ("INFO", "BACKUP_UPLOAD_CONCURRENCY=2"),
        ("INFO", "POSTGRES_CONNECTION_STRING=\"set\""),
        ("DEBUG", "S3_CHECKSUM=\"auto\""),
    ] {
        let mut lines = outcome.stderr.lines().filter(|line| line.contains(&format!(" {level} settings")));
        assert!(lines.any(|line| line.contains(shown)), "{shown} is not in:\n{}", outcome.stderr);
    }
    assert_eq!(manifest(&bucket, &only_backup(&bucket))["compression_level"], 5);
    assert_eq!(s3().keys(&other, ""), [""; 0]);
}

#[test]
fn reads_common_spellings_of_sizes_and_durations() {
    let database = postgres().create_database("human");
    for (size, bytes) in
        [("8MiB", 8 << 20), ("8 MiB", 8 << 20), ("8mib", 8 << 20), ("6MB", 6_000_000), ("5242880", 5 << 20)]
    {
        let bucket = s3().create_bucket("human");
        let outcome = backup_program(&database, &bucket)
            .env("BACKUP_PART_SIZE", size)
            .env("BACKUP_MAX_UPLOAD_OUTAGE", "1m 30s")
            .env("BACKUP_STALL_TIMEOUT", "36h")
            .env("BACKUP_LOCK_WAIT_TIMEOUT", "1500ms")
            .env("BACKUP_MAX_DURATION", "OFF")
            .env("BACKUP_MAX_BLOCKING", "0")
            .env("BACKUP_KEEP_DAILY", "0")
            .env("BACKUP_KEEP_LAST", "off")
            .run();
        outcome.assert_code(0);
        assert!(!outcome.stderr.contains("retention"), "no rule is set: {}", outcome.stderr);
        let manifest = manifest(&bucket, &only_backup(&bucket));
        assert_eq!(manifest["part_bytes"], bytes, "{size}");
        assert!(manifest["pg_dump_arguments"].to_string().contains("--lock-wait-timeout=1500"), "{manifest}");
    }
}

#[test]
fn list_needs_no_settings_of_postgresql() {
    let bucket = s3().create_bucket("no-postgres");
    list_program(&bucket).run().assert_code(0);
    // `list` ignores settings of other commands, even if they are wrong.
    let program = list_program(&bucket).env("POSTGRES_CONNECTION_STRING", "nonsense").env("BACKUP_THREADS", "x");
    program.env("PATH", "/nonexistent").run().assert_code(0);
    let outcome = s3_program(&bucket).env_remove("S3_BUCKET").arg("list").run();
    outcome.assert_code(1);
    assert!(outcome.stderr.contains("S3_BUCKET is not set"), "{}", outcome.stderr);
}

#[test]
fn uses_and_shows_endpoint_of_the_aws_sdk() {
    let bucket = s3().create_bucket("endpoint");
    let program = s3_program(&bucket).arg("prune").env("BACKUP_KEEP_LAST", "3").env("LOG_FORMAT", "json");
    let of_aws = program.clone().env_remove("S3_URL").env("AWS_ENDPOINT_URL", &s3().url).run();
    for (outcome, warnings) in [(of_aws, 1), (program.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9").run(), 0)] {
        outcome.assert_code(0);
        let events = outcome.stderr.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let (settings, others): (Vec<Value>, Vec<Value>) = events.partition(|event| event["message"] == "settings");
        let [settings] = settings.as_slice() else { panic!("one event: {settings:?}") };
        assert_eq!(
            (&settings["S3_URL"], &settings["BACKUP_KEEP_LAST"]),
            (&s3().url.as_str().into(), &3.into()),
            "{settings}"
        );
        assert!(settings["S3_BUCKET"] == *bucket && settings["S3_PATH"].is_null(), "{settings}");
        let of_endpoint = |event: &&Value| event["level"] == "WARN" && event.to_string().contains("set S3_URL");
        assert_eq!(others.iter().filter(of_endpoint).count(), warnings, "{others:?}");
    }
    let malformed =
        s3_program(&bucket).env_remove("S3_URL").arg("list").env("AWS_ENDPOINT_URL_S3", "s3.example.com").run();
    assert!(malformed.assert_code(3).stderr.contains("AWS_ENDPOINT_URL_S3: must begin with"), "{}", malformed.stderr);
}

#[test]
fn refuses_file_that_is_too_large() {
    let dir = tempfile::tempdir().expect("a directory");
    let large = file(dir.path(), "large", "");
    for length in [(1 << 20) + 1, 300 << 20] {
        fs::File::options().write(true).open(&large).and_then(|file| file.set_len(length)).expect("sparse");
        for variable in ["S3_BUCKET_FILE", "S3_SECRET_KEY_FILE"] {
            let outcome = Program::new().arg("list").env(variable, &large).env("S3_ACCESS_KEY", "key").run();
            let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(variable)).collect();
            assert!(matches!(lines[..], [line] if line.contains("has more than 1 MiB")), "{}", outcome.stderr);
        }
    }
}
