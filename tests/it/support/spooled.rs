//! The set-up of [`super::faulty`] with a spool, and runs that leave a dump in it. Used by the tests of the spool.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::fake_pg_dump::FakeDump;
use super::faulty::Stage;
use super::program::{Outcome, Program, Running};
use super::proxy::{Calls, Fault, Rule, S3Verb};
use super::servers::s3;
use super::setup::manifest;

/// A run logs this when its dump can be resumed.
pub const DUMP_ON_DISK: &str = "the dump is complete and on disk";
const SOON: Duration = Duration::from_mins(3);

/// A stage with a spool.
pub struct Spooled {
    stage: Stage,
    dir: TempDir,
}

impl Spooled {
    /// Installs a dump as `pg_dump`.
    pub fn new(dump: FakeDump) -> Self {
        Self { stage: Stage::new(dump), dir: tempfile::tempdir().expect("a directory") }
    }

    /// The spool's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A `backup` with the spool.
    pub fn backup(&self) -> Program {
        let backup = self.stage.backup().env("POSTGRES_CONNECTION_STRING", self.named_source());
        backup.env("BACKUP_SPOOL_DIR", self.dir())
    }

    /// Starts a `backup`, and waits until its dump is complete in the spool. S3 accepts no part from the `nth` on.
    pub fn stuck_from(&self, nth: usize) -> Running {
        self.proxy.rule(Rule::on(S3Verb::UploadPart, Calls::From(nth), Fault::slow_down()));
        let mut running = self.backup().env("BACKUP_MAX_UPLOAD_OUTAGE", "10m").spawn();
        running.wait_for_stderr(DUMP_ON_DISK, SOON);
        running
    }

    /// Kills a `backup` when its dump is complete and S3 accepted the parts before the `nth`. Then S3 works again.
    pub fn killed_from(&self, nth: usize) {
        let running = self.stuck_from(nth);
        let journal = self.only_kept().join("journal");
        let uploaded = || fs::read_to_string(&journal).expect("a journal").matches("{\"uploaded\"").count();
        let deadline = Instant::now() + SOON;
        while uploaded() < nth - 1 {
            assert!(Instant::now() < deadline, "{} of {} parts are noted as uploaded", uploaded(), nth - 1);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill(running);
        self.proxy.clear_rules();
        self.proxy.reset_counts();
        assert_eq!(self.kept().len(), 1, "the dump is kept");
    }

    /// Returns the directories of runs that left files.
    pub fn kept(&self) -> Vec<PathBuf> {
        let entries = |dir: &Path| fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
        let subdirectories = entries(self.dir());
        let runs = subdirectories
            .flat_map(|subdirectory| entries(&subdirectory).collect::<Vec<_>>())
            .filter(|path| path.is_dir());
        runs.collect()
    }

    /// Returns the directory of the only run.
    #[track_caller]
    pub fn only_kept(&self) -> PathBuf {
        let kept = self.kept();
        let [run] = kept.as_slice() else { panic!("one run wanted: {kept:?}") };
        run.clone()
    }

    /// Asserts that the spool has no file of a run.
    #[track_caller]
    pub fn assert_nothing_kept(&self, case: &str) {
        assert_eq!(self.kept(), Vec::<PathBuf>::new(), "{case}");
    }

    /// Asserts exit 0, the number of backups, each complete and with its manifest, and the number of `pg_dump` calls. No upload
    /// is open, and the spool is empty.
    #[track_caller]
    pub fn assert_delivered(&self, outcome: &Outcome, (backups, dumps): (usize, usize), case: &str) {
        assert_eq!(outcome.code, Some(0), "{case}: {}", outcome.stderr);
        let keys = self.backups();
        assert_eq!(keys.len(), backups, "{case}: {keys:?}\n{}", outcome.stderr);
        for key in &keys {
            assert!(self.dump_in(key) == self.dump.output(), "{case}: {key} is not the dump");
            let manifest = manifest(&self.bucket, key);
            assert_eq!(manifest["key"], **key, "{case}");
            let object = s3().get(&self.bucket, key).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(manifest["object_bytes"], object.len(), "{case}");
        }
        assert_eq!(self.dump.pids().len(), dumps, "{case}: calls of pg_dump\n{}", outcome.stderr);
        self.assert_nothing_open(outcome, case);
        self.assert_nothing_kept(case);
    }
}

impl Deref for Spooled {
    type Target = Stage;

    fn deref(&self) -> &Stage {
        &self.stage
    }
}
