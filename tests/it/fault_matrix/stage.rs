//! Runs one cell and determines the outcome: exit code, object, sidecars, old backups, uploads, spool, processes, log. Used by
//! [`super::sheet`].

use std::sync::LazyLock;
use std::time::Duration;

use tempfile::TempDir;

use super::cell::{Cell, Outcome, Parts, Scene};
use crate::support::age::{AgeKey, Encryption};
use crate::support::fake_pg_dump::{Body, End, FakeDump, FakePgDump};
use crate::support::faulty::THREE_PARTS;
use crate::support::program::{self, Program};
use crate::support::proxy::{FaultProxy, S3Verb};
use crate::support::servers::{postgres, s3};
use crate::support::setup::gunzipped;
use crate::support::stored::name_of_day;

/// Days of the old backups. Retention keeps three, including the new one.
const OLD: std::ops::RangeInclusive<u32> = 1..=5;
/// The value of `--keep-last`.
const KEEP: &str = "3";
/// The day of the abandoned upload that `prune` aborts.
const ABANDONED: u32 = 9;
/// S3 gives times in full seconds: an upload that was started so long ago is abandoned by `--sweep-after 1s`.
pub const UNTIL_STALE: Duration = Duration::from_millis(2_100);
/// The fields of a manifest that retention and the next backup read.
const MANIFEST: &[u8] = br#"{"object_bytes": 300, "partial": false, "database": "postgres"}"#;

/// The key of all encrypted backups.
static KEY: LazyLock<AgeKey> = LazyLock::new(AgeKey::new);

/// The dumps that a worker uses for its cells, one after the other.
pub struct Dumps {
    small: FakePgDump,
    three_parts: FakePgDump,
    failing: FakePgDump,
}

impl Dumps {
    /// Installs them.
    pub fn new() -> Self {
        let install = |body, end| FakeDump::new().body(body).end(end).install();
        Self {
            small: install(Body::Random(16 << 10), End::Exit(0)),
            three_parts: install(THREE_PARTS, End::Exit(0)),
            failing: install(Body::Random(16 << 10), End::Exit(1)),
        }
    }

    fn of(&self, scene: Scene, parts: Parts) -> &FakePgDump {
        match (scene, parts) {
            (Scene::FailedDump, _) => &self.failing,
            (_, Parts::Three) => &self.three_parts,
            (_, Parts::One) => &self.small,
        }
    }
}

/// A separate destination for one cell, behind its own proxy.
pub struct Stage<'a> {
    scene: Scene,
    bucket: &'a str,
    path: String,
    proxy: FaultProxy,
    dump: &'a FakePgDump,
    spool: TempDir,
    encryption: Encryption,
}

/// Stores what a run finds: old backups, an abandoned upload.
pub fn prepare(scene: Scene, bucket: &str, path: &str) {
    let put = |name: &str, body: &[u8]| {
        s3().request("PUT", &format!("/{bucket}/{path}/{name}"), body).expect("stored");
    };
    if matches!(scene, Scene::Streamed | Scene::Prune) {
        for name in OLD.map(name_of_day) {
            put(&name, &[b'x'; 300]);
            put(&format!("{name}.json"), MANIFEST);
        }
    }
    if scene == Scene::Prune {
        let upload = format!("/{bucket}/{path}/{}?uploads=", name_of_day(ABANDONED));
        s3().request("POST", &upload, b"").expect("started");
    }
}

