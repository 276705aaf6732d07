//! More guarantees of the spool: the daemon delivers at its start, write-only credentials suffice, a delivery never
//! replaces a manifest by one with less, no file has a secret, and an unreadable spool does not count as empty.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon::{YEARLY, wait_for};
use crate::support::client::eventually;
use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::THREE_PARTS;
use crate::support::program::Program;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, StallAt};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{gunzipped, manifest};
use crate::support::spooled::{DUMP_ON_DISK, Spooled};

const SOON: Duration = Duration::from_mins(1);

fn three_parts() -> Spooled {
    Spooled::new(FakeDump::new().body(THREE_PARTS))
}

#[test]
fn daemon_delivers_dump_of_killed_daemon_at_its_start() {
    let stage = three_parts();
    let daemon = stage.daemon(YEARLY).env("POSTGRES_CONNECTION_STRING", stage.named_source());
    let daemon = daemon.env("BACKUP_SPOOL_DIR", stage.dir()).env("BACKUP_MAX_UPLOAD_OUTAGE", "10m");
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::slow_down()));
    let mut running = daemon.clone().arg("--run-on-start").spawn();
    running.wait_for_stderr(DUMP_ON_DISK, SOON);
    stage.kill(running);
    stage.proxy.clear_rules();
    assert_eq!((stage.kept().len(), stage.backups().len()), (1, 0));

    let running = daemon.clone().arg("--catch-up=false").spawn();
    wait_for(&running, "backup completed", 1);
    assert!(running.stderr_so_far().contains("the backup of an earlier run is delivered"));
    running.signal("TERM");
    running.wait().assert_code(143).assert_no_children_left();
    stage.assert_nothing_kept("delivered");
    let keys = stage.backups();
    assert_eq!((keys.len(), stage.dump.pids().len()), (2, 2), "{keys:?}");
    for key in keys {
        assert!(gunzipped(&s3().get(&stage.bucket, &key).expect("the backup")) == stage.dump.output(), "{key}");
    }

    // With an empty spool it waits for its schedule.
    let running = daemon.arg("--catch-up=false").spawn();
    wait_for(&running, "destination listed", 1);
    running.signal("TERM");
    let outcome = running.wait();
    assert!(!outcome.stderr.contains("waits in the spool"), "{}", outcome.stderr);
    assert_eq!(stage.dump.pids().len(), 2, "{}", outcome.stderr);
}

#[test]
fn delivers_with_write_only_credentials() {
    let write_only = |program: Program| {
        program.env("S3_ACCESS_KEY", &s3().writeonly_access_key).env("S3_SECRET_KEY", &s3().writeonly_secret_key)
    };
    let stage = three_parts();
    stage.killed_from(2);
    stage.assert_delivered(&write_only(stage.backup()).run(), (2, 2), "its own upload");

    // Another program has aborted the upload. HEAD is denied, so the dump is sent again.
    let stage = three_parts();
    stage.killed_from(3);
    let part = stage.proxy.log().into_iter().find(|seen| seen.verb == S3Verb::UploadPart).expect("a part was sent");
    let id = part.query.split('&').find(|pair| pair.starts_with("uploadId=")).expect("an id");
    s3().request("DELETE", &format!("{}?{id}", part.path), b"").expect("aborted");
    stage.assert_delivered(&write_only(stage.backup()).run(), (2, 2), "aborted by another program");
}

/// A run that was killed after it stored its manifest, before it emptied the spool.
fn killed_after_the_manifest() -> (Spooled, String) {
    let stage = three_parts();
    let stalled = Rule::on(S3Verb::PutObject, Calls::All, Fault::Stall { at: StallAt::BeforeAnswer });
    stage.proxy.rule(stalled.key_suffix(".gz.json"));
    let running = stage.backup().env("S3_REQUEST_TIMEOUT", "60s").spawn();
    let written = || {
        let keys = stage.keys();
        keys.into_iter().find(|key| key.ends_with(".gz.json"))
    };
    eventually(|| written().is_some(), || running.stderr_so_far());
    // Its session and its lock have ended.
    running.signal("KILL");
    assert_eq!(running.wait().signal, Some(9));
    stage.wait_for_end_of_sessions();
    stage.proxy.clear_rules();
    let key = stage.backups()[0].clone();
    assert_eq!(stage.kept().len(), 1);
    assert!(!manifest(&stage.bucket, &key)["globals"].is_null(), "it names the globals");
    (stage, key)
}

