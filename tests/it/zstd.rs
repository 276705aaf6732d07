//! `BACKUP_COMPRESSION=zstd`: every command works as with gzip, also with backups of both codecs in one destination, `zstd -d`
//! reads the object, and no damage goes unseen.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use pg_s3_backup::archive::name::BackupName;
use serde_json::Value;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::THREE_PARTS;
use crate::support::program::Program;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{
    assert_same_dump, backup_program, list_program, manifest, only_backup, plain, prune_program, replace, s3_program,
    unzstd,
};
use crate::support::spooled::{DUMP_ON_DISK, Spooled};
use crate::support::stored::put;

const INVALID_SETTING: i32 = 4;
const CHECK_FAILED: i32 = 14;
const RESTORE_FAILED: i32 = 15;
/// The first bytes of a frame.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

fn database() -> Database {
    let database = postgres().create_database("zstd");
    // About 2 MiB of dump: several blocks.
    database.psql("CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 50000) AS n").expect("a table");
    database
}

fn zstd_backup(database: &Database, bucket: &str) -> Program {
    backup_program(database, bucket).env("BACKUP_COMPRESSION", "zstd")
}

fn backed_up(level: &str) -> (Database, String, String) {
    let (database, bucket) = (database(), s3().create_bucket("zstd"));
    zstd_backup(&database, &bucket).env("BACKUP_COMPRESSION_LEVEL", level).run().assert_code(0);
    let key = only_backup(&bucket);
    (database, bucket, key)
}

/// The dumps and their sidecars.
fn keys(bucket: &str, suffix: &str) -> Vec<String> {
    s3().keys(bucket, "").into_iter().filter(|key| key.ends_with(suffix)).collect()
}

fn deep_check(bucket: &str) -> Program {
    s3_program(bucket).args(["check", "--bucket-only", "--deep", "--json"])
}

