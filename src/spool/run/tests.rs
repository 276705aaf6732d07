//! One run's files on a real disk: what is written, who may read it, and which damage is noticed.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::super::{Found, Kept, SetAside, SpoolDir, upload_ids};
use super::*;
use crate::pipeline::{PartChecksum, PartDigest, PartMemory, PartPlan, PartSettings};

const DESTINATION: &str = "http://s3\nbucket\napp";

fn start(run_id: &str) -> Start {
    let location = "s3://bucket/app".to_owned();
    Start::new(DESTINATION.to_owned(), location, run_id, "name".to_owned(), PartChecksum::Md5)
}

fn sealed(number: u32) -> SealedPart {
    sealed_of(number, b"a part")
}

fn sealed_of(number: u32, bytes: &'static [u8]) -> SealedPart {
    SealedPart { number, bytes: Bytes::from_static(bytes), digest: PartDigest::None }
}

/// Reads a part into its own buffer.
async fn read(spool: &Arc<Spool>, part: &SpooledPart) -> Result<Bytes, SpoolError> {
    let settings = PartSettings { base: Some(64), max_parts: 10, equal: false, concurrency: 1 };
    let memory = PartMemory::new(&PartPlan::new(&settings, 0));
    spool.read(part.clone(), memory.take(part.bytes).await).await
}

