//! What version 1 stored is read for ever: its manifests, its spooled dumps and its metrics file. The fixtures were written by
//! that version (`tests/fixtures/version-1/README.md`).

use std::fs;
use std::path::PathBuf;

use chrono::{TimeDelta, Utc};
use pg_s3_backup::backup::name::BackupName;
use serde_json::Value;

use crate::restore_commands::{Aws, printed, run};
use crate::support::servers::{own_postgres, s3};
use crate::support::setup::{list_program, prune_program, repository_file, s3_program};

/// The name that the fixtures were written under.
const NAME: &str = "postgres-backup-2026-11-28_04-57-35.sql.gz";

fn fixture(path: &str) -> PathBuf {
    repository_file("tests/fixtures/version-1").join(path)
}

/// The name of a backup that started so long ago.
fn started_ago(ago: TimeDelta) -> String {
    BackupName::new(Utc::now() - ago).to_string()
}

/// Stores a backup of version 1 with its sidecars under another name.
fn put(bucket: &str, folder: &str, name: &str) {
    let manifest = fs::read(fixture(folder).join(format!("{NAME}.json"))).expect("the manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let run_id = format!("x-amz-meta-runid:{}", manifest["run_id"].as_str().expect("an id"));
    for entry in fs::read_dir(fixture(folder)).expect("the fixture") {
        let path = entry.expect("an entry").path();
        let file_name = path.file_name().expect("a name").to_string_lossy().replace(NAME, name);
        let mut body = fs::read(&path).expect("a file");
        if file_name.ends_with(".json") {
            body = String::from_utf8(body).expect("JSON").replace(NAME, name).into_bytes();
        }
        s3().request_with("PUT", &format!("/{bucket}/app/{file_name}"), &[&run_id], &body).expect("stored");
    }
}

/// A bucket with a complete, a warned and a partial backup, the newest first, and their names.
fn stored() -> (String, [String; 3]) {
    let bucket = s3().create_bucket("version-1");
    let names = [1, 2, 3].map(|hours| started_ago(TimeDelta::hours(hours)));
    for (folder, name) in ["complete", "warned", "partial"].iter().zip(&names) {
        put(&bucket, folder, name);
    }
    (bucket, names)
}

#[test]
fn list_loses_nothing_of_a_manifest() {
    let (bucket, names) = stored();
    let list = list_program(&bucket).env("S3_PATH", "app");
    for (folder, name) in ["complete", "warned", "partial"].iter().zip(&names) {
        let json = list.clone().args([name, "--json"]).run();
        let shown: Value = serde_json::from_str(&json.assert_code(0).stdout_text()).expect("JSON");
        let written = fs::read_to_string(fixture(folder).join(format!("{NAME}.json"))).expect("the manifest");
        let written: Value = serde_json::from_str(&written.replace(NAME, name)).expect("JSON");
        for (field, value) in written.as_object().expect("an object") {
            let field = match field.as_str() {
                "missing" => "warnings",
                "character_type" => "ctype",
                field => field,
            };
            assert_eq!(shown[field], *value, "{folder}: {field}");
        }
        assert_eq!(shown["manifest_version"], 2, "{folder}: the names are those of version 2");
        assert_eq!(shown["partial"], *folder == "partial");
    }
    let text = list.clone().arg(&names[1]).run();
    let text = text.assert_code(0).stdout_text();
    assert!(text.contains("warnings") && text.contains("globals: pg_dumpall failed (exit code 1)"), "{text}");
    let table = list.run();
    let table = table.assert_code(0).stdout_text();
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert!(rows.len() == 3 && rows[2].contains("partial"), "{table}");
    assert!(rows.iter().all(|row| row.contains("shop_29911_1")), "{table}");
}

#[test]
fn check_reads_and_verifies_such_a_backup() {
    for (folder, of_manifest) in [("complete", "ok"), ("warned", "ok"), ("partial", "warn")] {
        let bucket = s3().create_bucket("version-1");
        put(&bucket, folder, &started_ago(TimeDelta::hours(1)));
        let check = s3_program(&bucket).env("S3_PATH", "app").args(["check", "--bucket-only", "--json", "--deep"]);
        let text = check.run().assert_code(0).stdout_text();
        let report: Value = serde_json::from_str(&text).expect("JSON");
        let checks = report["checks"].as_array().expect("checks").iter();
        let found: Vec<_> = checks.map(|check| (check["check"].as_str(), check["status"].as_str())).collect();
        for wanted in [("manifest", of_manifest), ("object", "ok"), ("checksum", "ok"), ("dump_integrity", "ok")] {
            assert!(found.contains(&(Some(wanted.0), Some(wanted.1))), "{folder}: {wanted:?} wanted in {text}");
        }
    }
}

#[test]
fn prune_judges_such_backups_by_their_manifests() {
    let (bucket, names) = stored();
    let prune = prune_program(&bucket).env("S3_PATH", "app").env("BACKUP_KEEP_LAST", "1").env("BACKUP_MIN_KEEP", "1");
    let outcome = prune.clone().args(["--dry-run", "--json"]).run();
    let text = outcome.assert_code(0).stdout_text();
    let plan: Value = serde_json::from_str(&text).expect("JSON");
    let backups = plan["backups"].as_array().expect("backups");
    let told: Vec<_> = backups.iter().map(|backup| (backup["file_name"].clone(), backup["action"].clone())).collect();
    let wanted: Vec<(Value, Value)> = names.iter().map(|name| (name.as_str().into(), "delete".into())).collect();
    assert_eq!(told[1..], wanted[1..], "{text}");
    assert_eq!((&told[0].1, &backups[0]["status"]), (&"keep".into(), &"valid".into()), "{text}");
    prune.arg("--force").run().assert_code(0);
    let kept = s3().keys(&bucket, "");
    assert!(kept.len() == 3 && kept.iter().all(|key| key.contains(&names[0])), "with every sidecar: {kept:?}");
}

#[test]
fn the_printed_commands_restore_such_a_backup() {
    let (bucket, [complete, ..]) = stored();
    let server = own_postgres(&[]);
    let commands = printed(&list_program(&bucket).env("S3_PATH", "app").arg(&complete));
    run(&commands, &server, &server.bin, Aws::StandIn).assert_code(0);
    assert_eq!(server.psql("shop_29911_1", "SELECT count(*) FROM orders").as_deref(), Ok("100"));
}