impl<'a> Stage<'a> {
    /// Prepares a run of this scene.
    pub fn new((scene, parts): (Scene, Parts), (bucket, path): (&'a str, String), dumps: &'a Dumps) -> Self {
        let spool = tempfile::tempdir().expect("a directory");
        let (proxy, dump, encryption) = (FaultProxy::start(s3().addr()), dumps.of(scene, parts), Encryption::None);
        Self { scene, bucket, path, proxy, dump, spool, encryption }
    }

    /// With runs that encrypt, or do not.
    pub fn with(self, encryption: Encryption) -> Self {
        Self { encryption, ..self }
    }

    /// Returns the calls of a run without a fault, in order.
    pub fn calls(&self) -> Vec<S3Verb> {
        let outcome = self.program().run();
        let wanted = if self.scene == Scene::FailedDump { 11 } else { 0 };
        outcome.assert_code(wanted);
        self.proxy.log().into_iter().map(|seen| seen.verb).collect()
    }

    /// Runs a cell and returns its outcome.
    pub fn run(&self, cell: &Cell) -> Outcome {
        self.proxy.rule(cell.rule());
        // Timeouts that are not tested are long, so that a busy machine meets none; three stalled attempts take longer than 12 s.
        let timeout = match (cell.is_stall(), cell.scene) {
            (false, _) => "20s",
            // Aborting an upload takes at most 8 s: there must be time for a second attempt after a stalled one.
            (true, Scene::FailedDump) => "2s",
            (true, _) => "5s",
        };
        let budget = match (cell.hinders(), cell.is_stall()) {
            (false, _) => "60s",
            (true, true) => "12s",
            (true, false) => "300ms",
        };
        let program = self.program().env("S3_REQUEST_TIMEOUT", timeout).env("BACKUP_MAX_UPLOAD_OUTAGE", budget);
        let run = program.run();
        let case = || format!("{cell}\n{}", run.stderr);
        assert!(self.proxy.log().iter().any(|seen| seen.fault.is_some()), "the fault did not occur: {}", case());
        let is_logged = cell.injection.signs.iter().any(|sign| run.stderr.contains(sign));
        assert!(is_logged || !cell.hinders(), "the log does not name the cause: {}", case());
        assert!(run.leftover_children().is_empty() && self.dump.alive().is_empty(), "left running: {}", case());
        let outcome = self.outcome(&run);
        if outcome.open && cell.verb == S3Verb::CreateMultipartUpload {
            let prefix = format!("{}/", self.path);
            let empty = s3().empty_uploads(self.bucket, &prefix).len();
            let open = s3().open_uploads(self.bucket).iter().filter(|key| key.starts_with(&prefix)).count();
            assert_eq!(open, empty, "an upload with parts is left open: {}", case());
        }
        assert!(outcome == cell.expected(), "expected: {:?}\nfound:    {outcome:?}\n{}", cell.expected(), case());
        if outcome.leaves_work(self.scene) {
            self.finish(cell);
        }
        outcome
    }

    /// Checks that the next run, without faults, leaves nothing over.
    fn finish(&self, cell: &Cell) {
        self.proxy.clear_rules();
        let run = if self.scene == Scene::Spooled {
            self.program().run()
        } else {
            if self.scene != Scene::Prune {
                std::thread::sleep(UNTIL_STALE);
            }
            self.prune().run()
        };
        let case = || format!("the next run after {cell}\n{}", run.stderr);
        assert_eq!(run.code, Some(0), "{}", case());
        if self.scene == Scene::Spooled {
            let keys = self.backups();
            // The next run delivers the kept dump, if it was not committed, and takes a new one.
            assert_eq!((keys.len(), self.kept()), (2, 0), "{keys:?}: {}", case());
            assert!(keys.iter().all(|key| self.is_complete(key)), "{keys:?}: {}", case());
            if self.is_open() {
                assert_eq!(cell.verb, S3Verb::CreateMultipartUpload, "{}", case());
                std::thread::sleep(UNTIL_STALE);
                self.prune().run().assert_code(0);
            }
        }
        if self.scene == Scene::Prune {
            assert!(self.is_pruned(), "{}", case());
        }
        assert!(!self.is_open(), "an upload is left open: {}", case());
    }

    fn program(&self) -> Program {
        match self.scene {
            Scene::Prune => self.prune(),
            Scene::Streamed => self.backup().env("BACKUP_KEEP_LAST", KEEP),
            Scene::Spooled => self.backup().env("BACKUP_SPOOL_DIR", self.spool.path()),
            Scene::FailedDump => self.backup(),
        }
    }

    fn backup(&self) -> Program {
        let program = self.s3_program().arg("backup").env("BACKUP_PART_SIZE", "5MiB");
        let program =
            program.env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres")).env("PG_DUMP_PATH", self.dump.path());
        match self.encryption {
            Encryption::None => program,
            Encryption::Age => program.env("BACKUP_AGE_RECIPIENTS", &KEY.recipient),
        }
    }

    fn prune(&self) -> Program {
        self.s3_program().args(["prune", "--sweep-after=1s", "--keep-last", KEEP])
    }

    fn s3_program(&self) -> Program {
        Program::new()
            .env("S3_URL", self.proxy.url())
            .env("S3_ACCESS_KEY", &s3().access_key)
            .env("S3_SECRET_KEY", &s3().secret_key)
            .env("S3_BUCKET", self.bucket)
            .env("S3_PATH", &self.path)
            .env("LOG_LEVEL", "debug")
    }

    /// Determines the outcome. An incomplete object under a backup's name is never allowed.
    fn outcome(&self, run: &program::Outcome) -> Outcome {
        let code = run.code.unwrap_or_else(|| panic!("ended by signal {:?}", run.signal));
        let keys = self.keys();
        let backups = self.backups();
        assert!(backups.len() <= 1, "{backups:?}");
        let backup = backups.first();
        if let Some(key) = backup {
            assert!(self.is_complete(key), "{key} is not what pg_dump wrote\n{}", run.stderr);
            assert!(code != 0 || run.stdout_text().contains(key.as_str()), "the report: {}", run.stdout_text());
        }
        let has_sidecar = |suffix: &str| backup.is_some_and(|key| keys.contains(&format!("{key}{suffix}")));
        let has_packed = |suffix: &str| match self.encryption {
            Encryption::None => has_sidecar(suffix),
            Encryption::Age => has_sidecar(&format!("{suffix}.age")),
        };
        assert!(
            backup.is_some() || self.scene == Scene::Prune || code != 0,
            "success without a backup\n{}",
            run.stderr
        );
        Outcome {
            code,
            backup: backup.is_some(),
            globals: has_packed(".globals.sql.gz"),
            index: has_packed(".index.json.gz"),
            manifest: has_sidecar(".json"),
            pruned: if self.scene == Scene::Spooled { code == 0 } else { self.is_pruned() },
            open: self.is_open(),
            kept: self.kept() > 0,
        }
    }

    fn keys(&self) -> Vec<String> {
        s3().keys(self.bucket, &format!("{}/", self.path))
    }

    /// Returns the keys of new backups.
    fn backups(&self) -> Vec<String> {
        let old: Vec<String> = OLD.map(|day| format!("{}/{}", self.path, name_of_day(day))).collect();
        let is_new = |key: &String| {
            let is_backup = [".sql.gz", ".sql.gz.age"].iter().any(|end| key.ends_with(end));
            is_backup && !key.contains(".globals.") && !old.iter().any(|old| old == key)
        };
        self.keys().into_iter().filter(is_new).collect()
    }

    fn is_complete(&self, key: &str) -> bool {
        let object = s3().get(self.bucket, key).expect("the backup");
        gunzipped(&if key.ends_with(".gz.age") { KEY.decrypted(&object) } else { object }) == self.dump.output()
    }

    /// Whether retention deleted every backup that no rule keeps. Panics if it deleted another one.
    fn is_pruned(&self) -> bool {
        if !matches!(self.scene, Scene::Streamed | Scene::Prune) {
            return false;
        }
        let keys = self.keys();
        let files = |day: u32| {
            let name = format!("{}/{}", self.path, name_of_day(day));
            [format!("{name}.json"), name]
        };
        let retained = if self.scene == Scene::Streamed { 2 } else { 3 };
        let (left, deleted): (Vec<u32>, Vec<u32>) = OLD.partition(|day| day + retained > *OLD.end());
        let lost: Vec<String> = left.into_iter().flat_map(files).filter(|key| !keys.contains(key)).collect();
        assert!(lost.is_empty(), "deleted although a rule keeps them: {lost:?}");
        deleted.into_iter().flat_map(files).all(|key| !keys.contains(&key))
    }

    fn is_open(&self) -> bool {
        let prefix = format!("{}/", self.path);
        s3().open_uploads(self.bucket).iter().any(|key| key.starts_with(&prefix))
    }

    /// Counts the dumps in the spool.
    fn kept(&self) -> usize {
        let entries = |path: &std::path::Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        let subdirectories = entries(self.spool.path()).map(|entry| entry.path());
        subdirectories
            .flat_map(|subdirectory| entries(&subdirectory).filter(|entry| entry.path().is_dir()).collect::<Vec<_>>())
            .count()
    }
}
