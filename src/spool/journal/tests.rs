//! Reads journals that are intact, truncated, damaged, or no journals.

use proptest::prelude::*;

use super::*;
use crate::pipeline::scanner::TableRows;

fn start() -> Start {
    Start::new("url\nb\np".to_owned(), "s3://b/p".to_owned(), "id", "name".to_owned(), PartChecksum::Md5)
}

fn part(number: u32) -> Record {
    Record::Part(SpooledPart { number, bytes: 7, digest: PartDigest::Md5([9; 16]), crc64: u64::MAX })
}

fn started(upload_id: &str) -> Record {
    Record::Started(StartedUpload { key: "p/name".to_owned(), upload_id: upload_id.to_owned() })
}

fn uploaded(part: u32) -> Record {
    Record::Uploaded { part, etag: "\"etag\"".to_owned() }
}

fn verification() -> Verification {
    let totals = Totals {
        plain_bytes: 20,
        plain_crc32: 1,
        object_bytes: 14,
        object_sha256: [3; 32],
        object_crc64: None,
        parts: 2,
    };
    let tables = vec![TableRows { table: "public.\"a\nb\"".to_owned(), rows: 3 }];
    let scan = ScanReport { bytes: 20, rows: 3, tables, created: None, flaw: None };
    Verification { totals, scan, manifest: serde_json::json!({ "database": "d" }) }
}

fn verified() -> Vec<Record> {
    let end = Record::Verified(Box::new(verification()));
    vec![Record::Start(start()), started("u"), part(1), uploaded(1), part(2), end, uploaded(2)]
}

fn bytes(records: &[Record]) -> Vec<u8> {
    records.iter().flat_map(|record| encode(record).expect("JSON")).collect()
}

fn journal(records: &[Record]) -> Journal {
    let reading = read(&bytes(records));
    assert_eq!(reading.damage, None);
    reading.journal.expect("a journal")
}

/// The damage, and its line.
fn damage(records: &[Record]) -> usize {
    read(&bytes(records)).damage.expect("damage").line
}

#[test]
fn reads_what_was_written() {
    let journal = journal(&verified());
    assert_eq!(journal.start, start());
    assert_eq!((journal.parts.len(), journal.uploaded.len()), (2, 2));
    assert_eq!(journal.verification.as_ref(), Some(&verification()));
    let verified = journal.verified().expect("complete");
    assert_eq!((verified.totals(), verified.scan()), (&verification().totals, &verification().scan));
}

#[test]
fn a_truncated_journal_has_its_complete_lines() {
    let (records, all) = (verified(), bytes(&verified()));
    let ends: Vec<usize> = (0..=records.len()).map(|count| bytes(&records[..count]).len()).collect();
    for length in 0..all.len() {
        let reading = read(&all[..length]);
        let lines = ends.iter().filter(|end| **end <= length).count() - 1;
        assert_eq!(reading.damage, None, "cut at {length}");
        assert_eq!(reading.line_bytes, ends[lines] as u64, "cut at {length}");
        assert_eq!(reading.journal, (lines > 0).then(|| journal(&records[..lines])), "cut at {length}");
    }
}

#[test]
fn a_new_upload_has_none_of_the_earlier_uploads_parts() {
    let mut records = verified();
    records.push(started("v"));
    let journal = journal(&records);
    assert_eq!(journal.started.map(|upload| upload.upload_id).as_deref(), Some("v"));
    assert!(journal.uploaded.is_empty() && journal.verification.is_some());
}

#[test]
fn records_that_cannot_follow_each_other_are_damage() {
    let first = Record::Start(start());
    assert_eq!(damage(&[started("u")]), 1, "no start");
    assert_eq!(damage(&[first.clone(), first.clone()]), 2, "two starts");
    assert_eq!(damage(&[first.clone(), part(2)]), 2, "a part is missing");
    assert_eq!(damage(&[first.clone(), part(1), uploaded(1)]), 3, "taken by no upload");
    assert_eq!(damage(&[first.clone(), started("u"), uploaded(1)]), 3, "taken before it was made");
    assert_eq!(damage(&[verified(), vec![part(3)]].concat()), 8, "a part behind the end");
}

