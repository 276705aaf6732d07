//! Sections of an encrypted backup are read as those of a plain one: by several sessions, or a table alone.

use serde_json::{Value, json};

use super::{IDENTITY, dump_of, encrypted_backup, only_encrypted, reader};
use crate::restore::new_database::databases;
use crate::restore::parallel::sorted;
use crate::restore::selective::dumped;
use crate::restore::{FAILED, assert_untouched, empty};
use crate::support::age::{AgeKey, encrypted_by_age};
use crate::support::program::{Outcome, Program};
use crate::support::proxy::FaultProxy;
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{Postgres, own_postgres, postgres, s3};
use crate::support::setup::{assert_same_dump, manifest, replace, s3_program, sha256};
use crate::support::stored::put;

/// An encrypted chunk.
const CHUNK: usize = (64 << 10) + 16;
/// 50 MB in several ranges, and a small table after it.
const TABLES: &str = "CREATE TABLE big AS SELECT g AS id, md5(g::text) || md5((g + 1)::text) AS text FROM generate_series(1, 700000) g; \
    ALTER TABLE big ADD PRIMARY KEY (id); CREATE TABLE z_small AS SELECT g AS a FROM generate_series(1, 100) g";

struct Stage {
    source: Database,
    bucket: String,
    key: AgeKey,
    name: String,
}

fn stage(codec: &str) -> Stage {
    let (source, bucket, key) = (empty("ranges"), s3().create_bucket("ranges"), AgeKey::new());
    source.psql(TABLES).expect("tables");
    encrypted_backup(&source, &bucket, &[&key]).args(["--compression", codec]).run().assert_code(0);
    let name = only_encrypted(&bucket);
    Stage { source, bucket, key, name }
}

impl Stage {
    fn restore(&self, target: &str, flags: &[&str]) -> Program {
        reader(&self.bucket, &self.key)
            .env("RESTORE_CONNECTION_STRING", target)
            .args(["restore", &self.name])
            .args(flags)
    }

    fn create(&self, server: &Postgres, name: &str) -> Outcome {
        self.restore(&server.uri("postgres"), &["--create-db", name, "--jobs", "2"]).run()
    }
}

#[test]
fn several_sessions_restore_and_drill_what_was_dumped() {
    for codec in ["gzip", "zstd"] {
        let stage = stage(codec);
        let name = unique_name("made");
        let outcome = stage.create(postgres(), &name);
        outcome.assert_code(0).assert_no_children_left();
        assert!(!outcome.stderr.contains("restored by one session"), "{}", outcome.stderr);
        let made = postgres().adopt_database(&name);
        assert_same_dump(sorted(&stage.source).as_bytes(), sorted(&made).as_bytes());

        let drill = reader(&stage.bucket, &stage.key).env("DRILL_CONNECTION_STRING", postgres().uri("postgres"));
        let drill = drill.args(["check", "--bucket-only", "--allow-same-server", "--allow-shared-server"]).run();
        drill.assert_code(0);
        assert!(!drill.stderr.contains("restored by one session"), "{}", drill.stderr);
    }
}

/// Bytes of an object that were requested.
fn requested(proxy: &FaultProxy, name: &str) -> u64 {
    let of_range = |range: &str| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some(last.parse::<u64>().ok()? + 1 - first.parse::<u64>().ok()?)
    };
    let gets = proxy.log().into_iter().filter(|seen| seen.method == "GET" && seen.key() == name);
    gets.map(|seen| of_range(seen.header("range").expect("a range")).expect("two offsets")).sum()
}

#[test]
fn a_small_table_of_a_large_backup_reads_a_part_of_it() {
    for codec in ["gzip", "zstd"] {
        let stage = stage(codec);
        let Stage { source, bucket, name, .. } = &stage;
        let (proxy, target) = (FaultProxy::start(s3().addr()), empty("target"));
        let restore = |flags: &[&str]| stage.restore(&target.uri(), flags).env("S3_URL", proxy.url());
        let outcome = restore(&["--table", "z_small", "--json"]).run();
        let report: Value = serde_json::from_slice(&outcome.assert_code(0).stdout).expect("one object");
        assert_same_dump(&dumped(source, &["-t", "z_small"]), &dumped(&target, &["-t", "z_small"]));
        let (read, all) = (requested(&proxy, name), s3().get(bucket, name).expect("the backup").len() as u64);
        assert!(all > 10_000_000 && read < all / 2, "{read} of {all} bytes");
        assert!(report["read_bytes"].as_u64().is_some_and(|bytes| bytes > 0 && bytes < read), "{read}: {report}");

        restore(&["--schema-only", "--table", "big"]).run().assert_code(0);
        assert_same_dump(&dumped(source, &["-s"]), &dumped(&target, &["-s"]));
        restore(&["--data-only", "--table", "big"]).run().assert_code(0);
        assert_same_dump(&dump_of(source), &dump_of(&target));

        let listed = reader(bucket, &stage.key).args(["list", name, "--contents"]).run();
        let text = listed.assert_code(0).stdout_text();
        assert!(text.contains("TABLE DATA") && text.contains("z_small"), "{text}");
    }
}

/// A chunk in the middle of the large table.
fn middle(object: &[u8]) -> usize {
    let last = object.windows(5).position(|window| window == b"\n--- ").expect("the last line") + 1;
    let begin = last + object[last..].iter().position(|byte| *byte == b'\n').expect("its end") + 1 + 16;
    begin + object.len() / 2 / CHUNK * CHUNK
}

