//! A silent `pg_dump`: slow if the server works for it or they communicate, else stalled. A slow S3 does not count as
//! silence of `pg_dump`.
//!
//! The fakes open real sessions with the given connection string, so the server has sessions to report.

use std::time::Duration;

use crate::support::client::eventually;
use crate::support::fake_pg_dump::{Body, End, FakeDump};
use crate::support::faulty::Stage;
use crate::support::program::Running;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};
use crate::support::servers::database::Database;
use crate::support::servers::postgres;
use crate::support::session::Session;
use crate::support::tcp_proxy::TcpProxy;

const STALLED: i32 = 11;
const SOON: Duration = Duration::from_mins(2);
const WORKS: &str = "pg_dump writes nothing, but the server works for it";
/// The bytes that the dump's connection transfers before it is stopped.
const FLOWED: u64 = 1 << 20;

/// A stage with its own database, and a fake that first runs `first` on the server.
fn stage(first: &str, end: End) -> (Stage, Database) {
    (Stage::new(FakeDump::new().first(first).end(end)), postgres().create_database("stall"))
}

fn backup(stage: &Stage, database: &Database) -> crate::support::program::Program {
    stage.backup().env("POSTGRES_CONNECTION_STRING", database.uri()).env("BACKUP_STALL_TIMEOUT", "5s")
}

/// A table that is larger than the buffers between server and client.
fn large_table(database: &Database) {
    let sql =
        "CREATE TABLE large AS SELECT n, md5(n::text) || md5((n + 1)::text) AS t FROM generate_series(1, 600000) n";
    database.psql(sql).expect("a table");
}

/// Asserts that the server has no session of the dump.
#[track_caller]
fn assert_no_session_left(database: &Database) {
    let question = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name LIKE 'pg_s3_backup %'",
        database.name
    );
    let count = || postgres().psql("postgres", &question);
    eventually(|| count() == Ok("0".to_owned()), || "the dump's session is still there".to_owned());
}

#[test]
fn waits_for_dump_with_a_running_query() {
    let (stage, database) =
        stage(r#""$here/psql" -X -d "$connection" -c 'SELECT pg_sleep(12)' >/dev/null"#, End::Exit(0));
    let outcome = backup(&stage, &database).run();
    stage.assert_committed(&outcome, "a query of 12 s");
    for words in [WORKS, "Timeout:PgSleep", "SELECT pg_sleep(12)"] {
        assert!(outcome.stderr.contains(words), "{words:?} is not in:\n{}", outcome.stderr);
    }
    // It is logged once per stall timeout of 5 s.
    let (count, timeouts) = (outcome.stderr.matches(WORKS).count() as u64, outcome.elapsed.as_secs() / 5);
    assert!((1..=timeouts).contains(&count), "{count} times in {:?}:\n{}", outcome.elapsed, outcome.stderr);
}

#[test]
fn keeps_control_session_if_a_query_is_invalid_utf8() {
    // Latin-1 in a database without an encoding: the server does not convert it.
    let query = r#"query=$(printf 'SELECT pg_sleep(12) AS "gr\366n"'); "$here/psql" -X -d "$connection" -c "$query" >/dev/null"#;
    let stage = Stage::new(FakeDump::new().first(query));
    let without = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    let database = postgres().create_database_with("stall", without);
    let outcome = backup(&stage, &database).run();
    stage.assert_committed(&outcome, "a query of 12 s");
    assert!(outcome.stderr.contains(WORKS) && !outcome.stderr.contains("its lock are lost"), "{}", outcome.stderr);
}

#[test]
fn waits_for_dump_with_short_queries() {
    let questions = r#"
        { for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24; do echo "SELECT $n;"; sleep 0.5; done; } |
        "$here/psql" -X -d "$connection" >/dev/null"#;
    let (stage, database) = stage(questions, End::Exit(0));
    let outcome = backup(&stage, &database).run();
    stage.assert_committed(&outcome, "12 s of short queries");
    assert!(outcome.stderr.contains("pg_dump writes nothing, but talks to the server"), "{}", outcome.stderr);
}

#[test]
fn fails_dump_with_idle_session() {
    // Its silence starts when the session idles, however long psql takes until then.
    let idle = r#"
        { echo 'BEGIN; SELECT 4711;'; echo '\echo idle'; sleep "$forever"; } |
        "$here/psql" -X -d "$connection" >"$here/answers" &
        until grep -q idle "$here/answers"; do sleep 0.05; done
        echo --
        wait"#;
    let (stage, database) = stage(idle, End::Exit(0));
    // Also with a role that may not see the sessions of the login role.
    let limited = format!("{}_limited", database.name);
    for role in ["none", &limited] {
        if role == limited {
            let set = format!("CREATE ROLE {role}; ALTER DATABASE \"{}\" SET role = '{role}'", database.name);
            postgres().psql("postgres", &set).expect("a role");
        }
        let outcome = backup(&stage, &database).run();
        stage.assert_failed(&outcome, STALLED, role).then_names(&[
            "pg_dump wrote nothing for 5s, and the server waits for it",
            "idle in transaction for ",
            "Client:ClientRead",
            "SELECT 4711",
            "BACKUP_STALL_TIMEOUT",
        ]);
        assert_no_session_left(&database);
    }
}

#[test]
fn fails_silent_dump_without_control_session() {
    let (stage, database) =
        stage(r#""$here/psql" -X -d "$connection" -c "SELECT pg_sleep(600)" >/dev/null"#, End::Exit(0));
    let running = backup(&stage, &database).spawn();
    let sleeps = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND query = 'SELECT pg_sleep(600)'",
        database.name
    );
    eventually(|| postgres().psql("postgres", &sleeps) == Ok("1".to_owned()), || running.stderr_so_far());
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(
        database
            .psql(&format!("{end} AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"))
            .as_deref(),
        Ok("t")
    );
    let outcome = running.wait();
    stage.assert_failed(&outcome, STALLED, "the control session is lost").then_names(&[
        "the control session and its lock are lost; the dump continues",
        "terminating connection due to administrator command",
        "pg_dump wrote nothing for 5s, and the server cannot be asked what it does",
    ]);
}

#[test]
fn slow_s3_does_not_stall_the_dump() {
    // Six parts, one at a time: more than all buffers between S3 and pg_dump hold.
    let stage = Stage::new(FakeDump::new().body(Body::Random(30 << 20)));
    stage.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::All, Fault::slow_down()));
    let program = stage.backup().env("BACKUP_UPLOAD_CONCURRENCY", "1").env("BACKUP_THREADS", "1");
    let mut running = program.env("BACKUP_STALL_TIMEOUT", "5s").env("BACKUP_MAX_UPLOAD_OUTAGE", "5m").spawn();
    stage.proxy.wait_for(S3Verb::UploadPart, 1, SOON);
    std::thread::sleep(Duration::from_secs(12));
    assert!(running.is_running() && !stage.dump.alive().is_empty(), "pg_dump has ended: {}", running.stderr_so_far());
    stage.proxy.clear_rules();
    let outcome = running.wait();
    stage.assert_committed(&outcome, "a slow S3");
    assert!(!outcome.stderr.contains("writes nothing"), "{}", outcome.stderr);
}

