//! `restore` to a file and to stdout: the dump byte for byte, through every fault of the network; and where anything is wrong with
//! the backup or the disk, no file, and a stream without its end.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::{Stage, passing_faults};
use crate::support::program::{Outcome, Program};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, manifest, only_backup, plain, s3_program};
use crate::support::stored::put;

const SOON: Duration = Duration::from_mins(1);
const RESTORE_FAILED: i32 = 15;
/// What a stream is held back at its end.
const HELD: usize = 64 << 10;

/// A backup of a small database: its bucket and its key.
fn backed_up() -> (String, String) {
    let database = postgres().create_database("file");
    database.psql("CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 5000) AS n").expect("a table");
    let bucket = s3().create_bucket("file");
    backup_program(&database, &bucket).run().assert_code(0);
    let key = only_backup(&bucket);
    (bucket, key)
}

fn restore(bucket: &str) -> Program {
    s3_program(bucket).arg("restore")
}

/// What the program left in its directory.
fn files(program: &Program) -> Vec<String> {
    let entries = fs::read_dir(program.home()).expect("its directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Restores to a file, and expects it to fail without one.
#[track_caller]
fn assert_nothing(program: &Program, words: &[&str]) -> Outcome {
    let program = program.clone().args(["--output", "dump.sql"]);
    let outcome = program.run();
    outcome.assert_code(RESTORE_FAILED);
    assert_eq!(files(&program), [""; 0], "{}", outcome.stderr);
    assert!(words.iter().all(|word| outcome.stderr.contains(word)), "{words:?}: {}", outcome.stderr);
    let errors = outcome.stderr.lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(errors, 1, "one line says what is wrong: {}", outcome.stderr);
    outcome
}

fn delete(bucket: &str, key: &str) {
    s3().request("DELETE", &format!("/{bucket}/{key}"), b"").expect("deleted");
}

#[test]
fn the_plain_dump_goes_to_a_file_of_its_owner_or_to_stdout() {
    let (bucket, key) = backed_up();
    let dump = plain(&bucket, &key);
    let program = restore(&bucket).args(["--output", "dump.sql", "--json"]);
    let outcome = program.run();
    let report: Value = serde_json::from_slice(&outcome.assert_code(0).stdout).expect("one object");
    let path = program.home().join("dump.sql");
    assert!(fs::read(&path).expect("the file") == dump);
    assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
    assert_eq!(files(&program), ["dump.sql"], "nothing else is left");
    let recorded = manifest(&bucket, &key);
    for (field, wanted) in [
        ("success", true.into()),
        ("file_name", key.clone().into()),
        ("target", "dump.sql".into()),
        ("dump_bytes", dump.len().into()),
        ("rows", 5000.into()),
        ("tables", 1.into()),
        ("unchecked", Value::Null),
        ("database", recorded["database"].clone()),
        ("started_at", recorded["started_at"].clone()),
        ("file_size", recorded["object_bytes"].clone()),
    ] {
        assert_eq!(report[field], wanted, "{field}: {report:#}");
    }
    for program in [restore(&bucket), restore(&bucket).args(["latest", "--output", "-"])] {
        let outcome = program.run();
        assert!(outcome.assert_code(0).stdout == dump, "{}", outcome.stderr);
        assert!(outcome.stderr.contains(&key), "which one is printed: {}", outcome.stderr);
    }
}

#[test]
fn the_stored_bytes_go_out_as_they_are() {
    let (bucket, key) = backed_up();
    let object = s3().get(&bucket, &key).expect("the backup");
    let program = restore(&bucket).args([&key, "--raw", "--output", "dump.sql.gz"]);
    program.run().assert_code(0);
    assert!(fs::read(program.home().join("dump.sql.gz")).expect("the file") == object);
    assert!(restore(&bucket).arg("--raw").run().assert_code(0).stdout == object);
    let log = restore(&bucket).args(["--log-format", "json"]).run().assert_code(0).stderr.clone();
    assert!(log.contains("\"restored_to\":\"stdout\""), "{log}");
    for line in log.lines() {
        let event: serde_json::Map<String, Value> = serde_json::from_str(line).expect("an event");
        for key in event.keys() {
            assert_eq!(line.matches(&format!("\"{key}\":")).count(), 1, "{key}: {line}");
        }
    }
}

#[test]
fn a_backup_without_a_manifest_restores_and_it_is_said_what_nothing_proves() {
    let (bucket, key) = backed_up();
    let dump = plain(&bucket, &key);
    let ignored = restore(&bucket).arg("--ignore-manifest").run();
    assert!(ignored.stderr.contains("rows: the manifest is ignored"), "{}", ignored.stderr);
    delete(&bucket, &format!("{key}.json"));
    for outcome in [ignored, restore(&bucket).run()] {
        assert!(outcome.assert_code(0).stdout == dump);
        assert!(outcome.stderr.contains("WARN") && outcome.stderr.contains("sha256"), "{}", outcome.stderr);
    }
    let object = s3().get(&bucket, &key).expect("the backup");
    for length in [object.len() / 2, object.len() - 1] {
        put(&bucket, &key, &object[..length]);
        let failed = assert_nothing(&restore(&bucket).arg("--ignore-manifest"), &["gzip", "has not ended"]);
        assert!(!failed.stderr.contains("--ignore-manifest"), "{}", failed.stderr);
    }
}

#[test]
fn a_truncated_or_damaged_or_swapped_object_leaves_no_file() {
    let (bucket, key) = backed_up();
    let (elsewhere, foreign) = backed_up();
    let object = s3().get(&bucket, &key).expect("the backup");
    let length = object.len();
    for cut in [0, 1, 20, length / 3, length - 9, length - 1] {
        put(&bucket, &key, &object[..cut]);
        // `latest` would take none of them.
        assert_nothing(&restore(&bucket).arg(&key), &["size: ", "were uploaded"]);
        assert_nothing(&restore(&bucket).args([&key, "--raw"]), &["size: ", "were uploaded"]);
    }
    for at in [0, 4, 12, length / 4, length / 2, length - 8, length - 1] {
        let mut damaged = object.clone();
        damaged[at] ^= 0x20;
        put(&bucket, &key, &damaged);
        assert_nothing(&restore(&bucket), &["verify ", "nothing was restored"]);
        assert_nothing(&restore(&bucket).arg("--raw"), &["verify ", "nothing was restored"]);
    }
    let mut swapped = s3().get(&elsewhere, &foreign).expect("the backup");
    swapped.resize(length, 0);
    put(&bucket, &key, &swapped);
    assert_nothing(&restore(&bucket), &["verify "]);
    put(&bucket, &key, &object);
    restore(&bucket).run().assert_code(0);
}

#[test]
fn a_manifest_that_says_something_else_leaves_no_file() {
    let (bucket, key) = backed_up();
    let original = manifest(&bucket, &key);
    // Earlier versions wrote it.
    let tables = json!([{ "table": "public.t", "rows": 4999 }]);
    for (place, value, word) in [
        ("/object_bytes", Value::from(7), "size: "),
        ("/object_sha256", "00".repeat(32).into(), "sha256: "),
        ("/dump_bytes", 7.into(), "length: "),
        ("/dump_crc32", "00000000".into(), "CRC-32: "),
        ("/rows", 4999.into(), "rows: "),
        ("/tables", tables, "public.t differs"),
    ] {
        let mut changed = original.clone();
        match changed.pointer_mut(place) {
            Some(field) => *field = value,
            None => changed[&place[1..]] = value,
        }
        put(&bucket, &format!("{key}.json"), changed.to_string().as_bytes());
        assert_nothing(&restore(&bucket).arg(&key), &[word, "--ignore-manifest"]);
        restore(&bucket).args([&key, "--ignore-manifest"]).run().assert_code(0);
    }
    put(&bucket, &format!("{key}.json"), &original.to_string().as_bytes()[..100]);
    assert_nothing(&restore(&bucket), &["it is damaged: ", " column ", ": restore another backup, or this one with"]);
}

fn restore_through(stage: &Stage) -> Program {
    let program = s3_program(&stage.bucket).env("S3_URL", stage.proxy.url()).env("S3_PATH", "app");
    program.env("S3_REQUEST_TIMEOUT", "2s").arg("restore")
}

#[test]
fn what_breaks_off_on_the_way_costs_time_and_no_byte() {
    let (stage, key) = Stage::with_three_parts();
    for (name, fault) in passing_faults() {
        stage.break_reads(&key, &fault);
        let program = restore_through(&stage).args(["--output", "dump.sql"]);
        program.run().assert_code(0);
        assert!(fs::read(program.home().join("dump.sql")).expect("the file") == stage.dump.output(), "{name}");
    }
}

#[test]
fn a_stream_has_no_end_before_the_backup_is_verified() {
    let (stage, key) = Stage::with_three_parts();
    let dump = stage.dump.output();
    let mut object = s3().get(&stage.bucket, &key).expect("the backup");
    *object.last_mut().expect("a byte") ^= 1;
    put(&stage.bucket, &key, &object);
    let outcome = restore_through(&stage).run();
    outcome.assert_code(RESTORE_FAILED);
    let written = outcome.stdout.len();
    assert!(dump.starts_with(&outcome.stdout) && written + HELD <= dump.len(), "{written} of {}", dump.len());
    assert!(written + 4 * HELD >= dump.len(), "{written} of {}: no more is held back", dump.len());
}

#[test]
fn a_store_that_fails_for_good_leaves_no_file() {
    let (stage, key) = Stage::with_three_parts();
    stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::From(4), Fault::slow_down()).key_suffix(&key));
    let program = restore_through(&stage).env("BACKUP_MAX_UPLOAD_OUTAGE", "2s").args(["--output", "dump.sql"]);
    program.run().assert_code(12);
    assert_eq!(files(&program), [""; 0]);
}

