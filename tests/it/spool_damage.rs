//! A spool that is damaged, shared or unusable: the run makes a valid backup, or fails with a clear error.

use std::fs;
use std::path::Path;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::THREE_PARTS;
use crate::support::proxy::S3Verb;
use crate::support::servers::s3;
use crate::support::spooled::Spooled;

fn killed() -> Spooled {
    let stage = Spooled::new(FakeDump::new().body(THREE_PARTS));
    stage.killed_from(3);
    stage
}

/// Flips a bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[test]
fn reports_damaged_journal_once_and_takes_a_new_dump() {
    let stage = killed();
    damage(&stage.only_kept().join("journal"));
    let outcome = stage.backup().run();
    stage.assert_delivered(&outcome, (1, 2), "a damaged journal");
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("is damaged")).collect();
    assert_eq!(lines.len(), 1, "{}", outcome.stderr);
}

#[test]
fn ignores_damaged_line_after_the_verified_record() {
    let stage = killed();
    let journal = stage.only_kept().join("journal");
    let mut bytes = fs::read(&journal).expect("it is there");
    let last = bytes.len() - 10;
    assert!(bytes.ends_with(b"\\\"\"}}\n"), "an ETag: {}", String::from_utf8_lossy(&bytes));
    bytes[last] ^= 1;
    fs::write(journal, bytes).expect("written");
    let outcome = stage.backup().run();
    stage.assert_delivered(&outcome, (2, 2), "a damaged ETag");
    assert!(outcome.stderr.contains("but not where its dump needs it"), "{}", outcome.stderr);
    let sent = stage.proxy.log().into_iter().filter(|seen| seen.verb == S3Verb::UploadPart && seen.fault.is_none());
    let of_first = sent.filter(|seen| seen.key() == stage.backups()[0]).count();
    assert_eq!(of_first, 4, "the one part is sent again: {}", outcome.stderr);
}

#[test]
fn sets_aside_a_run_with_a_journal_of_another_version() {
    let stage = killed();
    let kept = stage.only_kept();
    let mut before: Vec<_> =
        fs::read_dir(&kept).expect("a directory").flatten().map(|entry| entry.file_name()).collect();
    fs::write(kept.join("journal"), "bbe34e5c {\"start\":{\"version\":3}}\n").expect("written");
    let outcome = stage.backup().run();
    outcome.assert_code(0);
    assert_eq!((stage.backups().len(), stage.dump.pids().len()), (1, 2), "it takes a new dump: {}", outcome.stderr);
    let aside = stage.only_kept();
    let name = aside.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.starts_with("other-version-") && outcome.stderr.contains(&name), "{name}: {}", outcome.stderr);
    let mut after: Vec<_> =
        fs::read_dir(&aside).expect("a directory").flatten().map(|entry| entry.file_name()).collect();
    before.sort();
    after.sort();
    assert_eq!(after, before);
}

#[test]
fn sets_aside_dump_with_unreadable_part() {
    let stage = killed();
    // Reading a directory as a file fails, but not with "not found".
    let parts = |run: &Path, from: &str, to: &str| {
        for number in 1..=3 {
            let part = |name: &str| run.join(format!("{name}{number:05}"));
            fs::rename(part(from), part(to)).expect("renamed");
        }
    };
    let kept = stage.only_kept();
    parts(&kept, "part-", "away-");
    (1..=3).for_each(|number| fs::create_dir(kept.join(format!("part-{number:05}"))).expect("in its place"));
    let outcome = stage.backup().run();
    outcome.assert_code(0);
    assert_eq!((stage.backups().len(), stage.dump.pids().len()), (1, 2), "it takes a new dump: {}", outcome.stderr);
    let aside = stage.only_kept();
    let name = aside.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.starts_with("unreadable-") && outcome.stderr.contains(&name), "{name}: {}", outcome.stderr);
    // After the disk is repaired, the dump is delivered as the warning says.
    (1..=3).for_each(|number| fs::remove_dir(aside.join(format!("part-{number:05}"))).expect("removed"));
    parts(&aside, "away-", "part-");
    fs::rename(&aside, aside.with_file_name(&name[name.len() - 32..])).expect("its name");
    let outcome = stage.backup().run();
    stage.assert_delivered(&outcome, (3, 3), "the disk works again");
}

#[test]
fn truncated_journal_is_not_damaged() {
    // The verified record is truncated: the dump counts as incomplete.
    let stage = killed();
    let journal = stage.only_kept().join("journal");
    let text = fs::read_to_string(&journal).expect("it is there");
    let torn = &text[..text.find("\"verified\"").expect("a verified record") + 20];
    fs::write(&journal, torn).expect("written");
    stage.assert_delivered(&stage.backup().run(), (1, 2), "a truncated verified record");

    // A truncated ETag: that part is sent again.
    let stage = killed();
    let journal = stage.only_kept().join("journal");
    let text = fs::read_to_string(&journal).expect("it is there");
    fs::write(&journal, format!("{text}12345678 {{\"uploaded\":{{\"par")).expect("written");
    stage.assert_delivered(&stage.backup().run(), (2, 2), "a truncated ETag");
}

#[test]
fn never_sends_damaged_or_missing_part() {
    for (case, harm) in [("damaged", damage as fn(&Path)), ("missing", |path| fs::remove_file(path).expect("removed"))]
    {
        // S3 has no part yet. Parts that S3 has are not read again.
        let stage = Spooled::new(FakeDump::new().body(THREE_PARTS));
        stage.killed_from(1);
        harm(&stage.only_kept().join("part-00003"));
        let outcome = stage.backup().run();
        stage.assert_delivered(&outcome, (1, 2), case);
        assert!(outcome.stderr.contains("a fresh one is taken"), "{case}: {}", outcome.stderr);
    }
}

#[test]
fn reports_dump_of_another_destination_and_keeps_it() {
    let stage = killed();
    let outcome = stage.backup().env("S3_PATH", "another").run();
    outcome.assert_code(0);
    assert!(
        outcome.stderr.contains("for another destination") && outcome.stderr.contains("/app"),
        "{}",
        outcome.stderr
    );
    assert_eq!((stage.kept().len(), stage.backups().len()), (1, 1));
    stage.assert_delivered(&stage.backup().run(), (3, 3), "its own destination");
}

#[test]
fn locks_spool_subdirectory_of_a_destination() {
    let stage = Spooled::new(FakeDump::new().body(THREE_PARTS));
    let first = stage.stuck_from(1);
    let second = stage.backup().run();
    assert_eq!(second.code, Some(16), "{}", second.stderr);
    assert!(second.stderr.contains("is using the spool"), "{}", second.stderr);
    let another = s3().create_bucket("another");
    let other_bucket = stage.backup().env("S3_BUCKET", &another).env("S3_URL", &s3().url).run();
    other_bucket.assert_code(0);
    assert!(
        !other_bucket.stderr.contains("for another destination"),
        "a running backup delivers it: {}",
        other_bucket.stderr
    );
    stage.proxy.clear_rules();
    stage.assert_delivered(&first.wait(), (1, 2), "the first");
}

#[test]
fn refuses_spool_that_cannot_be_created() {
    let stage = Spooled::new(FakeDump::new());
    let file = stage.dir().join("file");
    fs::write(&file, "").expect("written");
    for path in [file.as_path(), Path::new("/proc/spool"), &file.join("below")] {
        let outcome = stage.backup().env("BACKUP_SPOOL_DIR", path).run();
        stage.assert_failed(&outcome, 4, "no spool").then_names(&["BACKUP_SPOOL_DIR"]);
    }
    assert_eq!(stage.dump.pids(), [0; 0]);
}
