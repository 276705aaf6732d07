//! A server of one mode's own, with backups to restore; and what a restore is doing there.

use std::cell::RefCell;

use super::Mode;
use crate::restore::{NAME, bucket_with, dump_with};
use crate::support::program::Program;
use crate::support::servers::{OwnPostgres, own_postgres, s3};
use crate::support::session::Session;
use crate::support::setup::{backup_program, s3_program};

/// The database that `--create-db` makes.
pub const MADE: &str = "made";
/// By this the server's sessions of a restore are known.
const APPLICATION: &str = "killed_restore";

/// COMMIT fires a trigger that takes its time; large objects bring transaction statements of their own.
const SLOW_COMMIT: &str = "CREATE TABLE public.s (a integer);\nCREATE TABLE public.t (a integer, b text);\n\
    CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_catalog.pg_sleep(0.15); RETURN NULL; END';\n\
    CREATE CONSTRAINT TRIGGER g AFTER INSERT ON public.s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW \
    EXECUTE FUNCTION public.f();\nCOPY public.s (a) FROM stdin;\n1\n\\.\n\
    SELECT pg_catalog.lo_create('4711');\nBEGIN;\nSELECT pg_catalog.lo_open('4711', 131072);\n\
    SELECT pg_catalog.lowrite(0, '\\x616263');\nSELECT pg_catalog.lo_close(0);\nCOMMIT;\n";
const ROWS: u32 = 20_000;

/// What is backed up for a new database.
const SHOP: &str = "CREATE TABLE t AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 20000) g; \
    ALTER TABLE t ADD PRIMARY KEY (a); CREATE INDEX ON t (b); CREATE TABLE u (a int REFERENCES t); INSERT INTO u VALUES (1); \
    CREATE VIEW v AS SELECT count(*) FROM t; SELECT lo_from_bytea(0, decode(md5(i::text), 'hex')) FROM generate_series(1, 20) i";

/// What a restore is doing, as the server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It has no session: it reads its settings or asks S3.
    Outside,
    /// It checks the target.
    Connected,
    /// `CREATE DATABASE` runs, or the database is being set up.
    Creating,
    /// The dump runs.
    Filling,
    /// COMMIT of the one transaction runs.
    Committing,
    /// ANALYZE runs.
    Analyzing,
    /// The transaction of the renames is open.
    Renaming,
    /// The scratch database has got its name.
    Renamed,
}

/// In the order of the `CASE` in [`Scene::phase`].
const PHASES: [Phase; 8] = [
    Phase::Renamed,
    Phase::Renaming,
    Phase::Committing,
    Phase::Analyzing,
    Phase::Filling,
    Phase::Creating,
    Phase::Connected,
    Phase::Outside,
];

/// The server, and what is restored to it.
pub struct Scene {
    pub mode: Mode,
    pub server: OwnPostgres,
    bucket: String,
    /// A superuser's session that looks on.
    monitor: RefCell<Session>,
}

impl Scene {
    pub fn new(mode: Mode) -> Self {
        let server = own_postgres(&[]);
        let bucket = match mode {
            Mode::Existing => bucket_with(&slow_dump()),
            Mode::Create | Mode::Replace => {
                // A superuser's session holds the renames up: this role may not end it.
                let setup = ["CREATE ROLE restorer LOGIN CREATEDB PASSWORD 'x'", "CREATE DATABASE old_template"];
                for sql in setup {
                    server.psql("postgres", sql).expect("set up");
                }
                server.psql("old_template", "CREATE TABLE o AS SELECT 8 AS a").expect("the old database");
                let source = server.create_database("source");
                source.psql(SHOP).expect("objects");
                let bucket = s3().create_bucket("killed");
                backup_program(&source, &bucket).run().assert_code(0);
                bucket
            }
        };
        let monitor = RefCell::new(Session::of(&server, "postgres"));
        Self { mode, server, bucket, monitor }
    }

    /// The restore, into this database where it is an existing one.
    pub fn program(&self, target: &str) -> Program {
        let uri = |user: &str, password: &str, database: &str| {
            let (host, port) = (&self.server.host, self.server.port);
            format!("postgresql://{user}:{password}@{host}:{port}/{database}?application_name={APPLICATION}")
        };
        let program = s3_program(&self.bucket).arg("restore");
        let create = ["--no-owner", "--no-privileges", "--create-db", MADE];
        match self.mode {
            Mode::Existing => {
                let uri = uri(&self.server.user, &self.server.password, target);
                program.arg(NAME).env("RESTORE_CONNECTION_STRING", uri)
            }
            Mode::Create => program.env("RESTORE_CONNECTION_STRING", uri("restorer", "x", "postgres")).args(create),
            Mode::Replace => {
                let program = program.env("RESTORE_CONNECTION_STRING", uri("restorer", "x", "postgres"));
                program.args(create).arg("--replace")
            }
        }
    }