#[test]
fn a_signal_leaves_no_file() {
    let (stage, key) = Stage::with_three_parts();
    let slow = Fault::Trickle { bytes_per_second: 100_000 };
    stage.proxy.rule(Rule::on(S3Verb::GetObject, Calls::All, slow).key_suffix(&key));
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let before = stage.proxy.count(S3Verb::GetObject);
        let program = restore_through(&stage).args(["--output", "dump.sql"]).with_hang_up("default");
        let running = program.spawn();
        // The manifest, and the first two ranges.
        stage.proxy.wait_for(S3Verb::GetObject, before + 3, SOON);
        running.signal(signal);
        running.wait().assert_code(code);
        assert_eq!(files(&program), [""; 0], "{signal}");
    }
}

/// The program in a shell, with these words around it; `"$@"` stands for it.
fn in_shell(program: &Program, script: &str, arguments: &[&str]) -> Program {
    let program = program.clone().executed_by(Path::new("/bin/bash"));
    program.args(["-c", script, "bash", env!("CARGO_BIN_EXE_pg-s3-backup"), "restore"]).args(arguments)
}

#[test]
fn a_full_disk_is_a_clear_error_and_no_file() {
    let (stage, _) = Stage::with_three_parts();
    let stage = restore_through(&stage);
    // The system's own limit, which would end a process that does not expect it.
    let limited = in_shell(&stage, "ulimit -f 1024; \"$@\"", &["--output", "dump.sql"]);
    let outcome = limited.run();
    outcome.assert_code(RESTORE_FAILED);
    assert!(outcome.stderr.contains("write dump.sql: File too large"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("free disk space"), "{}", outcome.stderr);
    assert_eq!(files(&limited), [""; 0]);
    for (script, arguments) in [("\"$@\" >/dev/full", &[][..]), ("\"$@\"", &["--output", "/dev/full"])] {
        let outcome = in_shell(&stage, script, arguments).run();
        outcome.assert_code(RESTORE_FAILED);
        assert!(outcome.stderr.contains("No space left on device"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("free disk space"), "{}", outcome.stderr);
    }
}

#[test]
fn a_reader_that_goes_ends_it_with_an_error() {
    let (stage, _) = Stage::with_three_parts();
    let script = "\"$@\" | head -c 100 >/dev/null; exit \"${PIPESTATUS[0]}\"";
    let outcome = in_shell(&restore_through(&stage), script, &[]).run();
    outcome.assert_code(RESTORE_FAILED);
    assert!(outcome.stderr.contains("write stdout: Broken pipe"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("has no complete dump"), "{}", outcome.stderr);
}

#[test]
fn what_is_there_already_is_left_alone() {
    let (bucket, _) = backed_up();
    let program = restore(&bucket).args(["--output", "dump.sql"]);
    let path: PathBuf = program.home().join("dump.sql");
    fs::write(&path, "mine").expect("written");
    let outcome = program.run();
    outcome.assert_code(RESTORE_FAILED);
    assert!(outcome.stderr.contains("dump.sql exists: move it away, or choose another --output"), "{}", outcome.stderr);
    assert_eq!((fs::read(&path).expect("the file"), files(&program)), (b"mine".to_vec(), vec!["dump.sql".to_owned()]));
    for (output, word) in
        [(".", "a file in this directory"), ("missing/dump.sql", "an existing directory that you can write to")]
    {
        let outcome = restore(&bucket).args(["--output", output]).run();
        outcome.assert_code(RESTORE_FAILED);
        assert!(outcome.stderr.contains(word), "{output}: {}", outcome.stderr);
    }
    // A device keeps nothing.
    restore(&bucket).args(["--output", "/dev/null"]).run().assert_code(0);
}

#[test]
fn a_dry_run_writes_nothing_and_says_what_would_fail() {
    let (bucket, key) = backed_up();
    let program = restore(&bucket).args(["--dry-run", "--json", "--output", "dump.sql"]);
    let outcome = program.run();
    let report: Value = serde_json::from_slice(&outcome.assert_code(0).stdout).expect("one object");
    assert_eq!((&report["dry_run"], &report["file_name"]), (&true.into(), &key.clone().into()));
    assert_eq!(files(&program), [""; 0]);
    assert!(restore(&bucket).arg("--dry-run").run().assert_code(0).stdout.is_empty());
    put(&bucket, &key, b"cut off");
    assert_nothing(&restore(&bucket).args([&key, "--dry-run"]), &["size: "]);
}

#[test]
fn a_large_dump_is_restored_in_little_memory() {
    let stage = Stage::new(FakeDump::new().body(Body::Random(60 << 20)));
    stage.backup().run().assert_code(0);
    let outcome = restore_through(&stage).args(["--output", "dump.sql"]).run();
    assert!(outcome.assert_code(0).peak_rss_bytes < 50 << 20, "{} bytes", outcome.peak_rss_bytes);
}
