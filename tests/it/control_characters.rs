//! Names and messages of others never control the terminal: not in logs of either format, nor in results.

use serde_json::Value;

use crate::support::program::Outcome;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, list_program, manifest, only_backup, s3_program};

/// A window's title, a colour, a bell, a line of its own, the other direction, and a control character of eight bits.
const HOSTILE: &str = "\u{1b}]0;title\u{7}\u{1b}[31m\nok  forged\u{202e}\u{2066}\u{9b}";

fn is_shown(letter: char) -> bool {
    let is_hidden = matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    letter == '\n' || !letter.is_control() && !is_hidden
}

#[track_caller]
fn assert_shown(outcome: &Outcome) {
    for text in [&outcome.stdout_text(), &outcome.stderr] {
        assert!(text.chars().all(is_shown), "a terminal would obey: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("ok  forged")), "a forged line: {text}");
    }
}

#[test]
fn a_hostile_database_name_is_escaped_in_logs_and_results() {
    let database = postgres().create_database(HOSTILE);
    let bucket = s3().create_bucket("hostile");
    for format in ["text", "json"] {
        let level =
            |program: crate::support::program::Program| program.env("LOG_FORMAT", format).env("LOG_LEVEL", "debug");
        let missing = format!("postgresql://{}", postgres().uri("no").split_once("://").expect("a URI").1);
        let missing = missing.trim_end_matches("no").to_owned() + "%1b%5b31m%0aok%20%20forged%E2%80%AE";
        let failed = level(s3_program(&bucket).arg("backup")).env("POSTGRES_CONNECTION_STRING", missing).run();
        assert_shown(&failed);
        assert!(failed.assert_code(10).stderr.contains("forged"), "{}", failed.stderr);
        let done = level(backup_program(&database, &bucket)).arg("--json").run();
        assert_shown(&done);
        let report: Value = serde_json::from_slice(&done.assert_code(0).stdout).expect("JSON");
        assert_eq!(report["database"], *database.name);
        assert_shown(level(list_program(&bucket)).run().assert_code(0));
        assert_shown(level(list_program(&bucket)).arg("latest").run().assert_code(0));
        let listed = level(list_program(&bucket)).arg("--json").run();
        assert_shown(listed.assert_code(0));
        let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
        assert_eq!(listed[0]["database"], *database.name);
        let checked = level(s3_program(&bucket).arg("check").env("POSTGRES_CONNECTION_STRING", database.uri())).run();
        assert_shown(checked.assert_code(0));
    }
}

#[test]
fn a_hostile_manifest_is_escaped_in_the_list() {
    let database = postgres().create_database("manifest");
    let bucket = s3().create_bucket("hostile");
    backup_program(&database, &bucket).run().assert_code(0);
    let key = only_backup(&bucket);
    let mut forged = manifest(&bucket, &key);
    for field in ["server_version", "pg_dump_version", "encoding", "object_sha256", "finished_at", "dump_crc32"] {
        forged[field] = HOSTILE.into();
    }
    for field in ["pg_dump_arguments", "roles", "tablespaces", "warnings"] {
        forged[field] = vec![HOSTILE].into();
    }
    s3().request("PUT", &format!("/{bucket}/{key}.json"), forged.to_string().as_bytes()).expect("forged");
    let shown = list_program(&bucket).arg("latest").run();
    assert_shown(shown.assert_code(0));
    assert!(shown.stdout_text().contains(r"\u{1b}]0;title\u{7}"), "{}", shown.stdout_text());
}