#[test]
fn waits_for_real_dump_that_waits_for_a_lock() {
    let (stage, database) = (Stage::new(FakeDump::new()), postgres().create_database("stall"));
    // Values in TOAST: COPY reads them by an index that the other session has locked.
    let sql = "CREATE TABLE a AS SELECT 1 AS n; CREATE TABLE b (t text); ALTER TABLE b ALTER t SET STORAGE EXTERNAL; \
               INSERT INTO b SELECT repeat(md5(n::text), 200) FROM generate_series(1, 20) n";
    database.psql(sql).expect("tables");
    let toast = database.psql("SELECT reltoastrelid::regclass FROM pg_class WHERE relname = 'b'").expect("its name");
    let mut other = Session::open(&database);
    other.run(&format!("BEGIN; REINDEX TABLE {toast}"));
    let mut running = backup(&stage, &database).env_remove("PG_DUMP_PATH").spawn();
    running.wait_for_stderr(WORKS, SOON);
    // The blocking query is logged once per stall timeout; at the first time the dump may not wait yet.
    running.wait_for_stderr("Lock:relation held by pid ", SOON);
    running.wait_for_stderr("pg_dump waits for a lock of another session", SOON);
    let log = running.stderr_so_far();
    assert!(log.contains("REINDEX TABLE pg_toast."), "{log}");
    drop(other);
    running.wait().assert_code(0).assert_no_children_left();
    assert_eq!(stage.backups().len(), 1);
}

/// A real dump through a proxy that stops its connection half way.
fn held(stage: &Stage, database: &Database) -> (TcpProxy, Running) {
    large_table(database);
    let proxy = TcpProxy::start(&postgres().addr());
    proxy.hold_after_bytes(FLOWED);
    let uri = database.uri_via(&proxy.host(), proxy.port());
    // Long enough for the test to act before the stall timeout.
    let backup = backup(stage, database).env("POSTGRES_CONNECTION_STRING", uri).env("BACKUP_STALL_TIMEOUT", "15s");
    let running = backup.env_remove("PG_DUMP_PATH").spawn();
    proxy.wait_until_held(SOON);
    (proxy, running)
}

#[test]
fn fails_dump_with_black_hole_connection() {
    let (stage, database) = (Stage::new(FakeDump::new()), postgres().create_database("stall"));
    let (proxy, running) = held(&stage, &database);
    let outcome = running.wait();
    stage.assert_failed(&outcome, STALLED, "the dump's connection alone").then_names(&[
        "the server waits for it",
        "Client:ClientWrite",
        "COPY public.large",
    ]);
    assert!(proxy.bytes_to_client() >= FLOWED);
    // Only the control session can end the dump's session on the server.
    assert_no_session_left(&database);
}

#[test]
fn fails_dump_in_black_hole_network() {
    let (stage, database) = (Stage::new(FakeDump::new()), postgres().create_database("stall"));
    let (proxy, running) = held(&stage, &database);
    proxy.pause();
    let outcome = running.wait();
    stage.assert_failed(&outcome, STALLED, "all connections").then_names(&[
        "the control session and its lock are lost; the dump continues",
        "the server cannot be asked what it does",
    ]);
}

#[test]
fn ends_stopped_pg_dump() {
    let (stage, database) = (Stage::new(FakeDump::new()), postgres().create_database("stall"));
    let (proxy, running) = held(&stage, &database);
    let is_dump = |command: &str| command.contains("pg_dump") && command.contains("--format=plain");
    let mut dumps = running.descendants().into_iter().filter(|process| is_dump(&process.command_line()));
    let pg_dump = dumps.next().expect("pg_dump runs");
    pg_dump.signal("STOP");
    proxy.let_go();
    let outcome = running.wait();
    stage.assert_failed(&outcome, STALLED, "SIGSTOP").then_names(&["the server waits for it", "Client:ClientWrite"]);
    assert!(!outcome.stderr.contains("sending SIGKILL"), "it did not end gracefully: {}", outcome.stderr);
    assert_no_session_left(&database);
}
