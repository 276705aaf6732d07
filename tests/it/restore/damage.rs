//! A backup that is not what was uploaded: the target is as it was, and one line says which check failed.

use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::new_database::{create, databases};
use super::{FAILED, assert_untouched, backed_up, empty, restore_program};
use crate::support::servers::{own_postgres, s3};
use crate::support::setup::{gzipped, only_backup, plain};
use crate::support::stored::put;

/// A backup of tables, rows and a large object, and the stored bytes.
fn stored() -> (String, String, Vec<u8>) {
    let (_source, bucket) = backed_up(
        "CREATE TABLE t AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 20000) g; \
         CREATE INDEX ON t (b); SELECT lo_from_bytea(0, 'x')",
    );
    let key = only_backup(&bucket);
    let object = s3().get(&bucket, &key).expect("the backup");
    (bucket, key, object)
}

/// The object with another byte.
fn flipped(object: &[u8], at: usize, bits: u8) -> Vec<u8> {
    let mut bytes = object.to_vec();
    bytes[at] ^= bits;
    bytes
}

#[test]
fn damaged_bytes_never_reach_a_target() {
    let (bucket, key, object) = stored();
    let target = empty("target");
    let half = object.len() / 2;
    let flipped = |at| flipped(&object, at, 0x10);
    let cases = [
        ("a flipped byte near the beginning", flipped(200)),
        ("a flipped byte in the middle", flipped(half)),
        ("a flipped byte of the checksum", flipped(object.len() - 6)),
        ("cut in the middle", object[..half].to_vec()),
        ("its last byte missing", object[..object.len() - 1].to_vec()),
        ("something after its end", [object.clone(), object.clone()].concat()),
    ];
    for (case, bytes) in cases {
        put(&bucket, &key, &bytes);
        let outcome = restore_program(&bucket, &target).arg(&key).run();
        outcome.assert_code(FAILED).assert_no_children_left();
        assert!(outcome.stderr.contains(&format!("verify {key}: ")), "{case}: {}", outcome.stderr);
        assert_untouched(&target, &outcome);
    }
    // As it was uploaded, it is restored.
    put(&bucket, &key, &object);
    restore_program(&bucket, &target).run().assert_code(0);
}

/// A flipped bit that makes another psql command of the dump's last line, and changes no length.
fn with_another_command(object: &[u8], plain: &[u8]) -> Vec<u8> {
    let last = plain.windows(2).rposition(|two| two == b"\n\\").expect("\\unrestrict") + 2;
    let has_another_command = |bytes: &[u8]| {
        let mut read = Vec::new();
        // The checksum is wrong at the end.
        let _ = GzDecoder::new(bytes).read_to_end(&mut read);
        let is_whole = read.len() == plain.len() && read[..last] == plain[..last];
        is_whole && !read[last..].starts_with(b"unrestrict ")
    };
    let bits = 0..object.len() * 8;
    bits.map(|bit| flipped(object, bit / 8, 1 << (bit % 8)))
        .find(|bytes| has_another_command(bytes))
        .expect("a bit of the command")
}

#[test]
fn damage_that_reads_as_a_forged_dump_is_damage() {
    let (_source, bucket) = backed_up("CREATE TABLE t AS SELECT 1 AS a");
    let key = only_backup(&bucket);
    let object = s3().get(&bucket, &key).expect("the backup");
    put(&bucket, &key, &with_another_command(&object, &plain(&bucket, &key)));
    let (target, server) = (empty("target"), own_postgres(&[]));
    let by = |jobs: &str| create(&bucket, &server, "made").args(["--jobs", jobs]);
    for program in [restore_program(&bucket, &target), by("1"), by("2")] {
        let outcome = program.run();
        outcome.assert_code(FAILED);
        assert!(outcome.stderr.contains(&format!("verify {key}: ")), "{}", outcome.stderr);
        assert_untouched(&target, &outcome);
        assert_eq!(databases(&server, "made"), "", "{}", outcome.stderr);
    }
}

#[test]
fn a_dump_that_is_cut_anywhere_is_not_committed() {
    let (bucket, key, _) = stored();
    let dump = String::from_utf8(plain(&bucket, &key)).expect("UTF-8");
    let rows = dump.find("COPY public.t").expect("rows");
    let places = [
        ("between statements", dump.find("CREATE TABLE").expect("a table")),
        ("within a statement", dump.find("CREATE TABLE").expect("a table") + 9),
        ("within a row", rows + 300),
        ("at a row's end", rows + dump[rows..].find("\n100\t").expect("a row") + 1),
        ("in the last line", dump.trim_end().len() - 3),
    ];
    let target = empty("target");
    for (case, at) in places {
        // A complete gzip member of an incomplete dump, without and with a manifest that agrees with it.
        let object = gzipped(&dump.as_bytes()[..at]);
        put(&bucket, &key, &object);
        let outcome = restore_program(&bucket, &target).args([&key, "--ignore-manifest"]).run();
        outcome.assert_code(FAILED);
        assert!(outcome.stderr.contains("dump: it is not complete"), "{case}: {}", outcome.stderr);
        assert_untouched(&target, &outcome);
    }
}

#[test]
fn a_manifest_that_says_otherwise_stops_a_restore_unless_it_is_ignored() {
    let (bucket, key, _) = stored();
    let manifest: Value =
        serde_json::from_slice(&s3().get(&bucket, &format!("{key}.json")).expect("it")).expect("JSON");
    let target = empty("target");
    for (field, value, word) in [
        ("object_sha256", Value::from("00"), "sha256: "),
        ("dump_crc32", "00000000".into(), "CRC-32: "),
        ("dump_bytes", 7.into(), "length: "),
        ("rows", 7.into(), "rows: "),
    ] {
        let mut other = manifest.clone();
        other[field] = value;
        put(&bucket, &format!("{key}.json"), other.to_string().as_bytes());
        let outcome = restore_program(&bucket, &target).arg(&key).run();
        outcome.assert_code(FAILED);
        assert!(outcome.stderr.contains(word) && outcome.stderr.contains("--ignore-manifest"), "{}", outcome.stderr);
        assert_untouched(&target, &outcome);
    }
    restore_program(&bucket, &target).args([&key, "--ignore-manifest"]).run().assert_code(0);
}
