//! The results of checks: one [`CheckResult`] per check, and the [`Report`] of all.
//!
//! The other files of this module make them, `commands::check` prints them.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::CheckError;
use super::name::CheckName;
use crate::printable::{counted, printable};

/// The most failed checks that the last line names.
const MOST_NAMED: usize = 30;

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
    /// The database, with `BACKUP_DATABASES`; `None` for what all have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
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
        write!(f, "{:<4}  {:<14}  ", self.status.word(), self.check.word())?;
        if let Some(database) = &self.database {
            write!(f, "{}: ", printable(database))?;
        }
        f.write_str(&printable(&self.detail))?;
        match &self.hint {
            Some(hint) => write!(f, "\n{:22}-> {}", "", printable(hint)),
            None => Ok(()),
        }
    }
}

impl CheckResult {
    /// Whether people need not see it: it is ok, and one of several of a database, which the total of the database counts.
    #[must_use]
    pub fn is_counted_only(&self) -> bool {
        let is_seen = matches!(self.check, CheckName::Database | CheckName::Drill);
        self.database.is_some() && self.status == Status::Ok && !is_seen
    }
}

/// Collects the results, and shows each as it arrives.
pub struct CheckResults<'a> {
    found: Vec<CheckResult>,
    /// The database that is checked.
    database: Option<String>,
    show: Box<dyn FnMut(&mut CheckResult) + 'a>,
    since: Instant,
}

impl<'a> CheckResults<'a> {
    /// Calls `show` with each result as it arrives; `show` may remove secrets from it.
    pub fn new(show: impl FnMut(&mut CheckResult) + 'a) -> Self {
        Self { found: Vec::new(), database: None, show: Box::new(show), since: Instant::now() }
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

    /// Sets the database of the results that follow.
    pub fn of_database(&mut self, database: Option<String>) {
        self.database = database;
    }

    /// Shows the total of a database, which is no result of its own.
    pub(super) fn show_total(&mut self, database: &str) {
        let its = || self.found.iter().filter(|result| result.database.as_deref() == Some(database));
        let status = its().map(|result| result.status).max().unwrap_or(Status::Skip);
        let mut not_ok: Vec<&str> =
            its().filter(|result| result.status > Status::Skip).map(|result| result.check.word()).collect();
        not_ok.dedup();
        let ok = counted(its().filter(|result| result.status == Status::Ok).count() as u64, "check");
        let freshness = its().find(|result| result.check == CheckName::Freshness && result.status == Status::Ok);
        let freshness = freshness.map(|result| format!("; {}", result.detail)).unwrap_or_default();
        let not_ok = if not_ok.is_empty() { String::new() } else { format!(", not {}", not_ok.join(", ")) };
        let detail = format!("{ok} ok{not_ok}{freshness}");
        let (check, database) = (CheckName::Database, Some(database.to_owned()));
        (self.show)(&mut CheckResult { check, database, status, detail, hint: None, elapsed_ms: 0 });
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
        let database = self.database.clone();
        let mut result = CheckResult { check, database, status, detail, hint, elapsed_ms: millis(elapsed) };
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
        let of = |result: &CheckResult| match &result.database {
            Some(database) => format!("{} of {}", result.check.word(), printable(database)),
            None => result.check.word().to_owned(),
        };
        let mut words: Vec<String> = failed.map(of).collect();
        if words.is_empty() {
            return Ok(());
        }
        words.dedup();
        let more = words.len().saturating_sub(MOST_NAMED);
        words.truncate(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(CheckError::Failed { failed: self.failed, tried: self.tried(), checks: words.join(", ") + &more })
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
            database: None,
            status: Status::Fail,
            detail: "a\nb".to_owned(),
            hint: Some("do this".to_owned()),
            elapsed_ms: 1,
        };
        assert_eq!(result.to_string(), "fail  s3_put          a\\nb\n                      -> do this");
        let result = CheckResult { database: Some("a\tb".to_owned()), hint: None, ..result };
        assert_eq!(result.to_string(), "fail  s3_put          a\\tb: a\\nb");
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
    fn the_total_of_a_database_is_shown_and_not_counted() {
        let mut shown = Vec::new();
        let mut results = CheckResults::new(|result| {
            if !result.is_counted_only() {
                shown.push(result.to_string());
            }
        });
        for (database, privileges) in [("app", Outcome::ok("fine")), ("shop", Outcome::warn("unreadable", "grant"))] {
            results.of_database(Some(database.to_owned()));
            results.add(CheckName::Privileges, privileges);
            results.add(CheckName::Freshness, Outcome::ok("it is 3h old"));
            results.of_database(None);
            results.show_total(database);
        }
        assert_eq!(results.report(&Ok::<_, CheckError>(())).tried(), 4);
        assert_eq!(
            shown,
            [
                "ok    database        app: 2 checks ok; it is 3h old",
                "warn  privileges      shop: unreadable\n                      -> grant",
                "warn  database        shop: 1 check ok, not privileges; it is 3h old",
            ]
        );
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
