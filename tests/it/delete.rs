//! `delete NAME…` deletes only the named backups with their sidecars; not the newest valid backup, and nothing if a name is
//! wrong.

use serde_json::Value;

use crate::support::program::{Outcome, Program};
use crate::support::proxy::{Calls, Fault, FaultProxy, Rule, S3Verb, When};
use crate::support::servers::s3;
use crate::support::setup::{prune_program, s3_program};
use crate::support::stored::{EMPTY_GZIP, FUTURE, VALID_MANIFEST, name_of_day, put, put_backups};

const PRUNE_INCOMPLETE: i32 = 13;
const NO_SUCH_BACKUP: i32 = 15;
/// The sidecars of a backup, of all versions.
const SIDECARS: [&str; 6] =
    [".json", ".globals.sql.gz", ".drill.json", ".index.json.gz", ".globals.sql.gz.age", ".index.json.gz.age"];

fn delete(bucket: &str, names: &[&str]) -> Program {
    s3_program(bucket).arg("delete").args(names)
}

fn keys(bucket: &str) -> Vec<String> {
    s3().keys(bucket, "")
}

/// A bucket with valid backups of these days.
fn bucket_with(days: &[u32]) -> String {
    let bucket = s3().create_bucket("delete");
    put_backups(&bucket, "", days);
    bucket
}

#[track_caller]
fn json(outcome: &Outcome) -> Value {
    serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", outcome.stdout_text()))
}

/// It fails so, says these words, and nothing is deleted.
#[track_caller]
fn assert_refused(bucket: &str, program: &Program, code: i32, words: &[&str]) {
    let before = keys(bucket);
    let outcome = program.run();
    outcome.assert_code(code);
    assert!(words.iter().all(|word| outcome.stderr.contains(word)), "{words:?}: {}", outcome.stderr);
    assert_eq!(keys(bucket), before, "nothing is deleted");
}

#[test]
fn a_backup_goes_with_all_its_sidecars_and_nothing_else() {
    let (first, second, third) = (name_of_day(1), name_of_day(2), name_of_day(3));
    let bucket = bucket_with(&[1, 2, 3]);
    for suffix in &SIDECARS[1..] {
        put(&bucket, &format!("{first}{suffix}"), b"1234567890");
    }
    // Not this tool's, and a neighbour's.
    let others = [format!("{first}.bak"), format!("{first}.json.old"), format!("app/{first}"), "notes".to_owned()];
    for key in &others {
        put(&bucket, key, b"x");
    }
    let preview = delete(&bucket, &[&first]).arg("--dry-run").run();
    let text = preview.assert_code(0).stdout_text();
    assert!(text.contains(&first) && text.contains("6 sidecars") && text.contains("1 backup would"), "{text}");
    let before = keys(&bucket);

    let outcome = delete(&bucket, &[&first]).arg("--json").run();
    let report = json(outcome.assert_code(0));
    let bytes = 1 + VALID_MANIFEST.len() + 50;
    for (field, wanted) in [
        ("success", true.into()),
        ("dry_run", false.into()),
        ("deleted", 1.into()),
        ("deleted_bytes", bytes.into()),
        ("s3_location", format!("s3://{bucket}/").into()),
        ("problems", Value::Array(vec![])),
        ("error", Value::Null),
    ] {
        assert_eq!(report[field], wanted, "{field}: {report:#}");
    }
    let backup = &report["backups"][0];
    assert_eq!((&backup["file_name"], &backup["file_size"]), (&first.clone().into(), &1.into()));
    assert!(outcome.stderr.contains("deleted_bytes"), "what was deleted is logged: {}", outcome.stderr);
    let is_its_own =
        |key: &&String| **key == first || SIDECARS.iter().any(|suffix| **key == format!("{first}{suffix}"));
    let left: Vec<&String> = before.iter().filter(|key| !is_its_own(key)).collect();
    assert_eq!(keys(&bucket).iter().collect::<Vec<_>>(), left);
    assert!([second, third].iter().all(|name| left.contains(&name)));
}

#[test]
fn retention_deletes_the_same_sidecars() {
    let bucket = bucket_with(&[1, 2, 3]);
    for suffix in &SIDECARS[1..] {
        put(&bucket, &format!("{}{suffix}", name_of_day(1)), b"x");
    }
    prune_program(&bucket).args(["--keep-last", "1", "--min-keep", "1", "--force"]).run().assert_code(0);
    assert_eq!(keys(&bucket), [name_of_day(3), format!("{}.json", name_of_day(3))]);
}

#[test]
fn several_go_at_once_by_name_key_or_url() {
    let bucket = s3().create_bucket("delete");
    put_backups(&bucket, "app", &[1, 2, 3, 4]);
    let [one, two, three] = [1, 2, 3].map(name_of_day);
    let (two, three) = (format!("app/{two}"), format!("s3://{bucket}/app/{three}"));
    let outcome = delete(&bucket, &[&one, &two, &three, &one]).env("S3_PATH", "app").run();
    assert!(outcome.assert_code(0).stdout_text().contains("3 backups deleted"), "{}", outcome.stdout_text());
    assert_eq!(keys(&bucket), [format!("app/{}", name_of_day(4)), format!("app/{}.json", name_of_day(4))]);
}

