//! `--create-db --replace` through signals and failures: one of the two databases is under the name, complete, and the old one is
//! never lost.

use super::faults::SLOW;
use super::{FAILED, bucket_with, dump_with};
use crate::support::client::eventually;
use crate::support::program::{Outcome, Program, Running};
use crate::support::servers::{OwnPostgres, Postgres, own_postgres};
use crate::support::session::Session;
use crate::support::setup::s3_program;

const SIGNALS: [(&str, i32); 2] = [("TERM", 143), ("INT", 130)];

/// A server with a database `made`, which belongs to a role that may not end a superuser's sessions.
struct Scene {
    server: OwnPostgres,
    login: Postgres,
}

/// A dump with a table `t` that waits until a session holds the advisory lock 4711.
fn waiting() -> String {
    dump_with(
        "CREATE TABLE public.t (a int);\nCOPY public.t (a) FROM stdin;\n7\n\\.\n\
         CREATE FUNCTION public.f() RETURNS void LANGUAGE plpgsql AS 'BEGIN WHILE NOT EXISTS (SELECT FROM pg_catalog.pg_locks \
         WHERE locktype = ''advisory'' AND objid = 4711) LOOP PERFORM pg_catalog.pg_sleep(0.02); END LOOP; END';\n\
         SELECT public.f();\n",
    )
}

impl Scene {
    fn new() -> Self {
        let server = own_postgres(&[]);
        for sql in ["CREATE ROLE login LOGIN CREATEDB PASSWORD 'x'", "CREATE DATABASE made OWNER login"] {
            server.psql("postgres", sql).expect("set up");
        }
        server.psql("made", "CREATE TABLE o AS SELECT 8 AS a").expect("the old database");
        let login = Postgres { user: "login".to_owned(), password: "x".to_owned(), ..server.clone() };
        Self { server, login }
    }

    fn replace(&self, dump: &str) -> Program {
        let program = s3_program(&bucket_with(dump)).env("RESTORE_CONNECTION_STRING", self.login.uri("postgres"));
        program.args(["restore", "--create-db", "made", "--replace", "--no-owner", "--no-privileges"])
    }

    fn ask(&self, sql: &str) -> String {
        self.server.psql("postgres", sql).expect("asked")
    }

    fn wait_for(&self, condition: &str, running: &Running) {
        let question = format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'login' AND {condition}");
        eventually(|| self.ask(&question) == "t", || running.stderr_so_far());
    }

    fn scratch(&self) -> String {
        self.ask("SELECT datname FROM pg_database WHERE datname LIKE 'pg_s3_restore_%'")
    }

    /// A session in the scratch database, from the middle of the dump on: a superuser's, or one that the restore may end.
    fn hold(&self, role: &Postgres, sql: &str, running: &Running) -> Session {
        let waits = "query = 'SELECT public.f();' AND state = 'active'";
        self.wait_for(waits, running);
        let mut held = Session::of(role, &self.scratch());
        held.run(sql);
        // The dump goes on.
        held.run("SELECT pg_advisory_lock(4711)");
        let question = format!("SELECT count(*) FROM pg_stat_activity WHERE {waits}");
        eventually(|| self.ask(&question) == "0", || running.stderr_so_far());
        held
    }

    #[track_caller]
    fn assert_old(&self, outcome: &Outcome) {
        assert_eq!(self.server.psql("made", "SELECT a FROM o").as_deref(), Ok("8"), "{}", outcome.stderr);
        assert_eq!(self.ask("SELECT count(*) FROM pg_database WHERE datname LIKE 'made_before_%'"), "0");
    }

    /// The restored database is under the name, and the old one under another; then it gets its name back.
    #[track_caller]
    fn assert_replaced(&self, outcome: &Outcome) {
        assert_eq!(self.server.psql("made", "SELECT a FROM t").as_deref(), Ok("7"), "{}", outcome.stderr);
        let before = self.ask("SELECT datname FROM pg_database WHERE datname LIKE 'made_before_%'");
        self.ask(&format!("ALTER DATABASE \"{before}\" ALLOW_CONNECTIONS true"));
        assert_eq!(self.server.psql(&before, "SELECT a FROM o").as_deref(), Ok("8"), "{}", outcome.stderr);
        self.ask("DROP DATABASE made");
        self.ask(&format!("ALTER DATABASE \"{before}\" RENAME TO made"));
    }
}

