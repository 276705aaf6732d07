//! Everything that version 1 stored is still read: its manifests, its spooled dumps and its metrics file. The fixtures were written by
//! that version (`tests/fixtures/version-1/README.md`).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{TimeDelta, Utc};
use pg_s3_backup::archive::name::BackupName;
use serde_json::Value;

use crate::restore_commands::{Aws, printed, run};
use crate::support::fake_pg_dump::{End, FakeDump};
use crate::support::faulty::Stage;
use crate::support::proxy::S3Verb;
use crate::support::servers::{own_postgres, s3};
use crate::support::setup::{hex, list_program, manifest, prune_program, repository_file, s3_program};
use crate::support::spooled::Spooled;

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
        if file_name.strip_suffix(".json").is_some() {
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
    let actions: Vec<_> =
        backups.iter().map(|backup| (backup["file_name"].clone(), backup["action"].clone())).collect();
    let wanted: Vec<(Value, Value)> = names.iter().map(|name| (name.as_str().into(), "delete".into())).collect();
    assert_eq!(actions[1..], wanted[1..], "{text}");
    assert_eq!((&actions[0].1, &backups[0]["status"]), (&"keep".into(), &"valid".into()), "{text}");
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

/// The JSON of a journal's lines.
fn records(journal: &Path) -> Vec<Value> {
    let text = fs::read_to_string(journal).expect("the journal");
    text.lines().map(|line| serde_json::from_str(&line[9..]).expect("JSON")).collect()
}

/// A line of a journal.
fn line(record: &Value) -> String {
    let json = record.to_string();
    let mut crc = flate2::Crc::new();
    crc.update(json.as_bytes());
    format!("{:08x} {json}\n", crc.sum())
}

/// Starts the upload that the journal names, with its one part, as the killed run had done.
fn upload(bucket: &str, records: &[Value], part: &[u8]) -> String {
    let key = records[1]["begun"]["key"].as_str().expect("a key");
    let run_id = format!("x-amz-meta-runid:{}", records[0]["start"]["run_id"].as_str().expect("an id"));
    let started = s3().request_with("POST", &format!("/{bucket}/{key}?uploads="), &[&run_id], b"").expect("started");
    let started = String::from_utf8(started).expect("XML");
    let (_, rest) = started.split_once("<UploadId>").expect("an id");
    let id = rest.split_once('<').expect("its end").0.to_owned();
    s3().request("PUT", &format!("/{bucket}/{key}?partNumber=1&uploadId={id}"), part).expect("uploaded");
    id
}

#[test]
fn resumes_a_spooled_dump_where_its_run_was_killed() {
    let fixture = repository_file("tests/fixtures/spool-version-1");
    let part = fs::read(fixture.join("part-00001")).expect("the part");
    for is_uploaded in [false, true] {
        let stage = Spooled::new(FakeDump::new());
        stage.backup().run().assert_code(0);
        let subdirectory = fs::read_dir(stage.dir()).expect("the spool").next().expect("one").expect("an entry").path();
        let mut records = records(&fixture.join("journal"));
        let file_name = records[0]["start"]["file_name"].as_str().expect("a name").to_owned();
        records[0]["start"]["destination"] = format!("{}\n{}\napp", stage.proxy.url(), stage.bucket).into();
        records[0]["start"]["location"] = format!("s3://{}/app/", stage.bucket).into();
        records[3]["whole"]["manifest"]["missing"] = serde_json::json!(["a warning of the killed run"]);
        if is_uploaded {
            records[1]["begun"]["upload_id"] = upload(&stage.bucket, &records, &part).into();
            let md5 = records[2]["part"]["digest"]["md5"].as_array().expect("bytes").iter();
            let md5: Vec<u8> = md5.map(|byte| u8::try_from(byte.as_u64().expect("a byte")).expect("a byte")).collect();
            records.push(serde_json::json!({"taken": {"part": 1, "etag": format!("\"{}\"", hex(&md5))}}));
        }
        let run = subdirectory.join(records[0]["start"]["run_id"].as_str().expect("an id"));
        fs::create_dir(&run).expect("made");
        fs::set_permissions(&run, fs::Permissions::from_mode(0o700)).expect("set");
        fs::write(run.join("journal"), records.iter().map(line).collect::<String>()).expect("written");
        fs::write(run.join("part-00001"), &part).expect("written");
        stage.proxy.reset_counts();

        let from = stage.proxy.log().len();
        let outcome = stage.backup().run();
        outcome.assert_code(0);
        assert!(outcome.stderr.contains("the backup of an earlier run is delivered"), "{}", outcome.stderr);
        let key = format!("app/{file_name}");
        assert_eq!(s3().get(&stage.bucket, &key).as_ref(), Ok(&part), "{is_uploaded}");
        let sent = stage.proxy.log()[from..]
            .iter()
            .filter(|seen| seen.verb == S3Verb::UploadPart && seen.key() == key)
            .count();
        assert_eq!(sent == 0, is_uploaded, "{}", outcome.stderr);
        let written = manifest(&stage.bucket, &key);
        assert_eq!((&written["manifest_version"], &written["ctype"]), (&2.into(), &"C.UTF-8".into()), "{written}");
        assert_eq!(written["warnings"][0], "a warning of the killed run", "{written}");
        assert_eq!(stage.backups().len(), 3);
        stage.assert_nothing_kept("delivered");
    }
}

/// What a failed run and a run with a wrong setting leave of a metrics file of version 1.
#[test]
fn carries_over_the_last_success_of_a_metrics_file() {
    let stage = Stage::new(FakeDump::new());
    let destination = format!("s3://{}/app", stage.bucket);
    let dir = tempfile::tempdir().expect("a directory");
    for (case, failures) in [("metrics-after-success.prom", 0), ("metrics-after-failure.prom", 2)] {
        let file = dir.path().join(case);
        let written = fs::read_to_string(fixture(case)).expect("the fixture");
        let (_, rest) = written.split_once("last_success_timestamp_seconds{destination=\"").expect("a success");
        let of_fixture = rest.split_once('"').expect("a destination").0;
        let written = written.replace(of_fixture, &destination);
        fs::write(&file, &written).expect("written");
        let success =
            written.lines().find(|line| line.starts_with("pg_s3_backup_last_success_timestamp")).expect("one");
        let wrong = stage.backup().env("METRICS_FILE", &file).env("S3_BUCKET", "");
        wrong.run().assert_code(1);
        let failing = FakeDump::new().end(End::Exit(1)).install();
        stage.backup().env("METRICS_FILE", &file).env("PG_DUMP_PATH", failing.path()).run().assert_code(11);
        let text = fs::read_to_string(&file).expect("the file");
        let failed =
            format!("pg_s3_backup_runs_total{{destination=\"{destination}\",result=\"failure\"}} {}", failures + 2);
        for line in [success, &failed] {
            assert!(text.lines().any(|found| found == line), "{line} wanted in {text}");
        }
        let stored = written.lines().find(|line| line.starts_with("pg_s3_backup_kept_backups{")).expect("a count");
        let stored = stored.replace("kept_backups", "stored_backups");
        assert!(text.contains(&stored) && !text.contains("kept_"), "{stored} wanted in {text}");
        // From now on the state counts, and not the text.
        fs::remove_file(&file).expect("removed");
        wrong.run().assert_code(1);
        assert!(fs::read_to_string(&file).expect("written again").contains(success));
        // Where the state is damaged, the text is read.
        fs::write(dir.path().join(format!("{case}.state.json")), "{").expect("damaged");
        wrong.run().assert_code(1);
        assert!(fs::read_to_string(&file).expect("the file").contains(success));
    }
}
