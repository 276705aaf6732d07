//! Runs one backup for `backup` and `daemon`: resolves settings, shows progress, notifies metrics and pings.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::backup::{Attempt, Backup, Limits, MixedDatabases, Report};
use crate::config::{self, BackupConfig};
use crate::error::Error;
use crate::error_chain::Chain;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupts;
use crate::pipeline::Progress;
use crate::telemetry::metrics::{MetricsStore, RunResult};
use crate::telemetry::{Display, PingUrl, Pings, ProgressStyleChoice, ping};

use super::Context;

/// The options of a run that are not settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunOptions {
    /// How progress is shown.
    pub choice: ProgressStyleChoice,
    /// Whether another database's backups in the destination are accepted.
    pub mixed_databases: MixedDatabases,
    /// Whether a transaction pooler is accepted.
    pub allows_pooler: bool,
}

/// A run and its result.
pub(super) struct RunOutcome {
    /// The report, or why there is no backup.
    pub outcome: Result<Report, Error>,
    /// How far the run came.
    pub attempt: Attempt,
    /// Its duration.
    pub elapsed: Duration,
}

impl RunOutcome {
    /// A run that failed before it started.
    pub fn failed(error: Error) -> Self {
        Self { outcome: Err(error), attempt: Attempt::default(), elapsed: Duration::ZERO }
    }
}

/// Takes one backup. It resolves the settings now, because secret files may have changed.
pub(super) async fn run_backup(context: &Context<'_>, options: RunOptions, interrupts: Interrupts) -> RunOutcome {
    let began = Instant::now();
    let mut attempt = Attempt::default();
    let outcome = Box::pin(run(context, options, interrupts, &mut attempt)).await;
    RunOutcome { outcome, attempt, elapsed: began.elapsed() }
}

async fn run(
    context: &Context<'_>,
    options: RunOptions,
    interrupts: Interrupts,
    attempt: &mut Attempt,
) -> Result<Report, Error> {
    let BackupConfig { mut settings, effective } =
        config::backup(context.flags, context.environment).map_err(Error::Settings)?;
    settings.postgres.allows_pooler = options.allows_pooler;
    effective.announce();
    let limits = Limits::new(interrupts, settings.max_duration);
    let progress = Arc::new(Progress::default());
    let display = Mutex::new(None);
    let show = |estimate| {
        let started = Display::start(context.writer, options.choice, Arc::clone(&progress), estimate);
        *display.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    };
    let backup = Backup::new(&settings, limits, Arc::clone(&progress), show).mixed_databases(options.mixed_databases);
    Ok(Box::pin(backup.run(attempt)).await?)
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
        let code = taken.outcome.as_ref().map_or_else(Error::exit_code, |_| ExitCode::Ok);
        let report = taken.outcome.as_ref().ok();
        self.metrics.ended(&RunResult {
            ended: Utc::now(),
            elapsed: taken.elapsed,
            exit_code: code.number(),
            bytes: report.and_then(Report::bytes),
            bottleneck: report.and_then(Report::bottleneck),
            retention: report.and_then(Report::retention),
        });
        let Some(pings) = self.pings else { return };
        match &taken.outcome {
            Ok(report) => pings.succeeded(report.summary()).await,
            Err(error) => {
                let is_stopped = matches!(error, Error::Interrupted(_));
                let patience = if is_stopped { ping::SHORT_PATIENCE } else { ping::PATIENCE };
                // The cause may quote other programs.
                let cause = context.writer.clean(&Chain(error).to_string());
                pings.failed(format!("exit code {}: {cause}", code.number()), patience).await;
            }
        }
    }
}
