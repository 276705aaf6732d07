//! `--deep`: every byte of the newest backup, through whatever breaks off on the way.

use std::time::Duration;

use pg_s3_backup::index::Index;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::client::eventually;
use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::{Stage, passing_faults};
use crate::support::program::Program;
use crate::support::proxy::{Calls, Fault, ResetAt, Rule, S3Verb, Seen, When};
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{adapt_manifest, gzipped, hex, index, manifest, plain};

use super::{Checked, backed_up, bucket_check, put};

const SOON: Duration = Duration::from_mins(1);
/// Bytes of a range.
const RANGE: usize = 2 << 20;
/// Ranges that are read at once.
const RANGES: usize = 4;

fn database() -> Database {
    let database = postgres().create_database("deep");
    database.psql("CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 5000) AS n").expect("a table");
    database
}

fn deep(bucket: &str) -> Checked {
    Checked::of(&bucket_check(bucket).arg("--deep"))
}

/// Puts something else under a backup's name, with its metadata, as a fault of the store would.
fn damage(bucket: &str, key: &str, bytes: &[u8]) {
    let run_id = manifest(bucket, key)["run_id"].as_str().expect("an id").to_owned();
    let header = format!("x-amz-meta-run-id:{run_id}");
    s3().request_with("PUT", &format!("/{bucket}/{key}"), &[&header], bytes).expect("stored");
}

#[test]
fn reads_valid_backup_to_its_end_with_and_without_a_manifest() {
    let (bucket, key) = backed_up(&database());
    let checked = deep(&bucket);
    checked.assert(&[], &[]).says("dump_integrity", &["5000 rows in 1 table"]).says("checksum", &["sha256"]);
    checked.says("index", &["2 entries", "each of 1 range unpacks alone"]);
    s3().request("DELETE", &format!("/{bucket}/{key}.json"), b"").expect("deleted");
    deep(&bucket)
        .assert(&[], &["manifest"])
        .says("dump_integrity", &["5000 rows"])
        .says("checksum", &["no checksum to compare"]);
}

#[test]
fn a_flipped_byte_is_found_by_reading_alone() {
    let (bucket, key) = backed_up(&database());
    let mut object = s3().get(&bucket, &key).expect("the backup");
    let middle = object.len() / 2;
    object[middle] ^= 0x10;
    damage(&bucket, &key, &object);
    Checked::of(&bucket_check(&bucket)).assert(&[], &[]);
    deep(&bucket).assert(&["checksum", "gzip"], &[]).says("gzip", &["byte"]).says("checksum", &["sha256"]);
    // Without a manifest gzip still knows.
    s3().request("DELETE", &format!("/{bucket}/{key}.json"), b"").expect("deleted");
    deep(&bucket).assert(&["gzip"], &["manifest"]);
}

#[test]
fn a_backup_that_was_replaced_by_another_is_found_by_its_sum() {
    let (mine, other) = (database(), postgres().create_database("other"));
    other.psql("CREATE TABLE u AS SELECT generate_series(1, 9) AS n").expect("a table");
    let ((bucket, key), (elsewhere, foreign)) = (backed_up(&mine), backed_up(&other));
    damage(&bucket, &key, &s3().get(&elsewhere, &foreign).expect("the backup"));
    deep(&bucket).assert(&["object", "checksum", "dump_integrity"], &[]).says("dump_integrity", &["bytes, but"]);
}

#[test]
fn rejects_truncated_or_extended_gzip_member_whatever_its_checksum() {
    let (bucket, key) = backed_up(&database());
    let object = s3().get(&bucket, &key).expect("the backup");
    let twice = [object.clone(), object.clone()].concat();
    let with_zeros = [object.clone(), vec![0; 512]].concat();
    let cut = object[..object.len() - 8].to_vec();
    for (bytes, word) in [(twice, "something follows"), (with_zeros, "something follows"), (cut, "has not ended")] {
        damage(&bucket, &key, &bytes);
        adapt_manifest(&bucket, &key, &bytes, |_| {});
        deep(&bucket).assert(&["gzip"], &[]).says("gzip", &[word]);
    }
}

#[test]
fn rejects_truncated_dump_in_a_valid_gzip_member() {
    let (bucket, key) = backed_up(&database());
    let dump = plain(&bucket, &key);
    for (length, word) in [(dump.len() / 2, "in the middle of the data of public.t"), (dump.len() - 2, "missing")] {
        let bytes = gzipped(&dump[..length]);
        damage(&bucket, &key, &bytes);
        adapt_manifest(&bucket, &key, &bytes, |_| {});
        deep(&bucket).assert(&["dump_integrity"], &[]).says("dump_integrity", &["not complete", word]);
    }
}

