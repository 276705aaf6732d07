//! The newest backup by its listing, its manifest and HEAD, with credentials that may only read.

use chrono::{TimeDelta, Utc};

use crate::support::fake_pg_dump::FakeDump;
use crate::support::proxy::{Calls, Fault, FaultProxy, Rule, S3Verb};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, manifest};
use crate::support::stored::{EMPTY_GZIP, FUTURE};

use super::{Checked, assert_untouched, backed_up, bucket_check, check_program, put};

/// The name of a backup that was started so long ago.
fn aged(age: TimeDelta) -> String {
    format!("postgres-backup-{}.sql.gz", (Utc::now() - age).format("%Y-%m-%d_%H-%M-%S"))
}

/// A bucket with one backup of 1,000 bytes, without a manifest.
fn with_one(age: TimeDelta) -> String {
    let bucket = s3().create_bucket("newest");
    put(&bucket, &aged(age), &[b'x'; 1000]);
    bucket
}

#[test]
fn bucket_only_needs_neither_postgresql_nor_a_writing_key() {
    let database = postgres().create_database("monitored");
    let (bucket, key) = backed_up(&database);
    let keys = s3().keys(&bucket, "");
    let proxy = FaultProxy::start(s3().addr());
    let checked = Checked::of(&bucket_check(&bucket).env("S3_URL", proxy.url()).arg("--deep"));
    let expected = [
        "settings",
        "s3_list",
        "s3_clock",
        "freshness",
        "manifest",
        "object",
        "size",
        "checksum",
        "gzip",
        "dump_integrity",
        "index",
    ];
    assert_eq!(checked.assert(&[], &[]).with("ok"), expected);
    checked.says("freshness", &[&key]).says("manifest", &[&database.name]);
    assert!(proxy.log().iter().all(|seen| matches!(&*seen.method, "GET" | "HEAD")), "{:#?}", proxy.log());
    assert_untouched(&bucket, &keys);
    // What it cannot see it fails on, where seeing is all that is asked.
    let blind = bucket_check(&bucket)
        .env("S3_ACCESS_KEY", &s3().writeonly_access_key)
        .env("S3_SECRET_KEY", &s3().writeonly_secret_key);
    Checked::of(&blind).assert(&["s3_list"], &[]);
    bucket_check(&bucket).args(["--", "--no-owner"]).run().assert_code(64);
}

#[test]
fn fails_without_a_backup() {
    let bucket = s3().create_bucket("none");
    for key in ["app2", "app/x", "app_test"] {
        put(&bucket, &format!("{key}/{}", aged(TimeDelta::hours(1))), b"another's");
    }
    put(&bucket, "app/notes.sql.gz", b"foreign");
    let checked = Checked::of(&bucket_check(&bucket).env("S3_PATH", "app"));
    checked.assert(&["freshness"], &[]).says("freshness", &["there is no backup at", "app/"]);
}

#[test]
fn a_backup_that_is_too_old_fails() {
    let bucket = with_one(TimeDelta::hours(27));
    Checked::of(&bucket_check(&bucket))
        .assert(&["freshness"], &["manifest"])
        .says("freshness", &["1day 3h old", "1day 2h"]);
    for (limit, failed) in [("2d", vec![]), ("none", vec![]), ("26h 59m", vec!["freshness"]), ("1m", vec!["freshness"])]
    {
        Checked::of(&bucket_check(&bucket).args(["--max-age", limit])).assert(&failed, &["manifest"]);
    }
    // A name decides, whatever the store says of when it was written; and it is the newest that counts.
    put(&bucket, &aged(TimeDelta::hours(25)), &[b'x'; 1000]);
    Checked::of(&bucket_check(&bucket)).assert(&[], &["manifest"]);
    put(&bucket, &aged(TimeDelta::days(400)), &[b'x'; 1000]);
    Checked::of(&bucket_check(&bucket)).assert(&[], &["manifest"]);
}

#[test]
fn the_schedule_of_the_backups_says_what_is_too_old() {
    let bucket = with_one(TimeDelta::hours(3));
    let check = |name: &str, value: &str| Checked::of(&bucket_check(&bucket).env(name, value));
    check("BACKUP_INTERVAL", "@hourly").assert(&["freshness"], &["manifest"]);
    check("BACKUP_INTERVAL", "@weekly").assert(&[], &["manifest"]);
    let week_old = with_one(TimeDelta::days(8));
    Checked::of(&bucket_check(&week_old)).assert(&["freshness"], &["manifest"]);
    Checked::of(&bucket_check(&week_old).args(["--interval", "0 0 1 1 *"])).assert(&[], &["manifest"]);
    bucket_check(&bucket).env("BACKUP_INTERVAL", "0 0 31 2 *").run().assert_code(2);
    bucket_check(&bucket).env("BACKUP_TIMEZONE", "Mars/Olympus").run().assert_code(4);
}

