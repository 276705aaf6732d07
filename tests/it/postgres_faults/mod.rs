//! What breaks in PostgreSQL in the middle of a dump: connections, servers, backends, locks. After every fault the same
//! holds (`scene`), and `table` keeps what came of it.

mod scene;
mod table;

use crate::support::client::eventually;
use crate::support::process;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, StallAt};
use crate::support::servers::database::unique_name;
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{own_postgres, own_standby, postgres};
use crate::support::session::Session;
use scene::{BOTH, SOON, Scene};

/// What libpq says where the other end is gone.
const GONE: [&str; 2] = ["server closed the connection unexpectedly", "Connection reset by peer"];
/// What the server says where it ends a session; a backend that is writing to a client that does not read cannot say it.
const TERMINATED: &str = "terminating connection due to administrator command";
const ENDED: [&str; 3] = [TERMINATED, GONE[0], GONE[1]];

/// A fault in the middle of a dump on the shared server.
fn breaks(fault: &str, causes: &[&str], strike: impl Fn(&Scene)) {
    for keeping in BOTH {
        let scene = Scene::new(postgres(), keeping);
        let running = scene.held();
        strike(&scene);
        scene.proxy.let_go();
        scene.assert_failed_and_next_succeeds(fault, &running.wait(), causes);
    }
}

#[test]
fn connections_that_are_cut() {
    breaks("every connection is reset", &GONE, |scene| scene.proxy.cut());
}

#[test]
fn a_dumps_backend_that_is_terminated() {
    breaks("the dump's backend is terminated", &ENDED, |scene| {
        let order = format!("SELECT pg_terminate_backend({})", scene.dumps_backend());
        assert_eq!(scene.database.psql(&order).as_deref(), Ok("t"));
    });
}

#[test]
fn a_dumps_query_that_is_cancelled() {
    breaks("the dump's query is cancelled", &["canceling statement due to user request"], |scene| {
        let order = format!("SELECT pg_cancel_backend({})", scene.dumps_backend());
        assert_eq!(scene.database.psql(&order).as_deref(), Ok("t"));
    });
}

#[test]
fn a_control_session_that_is_terminated_costs_the_lock_and_not_the_backup() {
    for keeping in BOTH {
        let scene = Scene::new(postgres(), keeping);
        let mut running = scene.held();
        let order = format!("SELECT pg_terminate_backend({})", scene.control_backend());
        assert_eq!(scene.database.psql(&order).as_deref(), Ok("t"));
        let lost = "the control session and its lock are lost; the dump continues";
        running.wait_for_stderr(lost, SOON);
        scene.proxy.let_go();
        let outcome = running.wait();
        assert!(outcome.stderr.contains(TERMINATED), "{}", outcome.stderr);
        scene.assert_succeeded(&outcome, lost);
        scene.note_success("the control session's backend is terminated", lost);
    }
}

#[test]
fn a_server_that_is_stopped_or_crashes() {
    let server = own_postgres(&[]);
    let restarted = Restarted(&server);
    for keeping in BOTH {
        for (fault, shutdown) in [
            ("the server is stopped (fast)", Shutdown::Fast),
            ("the server is stopped (immediate)", Shutdown::Immediate),
        ] {
            let scene = Scene::new(&server, keeping);
            let running = scene.held();
            restarted.stop(shutdown);
            scene.proxy.let_go();
            let outcome = running.wait();
            restarted.start();
            scene.assert_failed_and_next_succeeds(fault, &outcome, &ENDED);
        }
        let scene = Scene::new(&server, keeping);
        let running = scene.held();
        process::signal(&scene.dumps_backend(), "KILL");
        scene.proxy.let_go();
        let outcome = running.wait();
        eventually(|| server.psql("postgres", "SELECT 1").is_ok(), || "the server does not come back".to_owned());
        scene.assert_failed_and_next_succeeds("the dump's backend crashes, and the server with it", &outcome, &GONE);
    }
}