/// A run with these parts, as the next run finds it.
pub(in crate::spool) async fn kept(dir: &Path, parts: &[&'static [u8]]) -> Kept {
    let subdirectory = SpoolDir::open(dir, DESTINATION).await.expect("a subdirectory");
    let spool = subdirectory.create(start(&run_id(1))).await.expect("files");
    for (number, bytes) in (1..).zip(parts) {
        spool.store(&sealed_of(number, bytes)).await.expect("stored");
    }
    match subdirectory.found().await.expect("found").pop() {
        Some(Found::Unfinished(kept)) => kept,
        found => panic!("{found:?}"),
    }
}

fn run_id(digit: u32) -> String {
    format!("{digit:032x}")
}

/// A run with a part and an upload.
async fn run(subdirectory: &SpoolDir) -> Arc<Spool> {
    let spool = subdirectory.create(start(&run_id(1))).await.expect("files");
    spool.started(StartedUpload { key: "k".to_owned(), upload_id: "u".to_owned() }).await.expect("noted");
    spool.store(&sealed(1)).await.expect("stored");
    spool.uploaded(1, "etag".to_owned()).await.expect("noted");
    spool
}

#[tokio::test]
async fn a_run_that_ended_is_found_with_all_its_records() {
    let dir = tempfile::tempdir().expect("a directory");
    let subdirectory = SpoolDir::open(dir.path(), DESTINATION).await.expect("a subdirectory");
    run(&subdirectory).await;
    let found = subdirectory.found().await.expect("found");
    let [Found::Unfinished(kept)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(kept.journal.uploaded.get(&1).map(String::as_str), Some("etag"));
    assert_eq!(read(&kept.spool, &kept.journal.parts[&1]).await.expect("the part"), "a part");
    assert_eq!(upload_ids(dir.path()).await.expect("read").into_iter().collect::<Vec<_>>(), ["u"]);
    kept.spool.delete().await;
    assert!(subdirectory.found().await.expect("found").is_empty());
}

#[tokio::test]
async fn only_this_user_may_read_the_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool_dir = dir.path().join("made/here");
    let subdirectory = SpoolDir::open(&spool_dir, DESTINATION).await.expect("a subdirectory");
    let spool = run(&subdirectory).await;
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let subdirectory_path = spool.path().parent().expect("a subdirectory");
    for directory in [spool_dir.as_path(), subdirectory_path, spool.path()] {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
    for file in [subdirectory_path.join("lock"), spool.path().join(JOURNAL), spool.path().join("part-00001")] {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn two_runs_of_one_destination_exclude_each_other_and_two_destinations_do_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let subdirectory = SpoolDir::open(dir.path(), DESTINATION).await.expect("a subdirectory");
    assert!(matches!(SpoolDir::open(dir.path(), DESTINATION).await, Err(SpoolError::Busy { .. })));
    SpoolDir::open(dir.path(), "another").await.expect("its own subdirectory");
    drop(subdirectory);
    SpoolDir::open(dir.path(), DESTINATION).await.expect("free again");
}

#[tokio::test]
async fn a_part_that_the_disk_changed_is_not_returned() {
    let dir = tempfile::tempdir().expect("a directory");
    let subdirectory = SpoolDir::open(dir.path(), DESTINATION).await.expect("a subdirectory");
    let spool = subdirectory.create(start(&run_id(1))).await.expect("files");
    let part = spool.store(&sealed(1)).await.expect("stored");
    for content in ["b part", "a par", ""] {
        fs::write(spool.path().join("part-00001"), content).expect("written");
        assert!(matches!(read(&spool, &part).await, Err(SpoolError::Damaged { number: 1 })), "{content:?}");
    }
    fs::remove_file(spool.path().join("part-00001")).expect("removed");
    assert!(matches!(read(&spool, &part).await, Err(SpoolError::Read { number: 1, .. })));
}

#[tokio::test]
async fn the_first_error_ends_the_spool() {
    let dir = tempfile::tempdir().expect("a directory");
    let subdirectory = SpoolDir::open(dir.path(), DESTINATION).await.expect("a subdirectory");
    let spool = run(&subdirectory).await;
    // A directory has the path of the part.
    fs::create_dir(spool.unfinished(2)).expect("made");
    assert!(matches!(spool.store(&sealed(2)).await, Err(SpoolError::Write(_))));
    fs::remove_dir(spool.unfinished(2)).expect("removed");
    assert!(matches!(spool.store(&sealed(2)).await, Err(SpoolError::GivenUp)));
    assert!(spool.is_given_up() && !spool.is_complete());
    let found = subdirectory.found().await.expect("found");
    assert!(matches!(found.as_slice(), [Found::Unfinished(_)]), "{found:?}");
}

#[tokio::test]
async fn a_torn_line_is_removed_before_another_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let subdirectory = SpoolDir::open(dir.path(), DESTINATION).await.expect("a subdirectory");
    let spool = run(&subdirectory).await;
    private().append(true).open(spool.path().join(JOURNAL)).expect("open").write_all(b"torn").expect("written");
    let found = subdirectory.found().await.expect("found");
    let [Found::Unfinished(kept)] = found.as_slice() else { panic!("{found:?}") };
    kept.spool.store(&sealed(2)).await.expect("stored");
    let found = subdirectory.found().await.expect("found");
    let [Found::Unfinished(kept)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(kept.journal.parts.len(), 2);
}

#[tokio::test]
async fn files_without_a_journal_and_journals_without_a_line_are_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let subdirectory = SpoolDir::open(dir.path(), DESTINATION).await.expect("a subdirectory");
    let spool = run(&subdirectory).await;
    fs::remove_file(spool.path().join(JOURNAL)).expect("removed");
    let empty = subdirectory.create(start(&run_id(2))).await.expect("files");
    fs::write(empty.path().join(JOURNAL), "00000000 {").expect("written");
    let found = subdirectory.found().await.expect("found");
    assert!(matches!(found.as_slice(), [Found::Nothing, Found::Nothing]), "{found:?}");
    assert!(!spool.path().exists() && !empty.path().exists());
    // Other directories stay.
    let other = spool.path().with_file_name("notes");
    fs::create_dir(&other).expect("made");
    assert!(subdirectory.found().await.expect("found").is_empty() && other.exists());
}

#[tokio::test]
async fn a_disk_that_hangs_ends_the_spool_and_blocks_no_caller() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Disk::of(dir.path()).within(Duration::from_millis(200));
    let spool = Arc::new(Spool::create(disk, dir.path(), start(&run_id(1))).expect("files"));
    let part = spool.store(&sealed(1)).await.expect("stored");
    // A FIFO without a reader: writing to it blocks.
    let hangs = spool.unfinished(2);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &hangs, rustix::fs::FileType::Fifo, mode, 0).expect("a FIFO");
    assert!(matches!(spool.store(&sealed(2)).await, Err(SpoolError::Disk(_))));
    assert!(spool.is_given_up() && !spool.is_complete());
    assert!(matches!(spool.uploaded(1, "etag".to_owned()).await, Err(SpoolError::GivenUp)));
    assert_eq!(read(&spool, &part).await.expect("what stands there can be read all the same"), "a part");
    // The delete does not wait either; files left are logged.
    spool.delete().await;
    assert!(spool.path().exists());
    File::open(hangs).expect("a reader, which lets it go on");
}