#[test]
fn reports_backup_from_the_future() {
    let soon = with_one(-TimeDelta::minutes(30));
    Checked::of(&bucket_check(&soon)).assert(&[], &["freshness", "manifest"]).says("freshness", &["in the future"]);
    let late = with_one(-TimeDelta::hours(2));
    let checked = Checked::of(&bucket_check(&late).args(["--max-age", "none"]));
    checked.assert(&["freshness"], &[]).says("freshness", &["is in the future, and there is no other backup"]);
    // It says nothing of how fresh backups are, and is not what is looked at.
    put(&late, &aged(TimeDelta::hours(1)), &[b'x'; 1000]);
    let checked = Checked::of(&bucket_check(&late));
    checked
        .assert(&[], &["freshness", "manifest"])
        .says("freshness", &["is 1h old", "is in the future, does not count"]);
    let old = with_one(TimeDelta::hours(27));
    put(&old, FUTURE, &[b'x'; 1000]);
    Checked::of(&bucket_check(&old)).assert(&["freshness"], &["manifest"]).says("freshness", &["1day 3h old"]);
}

#[test]
fn a_backup_that_cannot_hold_a_dump_fails() {
    for body in [b"", EMPTY_GZIP] {
        let bucket = with_one(TimeDelta::hours(5));
        put(&bucket, &aged(TimeDelta::hours(1)), body);
        let checked = Checked::of(&bucket_check(&bucket));
        checked.assert(&["size"], &["manifest"]).says("size", &["is too small for a dump"]);
    }
}

#[test]
fn a_partial_backup_hides_neither_the_age_nor_the_size_of_the_newest_valid_one() {
    let (database, bucket) = (postgres().create_database("partial"), s3().create_bucket("partial"));
    let leave_out = ["--", "--exclude-table-data", "x"];
    backup_program(&database, &bucket).args(leave_out).run().assert_code(0);
    // Where there is no other, the newest partial one is judged.
    Checked::of(&bucket_check(&bucket)).assert(&[], &["manifest"]);
    put(&bucket, &aged(TimeDelta::hours(27)), &[b'x'; 1000]);
    let checked = Checked::of(&bucket_check(&bucket));
    checked.assert(&["freshness"], &["manifest"]).says("freshness", &["1day 3h old"]);
    let wanted = Checked::of(&check_program(&database, &bucket).env("PG_DUMP_ARGS", "--exclude-table-data x"));
    assert!(!wanted.with("fail").contains(&"freshness"), "PG_DUMP_ARGS ask for it: {:?}", wanted.with("fail"));
    put(&bucket, &aged(TimeDelta::hours(28)), &[b'x'; 5000]);
    Checked::of(&bucket_check(&bucket)).assert(&["freshness", "size"], &["manifest"]).says("size", &["1000 B"]);
}

#[test]
fn a_backup_that_shrank_fails_against_the_median_of_those_before() {
    let bucket = s3().create_bucket("shrank");
    // One that is far off moves no median.
    for (days, bytes) in [(7, 3), (6, 1_000), (5, 900), (4, 1_100), (3, 100_000), (2, 1_000), (1, 1_000)] {
        put(&bucket, &aged(TimeDelta::days(days)), &vec![b'x'; bytes]);
    }
    put(&bucket, &aged(TimeDelta::minutes(5)), &[b'x'; 499]);
    let check = |args: &[&str]| Checked::of(&bucket_check(&bucket).args(args));
    check(&[]).assert(&["size"], &["manifest"]).says("size", &["499 B", "median 1000 B", "50%"]);
    check(&["--max-shrink", "49%"]).assert(&["size"], &["manifest"]);
    check(&["--max-shrink", "51%"]).assert(&[], &["manifest"]);
    check(&["--max-shrink", "none"]).assert(&[], &["manifest"]);
    check(&["--max-shrink", "none", "--min-size", "500B"]).assert(&["size"], &["manifest"]);
    check(&["--max-shrink", "none", "--min-size", "499B"]).assert(&[], &["manifest"]);
    for wrong in [["--max-shrink", "half"], ["--min-size", "much"], ["--max-age", "soon"]] {
        bucket_check(&bucket).args(wrong).run().assert_code(64);
    }
}