#[test]
fn the_newest_valid_backup_stays_unless_it_is_forced() {
    let (first, second, third) = (name_of_day(1), name_of_day(2), name_of_day(3));
    let bucket = bucket_with(&[1, 2]);
    // Newer, and no good: what a failed pipe leaves, one of another size than its manifest says, and one of the future.
    put(&bucket, &third, EMPTY_GZIP);
    put(&bucket, &name_of_day(4), b"cut off");
    put(&bucket, &format!("{}.json", name_of_day(4)), VALID_MANIFEST.as_bytes());
    put(&bucket, FUTURE, &[b'x'; 300]);
    let words = [second.as_str(), "the newest valid backup", "nothing was deleted", "--force"];
    assert_refused(&bucket, &delete(&bucket, &[&second]), PRUNE_INCOMPLETE, &words);
    assert_refused(&bucket, &delete(&bucket, &[&first, &third, &second]), PRUNE_INCOMPLETE, &words);
    assert_refused(&bucket, &delete(&bucket, &[&second]).arg("--dry-run"), PRUNE_INCOMPLETE, &words);
    // An invalid backup, and one in the future, need no --force.
    delete(&bucket, &[FUTURE, &third, &name_of_day(4)]).run().assert_code(0);
    let outcome = delete(&bucket, &[&second, "--force"]).run();
    assert!(outcome.assert_code(0).stderr.contains("overridden by --force"), "{}", outcome.stderr);
    assert_eq!(keys(&bucket), [first.clone(), format!("{first}.json")]);
}

#[test]
fn where_no_backup_is_valid_the_newest_stays() {
    let bucket = s3().create_bucket("delete");
    for day in [1, 2] {
        put(&bucket, &name_of_day(day), EMPTY_GZIP);
    }
    assert_refused(&bucket, &delete(&bucket, &[&name_of_day(2)]), PRUNE_INCOMPLETE, &["--force"]);
    delete(&bucket, &[&name_of_day(1)]).run().assert_code(0);
}

#[test]
fn a_name_that_is_not_there_is_named_before_anything_is_deleted() {
    let bucket = bucket_with(&[1, 2, 3]);
    let (there, absent) = (name_of_day(1), name_of_day(9));
    let words = [absent.as_str(), "no such backup", "nothing was deleted"];
    assert_refused(&bucket, &delete(&bucket, &[&there, &absent]), NO_SUCH_BACKUP, &words);
    assert_refused(&bucket, &delete(&bucket, &[&there, &absent, "--force"]), NO_SUCH_BACKUP, &words);
    let elsewhere = format!("s3://another/{there}");
    assert_refused(&bucket, &delete(&bucket, &[&elsewhere]), NO_SUCH_BACKUP, &["this destination is"]);
    for wrong in ["latest", "notes", "*"] {
        assert_refused(&bucket, &delete(&bucket, &[wrong]), 64, &["must be a name"]);
    }
    assert_refused(&bucket, &delete(&bucket, &[]), 64, &["<NAME>"]);
}

#[test]
fn sidecars_that_a_backup_left_behind_go_by_its_name() {
    let bucket = bucket_with(&[2]);
    let orphan = format!("{}.json", name_of_day(1));
    put(&bucket, &orphan, b"{}");
    delete(&bucket, &[&name_of_day(1)]).run().assert_code(0);
    assert!(!keys(&bucket).contains(&orphan));
}

#[test]
fn a_key_that_may_not_delete_is_reported() {
    let bucket = bucket_with(&[1, 2]);
    let program = delete(&bucket, &[&name_of_day(1)]);
    let program =
        program.env("S3_ACCESS_KEY", &s3().readonly_access_key).env("S3_SECRET_KEY", &s3().readonly_secret_key);
    assert_refused(&bucket, &program, PRUNE_INCOMPLETE, &[&name_of_day(1), "AccessDenied"]);
    let report = json(&program.arg("--json").run());
    assert_eq!((&report["success"], &report["deleted"]), (&false.into(), &0.into()));
    assert!(report["problems"][0].as_str().is_some_and(|text| text.contains("AccessDenied")), "{report:#}");
}

fn through(proxy: &FaultProxy, bucket: &str, name: &str) -> Program {
    delete(bucket, &[name]).env("S3_URL", proxy.url()).env("BACKUP_MAX_UPLOAD_OUTAGE", "5s")
}

#[test]
fn passing_faults_cost_time_and_what_lasts_is_reported() {
    let bucket = bucket_with(&[1, 2, 3]);
    let proxy = FaultProxy::start(s3().addr());
    proxy.rule(Rule::any(Calls::EveryNth(2), Fault::slow_down()));
    through(&proxy, &bucket, &name_of_day(1)).run().assert_code(0);
    assert!(!keys(&bucket).iter().any(|key| key.starts_with(&name_of_day(1))));
    proxy.clear_rules();
    // It is unknown whether the newest is valid: nothing is deleted.
    proxy.rule(Rule::on(S3Verb::GetObject, Calls::All, Fault::slow_down()).key_suffix(".json"));
    assert_refused(&bucket, &through(&proxy, &bucket, &name_of_day(2)), 12, &["read a manifest"]);
    proxy.clear_rules();
    // The backup goes, and what could not follow is named; the next time it does.
    let denied = Fault::Status { code: 403, s3_code: "AccessDenied", when: When::Before };
    proxy.rule(Rule::on(S3Verb::DeleteObject, Calls::All, denied).key_suffix(".json"));
    let outcome = through(&proxy, &bucket, &name_of_day(2)).run();
    let sidecar = format!("{}.json", name_of_day(2));
    assert!(outcome.assert_code(PRUNE_INCOMPLETE).stderr.contains(&sidecar), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("not tried"), "nothing was left to try: {}", outcome.stderr);
    proxy.clear_rules();
    through(&proxy, &bucket, &name_of_day(2)).run().assert_code(0);
    assert_eq!(keys(&bucket), [name_of_day(3), format!("{}.json", name_of_day(3))]);
}
