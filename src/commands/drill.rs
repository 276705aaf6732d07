//! The drill of the latest or a named backup, which `check --restore-to` and `daemon` run.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;

use crate::archive::ReadProgress;
use crate::archive::drill::DrillRecord;
use crate::cli::{BackupRef, DrillArgs};
use crate::config::Problems;
use crate::config::table::DRILL_CONNECTION_STRING;
use crate::error::Error;
use crate::error_chain::Chain;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupts;
use crate::postgres::PostgresSettings;
use crate::printable::counted;
use crate::restore::{
    self, Allowed, CheckSql, Chosen, Drill, DrillReport, DrillVerdict, Evidence, Finding, Request, RestoreError,
    RestoreOptions, Wanted,
};
use crate::storage::{Destination, S3Settings};
use crate::telemetry::metrics::DrillSample;
use crate::telemetry::{Display, LogWriter, ProgressStyleChoice};

use super::backup_named;

/// A drill of the latest or a named backup.
pub(super) struct DrillJob {
    /// With the outage budget of a backup, because a drill may read for hours.
    s3: S3Settings,
    target: PostgresSettings,
    check_sql: CheckSql,
    search_path: Option<String>,
    allowed: Allowed,
    /// The backup to drill; `None` for the latest.
    backup: Option<BackupRef>,
}

impl DrillJob {
    /// The drill that settings and flags ask for; `None` if they name no server.
    ///
    /// # Errors
    /// Every problem of the flags.
    pub fn of(args: &DrillArgs, s3: &S3Settings, target: Option<PostgresSettings>) -> Result<Option<Self>, Problems> {
        let mut problems = Problems::default();
        let variable = DRILL_CONNECTION_STRING.variable;
        if let Some(flag) = args.given().filter(|_| target.is_none()) {
            let text = format!("{variable} is not set: {flag} belongs to a drill: set it, or give --restore-to");
            problems.push(ExitCode::MissingSetting, text);
        }
        let check_sql = match &args.check_sql {
            None => Ok(CheckSql::default()),
            Some(path) => match fs::read_to_string(path) {
                Ok(text) => CheckSql::parse(&path.display().to_string(), &text).map_err(|error| error.to_string()),
                Err(error) => Err(format!("cannot be read: {error}")),
            }
            .map_err(|why| format!("--check-sql: {} {why}", path.display())),
        };
        let check_sql = check_sql.unwrap_or_else(|text| {
            problems.push(ExitCode::InvalidSetting, text);
            CheckSql::default()
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let allowed = Allowed { same_server: args.allow_same_server, shared_server: args.allow_shared_server };
        let search_path = args.search_path.clone();
        Ok(target.map(|target| Self { s3: s3.clone(), target, check_sql, search_path, allowed, backup: None }))
    }

    /// The drill of a named backup.
    pub fn of_backup(self, backup: Option<BackupRef>) -> Self {
        Self { backup, ..self }
    }

    /// Runs it.
    ///
    /// # Errors
    /// A signal.
    pub async fn run(
        &self,
        writer: &LogWriter,
        choice: ProgressStyleChoice,
        interrupts: &Interrupts,
    ) -> Result<DrillReport, Error> {
        let choosing = async { Ok::<_, Error>(self.choose().await) };
        let (destination, chosen) = match interrupts.until_signal(choosing).await? {
            Ok(chosen) => chosen,
            Err(verdict) => return Ok(DrillReport { file_name: None, verdict, record: None, not_written: None }),
        };
        let display = Mutex::new(None);
        let show = |progress: Arc<ReadProgress>| {
            let bytes = progress.bytes();
            let started = Display::of_reading(writer, choice, move || progress.read(), bytes);
            *display.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        };
        let options = &RestoreOptions { search_path: self.search_path.clone(), ..RestoreOptions::default() };
        let (destination, chosen) = (&destination, &chosen);
        let request = Request { destination, chosen, options, interrupts, show: &show };
        let Self { target, check_sql, allowed, .. } = self;
        let drill = Drill { request: &request, target, check_sql, allowed: *allowed };
        drill.run().await.map_err(Error::Interrupted)
    }

    async fn choose(&self) -> Result<(Destination, Chosen), DrillVerdict> {
        let not_proven = |error: RestoreError| {
            let found = Finding::new(Chain(&error).to_string());
            match &error {
                RestoreError::DamagedManifest { .. } => DrillVerdict::Fail(found),
                _ => DrillVerdict::NotProven(found),
            }
        };
        let destination = Destination::open(&self.s3).await.map_err(|error| not_proven(error.into()))?;
        let named = self.backup.as_ref().map(|backup| backup_named(&destination, backup)).transpose();
        let named = named.map_err(|error| DrillVerdict::NotProven(Finding::new(Chain(&error).to_string())))?.flatten();
        let wanted = named.map_or(Wanted::Latest, Wanted::Named);
        let chosen = restore::choose(&destination, wanted, Evidence::Manifest).await.map_err(not_proven)?;
        let place = destination.location(&destination.key(""));
        let chosen = chosen.ok_or_else(|| {
            DrillVerdict::NotProven(Finding::new(match named {
                Some(name) => format!("there is no backup {name} at {place}"),
                None => format!("there is no backup at {place}"),
            }))
        })?;
        Ok((destination, chosen))
    }
}

/// A drill that has just ended, for the metrics.
pub(super) fn sample(report: &DrillReport) -> DrillSample {
    let duration = report.record.as_ref().map(|record| record.duration);
    DrillSample { ended: Utc::now(), result: report.verdict.word(), duration }
}

/// One line about a successful drill.
pub(super) fn summary(record: &DrillRecord) -> String {
    let DrillRecord { file_name, rows, tables, duration, server_version, check_sql, left_out, unchecked, .. } = record;
    let (rows, tables) = (rows.unwrap_or_default(), tables.unwrap_or_default());
    let mut parts = vec![format!(
        "{file_name} was restored in {duration} s on PostgreSQL {server_version}: {rows} rows in {}{}",
        counted(tables, "table"),
        if unchecked.is_none() { ", as recorded" } else { "" }
    )];
    if *check_sql > 0 {
        parts.push(format!(
            "{} of --check-sql returned true",
            if *check_sql == 1 { "1 query".to_owned() } else { format!("{check_sql} queries") }
        ));
    }
    parts.extend(unchecked.as_ref().map(|what| format!("not verified: {what}")));
    if !left_out.is_empty() {
        parts.push(format!("left out: {}", left_out.join(", ")));
    }
    parts.join("; ")
}