#[test]
fn a_manifest_that_is_missing_or_damaged_is_a_warning_and_that_of_another_a_failure() {
    let database = postgres().create_database("manifests");
    let (bucket, key) = backed_up(&database);
    let sidecar = format!("{key}.json");
    let manifest = s3().get(&bucket, &sidecar).expect("the manifest");
    s3().request("DELETE", &format!("/{bucket}/{sidecar}"), b"").expect("deleted");
    Checked::of(&bucket_check(&bucket)).assert(&[], &["manifest"]).says("manifest", &["there is no"]);
    for damaged in [&b"{"[..], b"", b"[]", &manifest[..manifest.len() / 2]] {
        put(&bucket, &sidecar, damaged);
        Checked::of(&bucket_check(&bucket)).assert(&[], &["manifest"]).says("manifest", &["cannot be read"]);
    }
    let other = String::from_utf8_lossy(&manifest).replace(&key, &aged(TimeDelta::days(1)));
    put(&bucket, &sidecar, other.as_bytes());
    Checked::of(&bucket_check(&bucket)).assert(&["manifest"], &[]).says("manifest", &["is the manifest of"]);
}

#[test]
fn what_may_not_be_looked_at_is_a_warning() {
    let database = postgres().create_database("denied");
    let (bucket, _) = backed_up(&database);
    for (verb, probe) in [(S3Verb::HeadObject, "object"), (S3Verb::GetObject, "manifest")] {
        let proxy = FaultProxy::start(s3().addr());
        proxy.rule(Rule::on(verb, Calls::All, Fault::access_denied()));
        let checked = Checked::of(&bucket_check(&bucket).env("S3_URL", proxy.url()));
        checked.assert(&[], &[probe]).says(probe, &["allow these credentials"]);
    }
}

#[test]
fn a_truncated_object_is_found_by_its_size() {
    let database = postgres().create_database("truncated");
    let (bucket, key) = backed_up(&database);
    let object = s3().get(&bucket, &key).expect("the backup");
    put(&bucket, &key, &object[..object.len() - 1]);
    Checked::of(&bucket_check(&bucket)).assert(&["object"], &[]).says("object", &["bytes, but", "were uploaded"]);
}

#[test]
fn another_backup_under_this_name_is_found_by_its_run() {
    let database = postgres().create_database("swapped");
    // The very same dump twice, so that sizes and checksums are the same.
    let dump = FakeDump::new().install();
    let (bucket, path) = (s3().create_bucket("swapped"), dump.path());
    for place in ["a", "b"] {
        backup_program(&database, &bucket).env("PG_DUMP_PATH", &path).env("S3_PATH", place).run().assert_code(0);
    }
    let [a, b] = ["a/", "b/"].map(|place| s3().keys(&bucket, place).swap_remove(0));
    assert_eq!(manifest(&bucket, &a)["object_sha256"], manifest(&bucket, &b)["object_sha256"]);
    let source = format!("x-amz-copy-source:/{bucket}/{a}");
    s3().request_with("PUT", &format!("/{bucket}/{b}"), &[&source], b"").expect("copied");
    let checked = Checked::of(&bucket_check(&bucket).env("S3_PATH", "b"));
    let run = manifest(&bucket, &a)["run_id"].as_str().expect("an id").to_owned();
    checked.assert(&["object"], &[]).says("object", &[&run]);
    // Written again without its metadata, by a tool that copies buckets, say: only reading it shows the difference.
    let object = s3().get(&bucket, &a).expect("the backup");
    put(&bucket, &a, &object);
    let copied = Checked::of(&bucket_check(&bucket).env("S3_PATH", "a").arg("--deep"));
    copied.assert(&[], &["object"]).says("object", &["another program"]);
}

#[test]
fn a_partial_backup_is_a_warning() {
    let database = postgres().create_database("mine");
    for index in 0..2 {
        database.psql(&format!("CREATE TABLE t{index} AS SELECT generate_series(1, 9) AS n")).expect("a table");
    }
    let bucket = s3().create_bucket("partial");
    put(&bucket, &aged(TimeDelta::days(1)), &vec![b'x'; 100_000]);
    backup_program(&database, &bucket).args(["--", "-t", "t0"]).run().assert_code(0);
    // A part is smaller than the complete dump: that is no shrinking.
    let checked = Checked::of(&bucket_check(&bucket));
    checked.assert(&[], &["manifest"]).says("manifest", &["a part of database", "-t t0"]);
}

#[test]
fn a_path_with_another_databases_backups_fails_as_the_next_backup_would() {
    let (theirs, ours) = (postgres().create_database("theirs"), postgres().create_database("ours"));
    let (bucket, _) = backed_up(&theirs);
    let checked = Checked::of(&check_program(&ours, &bucket));
    checked.assert(&["manifest"], &[]).says("manifest", &[&theirs.name, &ours.name, "S3_PATH"]);
    backup_program(&ours, &bucket).run().assert_code(4);
}