#[test]
fn a_signal_before_the_renames_leaves_the_old_database_and_nothing_else() {
    let scene = Scene::new();
    for (signal, code) in SIGNALS {
        // A statement on the template holds CREATE DATABASE up.
        let mut template = Session::of(&scene.server, "postgres");
        template.run("BEGIN; COMMENT ON DATABASE template0 IS 'held'");
        let running = scene.replace(&dump_with(SLOW)).spawn();
        scene.wait_for("state = 'active' AND query LIKE 'CREATE DATABASE%'", &running);
        running.signal(signal);
        let creating = running.wait();

        drop(template);
        let running = scene.replace(&dump_with(SLOW)).spawn();
        scene.wait_for("query LIKE '%pg_sleep(600)%'", &running);
        running.signal(signal);
        let filling = running.wait();

        let running = scene.replace(&waiting()).spawn();
        let locked = scene.hold(&scene.login, "BEGIN; LOCK TABLE t IN SHARE MODE", &running);
        scene.wait_for("state = 'active' AND query LIKE 'ANALYZE%'", &running);
        running.signal(signal);
        let analyzing = running.wait();
        drop(locked);
        for outcome in [creating, filling, analyzing] {
            outcome.assert_code(code).assert_no_children_left();
            assert_eq!(scene.scratch(), "", "{}", outcome.stderr);
            scene.assert_old(&outcome);
        }
    }
}

#[test]
fn a_signal_during_the_renames_waits_for_them_or_leaves_both_databases() {
    let scene = Scene::new();
    for (signal, _) in SIGNALS {
        for leaves in [true, false] {
            let running = scene.replace(&waiting()).spawn();
            let held = scene.hold(&scene.server, "SELECT 1", &running);
            // The first is done, the second waits.
            scene.wait_for("state = 'active' AND query LIKE '%RENAME TO \"made\"%'", &running);
            running.signal(signal);
            let held = (!leaves).then_some(held);
            let outcome = running.wait();
            drop(held);
            outcome.assert_no_children_left();
            if leaves {
                outcome.assert_code(0);
                assert!(outcome.stderr.contains(" restored "), "{}", outcome.stderr);
                assert_eq!(scene.scratch(), "", "{}", outcome.stderr);
            } else {
                outcome.assert_code(FAILED);
                scene.assert_old(&outcome);
                scene.finish_as_printed(&outcome);
            }
            scene.assert_replaced(&outcome);
        }
    }
}

impl Scene {
    /// Runs the statements of the error.
    #[track_caller]
    fn finish_as_printed(&self, outcome: &Outcome) {
        let error =
            outcome.stderr.lines().find(|line| line.contains(" ERROR ")).expect("an error").replace("\\\"", "\"");
        assert!(error.contains("the restored database is complete and kept as pg_s3_restore_"), "{error}");
        let statements = error.split_once(": run ").expect("statements").1;
        eventually(
            || self.ask("SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'pg_s3_%'") == "0",
            || error.clone(),
        );
        for statement in statements.trim_end_matches('"').split_inclusive(';') {
            self.login.psql("postgres", statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }
}

#[test]
fn a_step_that_fails_leaves_the_old_database() {
    let scene = Scene::new();
    // The dump.
    let outcome = scene.replace(&dump_with("SELECT 1/0;\n")).run();
    outcome.assert_code(FAILED).assert_no_children_left();
    scene.assert_old(&outcome);
    assert_eq!(scene.scratch(), "", "{}", outcome.stderr);
    // The first rename: a session of the old database that may not be ended.
    let mut old = Session::of(&scene.server, "made");
    old.run("SELECT 1");
    let running = scene.replace(&waiting()).spawn();
    drop(scene.hold(&scene.server, "SELECT 1", &running));
    let outcome = running.wait();
    drop(old);
    outcome.assert_code(FAILED).assert_no_children_left();
    assert!(outcome.stderr.contains("of postgres"), "who is in the way: {}", outcome.stderr);
    scene.assert_old(&outcome);
    scene.finish_as_printed(&outcome);
    scene.assert_replaced(&outcome);
    // The right to rename, which is lost meanwhile.
    let running = scene.replace(&waiting()).spawn();
    let held = scene.hold(&scene.server, "ALTER DATABASE made OWNER TO postgres", &running);
    drop(held);
    let outcome = running.wait();
    outcome.assert_code(FAILED).assert_no_children_left();
    scene.assert_old(&outcome);
    scene.ask("ALTER DATABASE made OWNER TO login");
    scene.finish_as_printed(&outcome);
    scene.assert_replaced(&outcome);
    // ANALYZE alone costs nothing.
    let running = scene.replace(&waiting()).spawn();
    let held = scene.hold(&scene.login, "BEGIN; LOCK TABLE t IN SHARE MODE", &running);
    // Not one that has ended when it is cancelled: each session runs one after another.
    let waits = "wait_event_type = 'Lock' AND query LIKE 'ANALYZE%'";
    scene.wait_for(waits, &running);
    scene.ask(&format!("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE {waits}"));
    drop(held);
    let outcome = running.wait();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains("ANALYZE failed"), "{}", outcome.stderr);
    scene.assert_replaced(&outcome);
}