#[test]
fn an_index_that_is_not_of_the_object_is_found_and_named() {
    let (bucket, key) = backed_up(&database());
    let (right, original) = (index(&bucket, &key), manifest(&bucket, &key));
    let replace = |index: &Index| {
        let packed = index.packed();
        let mut manifest = original.clone();
        manifest["index"]["bytes"] = packed.len().into();
        manifest["index"]["sha256"] = hex(&Sha256::digest(&packed)).into();
        put(&bucket, &format!("{key}.index.json.gz"), &packed);
        put(&bucket, &format!("{key}.json"), manifest.to_string().as_bytes());
    };
    let mut wrong = [right.clone(), right.clone(), right.clone(), right.clone()];
    wrong[0].points[0].crc32 ^= 1;
    wrong[1].entries[1].name.push('x');
    wrong[2].entries[1].copy.as_mut().expect("data").rows += 1;
    wrong[3].trailer_at += 1;
    let entry = "entry 2 of the dump is another one: TABLE DATA t at byte";
    for (wrong, says) in wrong.iter().zip(["the range from byte 0 to byte", entry, entry, "or other offsets"]) {
        replace(wrong);
        deep(&bucket).assert(&["index"], &[]).says("index", &[says]);
    }
    // Of no use, but no damage of the backup.
    replace(&Index { run_id: "ff".to_owned(), ..right.clone() });
    deep(&bucket).assert(&[], &["index"]).says("index", &["of another backup"]);
    replace(&Index { index_version: 2, ..right.clone() });
    deep(&bucket).assert(&[], &["index"]).says("index", &["it has version 2"]);
    replace(&right);
    put(&bucket, &format!("{key}.index.json.gz"), &right.packed()[1..]);
    deep(&bucket).assert(&[], &["index"]).says("index", &["its size is not"]);
    s3().request("DELETE", &format!("/{bucket}/{key}.index.json.gz"), b"").expect("deleted");
    deep(&bucket).assert(&[], &["index"]).says("index", &["it is not there"]);
}

#[test]
fn reports_complete_dump_that_differs_from_its_manifest() {
    let (bucket, key) = backed_up(&database());
    let object = s3().get(&bucket, &key).expect("the backup");
    let original = manifest(&bucket, &key);
    for (word, place, value) in [
        ("CRC-32", "/dump_crc32", Value::from("00000000")),
        ("length: it unpacks to", "/dump_bytes", 7.into()),
        ("the manifest says 4999: their number differs", "/rows", 4999.into()),
    ] {
        adapt_manifest(&bucket, &key, &object, |manifest| *manifest.pointer_mut(place).expect("the field") = value);
        // Its length decides whether an index is of the backup.
        let warned: &[&str] = if place == "/dump_bytes" { &["index"] } else { &[] };
        deep(&bucket).assert(&["dump_integrity"], warned).says("dump_integrity", &[word]);
        put(&bucket, &format!("{key}.json"), original.to_string().as_bytes());
    }
    deep(&bucket).assert(&[], &[]);
}

fn deep_program(stage: &Stage) -> Program {
    let program = bucket_check(&stage.bucket).env("S3_URL", stage.proxy.url()).env("S3_PATH", "app");
    program.env("S3_REQUEST_TIMEOUT", "2s").arg("--deep")
}

fn deep_through(stage: &Stage) -> Checked {
    Checked::of(&deep_program(stage))
}

#[test]
fn reading_goes_on_where_it_broke_off() {
    let (stage, key) = Stage::with_three_parts();
    for (name, fault) in passing_faults() {
        let before = stage.proxy.log().len();
        stage.break_reads(&key, &fault);
        deep_through(&stage).assert(&[], &[]);
        let log = stage.proxy.log().split_off(before);
        let reads: Vec<_> = log.iter().filter(|seen| seen.verb == S3Verb::GetObject && seen.key() == key).collect();
        assert!(reads.len() > 3, "{name}: {reads:#?}");
        // Where the first answer has not come, nothing is known of the object.
        let later = reads.iter().filter(|seen| first_byte(seen) > 0);
        assert!(later.clone().all(|seen| seen.header("if-match").is_some()), "{name}: pinned");
        if name != "refused for a while" {
            let resumed = later.filter(|seen| !first_byte(seen).is_multiple_of(RANGE));
            assert!(resumed.count() > 0, "{name}: {reads:#?}");
        }
    }
}

#[test]
fn reading_that_never_gets_on_ends_within_the_budget() {
    let (stage, key) = Stage::with_three_parts();
    // Each answer begins well, and brings nothing.
    let headers = [("ETag", "\"1-1\""), ("Content-Range", "bytes 0-999/1000")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let nothing = Fault::Reply { status: 206, headers, body: vec![], when: When::Before };
    stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::All, nothing).key_suffix(&key));
    let checked = Checked::of(&deep_program(&stage).env("BACKUP_MAX_UPLOAD_OUTAGE", "2s"));
    checked.assert(&["checksum"], &[]).says("checksum", &["read the backup", "the body ended early"]);
}

