//! Runs a backup, or one of each database of a server, for `backup` and `daemon`: resolves settings, shows progress, notifies metrics
//! and pings.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::backup::{
    Attempt, Backup, BackupSettings, DatabaseRuns, Limits, MixedDatabases, Report, ServerBackup, ShowProgress,
};
use crate::config::{self, BackupConfig};
use crate::databases::DatabasePatterns;
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupts;
use crate::pipeline::Progress;
use crate::telemetry::metrics::MetricsStore;
use crate::telemetry::{Display, PingUrl, Pings, ProgressStyleChoice, RunningDumps, ping};

use super::Context;
use super::server_run::{self, ServerReport, ServerRun};

/// The options of a run that are not settings.
#[derive(Clone, Debug)]
pub(super) struct RunOptions {
    /// How progress is shown.
    pub choice: ProgressStyleChoice,
    /// Whether another database's backups in the destination are accepted.
    pub mixed_databases: MixedDatabases,
    /// Whether a transaction pooler is accepted.
    pub allows_pooler: bool,
    /// Of several databases only these.
    pub only: Option<BTreeSet<String>>,
    /// Where the running dumps are listed.
    pub dumps: RunningDumps,
}

/// What a run made.
pub(super) enum Done {
    /// One backup.
    Backup(Box<Report>),
    /// A backup of each database of a server, as far as they did not fail.
    Databases(ServerRun),
}

/// A run and its result.
#[derive(Default)]
pub(super) struct RunOutcome {
    /// What was made, unless the run failed before.
    pub done: Option<Done>,
    /// Why there is no backup, or that databases have none.
    pub error: Option<Error>,
    /// How far the run came.
    pub attempt: Attempt,
    /// Its duration.
    pub elapsed: Duration,
}

impl RunOutcome {
    /// A run that failed before it started.
    pub fn failed(error: Error) -> Self {
        Self { error: Some(error), ..Self::default() }
    }

    /// The databases of a server that failed; `None` if it is not known.
    pub fn failed_databases(&self) -> Option<BTreeSet<String>> {
        match &self.done {
            Some(Done::Databases(run)) => Some(run.failed_names()),
            Some(Done::Backup(_)) | None => None,
        }
    }

    /// The exit code.
    pub fn exit_code(&self) -> ExitCode {
        self.error.as_ref().map_or(ExitCode::Ok, Error::exit_code)
    }

    /// What was made, in one line.
    pub fn summary(&self) -> String {
        match &self.done {
            Some(Done::Backup(report)) => report.summary(),
            Some(Done::Databases(run)) => run.summary(),
            None => String::new(),
        }
    }

    /// # Errors
    /// Why there is no backup, or that databases have none.
    pub fn verdict(self) -> Result<(), Error> {
        self.error.map_or(Ok(()), Err)
    }

    /// Prints the result.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn print(&self, context: &Context<'_>, is_json: bool) -> Result<(), Error> {
        match (&self.done, is_json) {
            (Some(Done::Backup(report)), true) => context.print_json(report),
            (Some(Done::Databases(run)), true) => context.print_json(&run.report(context)),
            (Some(Done::Backup(report)), false) => context.print(&report.summary()),
            (Some(Done::Databases(run)), false) => context.print(&run.table(super::columns())),
            (None, true) => {
                let cause = self.error.as_ref().map(|error| context.cause(error)).unwrap_or_default();
                if config::means_several_databases(context.flags, context.environment) {
                    return context.print_json(&ServerReport::failure(cause));
                }
                context.print_json(&Report::failure(&self.attempt, cause, self.elapsed))
            }
            (None, false) => Ok(()),
        }
    }
}

/// Takes one backup, or one of each database. It resolves the settings now, because secret files may have changed.
pub(super) async fn run_backup(
    context: &Context<'_>,
    options: RunOptions,
    metrics: &MetricsStore,
    interrupts: Interrupts,
) -> RunOutcome {
    let began = Instant::now();
    let mut attempt = Attempt::default();
    let outcome = Box::pin(run(context, options, (metrics, interrupts), &mut attempt)).await;
    let (done, error) = match outcome {
        Ok(Done::Databases(run)) => {
            let error = run.verdict().err();
            (Some(Done::Databases(run)), error)
        }
        Ok(done) => (Some(done), None),
        Err(error) => (None, Some(error)),
    };
    RunOutcome { done, error, attempt, elapsed: began.elapsed() }
}

