//! A dump in the spool that S3 refuses: the run splits it into other parts if that helps, else it sets it aside. It never
//! blocks the next backup.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::THREE_PARTS;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, When};
use crate::support::servers::s3;
use crate::support::setup::manifest;
use crate::support::spooled::Spooled;

const STORAGE_FAILED: i32 = 12;

fn three_parts() -> Spooled {
    Spooled::new(FakeDump::new().body(THREE_PARTS))
}

fn invalid() -> Fault {
    Fault::Status { code: 400, s3_code: "InvalidPart", when: When::Before }
}

/// The number of an object's parts that S3 accepted.
fn sent(stage: &Spooled, key: &str) -> usize {
    let log = stage.proxy.log();
    log.iter().filter(|seen| seen.verb == S3Verb::UploadPart && seen.fault.is_none() && seen.key() == key).count()
}

#[test]
fn sets_aside_dump_that_s3_refuses() {
    let stage = three_parts();
    let refused = Rule::on(S3Verb::CompleteMultipartUpload, Calls::All, invalid());
    stage.proxy.rule(refused.clone());
    let first = stage.backup().run();
    assert_eq!(first.code, Some(STORAGE_FAILED), "{}", first.stderr);
    assert!(first.stderr.contains("S3_EQUAL_PARTS"), "the hint: {}", first.stderr);
    let run_id = stage.only_kept().file_name().expect("a name").to_string_lossy().into_owned();
    let key = stage.proxy.log().last().expect("a request").key();
    stage.proxy.clear_rules();
    stage.proxy.rule(refused.key_suffix(&key));

    // A new backup in the same second would have the refused key.
    sleep(Duration::from_secs(1));
    let second = stage.backup().run();
    second.assert_code(0);
    let aside = stage.only_kept();
    assert!(aside.ends_with(format!("refused-{run_id}")), "{}", aside.display());
    assert!(second.stderr.contains(&aside.display().to_string()), "{}", second.stderr);
    assert_eq!((stage.backups().len(), stage.dump.pids().len()), (1, 2), "it takes a new dump: {}", second.stderr);
    assert_eq!(s3().open_uploads(&stage.bucket), Vec::<String>::new(), "{}", second.stderr);

    let third = stage.backup().run();
    third.assert_code(0);
    assert!(third.stderr.contains("was set aside"), "each run reports it: {}", third.stderr);
    assert_eq!((stage.backups().len(), stage.kept().len()), (2, 1), "{}", third.stderr);

    // Do what the message says.
    stage.proxy.clear_rules();
    fs::rename(&aside, aside.with_file_name(run_id)).expect("renamed");
    stage.assert_delivered(&stage.backup().run(), (4, 4), "the cause is fixed");
}

#[test]
fn splits_dump_into_other_parts_if_s3_refuses_them() {
    let stage = three_parts();
    stage.killed_from(1);
    stage.proxy.rule(Rule::on(S3Verb::CompleteMultipartUpload, Calls::Nth(1), invalid()));
    let outcome = stage.backup().run();
    stage.assert_delivered(&outcome, (2, 2), "refused once");
    assert!(outcome.stderr.contains("splitting the dump in the spool into other parts"), "{}", outcome.stderr);
}

#[test]
fn splits_dump_again_if_the_limits_changed() {
    for (settings, part_bytes, parts) in [
        (&[("BACKUP_PART_SIZE", "6MiB"), ("S3_CHECKSUM", "crc64nvme")][..], 6 << 20, 2),
        (&[("S3_MAX_PARTS", "2"), ("BACKUP_PART_SIZE", "5MiB")], 0, 2),
        (&[("S3_CHECKSUM", "none")], 5 << 20, 3),
    ] {
        let stage = three_parts();
        // Two parts are uploaded already, to an upload that cannot be used any more.
        stage.killed_from(3);
        let program = settings.iter().fold(stage.backup(), |program, (name, value)| program.env(name, value));
        // The next dump is small: a large one would not fit into two parts of 5 MiB.
        let small = FakeDump::new().install();
        let outcome = program.env("PG_DUMP_PATH", small.path()).run();
        outcome.assert_code(0);
        let key = stage.backups()[0].clone();
        let manifest = manifest(&stage.bucket, &key);
        // Of the smallest parts of which two suffice.
        let part_bytes =
            if part_bytes == 0 { manifest["object_bytes"].as_u64().expect("bytes").div_ceil(2) } else { part_bytes };
        assert_eq!((&manifest["part_bytes"], &manifest["parts"]), (&part_bytes.into(), &parts.into()), "{settings:?}");
        assert_eq!(sent(&stage, &key), 2 + parts, "{settings:?}: {}", outcome.stderr);
        assert!(crate::support::setup::plain(&stage.bucket, &key) == stage.dump.output(), "{settings:?}");
        assert_eq!(s3().open_uploads(&stage.bucket), Vec::<String>::new(), "{settings:?}");
        stage.assert_nothing_kept("delivered");
    }
}

#[test]
fn detects_damaged_part_while_splitting() {
    let stage = three_parts();
    stage.killed_from(1);
    let part = stage.only_kept().join("part-00002");
    damage(&part);
    let outcome = stage.backup().env("BACKUP_PART_SIZE", "6MiB").run();
    stage.assert_delivered(&outcome, (1, 2), "damaged");
    assert!(outcome.stderr.contains("a fresh one is taken"), "{}", outcome.stderr);
}

fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
}
