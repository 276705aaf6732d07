//! The drill of the latest backup of each database, or of a named one, which `check --restore-to` and `daemon` run.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::Utc;
use tracing::{Instrument as _, Span};

use crate::archive::ReadProgress;
use crate::archive::drill::DrillRecord;
use crate::archive::name::BackupName;
use crate::cli::{BackupRef, DrillArgs};
use crate::codec::age::Identities;
use crate::config::table::DRILL_CONNECTION_STRING;
use crate::config::{DrillSettings, Problems};
use crate::databases::DatabasePatterns;
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

use super::destinations::{DATABASES_FLAG, DatabaseDestination, Destinations};

/// A drill of the latest backup of each database, or of a named one.
pub(super) struct DrillJob {
    /// With the outage budget of a backup, because a drill may read for hours.
    s3: S3Settings,
    databases: Option<DatabasePatterns>,
    target: PostgresSettings,
    jobs: usize,
    identities: Option<Identities>,
    check_sql: CheckSql,
    search_path: Option<String>,
    allowed: Allowed,
    /// The backup to drill; `None` for the latest of each database.
    backup: Option<BackupRef>,
}

/// The drill of one database.
pub(super) struct DatabaseDrill {
    /// Where its backups are; `None` if it is not known what to drill.
    place: Option<DatabaseDestination>,
    /// Its result.
    pub report: DrillReport,
}

impl DatabaseDrill {
    /// A drill for which no destination was found.
    pub fn without_backup(verdict: DrillVerdict) -> Self {
        Self { place: None, report: without_backup(verdict) }
    }

    /// The database, with `BACKUP_DATABASES`.
    pub fn database(&self) -> Option<&str> {
        self.place.as_ref()?.database.as_deref()
    }

    /// The span of the database's events.
    pub fn span(&self) -> Span {
        self.place.as_ref().map_or_else(Span::none, DatabaseDestination::span)
    }

    /// The name and the destination of the database, for its metrics.
    pub fn labels(&self) -> Option<(String, String)> {
        self.place.as_ref()?.labels()
    }
}

/// What is drilled: a backup, or the latest of a database.
struct Subject {
    place: DatabaseDestination,
    backup: Option<BackupName>,
}

impl DrillJob {
    /// The drill that settings and flags ask for; `None` if they name no server.
    ///
    /// # Errors
    /// Every problem of the flags.
    pub fn of(
        args: &DrillArgs,
        (s3, databases): (&S3Settings, Option<&DatabasePatterns>),
        settings: &DrillSettings,
    ) -> Result<Option<Self>, Problems> {
        let (target, jobs, identities) = (settings.target.clone(), settings.jobs, settings.identities.clone());
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
        let (s3, databases) = (s3.clone(), databases.cloned());
        Ok(target.map(|target| Self {
            s3,
            databases,
            target,
            jobs,
            identities,
            check_sql,
            search_path,
            allowed,
            backup: None,
        }))
    }

    /// The drill of a named backup.
    pub fn of_backup(self, backup: Option<BackupRef>) -> Self {
        Self { backup, ..self }
    }

    /// Runs the drills one after the other, and calls `ended` as each ends. One that fails does not stop the others.
    ///
    /// # Errors
    /// A signal.
    pub async fn run(
        &self,
        writer: &LogWriter,
        choice: ProgressStyleChoice,
        interrupts: &Interrupts,
        mut ended: impl FnMut(DatabaseDrill),
    ) -> Result<(), Error> {
        let finding = async { Ok::<_, Error>(self.find().await) };
        let subjects = match interrupts.until_signal(finding).await? {
            Ok(subjects) => subjects,
            Err(verdict) => {
                ended(DatabaseDrill::without_backup(verdict));
                return Ok(());
            }
        };
        for subject in subjects {
            let span = subject.place.span();
            let report = self.drill(&subject, writer, choice, interrupts).instrument(span).await?;
            ended(DatabaseDrill { place: Some(subject.place), report });
        }
        Ok(())
    }

    async fn drill(
        &self,
        subject: &Subject,
        writer: &LogWriter,
        choice: ProgressStyleChoice,
        interrupts: &Interrupts,
    ) -> Result<DrillReport, Error> {
        let choosing = async { Ok::<_, Error>(subject.choose(self.identities.as_ref()).await) };
        let chosen = match interrupts.until_signal(choosing).await? {
            Ok(chosen) => chosen,
            Err(verdict) => return Ok(without_backup(verdict)),
        };
        let display = Mutex::new(None);
        let show = |progress: Arc<ReadProgress>| {
            let bytes = progress.bytes();
            let started = Display::of_reading(writer, choice, move || progress.read(), bytes);
            *display.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
        };
        let options =
            &RestoreOptions { search_path: self.search_path.clone(), jobs: self.jobs, ..RestoreOptions::default() };
        let (destination, chosen) = (&subject.place.destination, &chosen);
        let identities = self.identities.as_ref();
        let request = Request { destination, chosen, options, identities, interrupts, show: &show };
        let Self { target, check_sql, allowed, .. } = self;
        let drill = Drill { request: &request, target, check_sql, allowed: *allowed };
        drill.run().await.map_err(Error::Interrupted)
    }

    /// Finds what to drill.
    async fn find(&self) -> Result<Vec<Subject>, DrillVerdict> {
        let not_proven = |error: Error| DrillVerdict::NotProven(Finding::new(Chain(&error).to_string()));
        let root = Destination::open(&self.s3).await.map_err(|error| not_proven(error.into()))?;
        let places = Destinations::find(root, self.databases.as_ref()).await;
        let places = places.map_err(|error| not_proven(error.into()))?;
        if let Some(wanted @ BackupRef::Named { .. }) = &self.backup {
            let (place, backup) = places.locate(wanted, DATABASES_FLAG).await.map_err(not_proven)?;
            return Ok(vec![Subject { place: place.clone(), backup }]);
        }
        if places.each().is_empty() {
            return Err(not_proven(Error::NoBackups { location: places.location() }));
        }
        Ok(places.each().iter().map(|place| Subject { place: place.clone(), backup: None }).collect())
    }
}

impl Subject {
    async fn choose(&self, identities: Option<&Identities>) -> Result<Chosen, DrillVerdict> {
        let not_proven = |error: RestoreError| {
            let found = Finding::new(Chain(&error).to_string());
            match &error {
                RestoreError::DamagedManifest { .. } => DrillVerdict::Fail(found),
                _ => DrillVerdict::NotProven(found),
            }
        };
        let wanted = self.backup.map_or(Wanted::Latest, Wanted::Named);
        let destination = &self.place.destination;
        let chosen = restore::choose(destination, wanted, Evidence::Manifest).await.map_err(not_proven)?;
        let Some(chosen) = chosen else {
            let place = self.place.location();
            return Err(DrillVerdict::NotProven(Finding::new(match self.backup {
                Some(name) => format!("there is no backup {name} at {place}"),
                None => format!("there is no backup at {place}"),
            })));
        };
        Ok(chosen.with_names((destination, identities)).await)
    }
}

/// The result of a drill for which no backup was found.
fn without_backup(verdict: DrillVerdict) -> DrillReport {
    DrillReport { file_name: None, verdict, record: None, not_written: None }
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
