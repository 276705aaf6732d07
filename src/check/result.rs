//! The results of checks: one [`CheckResult`] per check, and the [`Report`] of all.
//!
//! The other files of this module make them, `commands::check` prints them.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::CheckError;
use crate::printable::printable;

/// The name of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckName {
    /// The settings of this program.
    Settings,
    /// Whether `METRICS_FILE` can be written.
    MetricsFile,
    /// Whether `LISTEN` can be listened on.
    Listen,
    /// Whether the host of `PING_URL` can be reached.
    PingUrl,
    /// A connection to PostgreSQL.
    Postgres,
    /// A `pg_dump` that is new enough.
    PgDump,
    /// Whether this role may read everything, and other issues.
    Privileges,
    /// A `pg_dump` without data.
    SchemaDump,
    /// PostgreSQL's clock against this machine's.
    PostgresClock,
    /// Whether the spool can be written and has enough free space.
    Spool,
    /// A listing of the destination.
    S3List,
    /// S3's clock against this machine's.
    S3Clock,
    /// DELETE of the probe object.
    S3Delete,
    /// PUT of the probe object.
    S3Put,
    /// HEAD of the probe object.
    S3Head,
    /// GET of the probe object.
    S3Get,
    /// Start, one part and abort of a multipart upload.
    S3Multipart,
    /// The age of the latest backup.
    Freshness,
    /// Its size against `--min-size` and the backups before it.
    Size,
    /// Its manifest.
    Manifest,
    /// The object's metadata against the manifest.
    Object,
    /// The checksum of its bytes against the manifest.
    Checksum,
    /// Whether it is one complete gzip stream.
    Gzip,
    /// Whether it is complete zstd frames.
    Zstd,
    /// The dump in it: its last line; its length, checksum and rows against the manifest.
    DumpIntegrity,
    /// A restore of the latest backup into a scratch database.
    Drill,
}

impl CheckName {
    /// Its name, in the table and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::MetricsFile => "metrics_file",
            Self::Listen => "listen",
            Self::PingUrl => "ping_url",
            Self::Postgres => "postgres",
            Self::PgDump => "pg_dump",
            Self::Privileges => "privileges",
            Self::SchemaDump => "schema_dump",
            Self::PostgresClock => "postgres_clock",
            Self::Spool => "spool",
            Self::S3List => "s3_list",
            Self::S3Clock => "s3_clock",
            Self::S3Delete => "s3_delete",
            Self::S3Put => "s3_put",
            Self::S3Head => "s3_head",
            Self::S3Get => "s3_get",
            Self::S3Multipart => "s3_multipart",
            Self::Freshness => "freshness",
            Self::Size => "size",
            Self::Manifest => "manifest",
            Self::Object => "object",
            Self::Checksum => "checksum",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::DumpIntegrity => "dump_integrity",
            Self::Drill => "drill",
        }
    }
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It passed.
    Ok,
    /// It did not run, because a check before it did not pass.
    Skip,
    /// A backup succeeds, but something is not as it should be.
    Warn,
    /// A backup fails, or the latest backup is not as asked.
    Fail,
}

impl Status {
    /// Its word in the table and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What a check returns.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub status: Status,
    pub detail: String,
    pub hint: Option<String>,
}

impl Outcome {
    pub fn ok(detail: impl Into<String>) -> Self {
        Self { status: Status::Ok, detail: detail.into(), hint: None }
    }

    /// Of a check that did not run, and why.
    pub fn skip(detail: impl Into<String>) -> Self {
        Self { status: Status::Skip, detail: detail.into(), hint: None }
    }

    pub fn warn(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status: Status::Warn, detail: detail.into(), hint: Some(hint.into()) }
    }

    pub fn fail(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status: Status::Fail, detail: detail.into(), hint: Some(hint.into()) }
    }

    /// Moves the hint, with which the detail ends, out of it.
    pub fn with_hint(self, hint: Option<&str>) -> Self {
        let parts = hint.and_then(|hint| Some((self.detail.strip_suffix(hint)?.strip_suffix(": ")?, hint)));
        let Some((detail, hint)) = parts.map(|(detail, hint)| (detail.to_owned(), hint.to_owned())) else {
            return self;
        };
        Self { detail, hint: Some(hint), ..self }
    }

    /// Of an error. Its text ends with what to do, unless [`Self::with_hint`] moves that.
    pub fn error(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { status: Status::Fail, detail: crate::error_chain::Chain(error).to_string(), hint: None }
    }
}

/// One check and its result.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// Its name.
    pub check: CheckName,
    /// Its result.
    pub status: Status,
    /// What it found.
    pub detail: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl fmt::Display for CheckResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<4}  {:<14}  {}", self.status.word(), self.check.word(), printable(&self.detail))?;
        match &self.hint {
            Some(hint) => write!(f, "\n{:22}-> {}", "", printable(hint)),
            None => Ok(()),
        }
    }
}