#[test]
fn a_backup_that_is_replaced_while_it_is_read_is_never_a_mixture() {
    let (stage, key) = Stage::with_three_parts();
    let mut other = s3().get(&stage.bucket, &key).expect("the backup");
    *other.last_mut().expect("a byte") ^= 1;
    let reset = Fault::Reset { at: ResetAt::InAnswer };
    stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::First(1), reset).key_suffix(&key));
    stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::From(2), Fault::slow_down()).key_suffix(&key));
    let running = deep_program(&stage).env("BACKUP_MAX_UPLOAD_OUTAGE", "1m").arg("--json").spawn();
    let reads = || stage.proxy.log().iter().filter(|seen| seen.key() == key && seen.method == "GET").count();
    while reads() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    damage(&stage.bucket, &key, &other);
    stage.proxy.clear_rules();
    Checked::from(running.wait())
        .assert(&["checksum"], &[])
        .says("checksum", &["replaced or deleted while it was read"]);
}

#[test]
fn a_signal_ends_reading_at_once() {
    let (stage, key) = Stage::with_three_parts();
    let slow = Fault::Trickle { bytes_per_second: 100_000 };
    stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::All, slow).key_suffix(&key));
    let running = deep_program(&stage).spawn();
    stage.proxy.wait_for(S3Verb::GetObject, 2, SOON);
    running.signal("TERM");
    running.wait().assert_code(143);
}

/// The reads of the backup so far.
fn reads(stage: &Stage, key: &str) -> Vec<Seen> {
    stage.proxy.log().into_iter().filter(|seen| seen.verb == S3Verb::GetObject && seen.key() == key).collect()
}

#[test]
fn reads_several_ranges_at_once_and_keeps_their_order_when_one_is_slow() {
    let stage = Stage::new(FakeDump::new().body(Body::Random(30 << 20)));
    stage.backup().run().assert_code(0);
    let key = stage.backups().swap_remove(0);
    let before = reads(&stage, &key).len();
    stage.proxy.reset_counts();
    stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::Nth(2), Fault::Hold).key_suffix(&key));
    let running = deep_program(&stage).env("S3_REQUEST_TIMEOUT", "1m").arg("--json").spawn();
    let seen = || reads(&stage, &key).split_off(before);
    // The second request may be that of any range of the first four. Those before it are handed on, and after it three are read.
    let most =
        |seen: &[Seen]| seen.iter().find(|seen| seen.fault.is_some()).map(|held| first_byte(held) / RANGE + RANGES);
    eventually(
        || {
            let seen = seen();
            let answered = seen.iter().filter(|seen| seen.status == Some(206)).count();
            most(&seen) == Some(seen.len()) && answered == seen.len() - 1
        },
        || format!("{:#?}", seen()),
    );
    // What is read ahead of a slow range is bounded.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(Some(seen().len()), most(&seen()));
    stage.proxy.release();
    Checked::from(running.wait()).assert(&[], &[]).says("checksum", &["with the uploaded sha256"]);
    let mut ranges: Vec<usize> = seen().iter().map(first_byte).collect();
    ranges.sort_unstable();
    assert!(ranges.into_iter().eq((0..15).map(|number| number * RANGE)), "each once: {:#?}", seen());
}

/// The first byte of the range that was asked for.
fn first_byte(seen: &Seen) -> usize {
    let range =
        seen.header("range").and_then(|range| range.strip_prefix("bytes=")?.split('-').next()).expect("a range");
    range.parse().expect("a number")
}

#[test]
fn reads_from_a_store_that_passes_over_ranges() {
    let (stage, key) = Stage::with_three_parts();
    let ignored = Fault::IgnoreRequestHeader("range".to_owned());
    stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::All, ignored).key_suffix(&key));
    // A second read would begin at the first byte again.
    Checked::of(&deep_program(&stage).env("S3_REQUEST_TIMEOUT", "1m")).assert(&[], &[]);
    assert_eq!(reads(&stage, &key).len(), 1);
}

#[test]
fn an_empty_object_is_read_although_it_has_no_ranges() {
    let (bucket, key) = backed_up(&database());
    damage(&bucket, &key, b"");
    let checked = deep(&bucket);
    checked.assert(&["object", "size", "checksum", "gzip"], &[]).says("checksum", &["0 bytes were read"]);
}

#[test]
fn a_backup_larger_than_memory_is_read_in_little() {
    let stage = Stage::new(FakeDump::new().body(Body::Random(60 << 20)));
    stage.backup().run().assert_code(0);
    let checked = deep_through(&stage);
    checked.assert(&[], &[]);
    assert!(checked.outcome.peak_rss_bytes < 50 << 20, "{} bytes", checked.outcome.peak_rss_bytes);
}
