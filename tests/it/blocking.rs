//! An `ALTER TABLE` during a dump with a slow S3: the backup warns of it, and ends the dump at its limit.

use std::time::Duration;

use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::program::{Program, Running};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::database::Database;
use crate::support::servers::postgres;

const SOON: Duration = Duration::from_mins(1);

/// A real dump that S3 holds up, so that its locks stay, and an `ALTER TABLE` that waits for it.
fn blocked(stage: &Stage, database: &Database, backup: Program) -> (Running, std::process::Child) {
    let sql =
        "CREATE TABLE busy AS SELECT n, md5(n::text) || md5((n + 1)::text) AS t FROM generate_series(1, 600000) n";
    database.psql(sql).expect("a table");
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::slow_down()));
    let running = backup.env("POSTGRES_CONNECTION_STRING", database.uri()).env_remove("PG_DUMP_PATH").spawn();
    stage.proxy.wait_for(S3Verb::UploadPart, 1, SOON);
    let mut alter = postgres().client("psql", &database.name);
    let alter =
        alter.args(["-X", "-c", "ALTER TABLE busy ADD COLUMN later text DEFAULT 'a secret'"]).spawn().expect("psql");
    (running, alter)
}

fn stage() -> Stage {
    Stage::new(FakeDump::new())
}

#[test]
fn warns_of_blocked_session_with_its_query() {
    let (stage, database) = (stage(), postgres().create_database("blocking"));
    let backup = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "5m").env("BACKUP_UPLOAD_CONCURRENCY", "1");
    let (mut running, mut alter) = blocked(&stage, &database, backup);
    running.wait_for_stderr("a session waits for the dump's locks", SOON);
    let log = running.stderr_so_far();
    assert!(log.contains("ALTER TABLE busy ADD COLUMN later text DEFAULT '…'"), "its literals are hidden: {log}");
    stage.proxy.clear_rules();
    running.wait().assert_code(0);
    assert!(alter.wait().expect("psql ends").success(), "it went on after the dump");
    assert_eq!(stage.backups().len(), 1);
}

#[test]
fn dump_gives_way_at_max_blocking() {
    let (stage, database) = (stage(), postgres().create_database("blocking"));
    let backup = stage.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "5m").env("BACKUP_UPLOAD_CONCURRENCY", "1");
    let (running, mut alter) = blocked(&stage, &database, backup.env("BACKUP_MAX_BLOCKING", "2s"));
    let outcome = running.wait();
    stage.assert_failed(&outcome, 11, "gave way");
    assert!(
        outcome.stderr.contains("ALTER TABLE busy") && outcome.stderr.contains("BACKUP_MAX_BLOCKING"),
        "{}",
        outcome.stderr
    );
    assert!(alter.wait().expect("psql ends").success());
}