#[test]
fn a_damaged_chunk_is_named_with_its_range_and_nothing_is_committed() {
    let stage = stage("gzip");
    let (Stage { source, bucket, name, .. }, server) = (&stage, own_postgres(&[]));
    let object = s3().get(bucket, name).expect("the backup");
    let at = middle(&object);
    let mut flipped = object.clone();
    flipped[at + 77] ^= 0x10;
    let mut swapped = object.clone();
    let (first, second) = swapped[at..at + 2 * CHUNK].split_at_mut(CHUNK);
    first.swap_with_slice(second);
    let place = |at: usize| format!("is damaged: age: the chunk at byte {at} of the object is not what was encrypted");
    let is_named = |text: &str| [at, at + CHUNK].iter().any(|at| text.contains(&place(*at)));
    for damaged in [flipped, swapped] {
        put(bucket, name, &damaged);
        let target = empty("target");
        for (outcome, is_new) in
            [(stage.create(&server, "made"), true), (stage.restore(&target.uri(), &["--table", "big"]).run(), false)]
        {
            outcome.assert_code(FAILED).assert_no_children_left();
            let line = format!("verify {name}: the range from byte ");
            assert!(outcome.stderr.contains(&line) && is_named(&outcome.stderr), "{}", outcome.stderr);
            if is_new {
                assert_eq!(databases(&server, "made"), "", "{}", outcome.stderr);
            } else {
                assert_untouched(&target, &outcome);
            }
        }
        let other = empty("other");
        stage.restore(&other.uri(), &["--table", "z_small"]).run().assert_code(0);
        assert_same_dump(&dumped(source, &["-t", "z_small"]), &dumped(&other, &["-t", "z_small"]));
    }
}

#[test]
fn a_chunk_less_and_a_damaged_header_are_refused() {
    let stage = stage("gzip");
    let (Stage { bucket, name, .. }, server) = (&stage, own_postgres(&[]));
    let object = s3().get(bucket, name).expect("the backup");
    let at = middle(&object);
    // First with the manifest of the backup, then with one that has the size.
    let cut = [&object[..at], &object[at + CHUNK..]].concat();
    put(bucket, name, &cut);
    let target = empty("target");
    let table = || stage.restore(&target.uri(), &["--table", "z_small"]).run();
    let (outcome, created) = (table(), stage.create(&server, "made"));
    for outcome in [&outcome, &created] {
        outcome.assert_code(FAILED);
        assert!(outcome.stderr.contains(&format!("verify {name}: size: ")), "{}", outcome.stderr);
    }
    replace(bucket, name, &cut);
    let (outcome, created) = (table(), stage.create(&server, "made"));
    outcome.assert_code(FAILED);
    assert!(outcome.stderr.contains("its index does not agree"), "{}", outcome.stderr);
    created.assert_code(FAILED);
    assert!(created.stderr.contains(&format!("verify {name}: age: ")), "{}", created.stderr);
    assert_untouched(&target, &outcome);
    let mut header = object.clone();
    header[30] ^= 1;
    replace(bucket, name, &header);
    let (outcome, created) = (table(), stage.create(&server, "made"));
    for outcome in [&outcome, &created] {
        outcome.assert_code(FAILED);
        assert!(outcome.stderr.contains(&format!("verify {name}: age: ")), "{}", outcome.stderr);
    }
    assert_untouched(&target, &outcome);
    assert_eq!(databases(&server, "made"), "");
}

#[test]
fn without_its_identity_no_section_is_read() {
    let stage = stage("gzip");
    let Stage { bucket, key, name, .. } = &stage;
    let (other, target, proxy) = (AgeKey::new(), empty("target"), FaultProxy::start(s3().addr()));
    let program = s3_program(bucket).env("S3_URL", proxy.url()).env("RESTORE_CONNECTION_STRING", target.uri());
    let restore = program.args(["restore", "--table", "z_small"]);
    for (program, code, words) in [
        (restore.clone(), 1, "BACKUP_AGE_IDENTITY is not set"),
        (restore.clone().env(IDENTITY, &other.identity), FAILED, "it is encrypted for "),
    ] {
        let outcome = program.run();
        outcome.assert_code(code);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
        assert_untouched(&target, &outcome);
    }
    assert_eq!(requested(&proxy, name), 0);

    // The object's own header decides: manifest and index are those of another key.
    let sidecar = format!("{name}.index.json.gz.age");
    let index = encrypted_by_age(&key.decrypted(&s3().get(bucket, &sidecar).expect("the index")), &[&other]);
    put(bucket, &sidecar, &index);
    let mut changed = manifest(bucket, name);
    changed["recipients"] = json!([other.recipient]);
    changed["index"] = json!({"file_name": sidecar, "bytes": index.len(), "sha256": sha256(&index)});
    put(bucket, &format!("{name}.json"), changed.to_string().as_bytes());
    let wrong = restore.env(IDENTITY, &other.identity);
    for program in [wrong.clone(), wrong.args(["--create-db", "never_made"])] {
        let outcome = program.run();
        outcome.assert_code(FAILED);
        let words = format!("verify {name}: age: no identity in BACKUP_AGE_IDENTITY opens it");
        assert!(outcome.stderr.contains(&words), "{}", outcome.stderr);
        assert_untouched(&target, &outcome);
    }
}
