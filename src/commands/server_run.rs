//! The result of a run with several databases: for people, for programs, and for whoever is notified.

use std::collections::BTreeSet;
use std::time::Duration;

use bytesize::ByteSize;
use chrono::Utc;
use serde::Serialize;

use crate::backup::{BackupError, DatabaseRun, Report};
use crate::error::Error;
use crate::error_chain::Chain;
use crate::exit_code::ExitCode;
use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::printable::{counted, printable};
use crate::telemetry::LogWriter;
use crate::telemetry::metrics::{self, MetricsStore, RunResult};

use super::Context;
use super::table::cut;

/// Each database of a run, with its result.
#[derive(Debug)]
pub(super) struct ServerRun {
    /// By name.
    pub databases: Vec<DatabaseRun>,
    /// Destination and name of the databases that this run left out, because they do not need another backup.
    pub others: Vec<(String, String)>,
    /// `s3://bucket/path/` of the server.
    pub location: String,
    /// Of the run.
    pub elapsed: Duration,
}

/// What `backup --json` prints.
#[derive(Serialize)]
pub(super) struct ServerReport {
    success: bool,
    databases: Vec<Report>,
    /// Why no database was tried.
    error: Option<String>,
}

impl ServerReport {
    /// Of a run that failed before its databases.
    pub fn failure(error: String) -> Self {
        Self { success: false, databases: Vec::new(), error: Some(error) }
    }
}

impl ServerRun {
    /// The databases that failed.
    pub fn failed(&self) -> impl Iterator<Item = (&DatabaseRun, &BackupError)> {
        self.databases.iter().filter_map(|run| Some((run, run.outcome.as_ref().err()?)))
    }

    /// Their names.
    pub fn failed_names(&self) -> BTreeSet<String> {
        self.failed().map(|(run, _)| run.database.clone()).collect()
    }

    /// The exit code: a signal's, else the lowest of those that failed.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::of_several(self.failed().map(|(_, error)| error.exit_code())).unwrap_or(ExitCode::Ok)
    }

    /// # Errors
    /// If a database failed.
    pub fn verdict(&self) -> Result<(), Error> {
        let failed: Vec<String> = self.failed_names().into_iter().collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(Error::Databases { failed, databases: self.databases.len(), code: self.exit_code() })
    }

    /// The result in one line.
    pub fn summary(&self) -> String {
        let bytes: u64 = self.reports().filter_map(Report::bytes).map(|(_, stored)| stored).sum();
        let (done, size) = (self.reports().count(), ByteSize(bytes).display().iec());
        let (all, seconds) = (counted(self.databases.len(), "database"), self.elapsed.as_secs_f64());
        format!("{}: {done} of {all} backed up, {size} in {seconds:.1} s", self.location)
    }

    /// Each failure in a line, for a notification.
    pub fn failures(&self, writer: &LogWriter) -> String {
        let line = |(run, error): (&DatabaseRun, &BackupError)| {
            let cause = writer.clean(&Chain(error).to_string());
            format!("{}: exit code {}: {cause}", printable(&run.database), error.exit_code().number())
        };
        self.failed().map(line).collect::<Vec<_>>().join("\n")
    }

    /// For `--json`.
    pub fn report(&self, context: &Context<'_>) -> ServerReport {
        let report = |run: &DatabaseRun| match &run.outcome {
            Ok(report) => report.clone(),
            Err(error) => {
                let cause = context.writer.clean(&Chain(error).to_string());
                Report::failure(&run.attempt, cause, run.elapsed).of_database(&run.database, error.exit_code())
            }
        };
        let databases: Vec<Report> = self.databases.iter().map(report).collect();
        ServerReport { success: self.failed().next().is_none(), databases, error: None }
    }

    /// Records the run in the metrics, after its databases.
    pub fn record(&self, metrics: &MetricsStore) {
        let tried = self.databases.iter().map(|run| (run.database.as_str(), label(&run.destination)));
        let others = self.others.iter().map(|(destination, database)| (database.as_str(), label(destination)));
        metrics.server_ended(&metrics::ServerRun {
            ended: Utc::now(),
            elapsed: self.elapsed,
            exit_code: self.exit_code().number(),
            databases: &tried.chain(others).collect::<Vec<_>>(),
            failed: self.failed().count() as u64,
        });
    }

    /// A table of the databases, and the result in one line; names are cut to fit this many columns.
    pub fn table(&self, columns: Option<usize>) -> String {
        let heading = ["DATABASE", "SIZE", "RATIO", "TIME", "RESULT"].map(str::to_owned);
        let rows: Vec<[String; 5]> = std::iter::once(heading).chain(self.databases.iter().map(row)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let [mut w0, w1, w2, w3, w4] = [0, 1, 2, 3, 4].map(width);
        if let Some(columns) = columns {
            w0 = w0.min(columns.saturating_sub(w1 + w2 + w3 + w4 + 4).max(LEAST_NAME));
        }
        let line = |[name, size, ratio, time, result]: &[String; 5]| {
            format!("{:<w0$} {size:>w1$} {ratio:>w2$} {time:>w3$} {result}", cut(name, w0))
        };
        let lines: Vec<String> = rows.iter().map(line).chain([self.summary()]).collect();
        lines.join("\n")
    }

    fn reports(&self) -> impl Iterator<Item = &Report> {
        self.databases.iter().filter_map(|run| run.outcome.as_ref().ok())
    }
}

/// A name keeps at least this many characters.
const LEAST_NAME: usize = 8;

fn row(run: &DatabaseRun) -> [String; 5] {
    let time = format!("{:.1} s", run.elapsed.as_secs_f64());
    let database = printable(&run.database).into_owned();
    match &run.outcome {
        Ok(report) => {
            let size = report.bytes().map(|(_, stored)| ByteSize(stored).display().iec().to_string());
            let ratio = report.ratio().map(|ratio| format!("{ratio:.2}"));
            [database, size.unwrap_or_default(), ratio.unwrap_or_default(), time, "ok".to_owned()]
        }
        Err(error) => {
            let code = error.exit_code();
            [database, "-".to_owned(), "-".to_owned(), time, format!("{} ({})", code.name(), code.number())]
        }
    }
}

/// A destination as the label of metrics.
pub(super) fn label(destination: &str) -> &str {
    destination.trim_end_matches('/')
}

/// Logs how the backup of a database ended, and records it in the metrics.
pub(super) fn report(run: &DatabaseRun, metrics: &MetricsStore) {
    let code = run.outcome.as_ref().map_or_else(BackupError::exit_code, |_| ExitCode::Ok);
    let store = metrics.of_database(&run.database, label(&run.destination));
    store.ended(&result(code, run.elapsed, run.outcome.as_ref().ok()));
    log(run);
}

/// The result of a backup for the metrics.
pub(super) fn result(code: ExitCode, elapsed: Duration, report: Option<&Report>) -> RunResult<'_> {
    RunResult {
        bytes: report.and_then(Report::bytes),
        bottleneck: report.and_then(Report::bottleneck),
        retention: report.and_then(Report::retention),
        ..RunResult::without_backup(Utc::now(), elapsed, code.number())
    }
}

fn log(run: &DatabaseRun) {
    let database = &run.database;
    match &run.outcome {
        Ok(report) => {
            tracing::info!(target: FOR_MACHINES, database, result = report.summary(), "backup completed");
            tracing::info!(target: FOR_PEOPLE, "{database}: {}", report.summary());
        }
        Err(error) => {
            let exit_code = error.exit_code().number();
            tracing::error!(command = "backup", exit_code, database, error = %Chain(error), "backup failed");
        }
    }
}
