//! One run's files on a real disk: what is written, to whom it is readable, and what is noticed.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::super::{Found, SpoolDir, upload_ids};
use super::*;
use crate::pipeline::{PartChecksum, PartDigest};

const DESTINATION: &str = "http://s3\nbucket\napp";

fn start(run_id: &str) -> Start {
    let location = "s3://bucket/app".to_owned();
    Start::new(DESTINATION.to_owned(), location, run_id, "name".to_owned(), PartChecksum::Md5)
}

fn sealed(number: u32) -> SealedPart {
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a permit");
    SealedPart { number, bytes: Bytes::from_static(b"a part"), digest: PartDigest::None, permit }
}

fn run_id(digit: u32) -> String {
    format!("{digit:032x}")
}

/// A run with a part and an upload.
fn run(room: &SpoolDir) -> Arc<Spool> {
    let spool = room.create(start(&run_id(1))).expect("files");
    spool.begun(Begun { key: "k".to_owned(), upload_id: "u".to_owned() }).expect("noted");
    spool.store(&sealed(1)).expect("stored");
    spool.taken(1, "etag").expect("noted");
    spool
}

#[test]
fn a_run_that_ended_is_found_with_all_that_it_noted() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = SpoolDir::open(dir.path(), DESTINATION).expect("a room");
    run(&room);
    let found = room.found().expect("found");
    let [Found::Unfinished(kept)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(kept.journal.taken.get(&1).map(String::as_str), Some("etag"));
    assert_eq!(kept.spool.read(&kept.journal.parts[&1]).expect("the part"), "a part");
    assert_eq!(upload_ids(dir.path()).expect("read").into_iter().collect::<Vec<_>>(), ["u"]);
    kept.spool.delete();
    assert!(room.found().expect("found").is_empty());
}

#[test]
fn nobody_else_may_read_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool_dir = dir.path().join("made/here");
    let room = SpoolDir::open(&spool_dir, DESTINATION).expect("a room");
    let spool = run(&room);
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let room_path = spool.path().parent().expect("a room");
    for directory in [spool_dir.as_path(), room_path, spool.path()] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    for file in [room_path.join("lock"), spool.path().join(JOURNAL), spool.path().join("part-00001")] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn two_runs_of_one_destination_exclude_each_other_and_two_destinations_do_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = SpoolDir::open(dir.path(), DESTINATION).expect("a room");
    assert!(matches!(SpoolDir::open(dir.path(), DESTINATION), Err(SpoolError::Busy { .. })));
    SpoolDir::open(dir.path(), "another").expect("its own room");
    drop(room);
    SpoolDir::open(dir.path(), DESTINATION).expect("free again");
}

#[test]
fn a_part_that_the_disk_changed_is_not_given_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = SpoolDir::open(dir.path(), DESTINATION).expect("a room");
    let spool = room.create(start(&run_id(1))).expect("files");
    let part = spool.store(&sealed(1)).expect("stored");
    for content in ["b part", "a par", ""] {
        fs::write(spool.path().join("part-00001"), content).expect("written");
        assert!(matches!(spool.read(&part), Err(SpoolError::Damaged { number: 1 })), "{content:?}");
    }
    fs::remove_file(spool.path().join("part-00001")).expect("removed");
    assert!(matches!(spool.read(&part), Err(SpoolError::Read { number: 1, .. })));
}

#[test]
fn the_first_error_gives_the_spool_up_for_good() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = SpoolDir::open(dir.path(), DESTINATION).expect("a room");
    let spool = run(&room);
    // Something stands where the part would be written.
    fs::create_dir(spool.unfinished(2)).expect("made");
    assert!(matches!(spool.store(&sealed(2)), Err(SpoolError::Write(_))));
    fs::remove_dir(spool.unfinished(2)).expect("removed");
    assert!(matches!(spool.store(&sealed(2)), Err(SpoolError::GivenUp)));
    assert!(spool.is_given_up() && !spool.is_whole());
    let found = room.found().expect("found");
    assert!(matches!(found.as_slice(), [Found::Unfinished(_)]), "{found:?}");
}

#[test]
fn a_torn_line_is_taken_back_before_another_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = SpoolDir::open(dir.path(), DESTINATION).expect("a room");
    let spool = run(&room);
    private().append(true).open(spool.path().join(JOURNAL)).expect("open").write_all(b"torn").expect("written");
    let found = room.found().expect("found");
    let [Found::Unfinished(kept)] = found.as_slice() else { panic!("{found:?}") };
    kept.spool.store(&sealed(2)).expect("stored");
    let found = room.found().expect("found");
    let [Found::Unfinished(kept)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(kept.journal.parts.len(), 2);
}

#[test]
fn files_without_a_journal_and_journals_without_a_line_are_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = SpoolDir::open(dir.path(), DESTINATION).expect("a room");
    let spool = run(&room);
    fs::remove_file(spool.path().join(JOURNAL)).expect("removed");
    let empty = room.create(start(&run_id(2))).expect("files");
    fs::write(empty.path().join(JOURNAL), "00000000 {").expect("written");
    let found = room.found().expect("found");
    assert!(matches!(found.as_slice(), [Found::Nothing, Found::Nothing]), "{found:?}");
    assert!(!spool.path().exists() && !empty.path().exists());
    // What is not a run's is not touched.
    let other = spool.path().with_file_name("notes");
    fs::create_dir(&other).expect("made");
    assert!(room.found().expect("found").is_empty() && other.exists());
}
