//! The start of the daemon: what ends it, and when it starts with a backup.

use crate::daemon::{YEARLY, stop, wait_for};
use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::program::Program;
use crate::support::servers::s3;
use crate::support::stored::FUTURE;

#[test]
fn invalid_settings_end_the_start_with_their_exit_code() {
    let stage = Stage::new(FakeDump::new());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let daemon = || stage.daemon("@daily");
    for (program, code, words) in [
        (daemon().env_remove("BACKUP_INTERVAL"), 1, "BACKUP_INTERVAL"),
        (daemon().env("BACKUP_INTERVAL", "every day"), 2, "BACKUP_INTERVAL"),
        (daemon().env("BACKUP_INTERVAL", "0 0 31 2 *"), 2, "never fires"),
        (daemon().env("BACKUP_INTERVAL", "@every 6h"), 2, "`0 */6 * * *`"),
        (daemon().args(["--interval", "61 * * * *"]), 2, "BACKUP_INTERVAL"),
        (daemon().env("S3_URL", "nonsense"), 3, "S3_URL"),
        (daemon().env("BACKUP_TIMEZONE", "Europe/Atlantis"), 4, "BACKUP_TIMEZONE"),
        (daemon().args(["--timezone", "CEST"]), 4, "BACKUP_TIMEZONE"),
        (daemon().env("BACKUP_RETRY_DELAYS", "5m;15m"), 4, "BACKUP_RETRY_DELAYS"),
        (daemon().args(["--listen", "9187"]), 4, "LISTEN"),
        (daemon().args(["--listen", &address]), 4, &address),
        (daemon().args(["--listen", "no-such-host.invalid:9187"]), 4, "no-such-host.invalid"),
        (daemon().env("PING_URL", "hc-ping.com/sentinel-uuid"), 4, "PING_URL: must begin with https:// or http://"),
        (daemon().env("PING_URL", "hc-ping.com/uuid"), 4, "PING_URL: must begin with https:// or http://"),
        (daemon().env("METRICS_FILE", "/"), 4, "METRICS_FILE"),
        (daemon().env("S3_SECRET_KEY_FILE", "/no/such/file").env_remove("S3_SECRET_KEY"), 4, "S3_SECRET_KEY_FILE"),
        (daemon().env_remove("S3_BUCKET").env("BACKUP_INTERVAL", "x"), 1, "BACKUP_INTERVAL"),
        (daemon().arg("--catch-up=maybe"), 64, "--catch-up"),
        (daemon().arg("--json"), 64, "--json"),
    ] {
        let outcome = program.run();
        outcome.assert_code(code);
        assert!(outcome.stderr.contains(words), "{words}:\n{}", outcome.stderr);
        assert!(!outcome.stderr.contains("sentinel") && outcome.stdout_text().is_empty(), "{}", outcome.stderr);
    }
    assert_eq!(stage.keys(), Vec::<String>::new());
}

/// Starts it, waits until it has looked, and says whether that was followed by a backup.
fn catches_up(program: &Program) -> bool {
    let running = program.spawn();
    wait_for(&running, "destination listed", 1);
    let is_due = running.stderr_so_far().contains("is_due=true");
    if is_due {
        wait_for(&running, "reason=\"catch-up\"", 2);
        wait_for(&running, " waiting ", 2);
    }
    let log = stop(running, "TERM", 143);
    assert_eq!(log.contains("a backup is due"), is_due, "{log}");
    is_due
}

#[test]
fn catches_up_if_newest_backup_is_older_than_last_tick() {
    let stage = Stage::new(FakeDump::new());
    let daemon = stage.daemon(YEARLY);
    let put = |name: &str| s3().request("PUT", &format!("/{}/app/{name}", stage.bucket), &[b'x'; 300]).expect("stored");
    put("postgres-backup-2025-12-31_23-59-59.sql.gz");
    // By a clock that was wrong.
    put(FUTURE);
    // Objects of others, whatever their times.
    put("postgres-backup-2099-01-01_00-00-00.sql.gz.json");
    put("sub/postgres-backup-2099-01-01_00-00-00.sql.gz");
    assert!(!catches_up(&daemon.clone().arg("--catch-up=false")), "it is turned off");
    assert_eq!(stage.backups().len(), 3);
    assert!(catches_up(&daemon), "the newest is of another year");
    assert_eq!(stage.backups().len(), 4);
    assert!(!catches_up(&daemon), "there is one now");
    let running = daemon.clone().arg("--run-on-start").spawn();
    wait_for(&running, " waiting ", 2);
    stop(running, "TERM", 143);
    assert_eq!(stage.backups().len(), 5, "whatever is there");
}

#[test]
fn catches_up_on_empty_destination() {
    let stage = Stage::new(FakeDump::new());
    // No tick comes within the test, as one of each hour may.
    assert!(catches_up(&stage.daemon("@monthly").env("BACKUP_TIMEZONE", "Australia/Lord_Howe")));
    assert_eq!(stage.backups().len(), 1);
}

#[test]
fn credentials_that_may_not_list_do_not_catch_up_at_every_start() {
    let stage = Stage::new(FakeDump::new());
    let daemon = stage.daemon(YEARLY).env("S3_ACCESS_KEY", &s3().writeonly_access_key);
    let running = daemon.env("S3_SECRET_KEY", &s3().writeonly_secret_key).spawn();
    wait_for(&running, "no catch-up", 1);
    stop(running, "TERM", 143);
    assert_eq!(stage.keys(), Vec::<String>::new());
}
