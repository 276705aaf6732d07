//! The drill in the pages: its policy allows each of its requests and nothing else, and cron runs it as printed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::blocks::{Crontab, block_after};
use super::{CHECK, PROGRAM, SECURITY, as_cron};
use crate::support::proxy::{FaultProxy, S3Verb, Seen};
use crate::support::servers::{own_postgres, postgres, s3};
use crate::support::setup::{backup_program, s3_program};

/// The action that IAM asks for, and the resource.
fn needed(seen: &Seen, bucket: &str) -> (&'static str, String) {
    let object = format!("arn:aws:s3:::{bucket}/{}", seen.key());
    match seen.verb {
        S3Verb::ListObjects => ("s3:ListBucket", format!("arn:aws:s3:::{bucket}")),
        S3Verb::ListMultipartUploads => ("s3:ListBucketMultipartUploads", format!("arn:aws:s3:::{bucket}")),
        S3Verb::HeadObject | S3Verb::GetObject => ("s3:GetObject", object),
        S3Verb::PutObject | S3Verb::CreateMultipartUpload | S3Verb::UploadPart | S3Verb::CompleteMultipartUpload => {
            ("s3:PutObject", object)
        }
        S3Verb::DeleteObject => ("s3:DeleteObject", object),
        _ => panic!("neither a drill nor a backup sends such a request: {seen:?}"),
    }
}

/// Whether a pattern with stars matches, as in IAM.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(after, &rest[at..]))
        }),
    }
}

/// The value of a parameter of the query, decoded as far as keys need it.
fn parameter(seen: &Seen, name: &str) -> Option<String> {
    let pair = seen.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    pair.map(|value| value.replace("%2F", "/"))
}

/// The statement of a policy that allows a request.
///
/// # Panics
/// If none does.
pub fn allowing(statements: &[Value], seen: &Seen, bucket: &str) -> usize {
    let (action, resource) = needed(seen, bucket);
    let found = statements.iter().position(|statement| {
        let prefix = statement["Condition"]["StringLike"]["s3:prefix"].as_str();
        let fits =
            prefix.is_none_or(|pattern| parameter(seen, "prefix").is_some_and(|prefix| matches(pattern, &prefix)));
        let has_action = match &statement["Action"] {
            Value::Array(actions) => actions.iter().any(|one| one == action),
            one => one == action,
        };
        has_action && matches(statement["Resource"].as_str().expect("one"), &resource) && fits
    });
    found.unwrap_or_else(|| panic!("{action} on {resource} is not allowed: {seen:?}"))
}

#[test]
fn policy_of_a_drill_allows_its_requests_and_no_more() {
    let (database, bucket, server) =
        (postgres().create_database("policy"), s3().create_bucket("policy"), own_postgres(&[]));
    database.psql("CREATE TABLE t AS SELECT 1 AS a").expect("a table");
    backup_program(&database, &bucket).env("S3_PATH", "shop").run().assert_code(0);
    let proxy = FaultProxy::start(s3().addr());
    let drill = s3_program(&bucket).env("S3_URL", proxy.url()).env("S3_PATH", "shop");
    let drill = drill.env("DRILL_CONNECTION_STRING", server.uri("postgres")).args(["check", "--bucket-only"]);
    let answer = drill.run().assert_code(0).stdout_text();
    assert!(answer.contains("ok    drill ") && !answer.contains("warn"), "{answer}");

    let text = block_after(SECURITY, "needs exactly this policy").replace(":::backups", &format!(":::{bucket}"));
    let policy: Value = serde_json::from_str(&text).expect("JSON");
    let statements = policy["Statement"].as_array().expect("statements");
    let mut used = BTreeSet::new();
    for seen in proxy.log() {
        used.insert(allowing(statements, &seen, &bucket));
    }
    assert_eq!(used.len(), statements.len(), "a statement is not needed");
    let key = format!("arn:aws:s3:::{bucket}/shop/postgres-backup-2026-11-23_02-00-00.sql.gz");
    let writes = statements.iter().find(|statement| statement["Action"] == "s3:PutObject").expect("one writes");
    assert!(!matches(writes["Resource"].as_str().expect("one"), &key), "it can write a backup");
}

#[test]
fn cron_runs_the_drill_and_mails_only_failures() {
    let (database, bucket) = (postgres().create_database("readme"), s3().create_bucket("readme"));
    let server = own_postgres(&[]);
    let crontab = Crontab::parse(&block_after(CHECK, "On a server that exists, cron runs the drill"));
    let etc = tempfile::tempdir().expect("a directory");
    let directory = etc.path().display().to_string();
    let (target, s3) = (server.uri("postgres"), s3());
    for (name, secret) in
        [("connection-string", &target), ("access-key", &s3.access_key), ("secret-key", &s3.secret_key)]
    {
        std::fs::write(etc.path().join(name), secret).expect("a secret");
    }
    let replaced =
        [("/usr/local/bin/pg-s3-backup", PROGRAM), ("/etc/pg-s3-backup/drill", &directory), ("backups", &bucket)];
    let run = || as_cron(&crontab, 0, &replaced, &[("S3_URL", &s3.url)]);
    let alarm = run();
    assert!(alarm.stdout_text().contains("fail  drill"), "{}", alarm.stdout_text());
    backup_program(&database, &bucket).env("S3_PATH", "shop").run().assert_code(0);
    let silent = run();
    assert_eq!((silent.assert_code(0).stdout_text(), &*silent.stderr), (String::new(), ""), "cron would send this");
    assert!(s3.keys(&bucket, "shop/").iter().any(|key| key.ends_with(".drill.json")));
    assert_eq!(crontab.lines.len(), 1);
}
