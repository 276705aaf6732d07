//! A spooled dump is encrypted on the disk, and is delivered as it is, with its globals and its index.

use std::time::Duration;

use pg_s3_backup::index::Index;

use super::reader;
use crate::support::age::AgeKey;
use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::THREE_PARTS;
use crate::support::program::Outcome;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::s3;
use crate::support::setup::manifest;
use crate::support::spooled::{DUMP_ON_DISK, Spooled};

#[test]
fn a_dump_in_the_spool_is_encrypted_and_delivered() {
    let (stage, key) = (Spooled::new(FakeDump::new().body(THREE_PARTS)), AgeKey::new());
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(2), Fault::slow_down()));
    let encrypted = stage.backup().env("BACKUP_AGE_RECIPIENTS", &key.recipient);
    let mut running = encrypted.clone().env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").spawn();
    running.wait_for_stderr(DUMP_ON_DISK, Duration::from_mins(3));
    stage.kill(running);
    let (mut files, mut encrypted_files) = (0, 0);
    let run = stage.only_kept();
    for file in std::fs::read_dir(&run).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let bytes = std::fs::read(&file).expect("a file of the spool");
        files += 1;
        assert!(!contains(&bytes, b"PostgreSQL database dump"), "{}", file.display());
        if file.ends_with("part-00001") || file.ends_with("index.json.gz") {
            encrypted_files += 1;
            assert!(bytes.starts_with(b"age-encryption.org/v1\n"), "{}", file.display());
        }
    }
    assert!(files > 2 && encrypted_files == 2, "{files} {encrypted_files}");
    stage.proxy.clear_rules();
    // The next run encrypts nothing, and delivers what is there.
    let outcome = stage.backup().run();
    outcome.assert_code(0);
    let encrypted = |key: &String| key.ends_with(".sql.gz.age") && !key.contains(".globals.");
    let name = stage.keys().into_iter().find(encrypted).expect("the encrypted backup");
    let stored = |key: &str| s3().get(&stage.bucket, key).expect("an object");
    let index = Index::unpacked(&key.decrypted(&stored(&format!("{name}.index.json.gz.age")))).expect("readable");
    assert_eq!(index.codec_bytes, key.decrypted(&stored(&name)).len() as u64);
    let restored = reader(&stage.bucket, &key).args(["restore", &name]).run();
    assert!(restored.assert_code(0).stdout == stage.dump.output());
    stage.assert_nothing_open(&outcome, "delivered");
    stage.assert_nothing_kept("delivered");
}

/// Kills a run that encrypts, when its dump is complete in the spool and S3 has taken nothing.
fn killed(stage: &Spooled) {
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::slow_down()));
    let mut running = stage.encrypted(stage.backup()).env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").spawn();
    running.wait_for_stderr(DUMP_ON_DISK, Duration::from_mins(3));
    stage.kill(running);
    stage.proxy.clear_rules();
}

/// The next run after a killed one, with a flipped bit in the middle of a file in the spool.
fn after_damage(file: &str) -> (Spooled, Outcome) {
    let stage = Spooled::new(FakeDump::new().body(THREE_PARTS));
    killed(&stage);
    let path = stage.only_kept().join(file);
    let mut bytes = std::fs::read(&path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).expect("written");
    let outcome = stage.encrypted(stage.backup()).run();
    (stage, outcome)
}

#[test]
fn never_sends_a_damaged_part_of_an_encrypted_dump() {
    let (stage, outcome) = after_damage("part-00002");
    stage.assert_delivered(&outcome, (1, 2), "a damaged part");
    assert!(outcome.stderr.contains("a fresh one is taken"), "{}", outcome.stderr);
}

#[test]
fn delivers_an_encrypted_dump_without_its_index_if_that_is_damaged() {
    let (stage, outcome) = after_damage("index.json.gz");
    stage.assert_delivered(&outcome, (2, 2), "a damaged index");
    let indexes = stage.keys().into_iter().filter(|key| key.ends_with(".index.json.gz.age"));
    assert_eq!(indexes.count(), 1, "of the fresh one alone: {}", outcome.stderr);
    let recorded = manifest(&stage.bucket, &stage.backups()[0]);
    assert!(recorded["index"].is_null() && recorded["warnings"].to_string().contains("index: "), "{recorded:#}");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
