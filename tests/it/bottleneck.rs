//! The bottleneck of a backup: reported by manifest, summary, `--json` and metrics.

use std::time::Duration;

use pg_s3_backup::archive::manifest::Manifest;
use serde_json::Value;

use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::Stage;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::s3;

/// What the manifest of the only backup says.
#[track_caller]
fn bottleneck(stage: &Stage) -> Value {
    let backups = stage.backups();
    let [key] = backups.as_slice() else { panic!("one backup wanted: {backups:?}") };
    let manifest = s3().get(&stage.bucket, &format!("{key}.json")).expect("the manifest");
    let mut manifest = serde_json::from_slice::<Value>(&manifest).expect("JSON");
    let reported = manifest.as_object_mut().and_then(|fields| fields.remove("bottleneck")).expect("the bottleneck");
    // As earlier versions wrote it.
    let earlier: Manifest = serde_json::from_value(manifest).expect("a manifest");
    assert_eq!(earlier.bottleneck, None);
    reported
}

#[test]
fn a_slow_pg_dump_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backup.prom");
    let stage = Stage::new(FakeDump::new().pause_between(Duration::from_millis(100)));
    let outcome = stage.backup().arg("--metrics-file").arg(&file).run();
    stage.assert_committed(&outcome, "a slow dump");
    let shares = bottleneck(&stage);
    let dump = shares["dump"].as_u64().expect("a share");
    assert!(dump > 50 && shares["compression"].is_u64() && shares["upload"].is_u64(), "{shares}");
    let summary = outcome.stdout_text();
    assert!(summary.contains(&format!(", bottleneck: dump {dump} %")), "{summary}");
    let metrics = std::fs::read_to_string(&file).expect("the file");
    let destination = format!("s3://{}/app", stage.bucket);
    let beginning =
        format!("pg_s3_backup_last_success_bottleneck_ratio{{destination=\"{destination}\",stage=\"dump\"}} ");
    let ratio = metrics.lines().find_map(|line| line.strip_prefix(&beginning)?.parse::<f64>().ok());
    assert!(ratio.is_some_and(|ratio| ratio > 0.5), "{metrics}");
}

#[test]
fn a_slow_s3_is_named() {
    // Six parts, one at a time: more than fits between S3 and pg_dump.
    let stage = Stage::new(FakeDump::new().body(Body::Random(30 << 20)));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::Trickle { bytes_per_second: 4 << 20 }));
    let program = stage.backup().env("BACKUP_UPLOAD_CONCURRENCY", "1").env("BACKUP_THREADS", "1");
    // At the fastest level one thread is some fifty times as fast as this S3: also where it gets little of a processor.
    let outcome = program.env("BACKUP_COMPRESSION_LEVEL", "1").arg("--json").run();
    stage.assert_committed(&outcome, "a slow S3");
    let shares = bottleneck(&stage);
    let share = |stage: &str| shares[stage].as_u64().expect("a share");
    assert!(share("upload") > share("dump") && share("upload") > share("compression"), "{shares}");
    let reported: Value = serde_json::from_slice(&outcome.stdout).expect("one JSON object");
    assert_eq!(reported["bottleneck"], shares);
}
