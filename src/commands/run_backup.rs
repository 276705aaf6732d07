//! One backup as `backup` and `daemon` take it: settings resolved, progress shown, and those who watch told.

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

/// What the command line says about a run, beside the settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunOptions {
    /// How progress is shown.
    pub choice: ProgressStyleChoice,
    /// What another database's backups in the destination mean.
    pub mixed_databases: MixedDatabases,
    /// Whether a transaction pooler is no reason to refuse.
    pub allows_pooler: bool,
}

/// One run and what came of it.
pub(super) struct RunOutcome {
    /// The report of a success, or why there is no backup.
    pub outcome: Result<Report, Error>,
    /// How far it came.
    pub attempt: Attempt,
    /// From start to end.
    pub elapsed: Duration,
}

impl RunOutcome {
    /// A run that did not come far enough to have more to tell.
    pub fn failed(error: Error) -> Self {
        Self { outcome: Err(error), attempt: Attempt::default(), elapsed: Duration::ZERO }
    }
}

/// Takes one backup, with the settings as they are now: files that hold secrets may have changed.
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
        let started = Display::start(context.writer.bars(), options.choice, Arc::clone(&progress), estimate);
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
    /// Says that the run begins. Must be called within a tokio runtime.
    pub fn begin(metrics: &'a MetricsStore, ping: Option<PingUrl>) -> Self {
        Self { metrics, pings: ping.map(Pings::begin) }
    }

    /// Says how it ended.
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
                // Other programs' words may stand in it.
                let cause = context.writer.clean(&Chain(error).to_string());
                pings.failed(format!("exit code {}: {cause}", code.number()), patience).await;
            }
        }
    }
}