/// The checks with this status.
fn checks_with(report: &Value, status: &str) -> Vec<String> {
    let checks = report["checks"].as_array().expect("checks").iter();
    let with_status = checks.filter(|check| check["status"] == status);
    with_status.map(|check| check["check"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn a_backup_is_read_by_zstd_and_by_every_command() {
    // `auto` begins with it, but goes on to others where the dump takes longer than a second.
    let (database, bucket, key) = backed_up("2");
    assert!(key.ends_with(".sql.zst"), "{key}");
    let recorded = manifest(&bucket, &key);
    assert_eq!((&recorded["compression"], &recorded["compression_levels"]), (&"zstd".into(), &Value::from([2])));
    let headers = s3().request("HEAD", &format!("/{bucket}/{key}"), b"").expect("its headers");
    let headers = String::from_utf8_lossy(&headers).to_ascii_lowercase();
    assert!(headers.contains("content-type: application/zstd") && !headers.contains("content-encoding"), "{headers}");
    // `zstd -dc` reads it here.
    let dump = plain(&bucket, &key);
    assert_same_dump(&dump, &database.server().client("pg_dump", &database.name).output().expect("pg_dump").stdout);

    let listed = list_program(&bucket).run();
    assert!(listed.assert_code(0).stdout_text().contains(&key), "{}", listed.stdout_text());
    let shown = list_program(&bucket).arg("latest").run();
    let commands = shown.assert_code(0).stdout_text();
    assert!(commands.contains(&format!("(set -o pipefail; zstd -dc {key} | ")), "{commands}");
    assert!(commands.contains(&format!("gunzip -c {key}.globals.sql.gz | ")), "{commands}");
    let checked = deep_check(&bucket).run();
    let report: Value = serde_json::from_slice(&checked.assert_code(0).stdout).expect("JSON");
    assert!(checks_with(&report, "ok").contains(&"zstd".to_owned()), "{report:#}");

    let restore = s3_program(&bucket).arg("restore");
    assert!(restore.run().assert_code(0).stdout == dump);
    assert!(restore.clone().arg("--raw").run().assert_code(0).stdout == s3().get(&bucket, &key).expect("the backup"));
    let name = unique_name("from_zstd");
    restore.env("RESTORE_CONNECTION_STRING", database.uri()).args(["--create-db", &name]).run().assert_code(0);
    let question = "SELECT count(*), sum(n) FROM t";
    assert_eq!(postgres().adopt_database(&name).psql(question), database.psql(question));

    s3_program(&bucket).args(["delete", "--force", &key]).run().assert_code(0);
    assert_eq!(s3().keys(&bucket, ""), [""; 0]);
}

#[test]
fn a_destination_holds_backups_of_both_codecs() {
    let (database, bucket) = (database(), s3().create_bucket("codecs"));
    backup_program(&database, &bucket).run().assert_code(0);
    let gzip = only_backup(&bucket);
    zstd_backup(&database, &bucket).run().assert_code(0);
    let [zstd] = &keys(&bucket, ".sql.zst")[..] else { panic!("{:?}", s3().keys(&bucket, "")) };
    backup_program(&database, &bucket).args(["--compression", "gzip"]).run().assert_code(0);
    let last = keys(&bucket, ".sql.gz").pop().expect("a backup");
    let last = last.trim_end_matches(".globals.sql.gz");
    let listed = list_program(&bucket).arg("--quiet").run();
    assert_eq!(listed.assert_code(0).stdout_text().lines().collect::<Vec<_>>(), [last, zstd, &gzip], "newest first");
    for key in [&gzip, zstd] {
        let restored = s3_program(&bucket).args(["restore", key]).run();
        assert!(restored.assert_code(0).stdout == plain(&bucket, key), "{key}");
    }
    let started = manifest(&bucket, zstd)["started_at"].as_str().expect("a time").to_owned();
    let restored = s3_program(&bucket).args(["restore", "--at", &started]).run();
    assert!(restored.assert_code(0).stderr.contains(zstd.as_str()), "{}", restored.stderr);
    // Retention counts both, and deletes each with its sidecars.
    let prune = prune_program(&bucket).env("BACKUP_KEEP_LAST", "2").env("BACKUP_MIN_KEEP", "1");
    prune.run().assert_code(0);
    assert_eq!(s3().keys(&bucket, "").iter().filter(|key| key.starts_with(&gzip)).count(), 0);
    prune.env("BACKUP_KEEP_LAST", "1").run().assert_code(0);
    assert_eq!(only_backup(&bucket), last);
}

#[test]
fn a_second_belongs_to_one_backup_whatever_its_suffix() {
    let (database, bucket) = (database(), s3().create_bucket("second"));
    let now = Utc::now();
    let taken: Vec<BackupName> = (0..8).map(|second| BackupName::new(now + TimeDelta::seconds(second))).collect();
    for name in &taken {
        put(&bucket, &name.to_string(), b"x");
    }
    zstd_backup(&database, &bucket).run().assert_code(0);
    let [zstd] = &keys(&bucket, ".sql.zst")[..] else { panic!("{:?}", s3().keys(&bucket, "")) };
    let zstd = BackupName::parse(zstd).expect("a name");
    assert!(taken.iter().all(|name| name.started() != zstd.started()), "{zstd}");
}

#[test]
fn no_truncation_and_no_damage_goes_unseen_even_without_a_manifest() {
    let (_database, bucket, key) = backed_up("auto");
    let object = s3().get(&bucket, &key).expect("the backup");
    let frames: Vec<usize> = (0..object.len()).filter(|at| object[*at..].starts_with(&MAGIC)).collect();
    let [_, second, .., last] = frames[..] else { panic!("{frames:?}") };
    assert_eq!(unzstd(&object[..last]).len() % (512 << 10), 0, "complete for zstd");
    let mut flipped = object.clone();
    flipped[second + 1000] ^= 0x10;
    let without_a_frame = [&object[..second], &object[last..]].concat();
    let twice = object.repeat(2);
    for (case, bytes) in [
        ("cut in a frame", &object[..second + 100]),
        ("cut by a byte", &object[..object.len() - 1]),
        ("cut after the first frame", &object[..second]),
        ("cut before the last frame", &object[..last]),
        ("a flipped bit", &flipped),
        ("another byte", &[&object[..], b"x"].concat()),
        ("a frame less", &without_a_frame),
        ("twice", &twice),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03 is not zstd, and much too short to be a dump of anything"),
    ] {
        replace(&bucket, &key, bytes);
        let report: Value =
            serde_json::from_slice(&deep_check(&bucket).run().assert_code(CHECK_FAILED).stdout).expect("JSON");
        let failed = checks_with(&report, "fail");
        assert!(failed.iter().any(|check| check == "zstd" || check == "dump_integrity"), "{case}: {report:#}");
        for flags in [&[][..], &["--ignore-manifest"]] {
            let restore = s3_program(&bucket).args(["restore", &key, "--output", "dump.sql"]).args(flags);
            let outcome = restore.run();
            assert_eq!(outcome.code, Some(RESTORE_FAILED), "{case} {flags:?}: {}", outcome.stderr);
            assert!(!restore.home().join("dump.sql").exists(), "{case}");
        }
    }
}

#[test]
fn a_dump_in_the_spool_keeps_its_codec() {
    let stage = Spooled::new(FakeDump::new().body(THREE_PARTS));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(2), Fault::slow_down()));
    let patient = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").env("BACKUP_COMPRESSION", "zstd");
    let mut running = patient.spawn();
    running.wait_for_stderr(DUMP_ON_DISK, Duration::from_mins(3));
    stage.kill(running);
    stage.proxy.clear_rules();
    let outcome = stage.backup().run();
    outcome.assert_code(0);
    let [zstd] = &keys(&stage.bucket, ".sql.zst")[..] else { panic!("{:?}\n{}", stage.keys(), outcome.stderr) };
    assert!(plain(&stage.bucket, zstd) == stage.dump.output());
    let recorded = manifest(&stage.bucket, zstd);
    assert_eq!(recorded["compression"], "zstd");
    assert_eq!(stage.backups().len(), 1, "and a gzip backup: {:?}", stage.keys());
    stage.assert_nothing_open(&outcome, "delivered");
    stage.assert_nothing_kept("delivered");
}

#[test]
fn a_level_that_the_codec_does_not_know_is_an_invalid_setting() {
    for (codec, level, words) in [
        ("gzip", "10", "from 1 to 9, the levels of gzip"),
        ("zstd", "20", "from 1 to 19, the levels of zstd"),
        ("zstd", "0", "from 1 to 19"),
        ("xz", "2", "gzip, zstd"),
    ] {
        let outcome = s3_program("bucket")
            .env("POSTGRES_CONNECTION_STRING", "host=localhost")
            .args(["backup", "--compression", codec, "--compression-level", level])
            .run();
        assert!(outcome.assert_code(INVALID_SETTING).stderr.contains(words), "{codec} {level}: {}", outcome.stderr);
    }
}