#[test]
fn a_table_that_another_session_has_locked() {
    for keeping in BOTH {
        let scene = Scene::new(postgres(), keeping);
        let mut other = Session::open(&scene.database);
        other.run("BEGIN; LOCK TABLE large IN ACCESS EXCLUSIVE MODE");
        let outcome = scene.backup().env("BACKUP_LOCK_WAIT_TIMEOUT", "12s").run();
        drop(other);
        for words in ["pg_dump waits for a lock of another session", "LOCK TABLE large IN ACCESS EXCLUSIVE MODE"] {
            assert!(outcome.stderr.contains(words), "{words:?} wanted in:\n{}", outcome.stderr);
        }
        let cause = "it waited for a lock of another session (pid ";
        scene.assert_failed_and_next_succeeds("a table is locked (ACCESS EXCLUSIVE)", &outcome, &[cause]);
    }
}

#[test]
fn a_server_that_takes_no_further_connection() {
    for keeping in BOTH {
        let scene = Scene::new(postgres(), keeping);
        let role = unique_name("narrow");
        let sql = format!("CREATE ROLE {role} LOGIN PASSWORD 'secret' CONNECTION LIMIT 1 IN ROLE pg_read_all_data");
        scene.database.psql(&sql).expect("a role");
        let uri =
            scene.database.uri().replacen(&format!("postgres:{}", postgres().password), &format!("{role}:secret"), 1);
        let outcome = scene.backup().env("POSTGRES_CONNECTION_STRING", uri).run();
        let cause = "too many connections for role";
        scene.assert_failed_and_next_succeeds("the role has no further connection", &outcome, &[cause]);
        scene.database.psql(&format!("DROP ROLE {role}")).expect("dropped");
    }
}

#[test]
fn a_server_that_is_gone_when_pg_dump_connects() {
    for keeping in BOTH {
        let scene = Scene::new(postgres(), keeping);
        // The dump does not continue while S3 does not answer.
        let stall = Fault::Stall { at: StallAt::BeforeEffect };
        scene.stage.proxy.rule(Rule::on(S3Verb::CreateMultipartUpload, Calls::Nth(1), stall));
        // Time enough to close the way.
        let running = scene.backup().env("S3_REQUEST_TIMEOUT", "10s").spawn();
        scene.stage.proxy.wait_for(S3Verb::CreateMultipartUpload, 1, SOON);
        scene.proxy.refuse();
        let outcome = running.wait();
        scene.proxy.resume();
        let fault = "the server refuses the dump's connection";
        scene.assert_failed_and_next_succeeds(fault, &outcome, &["connection to server at"]);
    }
}

#[test]
fn a_standby_replay_conflicts_with_the_dump() {
    let primary = own_postgres(&[]);
    let standby = own_standby(&primary);
    let on_standby = |sql: &str| standby.psql("postgres", sql).expect("an answer");
    on_standby("ALTER SYSTEM SET max_standby_streaming_delay = 0");
    on_standby("SELECT pg_reload_conf()");
    for keeping in BOTH {
        let scene = Scene::new(&primary, keeping).dumped_from(&standby);
        let at = primary.psql("postgres", "SELECT pg_current_wal_insert_lsn()").expect("a place");
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{at}'");
        eventually(|| on_standby(&replayed) == "t", || "the standby lags behind".to_owned());
        let running = scene.held();
        let lock = "BEGIN; LOCK TABLE large IN ACCESS EXCLUSIVE MODE; CREATE TABLE later (); SET LOCAL synchronous_commit = on; COMMIT";
        scene.database.psql(lock).expect("on the primary");
        let at = primary.psql("postgres", "SELECT pg_current_wal_insert_lsn()").expect("a place");
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{at}'");
        // Replay cancels the dump's query at once, and continues; or it waits until that is no longer held, and says so in
        // its process's title.
        let is_replay = |title: &str| title.contains("startup") && title.contains("waiting");
        let waits = || process::descendants(standby.pid).iter().any(|process| is_replay(&process.command_line()));
        eventually(|| waits() || on_standby(&replayed) == "t", || "replay has not come to the lock".to_owned());
        scene.proxy.let_go();
        let causes = ["canceling statement due to conflict with recovery"];
        scene.assert_failed_and_next_succeeds("a standby's replay cancels the dump", &running.wait(), &causes);
    }
}