    /// Asks as a superuser.
    pub fn ask(&self, sql: &str) -> String {
        self.monitor.borrow_mut().ask(sql)
    }

    /// Sessions of restores on the server.
    pub fn sessions(&self) -> String {
        self.ask(&format!(
            "SELECT pid, datname, state, query FROM pg_stat_activity WHERE application_name = '{APPLICATION}'"
        ))
    }

    /// What a restore is doing. A database that was there before it is none that it made.
    pub fn phase(&self, had_scratch: bool) -> Phase {
        let is_renamed = if had_scratch {
            "NOT EXISTS (SELECT FROM pg_database WHERE datname LIKE 'pg_s3_restore_%')"
        } else {
            "false"
        };
        let question = format!(
            "SELECT CASE WHEN {is_renamed} THEN 0 \
             WHEN bool_or(query ~ '^ALTER DATABASE .* RENAME TO' AND xact_start IS NOT NULL) THEN 1 \
             WHEN bool_or(query LIKE 'COMMIT%' AND state = 'active' AND datname <> 'postgres') THEN 2 \
             WHEN bool_or(query LIKE 'ANALYZE%') THEN 3 \
             WHEN bool_or(query ~ '^(COPY|CREATE (TABLE|INDEX|FUNCTION|VIEW|CONSTRAINT)|ALTER TABLE|SELECT pg_catalog.lo)') THEN 4 \
             WHEN bool_or(query LIKE '%DATABASE%pg_s3_restore_%') THEN 5 WHEN count(*) > 0 THEN 6 ELSE 7 END \
             FROM pg_stat_activity WHERE application_name = '{APPLICATION}'"
        );
        PHASES[self.ask(&question).parse::<usize>().expect("a number")]
    }

    /// Scratch databases, one a line.
    pub fn scratch(&self) -> String {
        self.ask("SELECT datname FROM pg_database WHERE datname LIKE 'pg_s3_restore_%'")
    }

    /// Whether the second rename waits for the sessions of the scratch database.
    pub fn is_between_renames(&self) -> bool {
        let question = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{APPLICATION}' AND state = 'active' \
             AND query ~ '^ALTER DATABASE .* RENAME TO \"{MADE}\"'"
        );
        self.ask(&question) == "1"
    }

    /// A session that nobody but a superuser may end, once a scratch database takes sessions.
    pub fn hold(&self) -> Option<Session> {
        let open = "SELECT datname FROM pg_database WHERE datname LIKE 'pg_s3_restore_%' AND datallowconn";
        let mut held =
            Some(self.ask(open)).filter(|name| !name.is_empty()).map(|name| Session::of(&self.server, &name));
        if let Some(session) = &mut held {
            session.run("SELECT 1");
        }
        held
    }

    /// Gives an old database its place, and takes everything away that a round has left.
    pub fn reset(&self) {
        let left =
            self.ask(&format!("SELECT datname FROM pg_database WHERE datname ~ '^({MADE}|pg_s3_restore_|target_)'"));
        for name in left.lines() {
            self.ask(&format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
        }
        if self.mode == Mode::Replace {
            self.ask(&format!("CREATE DATABASE {MADE} TEMPLATE old_template OWNER restorer"));
        }
    }

    /// What a database holds, whether it takes connections or not.
    pub fn dump(&self, name: &str) -> String {
        self.ask(&format!("ALTER DATABASE \"{name}\" ALLOW_CONNECTIONS true"));
        // It drops nothing here: `reset` does.
        let database = std::mem::ManuallyDrop::new(self.server.adopt_database(name));
        database.dump().unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

fn slow_dump() -> String {
    let rows = (1..=ROWS).fold(String::new(), |rows, number| format!("{rows}{number}\trow {number}\n"));
    dump_with(&format!("{SLOW_COMMIT}COPY public.t (a, b) FROM stdin;\n{rows}\\.\nCREATE INDEX t_b ON public.t (b);\n"))
}
