//! The scene of the database's faults: a real `pg_dump` of a large table by a proxy that holds its connection in the middle,
//! without and with a spool; and what must be so afterwards, whatever happened.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::table;
use crate::support::client::eventually;
use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;
use crate::support::program::{Outcome, Program, Running};
use crate::support::proxy::S3Verb;
use crate::support::servers::database::Database;
use crate::support::servers::{Postgres, s3};
use crate::support::setup::gunzipped;
use crate::support::tcp_proxy::TcpProxy;

pub const SOON: Duration = Duration::from_mins(1);
pub const DUMP_FAILED: i32 = 11;
/// Where the dump's connection is held: parts have gone to S3 by then, and the server has more to send than fits into the
/// buffers on the way.
const HELD_AT: u64 = 12 << 20;
const ROWS: usize = 340_000;

/// Where parts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    Memory,
    Spool,
}

/// Both ways.
pub const BOTH: [Keeping; 2] = [Keeping::Memory, Keeping::Spool];

/// A database with a large table behind a proxy, a bucket, and perhaps a spool.
pub struct Scene {
    pub stage: Stage,
    pub database: Database,
    pub proxy: TcpProxy,
    /// Where the dump's session is.
    server: Postgres,
    keeping: Keeping,
    spool: TempDir,
}

impl Scene {
    /// On this server.
    pub fn new(server: &Postgres, keeping: Keeping) -> Self {
        let database = server.create_database("faults");
        // The test servers commit asynchronously: a crash right after that would take the table along.
        let sql = format!(
            "SET synchronous_commit = on; CREATE TABLE large AS SELECT n, md5(n::text) || md5((-n)::text) AS t FROM generate_series(1, {ROWS}) n"
        );
        database.psql(&sql).expect("a table");
        let spool = tempfile::tempdir().expect("a directory");
        let proxy = TcpProxy::start(&server.addr());
        Self { stage: Stage::new(FakeDump::new()), database, proxy, server: server.clone(), keeping, spool }
    }

    /// The same, dumped from a standby of the server.
    pub fn dumped_from(self, standby: &Postgres) -> Self {
        Self { proxy: TcpProxy::start(&standby.addr()), server: standby.clone(), ..self }
    }

    /// A `backup` of the database by the real `pg_dump`, through the proxy.
    pub fn backup(&self) -> Program {
        let uri = self.database.uri_via(&self.proxy.host(), self.proxy.port());
        let backup = self.stage.backup().env("POSTGRES_CONNECTION_STRING", uri).env_remove("PG_DUMP_PATH");
        match self.keeping {
            Keeping::Memory => backup,
            Keeping::Spool => backup.env("BACKUP_SPOOL_DIR", self.spool.path()),
        }
    }

    /// A backup with its `pg_dump` held in the middle, when S3 has got a part.
    pub fn held(&self) -> Running {
        self.proxy.hold_after_bytes(HELD_AT);
        let running = self.backup().spawn();
        self.proxy.wait_until_held(SOON);
        self.stage.proxy.wait_for(S3Verb::UploadPart, 1, SOON);
        assert!(self.proxy.bytes_to_client() >= HELD_AT && running.stderr_so_far().contains("backup starts"));
        running
    }

    /// The backend of `pg_dump`.
    pub fn dumps_backend(&self) -> String {
        self.database
            .psql(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' \
                 AND application_name LIKE 'pg_s3_backup %'",
            )
            .expect("one backend")
    }

    /// The backend of the control session: it holds the lock.
    pub fn control_backend(&self) -> String {
        self.database
            .psql(
                "SELECT pid FROM pg_locks JOIN pg_database d ON database = d.oid \
                 WHERE locktype = 'advisory' AND datname = current_database()",
            )
            .expect("one backend")
    }

    /// The exit code, the cause in the log, and nothing left anywhere; then the next run succeeds.
    #[track_caller]
    pub fn assert_failed_and_next_succeeds(&self, fault: &str, outcome: &Outcome, causes: &[&str]) {
        let case = format!("{fault}, {:?}", self.keeping);
        let error = error_line(outcome);
        assert!(causes.iter().any(|cause| error.contains(cause)), "{case}: one of {causes:?} wanted in {error}");
        self.stage.assert_failed(outcome, DUMP_FAILED, &case);
        self.assert_nothing_stays(&case);
        table::note(fault, self.keeping, outcome.code, &error);
        self.proxy.let_go();
        let outcome = self.backup().run();
        self.assert_succeeded(&outcome, &format!("{case}: the next run"));
    }

    /// Exit 0, and one backup with every row; nothing else is left.
    #[track_caller]
    pub fn assert_succeeded(&self, outcome: &Outcome, case: &str) {
        assert_eq!(outcome.code, Some(0), "{case}: {}", outcome.stderr);
        outcome.assert_no_children_left();
        let backups = self.stage.backups();
        let [key] = backups.as_slice() else { panic!("{case}: one backup wanted: {backups:?}") };
        let plain = gunzipped(&s3().get(&self.stage.bucket, key).expect("the backup"));
        let rows = plain.split(|byte| *byte == b'\n').filter(|line| line.split(|byte| *byte == b'\t').count() == 2);
        assert_eq!(rows.count(), ROWS, "{case}");
        assert_eq!(s3().open_uploads(&self.stage.bucket), [""; 0], "{case}");
        self.assert_nothing_stays(case);
    }

    /// Notes what came of a fault that costs no backup.
    pub fn note_success(&self, fault: &str, message: &str) {
        table::note(fault, self.keeping, Some(0), message);
    }

    /// No file in the spool, and no session on the server.
    #[track_caller]
    fn assert_nothing_stays(&self, case: &str) {
        let left = files(self.spool.path().to_owned());
        assert!(left.iter().all(|path| path.ends_with("lock")), "{case}: {left:?}");
        let question = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name LIKE 'pg_s3_backup %'",
            self.database.name
        );
        eventually(|| self.server.psql("postgres", &question) == Ok("0".to_owned()), || case.to_owned());
    }
}

/// All files below a directory.
fn files(directory: PathBuf) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![directory]);
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
            if entry.path().is_dir() { open.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found
}

/// The one line that says why.
#[track_caller]
fn error_line(outcome: &Outcome) -> String {
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(" ERROR ")).collect();
    let [line] = lines.as_slice() else { panic!("one ERROR line wanted:\n{}", outcome.stderr) };
    (*line).to_owned()
}
