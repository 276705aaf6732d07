//! The page of a daemon that knows little: nothing has run yet, PostgreSQL or S3 is away from the start, or others write into the
//! bucket.

use chrono::{TimeDelta, Utc};
use pg_s3_backup::archive::name::BackupName;
use serde_json::{Value, json};

use super::daemon::status_when;
use crate::daemon::{YEARLY, stop};
use crate::monitoring::{address, page_with, sample};
use crate::support::client::get;
use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::s3;
use crate::support::setup::{manifest, s3_program};
use crate::support::stored::{begin_upload, put};

/// Enough to hold a dump.
const BYTES: usize = 900;

/// The file name of a backup of so many minutes ago.
fn name_before(minutes: i64) -> String {
    BackupName::new(Utc::now() - TimeDelta::minutes(minutes)).to_string()
}

/// Stores a backup of this database.
fn put_backup(bucket: &str, key: &str, database: &str) {
    put(bucket, key, &[b'x'; BYTES]);
    let manifest = json!({ "database": database, "object_bytes": BYTES, "partial": false });
    put(bucket, &format!("{key}.json"), manifest.to_string().as_bytes());
}

#[test]
fn databases_in_the_bucket_count_until_a_run_has_found_others() {
    let bucket = s3().create_bucket("databases");
    for database in ["app", "shop"] {
        put_backup(&bucket, &format!("srv/{database}/{}", name_before(5)), database);
    }
    let daemon = s3_program(&bucket).args(["daemon", "--catch-up=false", "--listen", "127.0.0.1:0"]);
    let daemon = daemon.env("S3_PATH", "srv").env("BACKUP_DATABASES", "all").env("BACKUP_INTERVAL", YEARLY);
    let daemon = daemon.env("BACKUP_RETRY_DELAYS", "off").env("LOG_LEVEL", "info");
    let daemon = daemon.env("POSTGRES_CONNECTION_STRING", "postgresql://127.0.0.1:1/app?connect_timeout=1");
    let running = daemon.clone().spawn();
    let known = address(&running);
    let health = status_when(&running, &known, |status| status["inventory"]["stored_backups"] == 2);
    assert_eq!((&health["state"], &health["healthy"]), (&json!("covered"), &json!(true)), "{health}");
    assert_eq!(health["reason"], "each database has a backup since the tick before last");
    assert_eq!(get(&known, "/status").status, 200);
    let page = get(&known, "/").body;
    assert!(page.contains("Each of 2 databases has a recent backup.") && !page.contains("No backup"), "{page}");
    stop(running, "TERM", 143);

    // A run that cannot ask the server which databases there are says nothing about them.
    let running = daemon.arg("--run-on-start").spawn();
    let known = address(&running);
    let health = status_when(&running, &known, |status| {
        status["last_run"]["exit_code"] == 10 && status["inventory"]["stored_backups"] == 2
    });
    assert_eq!(health["state"], "failing", "{health}");
    let page = get(&known, "/").body;
    assert!(page.contains("Each of 2 databases has a recent backup."), "{page}");
    assert!(!page.contains("Not on the server") && !page.contains("No backup"), "{page}");
    stop(running, "TERM", 143);
}

#[test]
fn bucket_that_was_never_listed_is_not_called_empty() {
    let stage = Stage::new(FakeDump::new());
    stage.proxy.rule(Rule::on(S3Verb::ListObjects, Calls::All, Fault::slow_down()));
    let daemon = stage.daemon(YEARLY).args(["--listen", "127.0.0.1:0", "--catch-up=false"]);
    let running = daemon.env("BACKUP_MAX_UPLOAD_OUTAGE", "1ms").spawn();
    let address = address(&running);
    let health = status_when(&running, &address, |status| status["inventory"]["error"].is_string());
    assert_eq!((&health["state"], &health["healthy"]), (&json!("unknown"), &json!(false)), "{health}");
    let page = get(&address, "/").body;
    assert!(page.contains("<h1>Unknown</h1>") && page.contains("The bucket cannot be listed"), "{page}");
    assert!(!page.contains("No backup yet"), "{page}");
    stop(running, "TERM", 143);
}

#[test]
fn open_upload_is_no_stored_backup() {
    let stage = Stage::new(FakeDump::new());
    put_backup(&stage.bucket, &format!("app/{}", name_before(60)), "app");
    begin_upload(&stage.bucket, &format!("app/{}", name_before(5)));
    let running = stage.daemon(YEARLY).args(["--listen", "127.0.0.1:0", "--catch-up=false"]).spawn();
    let address = address(&running);
    let health = status_when(&running, &address, |status| status["inventory"]["listed_at"].is_string());
    assert_eq!((&health["stored_backups"], &health["inventory"]["stored_backups"]), (&json!(1), &json!(1)), "{health}");
    assert_eq!(health["backups"][0]["status"], "uploading", "{health}");
    let destination = format!("s3://{}/app", stage.bucket);
    page_with(&running, &address, |page| sample(page, "stored_backups", &destination, "") == Some(1.0));
    let page = get(&address, "/").body;
    let (_, size) = page.split_once("<dt>Size of the last backup</dt><dd>").expect("a figure");
    assert!(size.starts_with("<data value=\"900\">") && page.contains("2 of 2 shown"), "{page}");
    stop(running, "TERM", 143);
}

#[test]
fn manifests_and_drills_of_others_do_not_fill_the_memory() {
    let stage = Stage::new(FakeDump::new());
    stage.backup().run().assert_code(0);
    let key = stage.backups().swap_remove(0);
    let long = "x".repeat(900 << 10);
    let mut planted = manifest(&stage.bucket, &key);
    planted["database"] = long.as_str().into();
    put(&stage.bucket, &format!("{key}.json"), planted.to_string().as_bytes());
    let file_name = key.rsplit('/').next();
    let drill = json!({
        "file_name": file_name, "key": key, "result": "ok", "drilled_at": long, "finished_at": "2099-01-01T00:00:00Z", "duration": 1,
        "server_version": "", "psql_version": "", "tool_version": "", "object_bytes": 1, "check_sql": 0, "left_out": [],
    });
    put(&stage.bucket, &format!("{key}.drill.json"), drill.to_string().as_bytes());
    let outcome = stage.command("list").arg("--json").run();
    let backups: Vec<Value> = serde_json::from_slice(&outcome.assert_code(0).stdout).expect("a JSON array");
    assert_eq!((&backups[0]["status"], &backups[0]["database"]), (&json!("valid"), &Value::Null));
    assert_eq!((&backups[0]["drilled_at"], &backups[0]["drill_result"]), (&Value::Null, &Value::Null));
    assert!(outcome.stdout.len() < 1000, "{} bytes", outcome.stdout.len());
}