#[test]
fn delivery_keeps_the_better_manifest() {
    let (stage, key) = killed_after_the_manifest();
    let before = manifest(&stage.bucket, &key);
    stage.assert_delivered(&stage.backup().run(), (2, 2), "committed already");
    assert_eq!(manifest(&stage.bucket, &key), before);

    // Also if reading the manifest is denied.
    let (stage, key) = killed_after_the_manifest();
    let before = manifest(&stage.bucket, &key);
    let unreadable = Rule::on(S3Verb::GetObject, Calls::All, Fault::slow_down());
    stage.proxy.rule(unreadable.key_suffix(&format!("{key}.json")));
    let outcome = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "2s").args(["--allow-mixed"]).run();
    assert!(outcome.stderr.contains("its manifest cannot be read"), "{}", outcome.stderr);
    stage.proxy.clear_rules();
    assert_eq!(manifest(&stage.bucket, &key), before);
}

/// Every file below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn no_file_has_a_secret() {
    let stage = three_parts();
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(3), Fault::slow_down()));
    let connection = format!("{}?sslpassword=sentinel-sslpassword", postgres().uri("postgres"));
    let program = stage
        .backup()
        .env("POSTGRES_CONNECTION_STRING", &connection)
        .env("PING_URL", "http://127.0.0.1:9/sentinel-ping")
        .env("RESTORE_CONNECTION_STRING", "postgres://r:sentinel-restore@h/d")
        .env("AWS_SECRET_ACCESS_KEY", "sentinel-aws")
        .env("BACKUP_MAX_UPLOAD_OUTAGE", "10m")
        .args(["--", "--no-owner"]);
    let mut running = program.spawn();
    running.wait_for_stderr(DUMP_ON_DISK, SOON);
    running.signal("KILL");
    running.wait();
    stage.only_kept();
    let files = files(stage.dir());
    assert!(files.iter().any(|file| file.ends_with("journal")) && files.len() >= 5, "{files:?}");
    let secrets = [
        "sentinel",
        &connection,
        "postgres://",
        "postgresql://",
        &postgres().password,
        &s3().access_key,
        &s3().secret_key,
    ];
    for file in files {
        let text = String::from_utf8_lossy(&fs::read(&file).expect("read")).into_owned() + &file.to_string_lossy();
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {}", file.display());
        }
    }
}

#[test]
fn aborts_no_upload_if_the_spool_is_unreadable() {
    let stage = three_parts();
    stage.killed_from(2);
    let kept = s3().open_uploads(&stage.bucket);
    assert_eq!(kept.len(), 1);
    // A directory in place of the journal is unreadable even for root.
    let journal = stage.only_kept().join("journal");
    let aside = stage.dir().join("aside");
    fs::rename(&journal, &aside).expect("moved");
    fs::create_dir(&journal).expect("made");
    std::thread::sleep(Duration::from_millis(2_100));
    let prune = crate::support::setup::prune_program(&stage.bucket).env("S3_PATH", "app");
    let prune = prune.args(["--keep-last=1", "--sweep-after", "1s"]);
    let outcome = prune.clone().env("BACKUP_SPOOL_DIR", stage.dir()).run();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains("no stale upload is aborted"), "{}", outcome.stderr);
    assert_eq!(s3().open_uploads(&stage.bucket), kept);
    // With a readable journal, the cleanup knows which uploads to keep.
    fs::remove_dir(&journal).expect("removed");
    fs::rename(&aside, &journal).expect("moved back");
    let outcome = prune.env("BACKUP_SPOOL_DIR", stage.dir()).run();
    outcome.assert_code(0);
    assert!(!outcome.stderr.contains("no stale upload is aborted"), "{}", outcome.stderr);
    assert_eq!(s3().open_uploads(&stage.bucket), kept, "the journal names it");
}