async fn run(
    context: &Context<'_>,
    options: RunOptions,
    (metrics, interrupts): (&MetricsStore, Interrupts),
    attempt: &mut Attempt,
) -> Result<Done, Error> {
    let BackupConfig { mut settings, effective } =
        config::backup(context.flags, context.environment).map_err(Error::Settings)?;
    settings.postgres.allows_pooler = options.allows_pooler;
    effective.announce();
    let limits = Limits::new(interrupts, settings.max_duration);
    if let Some(patterns) = &settings.databases {
        return Box::pin(run_several(context, (&settings, patterns), (options, limits), metrics))
            .await
            .map(Done::Databases);
    }
    let progress = Arc::new(Progress::default());
    let display = Mutex::new(None);
    let show = |estimate| {
        let started = Display::start(context.writer, options.choice, (Arc::clone(&progress), estimate), None);
        let listed = options.dumps.begin(None, Arc::clone(&progress), estimate);
        *display.lock().unwrap_or_else(PoisonError::into_inner) = Some((started, listed));
    };
    let backup = Backup::new(&settings, limits, Arc::clone(&progress), show).mixed_databases(options.mixed_databases);
    Ok(Done::Backup(Box::new(Box::pin(backup.run(attempt)).await?)))
}

async fn run_several(
    context: &Context<'_>,
    (settings, patterns): (&BackupSettings, &DatabasePatterns),
    (options, limits): (RunOptions, Limits),
    metrics: &MetricsStore,
) -> Result<ServerRun, Error> {
    let began = Instant::now();
    let RunOptions { choice, mixed_databases, only, dumps, .. } = options;
    let writer = context.writer.clone();
    let show: ShowProgress = Arc::new(move |database: &str, progress, estimate| {
        let listed = dumps.begin(Some(database), Arc::clone(&progress), estimate);
        Box::new((Display::start(&writer, choice, (progress, estimate), Some(database)), listed))
    });
    let server = ServerBackup { settings, patterns, limits, mixed_databases, only, show };
    let DatabaseRuns { runs, others } = server.run(|run| server_run::report(run, metrics)).await?;
    Ok(ServerRun { databases: runs, others, location: settings.s3.location(), elapsed: began.elapsed() })
}

/// The receivers of one run's result: the metrics and `PING_URL`.
pub(super) struct Notifiers<'a> {
    metrics: &'a MetricsStore,
    pings: Option<Pings>,
}

impl<'a> Notifiers<'a> {
    /// Notifies that the run starts. Must be called within a tokio runtime.
    pub fn begin(metrics: &'a MetricsStore, ping: Option<PingUrl>) -> Self {
        Self { metrics, pings: ping.map(Pings::begin) }
    }

    /// Notifies how it ended.
    pub async fn end(self, context: &Context<'_>, taken: &RunOutcome) {
        let code = taken.exit_code();
        match &taken.done {
            Some(Done::Databases(run)) => run.record(self.metrics),
            Some(Done::Backup(report)) => {
                self.metrics.ended(&server_run::result(code, taken.elapsed, Some(report)));
            }
            None => self.metrics.ended(&server_run::result(code, taken.elapsed, None)),
        }
        let Some(pings) = self.pings else { return };
        let Some(error) = &taken.error else { return pings.succeeded(taken.summary()).await };
        // The cause may quote other programs.
        let mut text = format!("exit code {}: {}", code.number(), context.cause(error));
        if let Some(Done::Databases(run)) = &taken.done {
            text = text + "\n" + &run.failures(context.writer);
        }
        pings.failed(text, if code.is_of_signal() { ping::SHORT_PATIENCE } else { ping::PATIENCE }).await;
    }
}
