//! The set-up of the fault tests: a bucket behind a fault proxy, a fake `pg_dump` with a real server, and the
//! invariants that hold after every fault (DESIGN §5). Used by `dump_faults`, `storage_faults` and `signals`.

use std::io::Read as _;
use std::sync::OnceLock;

use super::age::AgeKey;
use super::client::eventually;
use super::fake_pg_dump::{Body, FakeDump, FakePgDump};
use super::program::{Outcome, Program, Running};
use super::proxy::{Calls, Fault, FaultProxy, ResetAt, Rule, S3Verb, Seen, StallAt};
use super::servers::{postgres, s3};
use super::setup::gunzipped;

/// The part size in the fault tests: the minimum of S3.
pub const PART: u64 = 5 << 20;
/// Three parts of it, hardly compressible.
pub const THREE_PARTS: Body = Body::Random(11 << 20);

/// Temporary faults of a read, with their names.
pub fn passing_faults() -> [(&'static str, Fault); 4] {
    [
        ("reset", Fault::Reset { at: ResetAt::InAnswer }),
        ("cut off", Fault::TruncatedAnswer),
        ("stalled", Fault::Stall { at: StallAt::DuringAnswer }),
        ("refused for a while", Fault::slow_down()),
    ]
}

/// A bucket behind a proxy, and a dump.
pub struct Stage {
    /// Between the program and the S3 server.
    pub proxy: FaultProxy,
    /// The bucket.
    pub bucket: String,
    /// The fake `pg_dump`.
    pub dump: FakePgDump,
    key: OnceLock<AgeKey>,
}

impl Stage {
    /// Installs a dump as `pg_dump`.
    pub fn new(dump: FakeDump) -> Self {
        let bucket = s3().create_bucket("faults");
        Self { proxy: FaultProxy::start(s3().addr()), bucket, dump: dump.install(), key: OnceLock::new() }
    }

    /// Stores a backup of three parts, and returns its key.
    pub fn with_three_parts() -> (Self, String) {
        let stage = Self::new(FakeDump::new().body(THREE_PARTS));
        stage.backup().run().assert_code(0);
        let key = stage.backups().swap_remove(0);
        (stage, key)
    }

    /// Makes some reads of this object fail: the first two, and every third.
    pub fn break_reads(&self, key: &str, fault: &Fault) {
        self.proxy.clear_rules();
        self.proxy.reset_counts();
        for calls in [Calls::First(2), Calls::EveryNth(3)] {
            self.proxy.rule(Rule::on(S3Verb::GetObject, calls, fault.clone()).key_suffix(key));
        }
    }

    /// A `backup` into the bucket, with deadlines short enough for tests.
    pub fn backup(&self) -> Program {
        self.command("backup")
    }

    /// A `daemon` that takes such backups at the times of a cron expression.
    pub fn daemon(&self, interval: &str) -> Program {
        self.command("daemon").env("BACKUP_INTERVAL", interval).env("LOG_LEVEL", "info")
    }

    /// Another command on the same bucket, with the same settings.
    pub fn command(&self, command: &str) -> Program {
        Program::new()
            .arg(command)
            .env("S3_URL", self.proxy.url())
            .env("S3_ACCESS_KEY", &s3().access_key)
            .env("S3_SECRET_KEY", &s3().secret_key)
            .env("S3_BUCKET", &self.bucket)
            .env("S3_PATH", "app")
            .env("S3_REQUEST_TIMEOUT", "20s")
            .env("BACKUP_PART_SIZE", "5MiB")
            .env("BACKUP_MAX_UPLOAD_OUTAGE", "30s")
            .env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres"))
            .env("PG_DUMP_PATH", self.dump.path())
            .env("LOG_LEVEL", "debug")
    }

    /// The same program, which encrypts for the stage's key.
    pub fn encrypted(&self, program: Program) -> Program {
        program.env("BACKUP_AGE_RECIPIENTS", &self.key().recipient)
    }

    /// The key of its encrypted backups.
    pub fn key(&self) -> &AgeKey {
        self.key.get_or_init(AgeKey::new)
    }

    /// The dump in a stored backup.
    ///
    /// # Panics
    /// If it cannot be read, decrypted or unpacked.
    pub fn dump_in(&self, backup: &str) -> Vec<u8> {
        let object = s3().get(&self.bucket, backup).unwrap_or_else(|error| panic!("{backup}: {error}"));
        gunzipped(&if backup.ends_with(".gz.age") { self.key().decrypted(&object) } else { object })
    }

    /// The server's connection string, with the bucket's name as that of a run's sessions: for [`Self::kill`].
    pub fn named_source(&self) -> String {
        format!("{}?application_name={}", postgres().uri("postgres"), self.bucket)
    }

    /// Kills a run of [`Self::named_source`], and waits until the server has ended its sessions: until then, the run's lock
    /// excludes the next one.
    pub fn kill(&self, running: Running) {
        assert_ne!(self.sessions(), "0", "the run has a session: {}", running.stderr_so_far());
        running.signal("KILL");
        assert_eq!(running.wait().signal, Some(9));
        self.wait_for_end_of_sessions();
    }

    /// Waits until the server has ended all sessions of [`Self::named_source`].
    pub fn wait_for_end_of_sessions(&self) {
        eventually(|| self.sessions() == "0", || "the server has not noticed that the run is dead".to_owned());
    }

    fn sessions(&self) -> String {
        let question = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}'", self.bucket);
        postgres().psql("postgres", &question).expect("a count")
    }

    /// The keys of backups in the bucket, without their sidecars.
    pub fn backups(&self) -> Vec<String> {
        let is_backup = |key: &String| {
            [".sql.gz", ".sql.gz.age"].iter().any(|end| key.ends_with(end)) && !key.contains(".globals.")
        };
        self.keys().into_iter().filter(is_backup).collect()
    }

    /// Every key in the bucket.
    pub fn keys(&self) -> Vec<String> {
        s3().keys(&self.bucket, "")
    }

    /// Asserts exit 0 and one backup, equal to the output of `pg_dump`; nothing else is left.
    pub fn assert_committed(&self, outcome: &Outcome, case: &str) {
        assert_eq!(outcome.code, Some(0), "{case}: {}", outcome.stderr);
        let backups = self.backups();
        let [key] = backups.as_slice() else { panic!("{case}: one backup wanted: {backups:?}\n{}", outcome.stderr) };
        let object = s3().get(&self.bucket, key).unwrap_or_else(|error| panic!("{case}: {error}"));
        let mut plain = Vec::new();
        // Reads one member, and checks its CRC-32 and length.
        flate2::read::GzDecoder::new(&object[..])
            .read_to_end(&mut plain)
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(plain == self.dump.output(), "{case}: the backup is not the dump");
        assert!(outcome.stdout_text().contains(key), "{case}: {}", outcome.stdout_text());
        self.assert_nothing_open(outcome, case);
    }

    /// Asserts the exit code, an empty bucket without open uploads, and no child process.
    pub fn assert_failed<'a>(&self, outcome: &'a Outcome, code: i32, case: &str) -> Failed<'a> {
        assert_eq!(outcome.code, Some(code), "{case}: {}", outcome.stderr);
        assert_eq!(self.keys(), Vec::<String>::new(), "{case}: {}", outcome.stderr);
        assert_eq!(outcome.stdout_text(), "", "{case}");
        self.assert_nothing_open(outcome, case);
        Failed(outcome)
    }

    /// Asserts no open upload and no child process. If the answer to starting an upload was lost, its id is unknown: it stays,
    /// without parts, until the cleanup.
    pub fn assert_nothing_open(&self, outcome: &Outcome, case: &str) {
        let is_lost = |seen: &Seen| {
            seen.verb == S3Verb::CreateMultipartUpload && seen.fault.is_some() && seen.upstream_status == Some(200)
        };
        let lost = self.proxy.log().iter().filter(|seen| is_lost(seen)).count();
        let (open, empty) = (s3().open_uploads(&self.bucket), s3().empty_uploads(&self.bucket, "").len());
        assert!(open.len() == empty && empty <= lost, "{case}: {open:?}, {lost} lost: {}", outcome.stderr);
        assert!(outcome.leftover_children().is_empty(), "{case}: {:?}", outcome.leftover_children());
        assert!(self.dump.alive().is_empty(), "{case}: pg_dump still runs");
    }
}

/// A failed run.
pub struct Failed<'a>(&'a Outcome);

impl Failed<'_> {
    /// Asserts that its output has each of these texts.
    pub fn then_names(&self, words: &[&str]) {
        for word in words {
            assert!(self.0.stderr.contains(word), "{word:?} wanted in:\n{}", self.0.stderr);
        }
    }
}