#[tokio::test]
async fn runs_that_may_be_neither_delivered_nor_deleted_are_set_aside() {
    let dir = tempfile::tempdir().expect("a directory");
    let spool = kept(dir.path(), &[b"a part"]).await.spool;
    let journal = spool.path().join(JOURNAL);
    let text = fs::read(&journal).expect("it is there");
    let line = |record: &str| {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, record.as_bytes());
        format!("{crc:08x} {record}\n").into_bytes()
    };
    let newer = [line(r#"{"start":{"version":3,"run":"7"}}"#), line(r#"{"started":{"upload":"u"}}"#)].concat();
    let unknown = [&text[..], &line(r#"{"globals":{"bytes":7}}"#)].concat();
    let start = Start::new("another".to_owned(), String::new(), &run_id(1), "n".to_owned(), PartChecksum::Md5);
    let stray = journal::encode(&Record::Start(start)).expect("JSON");
    for (content, expected) in [
        (newer, SetAside::OfAnotherVersion),
        (unknown, SetAside::OfAnotherVersion),
        (stray, SetAside::OfAnotherDestination),
    ] {
        fs::write(&journal, &content).expect("written");
        let subdirectory = SpoolDir::open(dir.path(), DESTINATION).await.expect("a subdirectory");
        let found = subdirectory.found().await.expect("found");
        let [Found::Foreign(path, why)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((path.as_path(), *why), (spool.path(), expected));
        let ids = upload_ids(dir.path()).await;
        assert_eq!(
            ids.is_err(),
            expected == SetAside::OfAnotherVersion,
            "it is unknown which uploads to keep: {ids:?}"
        );
        let place = subdirectory.set_aside(path, *why).await.expect("set aside");
        assert!(subdirectory.found().await.expect("found").is_empty(), "no run uses it");
        assert_eq!(subdirectory.set_aside_runs().await.expect("seen"), [place.as_path()]);
        assert_eq!(fs::read(place.join(JOURNAL)).expect("all of it is there"), content);
        assert!(place.join("part-00001").exists());
        fs::rename(place, spool.path()).expect("as the message says");
    }
}

#[tokio::test]
async fn a_journal_of_the_first_release_is_delivered() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spool-version-1");
    let reading = journal::read(&fs::read(fixture.join("three-parts.journal")).expect("the fixture"));
    assert_eq!((&reading.damage, reading.is_of_another_version), (&None, false));
    let journal = reading.journal.expect("a journal");
    assert_eq!((journal.parts.len(), journal.uploaded.len()), (3, 2));
    assert!(journal.started.as_ref().is_some_and(|upload| upload.key == format!("app/{}", journal.start.file_name)));
    assert_eq!(journal.verified().expect("complete").totals().object_bytes, 11_466_114);

    let text = fs::read(fixture.join(JOURNAL)).expect("the fixture");
    let start = journal::read(&text).journal.expect("a journal").start;
    let dir = tempfile::tempdir().expect("a directory");
    let subdirectory = SpoolDir::open(dir.path(), &start.destination).await.expect("a subdirectory");
    let spool = subdirectory.create(Start::new(
        start.destination,
        start.location,
        &start.run_id,
        start.file_name,
        start.checksum,
    ));
    let run = spool.await.expect("files").path().to_owned();
    for file in [JOURNAL, "part-00001"] {
        fs::copy(fixture.join(file), run.join(file)).expect("copied");
    }
    let found = subdirectory.found().await.expect("found");
    let [Found::Complete(kept, None)] = found.as_slice() else { panic!("{found:?}") };
    let part = kept.journal.parts[&1].clone();
    assert_eq!(read(&kept.spool, &part).await.expect("its part").len(), 16_007);
    let manifest = kept.journal.verification.clone().expect("a verification").manifest;
    let manifest: crate::archive::manifest::Manifest = serde_json::from_value(manifest).expect("a manifest");
    assert_eq!(manifest.object_bytes, 16_007);
}
