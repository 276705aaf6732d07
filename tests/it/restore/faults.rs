//! Faults on the way: a target is as it was, or holds all of the backup, and what is said is true.

use std::time::Duration;

use super::{FAILED, assert_untouched, backed_up, bucket_with, dump_with, empty, restore_program};
use crate::support::client::eventually;
use crate::support::program::Running;
use crate::support::proxy::{Calls, Fault, FaultProxy, ResetAt, Rule, S3Verb, StallAt};
use crate::support::servers::database::Database;
use crate::support::servers::{own_postgres, postgres, s3};
use crate::support::setup::{manifest, only_backup};
use crate::support::tcp_proxy::TcpProxy;

/// A dump in the middle of which the server waits as long as a test wants.
pub const SLOW: &str =
    "CREATE TABLE public.t (a int);\nCOPY public.t (a) FROM stdin;\n1\n\\.\nSELECT pg_catalog.pg_sleep(600);\n";

/// Waits until the restore's own session runs this.
#[track_caller]
pub fn wait_for_query(target: &Database, word: &str, running: &Running) {
    let question = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND state = 'active' AND query LIKE '%{word}%'",
        target.name
    );
    eventually(|| postgres().psql("postgres", &question).as_deref() == Ok("1"), || running.stderr_so_far());
}

/// Sessions of a database, without that of autovacuum.
fn sessions(target: &Database) -> String {
    let question = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND backend_type <> 'autovacuum worker'",
        target.name
    );
    postgres().psql("postgres", &question).expect("counted")
}

#[test]
fn a_signal_leaves_the_target_as_it_was_and_no_session() {
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let target = empty("target");
        let program = restore_program(&bucket_with(&dump_with(SLOW)), &target).with_hang_up("default");
        let running = program.spawn();
        wait_for_query(&target, "pg_sleep", &running);
        running.signal(signal);
        let outcome = running.wait();
        outcome.assert_code(code).assert_no_children_left();
        assert_eq!(sessions(&target), "0", "{signal}: {}", outcome.stderr);
        assert_untouched(&target, &outcome);
    }
}

#[test]
fn a_signal_ends_the_session_of_a_role_that_becomes_another() {
    let server = own_postgres(&[]);
    let target = server.create_database("target");
    let orders = format!(
        "CREATE ROLE y; CREATE ROLE x LOGIN PASSWORD 'p'; GRANT y TO x; ALTER ROLE x SET role TO y; \
         ALTER DATABASE \"{}\" OWNER TO y",
        target.name
    );
    server.psql("postgres", &orders).expect("roles");
    let uri = format!("postgresql://x:p@{}:{}/{}", server.host, server.port, target.name);
    let program = restore_program(&bucket_with(&dump_with(SLOW)), &target).env("RESTORE_CONNECTION_STRING", uri);
    let running = program.spawn();
    let sessions = |state: &str| {
        let question = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = 'x' {state}");
        server.psql("postgres", &question).expect("counted")
    };
    eventually(|| sessions("AND query LIKE '%pg_sleep%'") == "1", || running.stderr_so_far());
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(143).assert_no_children_left();
    assert_eq!(sessions(""), "0", "{}", outcome.stderr);
}

#[test]
fn a_killed_psql_leaves_the_target_as_it_was() {
    let target = empty("target");
    let running = restore_program(&bucket_with(&dump_with(SLOW)), &target).spawn();
    wait_for_query(&target, "pg_sleep", &running);
    for process in running.descendants() {
        process.signal("KILL");
    }
    let outcome = running.wait();
    outcome.assert_code(FAILED);
    eventually(|| sessions(&target) == "0", || outcome.stderr.clone());
    assert_untouched(&target, &outcome);
}