/// Collects the results, and shows each as it arrives.
pub struct CheckResults<'a> {
    found: Vec<CheckResult>,
    show: Box<dyn FnMut(&mut CheckResult) + 'a>,
    since: Instant,
}

impl<'a> CheckResults<'a> {
    /// Calls `show` with each result as it arrives; `show` may remove secrets from it.
    pub fn new(show: impl FnMut(&mut CheckResult) + 'a) -> Self {
        Self { found: Vec::new(), show: Box::new(show), since: Instant::now() }
    }

    /// Adds valid settings.
    pub fn settings_are_good(&mut self, detail: String) {
        self.add(CheckName::Settings, Outcome::ok(detail));
    }

    /// Adds valid settings that have a risk.
    pub fn settings_are_doubtful(&mut self, detail: String, hint: &str) {
        self.add(CheckName::Settings, Outcome::warn(detail, hint));
    }

    /// Adds invalid settings.
    pub fn settings_are_bad(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.add(CheckName::Settings, Outcome::error(error));
    }

    /// Adds the result of a drill, which `commands` runs.
    pub fn drilled(&mut self, status: Status, detail: String, hint: Option<String>) {
        self.add(CheckName::Drill, Outcome { status, detail, hint });
    }

    /// Adds a result. The check took the time since the last one.
    pub(super) fn add(&mut self, check: CheckName, verdict: Outcome) {
        let now = Instant::now();
        let elapsed = now - std::mem::replace(&mut self.since, now);
        let Outcome { status, detail, hint } = verdict;
        let mut result = CheckResult { check, status, detail, hint, elapsed_ms: millis(elapsed) };
        (self.show)(&mut result);
        self.found.push(result);
    }

    /// The report of all results; `outcome` is how the command ended.
    #[must_use]
    pub fn report<E>(self, outcome: &Result<(), E>) -> Report {
        let count = |status: Status| self.found.iter().filter(|result| result.status == status).count();
        let (failed, warned) = (count(Status::Fail), count(Status::Warn));
        Report { success: outcome.is_ok() && failed == 0, failed, warned, checks: self.found }
    }
}

/// All results; the JSON of `check --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    success: bool,
    failed: usize,
    warned: usize,
    checks: Vec<CheckResult>,
}

impl Report {
    /// How many checks ran.
    #[must_use]
    pub fn tried(&self) -> usize {
        self.checks.iter().filter(|result| result.status != Status::Skip).count()
    }

    /// How many warned.
    #[must_use]
    pub fn warned(&self) -> usize {
        self.warned
    }

    /// The verdict over all checks.
    ///
    /// # Errors
    /// [`CheckError::Failed`] if a check failed.
    pub fn verdict(&self) -> Result<(), CheckError> {
        let failed = self.checks.iter().filter(|result| result.status == Status::Fail);
        let mut words: Vec<&str> = failed.map(|result| result.check.word()).collect();
        if words.is_empty() {
            return Ok(());
        }
        words.dedup();
        Err(CheckError::Failed { failed: self.failed, tried: self.tried(), checks: words.join(", ") })
    }
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_a_result_on_one_line_and_its_hint_on_the_next() {
        let result = CheckResult {
            check: CheckName::S3Put,
            status: Status::Fail,
            detail: "a\nb".to_owned(),
            hint: Some("do this".to_owned()),
            elapsed_ms: 1,
        };
        assert_eq!(result.to_string(), "fail  s3_put          a\\nb\n                      -> do this");
    }

    #[test]
    fn hint_is_apart_from_the_detail() {
        let outcome = |hint| Outcome::fail("x", "y").with_hint(hint);
        assert_eq!(outcome(None).detail, "x");
        let error = Outcome::error(&std::io::Error::other("refused: start it")).with_hint(Some("start it"));
        assert_eq!((error.detail.as_str(), error.hint.as_deref()), ("refused", Some("start it")));
    }

    #[test]
    fn names_in_json_are_the_words_of_the_table() {
        for probe in [
            CheckName::Settings,
            CheckName::PgDump,
            CheckName::PostgresClock,
            CheckName::S3Multipart,
            CheckName::S3List,
        ] {
            assert_eq!(serde_json::to_value(probe).expect("JSON"), probe.word());
        }
    }

    #[test]
    fn failure_fails_the_report_and_warning_does_not() {
        let mut results = CheckResults::new(|_| {});
        results.add(CheckName::S3Get, Outcome::warn("w", "m"));
        assert!(results.report(&Ok::<_, CheckError>(())).verdict().is_ok());
        let mut results = CheckResults::new(|_| {});
        results.add(CheckName::S3Put, Outcome::fail("f", "m"));
        results.add(CheckName::S3Get, Outcome::ok("fine"));
        let report = results.report(&Ok::<_, CheckError>(()));
        assert!(!report.success && report.verdict().is_err());
    }
}
