//! The daemon survives outages: it logs and retries failures.

use std::path::Path;

use crate::daemon::{YEARLY, count, stop, wait_for};
use crate::support::client::eventually;
use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{S3, own_postgres, own_s3, postgres};
use crate::support::setup::repository_file;
use crate::support::tcp_proxy::TcpProxy;

fn write_keys(dir: &Path, server: &S3) {
    std::fs::write(dir.join("access"), &server.access_key).expect("written");
    std::fs::write(dir.join("secret"), format!("{}\n", server.secret_key)).expect("written");
}

#[test]
fn recovers_from_s3_outage_and_new_keys() {
    let stage = Stage::new(FakeDump::new());
    let dir = tempfile::tempdir().expect("a directory");
    let server = own_s3(&[]);
    let port = server.url.rsplit_once(':').expect("a port").1.to_owned();
    server.request("PUT", "/outage", b"").expect("a bucket");
    write_keys(dir.path(), &server);
    let daemon = stage
        .daemon("*/2 * * * * *")
        .env("S3_URL", &server.url)
        .env("S3_BUCKET", "outage")
        .env("BACKUP_MAX_UPLOAD_OUTAGE", "1s")
        .env("BACKUP_RETRY_DELAYS", "500ms")
        .env_remove("S3_ACCESS_KEY")
        .env_remove("S3_SECRET_KEY")
        .env("S3_ACCESS_KEY_FILE", dir.path().join("access"))
        .env("S3_SECRET_KEY_FILE", dir.path().join("secret"));
    let running = daemon.spawn();
    eventually(|| !server.keys("outage", "app/").is_empty(), || running.stderr_so_far());
    let old_secret = server.secret_key.clone();
    server.stop();
    wait_for(&running, "backup failed", 2);
    assert!(count(&running, "exit_code=12") >= 1, "{}", running.stderr_so_far());
    // A file that is being replaced is no reason to end.
    std::fs::remove_file(dir.path().join("secret")).expect("removed");
    wait_for(&running, "S3_SECRET_KEY_FILE", 1);
    let server = own_s3(&["--port", &port]);
    server.request("PUT", "/outage", b"").expect("a bucket");
    write_keys(dir.path(), &server);
    eventually(|| !server.keys("outage", "app/").is_empty(), || running.stderr_so_far());
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(143).assert_no_children_left();
    for secret in [&old_secret, &server.secret_key, &server.access_key] {
        assert!(!outcome.stderr.contains(secret.as_str()), "a key is shown:\n{}", outcome.stderr);
    }
}

#[test]
fn recovers_from_database_restart() {
    let server = own_postgres(&[]);
    let restarted = Restarted(&server);
    let stage = Stage::new(FakeDump::new());
    let daemon = stage.daemon("*/2 * * * * *").env("POSTGRES_CONNECTION_STRING", server.uri("postgres"));
    let running = daemon.env("BACKUP_RETRY_DELAYS", "off").spawn();
    eventually(|| !stage.backups().is_empty(), || running.stderr_so_far());
    restarted.stop(Shutdown::Immediate);
    wait_for(&running, "exit_code=10", 1);
    let before = stage.backups().len();
    restarted.start();
    eventually(|| stage.backups().len() > before, || running.stderr_so_far());
    running.signal("TERM");
    running.wait().assert_code(143).assert_no_children_left();
}

#[test]
fn retries_failed_start_before_next_tick() {
    let stage = Stage::new(FakeDump::new());
    let database = postgres().create_database("away");
    let proxy = TcpProxy::start(&postgres().addr());
    proxy.refuse();
    let daemon = stage.daemon(YEARLY).env("POSTGRES_CONNECTION_STRING", database.uri_via(&proxy.host(), proxy.port()));
    let running = daemon.env("BACKUP_RETRY_DELAYS", "200ms,300ms").spawn();
    wait_for(&running, "exit_code=10", 1);
    proxy.resume();
    wait_for(&running, "reason=\"retry\"", 1);
    eventually(|| !stage.backups().is_empty(), || running.stderr_so_far());
    wait_for(&running, " waiting ", 3);
    let log = stop(running, "TERM", 143);
    assert_eq!(log.matches("reason=\"catch-up\"").count(), 1, "{log}");
}

#[test]
fn runs_real_pg_dump_repeatedly() {
    let database = postgres().create_database("again");
    database.load(&repository_file("tests/fixtures/everything.sql")).expect("loaded");
    let stage = Stage::new(FakeDump::new());
    let daemon = stage.daemon("*/4 * * * * *").env("POSTGRES_CONNECTION_STRING", database.uri());
    let running = daemon.env_remove("PG_DUMP_PATH").arg("--").arg("--no-comments").spawn();
    eventually(|| stage.backups().len() > 1, || running.stderr_so_far());
    running.signal("TERM");
    running.wait().assert_code(143).assert_no_children_left();
}
