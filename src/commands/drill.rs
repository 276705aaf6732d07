//! The drill of `check --restore-to`: restores the latest backup, and adds its result to the other checks.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::archive::ReadProgress;
use crate::archive::drill::DrillRecord;
use crate::check::{CheckResults, Status};
use crate::cli::DrillArgs;
use crate::config::table::DRILL_CONNECTION_STRING;
use crate::config::{CheckConfig, Problems};
use crate::error::Error;
use crate::error_chain::Chain;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupts;
use crate::postgres::PostgresSettings;
use crate::printable::counted;
use crate::restore::{
    self, Allowed, CheckSql, Chosen, Drill, DrillReport, DrillVerdict, Evidence, Request, RestoreError, RestoreOptions,
    Wanted,
};
use crate::storage::{Destination, S3Settings};
use crate::telemetry::{Display, ProgressStyleChoice};

use super::Context;

const DRILL_FAILED: &str = "keep the earlier backups, make a new one, and find out why this one fails";
const NOT_WRITTEN: &str =
    "allow s3:PutObject for the backup's key with .drill.json appended; without it, `list` does not show the drill";

/// A drill of the latest backup.
pub(super) struct DrillOfLatest {
    /// With the outage budget of a backup, because a drill may read for hours.
    s3: S3Settings,
    target: PostgresSettings,
    check_sql: CheckSql,
    allowed: Allowed,
}

/// The drill in `check --json`.
#[derive(Serialize)]
pub(super) struct DrillAnswer {
    /// `ok`, `fail` or `not_proven`.
    result: &'static str,
    /// The sidecar of the backup.
    record: Option<DrillRecord>,
}

impl DrillOfLatest {
    /// The drill that settings and flags ask for; `None` if they name no server.
    ///
    /// # Errors
    /// Every problem of the flags.
    pub fn of(args: &DrillArgs, config: &CheckConfig) -> Result<Option<Self>, Problems> {
        let mut problems = Problems::default();
        let variable = DRILL_CONNECTION_STRING.variable;
        if let Some(flag) = args.given().filter(|_| config.drill.is_none()) {
            let text = format!("{variable} is not set: {flag} belongs to a drill: set it, or give --restore-to");
            problems.push(ExitCode::MissingSetting, text);
        }
        let check_sql = match &args.check_sql {
            None => Ok(CheckSql::default()),
            Some(path) => match fs::read_to_string(path) {
                Ok(text) => CheckSql::parse(&text).map_err(|error| error.to_string()),
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
        let (s3, target) = (config.s3.clone(), config.drill.clone());
        Ok(target.map(|target| Self { s3, target, check_sql, allowed }))
    }

    /// Runs it, and adds its result to `results`.
    ///
    /// # Errors
    /// A signal.
    pub async fn run(
        &self,
        context: &Context<'_>,
        interrupts: &Interrupts,
        results: &mut CheckResults<'_>,
    ) -> Result<DrillAnswer, Error> {
        let DrillReport { verdict, record, not_written } = self.drill(context, interrupts).await?;
        let (result, status, detail, hint) = match (verdict, &record) {
            (DrillVerdict::Ok, record) => {
                let detail = record.as_ref().map(summary).unwrap_or_default();
                let status = if not_written.is_some() { Status::Warn } else { Status::Ok };
                ("ok", status, detail, not_written.as_ref().map(|_| NOT_WRITTEN))
            }
            (DrillVerdict::Fail(reason), _) => ("fail", Status::Fail, reason, Some(DRILL_FAILED)),
            (DrillVerdict::NotProven(reason), _) => ("not_proven", Status::Fail, format!("not proven: {reason}"), None),
        };
        let not_written = not_written.map(|why| format!("; its record was not written: {why}"));
        results.drilled(status, detail + &not_written.unwrap_or_default(), hint);
        Ok(DrillAnswer { result, record })
    }

    async fn drill(&self, context: &Context<'_>, interrupts: &Interrupts) -> Result<DrillReport, Error> {
        let choosing = async { Ok::<_, Error>(self.choose().await) };
        let (destination, chosen) = match interrupts.until_signal(choosing).await? {
            Ok(chosen) => chosen,
            Err(verdict) => return Ok(DrillReport { verdict, record: None, not_written: None }),
        };
        let display = Mutex::new(None);
        let show = |progress: Arc<ReadProgress>| {
            let bytes = progress.bytes();
            let read = move || progress.read();
            let started = Display::of_reading(context.writer, ProgressStyleChoice::Auto, read, bytes);
            *display.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        };
        let (destination, chosen, options) = (&destination, &chosen, &RestoreOptions::default());
        let request = Request { destination, chosen, options, interrupts, show: &show };
        let Self { target, check_sql, allowed, .. } = self;
        let drill = Drill { request: &request, target, check_sql, allowed: *allowed };
        drill.run().await.map_err(Error::Interrupted)
    }

    async fn choose(&self) -> Result<(Destination, Chosen), DrillVerdict> {
        let not_proven = |error: RestoreError| match &error {
            RestoreError::DamagedManifest { .. } => DrillVerdict::Fail(Chain(&error).to_string()),
            _ => DrillVerdict::NotProven(Chain(&error).to_string()),
        };
        let destination = Destination::open(&self.s3).await.map_err(|error| not_proven(error.into()))?;
        let chosen = restore::choose(&destination, Wanted::Latest, Evidence::Manifest).await.map_err(not_proven)?;
        let place = destination.location(&destination.key(""));
        let chosen = chosen.ok_or_else(|| DrillVerdict::NotProven(format!("there is no backup at {place}")))?;
        Ok((destination, chosen))
    }
}

/// One line about a successful drill.
fn summary(record: &DrillRecord) -> String {
    let DrillRecord { file_name, rows, tables, duration, server_version, check_sql, left_out, unchecked, .. } = record;
    let (rows, tables) = (rows.unwrap_or_default(), tables.unwrap_or_default());
    let mut parts = vec![format!(
        "{file_name} was restored in {duration} s on PostgreSQL {server_version}: {rows} rows in {}, as recorded",
        counted(tables, "table")
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