#[test]
fn a_damaged_line_loses_its_own_record() {
    let end = Record::Verified(Box::new(verification()));
    let records = [
        Record::Start(start()),
        started("u"),
        part(1),
        uploaded(1),
        part(2),
        end,
        uploaded(2),
        started("v"),
        uploaded(1),
    ];
    let lines: Vec<Vec<u8>> = records.iter().map(|record| bytes(std::slice::from_ref(record))).collect();
    let read_damaged = |line: usize| {
        let mut lines = lines.clone();
        let middle = lines[line].len() / 2;
        lines[line][middle] ^= 1;
        let reading = read(&lines.concat());
        assert_eq!(reading.damage.map(|damage| damage.line), Some(line + 1));
        assert_eq!((reading.line_bytes, reading.is_of_another_version), (lines.concat().len() as u64, false));
        (reading.journal, reading.has_verification)
    };
    for (line, is_complete, upload, taken) in [
        (1, true, "v", [1].as_slice()),
        (2, false, "v", &[]),
        (3, true, "v", &[1]),
        (4, false, "v", &[1]),
        (5, false, "v", &[1]),
        (6, true, "v", &[1]),
        // The ETag of another upload: S3 refuses it with the upload, and the dump is sent without both.
        (7, true, "u", &[1, 2]),
        (8, true, "v", &[]),
    ] {
        let (journal, _) = read_damaged(line);
        let journal = journal.expect("its destination is known");
        assert_eq!(journal.verified().is_ok(), is_complete, "line {line}");
        assert_eq!(journal.started.map(|upload| upload.upload_id).as_deref(), Some(upload), "line {line}");
        assert_eq!(journal.uploaded.keys().copied().collect::<Vec<_>>(), taken, "line {line}");
    }
    assert_eq!(read_damaged(0), (None, true), "there is a dump of an unknown destination");
}

#[test]
fn a_journal_of_another_version_is_not_damaged() {
    let newer = Record::Start(Start { version: VERSION + 1, ..start() });
    let unknown = |json: &str| format!("{:08x} {json}\n", crc32(json.as_bytes())).into_bytes();
    let more = [bytes(&verified()), unknown(r#"{"globals":{"bytes":1}}"#)].concat();
    let none = Record::Start(Start { version: 0, ..start() });
    for written in [bytes(&[newer]), bytes(&[none]), unknown(r#"{"start":{"version":"new"}}"#), more] {
        assert!(read(&written).is_of_another_version, "{}", String::from_utf8_lossy(&written));
    }
    assert!(!read(&bytes(&verified())).is_of_another_version);
}

#[test]
fn reads_version_1_under_its_own_names() {
    let text = String::from_utf8(bytes(&verified())).expect("text");
    let line = |line: &str| {
        let json = &line[CRC_BYTES..];
        let json = json.replace("{\"version\":2", "{\"version\":1").replace("{\"started\"", "{\"begun\"");
        let json = json.replace("{\"uploaded\"", "{\"taken\"").replace("{\"verified\"", "{\"whole\"");
        format!("{:08x} {json}\n", crc32(json.as_bytes()))
    };
    let reading = read(text.lines().map(line).collect::<String>().as_bytes());
    assert_eq!((&reading.damage, reading.is_of_another_version), (&None, false));
    let mut expected = journal(&verified());
    expected.start.version = 1;
    assert_eq!(reading.journal, Some(expected));
}

#[test]
fn only_a_journal_with_every_verified_part_is_verified() {
    let not_whole = |change: &dyn Fn(&mut Journal)| {
        let mut journal = journal(&verified());
        change(&mut journal);
        journal.verified().expect_err("not complete")
    };
    not_whole(&|journal| journal.verification = None);
    not_whole(&|journal| _ = journal.parts.remove(&2));
    not_whole(&|journal| _ = journal.parts.remove(&1));
    let change = |change: fn(&mut Verification)| not_whole(&|journal| journal.verification.iter_mut().for_each(change));
    change(|verification| verification.totals.object_bytes += 1);
    change(|verification| verification.totals.parts = 1);
    change(|verification| verification.scan.bytes += 1);
    not_whole(&|journal| journal.parts.values_mut().for_each(|part| part.bytes = u64::MAX));
}

proptest! {
    #[test]
    fn a_flipped_bit_never_makes_another_journal(at in 0usize..4096, bit in 0u8..8) {
        let mut all = bytes(&verified());
        let at = at % all.len();
        all[at] ^= 1 << bit;
        let reading = read(&all);
        // A lost line end tears the last line; every other flip is noticed.
        prop_assert!(reading.damage.is_some() || reading.journal == Some(journal(&verified()[..6])), "byte {at}");
    }

    #[test]
    fn any_bytes_are_a_journal_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let reading = read(&bytes);
        prop_assert!(reading.journal.is_none() && !reading.is_of_another_version);
    }

    #[test]
    fn any_records_with_valid_checksums_are_a_journal_or_not(lines in proptest::collection::vec(".{0,60}", 0..5)) {
        let bytes = lines.iter().fold(String::new(), |bytes, text| {
            let text = text.replace('\n', " ");
            bytes + &format!("{:08x} {text}\n", crc32(text.as_bytes()))
        });
        prop_assert!(read(bytes.as_bytes()).journal.is_none());
    }
}
