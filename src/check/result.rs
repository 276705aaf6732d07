//! What a check found: one [`CheckResult`] for each thing that was tried, and the [`Report`] of all.
//!
//! Made by the other files of this module, shown by `commands::check`.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::CheckError;
use crate::printable::printable;

/// What was tried.
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
    /// Whether the spool can be written, and has room.
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
    /// Begin, one part and abort of an upload.
    S3Multipart,
    /// The newest backup, and its age.
    Freshness,
    /// Its size against what is asked, and against those before it.
    Size,
    /// Its manifest.
    Manifest,
    /// What HEAD says of it, against the manifest.
    Object,
    /// All of its bytes against the manifest.
    Checksum,
    /// Whether it is one complete gzip member.
    Gzip,
    /// The plain dump in it: its end, and its length, sum and rows against the manifest.
    DumpIntegrity,
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
            Self::DumpIntegrity => "dump_integrity",
        }
    }
}

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Well.
    Ok,
    /// Well enough for a backup, but not as it should be.
    Warn,
    /// Not well.
    Fail,
}

impl Status {
    /// As the table has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What came of one probe.
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

    pub fn warn(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status: Status::Warn, detail: detail.into(), hint: Some(hint.into()) }
    }

    pub fn fail(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status: Status::Fail, detail: detail.into(), hint: Some(hint.into()) }
    }

    /// Of an error, whose text ends with what fixes it.
    pub fn error(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { status: Status::Fail, detail: crate::error_chain::Chain(error).to_string(), hint: None }
    }
}

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct CheckResult {
    /// What was tried.
    pub check: CheckName,
    /// How it went.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What would hint it.
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

/// CheckResults as they come.
pub struct CheckResults<'a> {
    found: Vec<CheckResult>,
    show: Box<dyn FnMut(&mut CheckResult) + 'a>,
    since: Instant,
}

impl<'a> CheckResults<'a> {
    /// With what is called for each as it comes, which may take secrets out of it, and show it.
    pub fn new(show: impl FnMut(&mut CheckResult) + 'a) -> Self {
        Self { found: Vec::new(), show: Box::new(show), since: Instant::now() }
    }

    /// Settings that can be used.
    pub fn settings_are_good(&mut self, detail: String) {
        self.add(CheckName::Settings, Outcome::ok(detail));
    }

    /// Settings that can be used, but should not.
    pub fn settings_are_doubtful(&mut self, detail: String, hint: &str) {
        self.add(CheckName::Settings, Outcome::warn(detail, hint));
    }

    /// Settings that cannot be used.
    pub fn settings_are_bad(&mut self, error: &(dyn std::error::Error + 'static)) {
        self.add(CheckName::Settings, Outcome::error(error));
    }

    /// Takes down what came of a probe; it took the time since the one before.
    pub(super) fn add(&mut self, check: CheckName, verdict: Outcome) {
        let now = Instant::now();
        let elapsed = now - std::mem::replace(&mut self.since, now);
        let Outcome { status, detail, hint } = verdict;
        let mut result = CheckResult { check, status, detail, hint, elapsed_ms: millis(elapsed) };
        (self.show)(&mut result);
        self.found.push(result);
    }

    /// The report of all; `outcome` is how the check ended.
    #[must_use]
    pub fn report<E>(self, outcome: &Result<(), E>) -> Report {
        let count = |status: Status| self.found.iter().filter(|result| result.status == status).count();
        let (failed, warned) = (count(Status::Fail), count(Status::Warn));
        Report { success: outcome.is_ok() && failed == 0, failed, warned, checks: self.found }
    }
}

/// All that was found; the JSON of `check --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    success: bool,
    failed: usize,
    warned: usize,
    checks: Vec<CheckResult>,
}

impl Report {
    /// How many were tried.
    #[must_use]
    pub fn tried(&self) -> usize {
        self.checks.len()
    }

    /// How many went well enough, but not well.
    #[must_use]
    pub fn warned(&self) -> usize {
        self.warned
    }

    /// What the check ends with.
    ///
    /// # Errors
    /// [`CheckError::Failed`] where anything failed.
    pub fn verdict(&self) -> Result<(), CheckError> {
        let failed = self.checks.iter().filter(|result| result.status == Status::Fail);
        let mut words: Vec<&str> = failed.map(|result| result.check.word()).collect();
        if words.is_empty() {
            return Ok(());
        }
        words.dedup();
        Err(CheckError::Failed { failed: self.failed, tried: self.checks.len(), checks: words.join(", ") })
    }
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_one_for_what_mends_it() {
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
    fn names_in_json_are_those_of_the_table() {
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
    fn one_failure_fails_the_check_and_a_warning_does_not() {
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