#[test]
fn a_killed_restore_leaves_the_target_as_it_was() {
    let target = empty("target");
    let running = restore_program(&bucket_with(&dump_with(SLOW)), &target).spawn();
    wait_for_query(&target, "pg_sleep", &running);
    running.signal("KILL");
    let outcome = running.wait();
    // The killed process cannot end its session. The server notices only when the statement ends.
    let next = restore_program(&bucket_with(&dump_with("CREATE TABLE public.t (a int);\n")), &target);
    let refused = next.run();
    refused.assert_code(FAILED);
    let end = refused.stderr.split_once("if it was killed, end its session with ").expect("what to do").1;
    postgres().psql("postgres", end.lines().next().expect("a statement")).expect("ended");
    eventually(|| sessions(&target) == "0", || outcome.stderr.clone());
    assert_untouched(&target, &outcome);
    next.run().assert_code(0);
}

/// A trigger that fires at COMMIT alone, and takes its time.
const SLOW_COMMIT: &str = "CREATE TABLE public.t (a int);\n\
    CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_sleep(3); RETURN NULL; END';\n\
    CREATE CONSTRAINT TRIGGER g AFTER INSERT ON public.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.f();\n\
    COPY public.t (a) FROM stdin;\n1\n\\.\n";

#[test]
fn a_commit_whose_answer_is_lost_is_asked_for() {
    let target = empty("target");
    let proxy = TcpProxy::start(&postgres().addr());
    let program = restore_program(&bucket_with(&dump_with(SLOW_COMMIT)), &target)
        .env("RESTORE_CONNECTION_STRING", target.uri_via(&proxy.host(), proxy.port()));
    let running = program.spawn();
    wait_for_query(&target, "COMMIT;", &running);
    proxy.cut();
    let outcome = running.wait();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains("the server says that it took effect"), "{}", outcome.stderr);
    assert_eq!(target.psql("SELECT a FROM t").as_deref(), Ok("1"));
}

#[test]
fn a_commit_that_the_server_refuses_is_rolled_back_and_said() {
    let target = empty("target");
    let dump = dump_with(&SLOW_COMMIT.replace("PERFORM pg_catalog.pg_sleep(3)", "RAISE EXCEPTION ''not so''"));
    let outcome = restore_program(&bucket_with(&dump), &target).run();
    outcome.assert_code(FAILED);
    for words in ["not so", "it was rolled back: the target is unchanged"] {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
    assert_untouched(&target, &outcome);
}

#[test]
fn faults_of_the_store_in_the_middle_cost_nothing_but_time() {
    let (_source, bucket) =
        backed_up("CREATE TABLE t AS SELECT g AS a, sha512(g::text::bytea) AS b FROM generate_series(1, 150000) g");
    let recorded = manifest(&bucket, &only_backup(&bucket));
    for create in [false, true] {
        let target = empty("target");
        let proxy = FaultProxy::start(s3().addr());
        let stall = Fault::Stall { at: StallAt::DuringAnswer };
        let faults = [Fault::TruncatedAnswer, Fault::slow_down(), Fault::Reset { at: ResetAt::InAnswer }, stall];
        for (number, fault) in (2..).zip(faults) {
            proxy.rule(Rule::on(S3Verb::GetObject, Calls::Nth(number), fault).key_suffix(".sql.gz"));
        }
        let program = restore_program(&bucket, &target).env("S3_URL", proxy.url()).env("S3_REQUEST_TIMEOUT", "2s");
        let made = format!("{}_made", target.name);
        let program = if create { program.args(["--create-db", &made]) } else { program };
        let outcome = program.arg("--json").timeout(Duration::from_mins(3)).run();
        outcome.assert_code(0);
        assert_eq!(proxy.log().iter().filter(|seen| seen.fault.is_some()).count(), 4, "{}", outcome.stderr);
        let report: serde_json::Value = serde_json::from_str(&outcome.stdout_text()).expect("JSON");
        for field in ["dump_bytes", "rows"] {
            assert_eq!(report[field], recorded[field], "{field}: {report}");
        }
        let restored = if create { postgres().adopt_database(&made) } else { target };
        assert_eq!(restored.psql("SELECT count(*), count(DISTINCT b) FROM t").as_deref(), Ok("150000|150000"));
    }
}
