//! The drills of `daemon`: runs one at each tick of `DRILL_INTERVAL`, and reports it to the log, the metrics and `/status`.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::archive::Listing;
use crate::archive::drill::DrillRecord;
use crate::cli::DrillArgs;
use crate::config::{self, DaemonConfig, Problems};
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupts;
use crate::restore::{DrillReport, DrillVerdict, Finding};
use crate::scheduler::{Drills, Heartbeat, LastDrill};
use crate::storage::{Destination, S3Settings};
use crate::telemetry::metrics::DrillSample;
use crate::telemetry::{ProgressStyleChoice, Redactor};

use super::OwnedContext;
use super::drill::{DrillJob, sample, summary};

/// The time limit for the record of an earlier drill.
const PATIENCE: Duration = Duration::from_mins(2);

/// The drills that the settings ask for.
///
/// # Errors
/// Every problem of the flags.
pub(super) fn drills(
    owned: &Arc<OwnedContext>,
    args: &DrillArgs,
    (config, heartbeat): (&DaemonConfig, &Arc<Heartbeat>),
    interrupts: &Interrupts,
) -> Result<Option<Drills>, Problems> {
    DrillJob::of(args, &config.backup.s3, config.drill.target.clone())?;
    let Some(schedule) = config.drill.schedule.clone() else { return Ok(None) };
    tracing::info!(drills = %schedule, "the daemon runs restore drills");
    tokio::spawn(tokio::time::timeout(PATIENCE, find_last(config.backup.s3.clone(), Arc::clone(heartbeat))));
    let (owned, args) = (Arc::clone(owned), args.clone());
    let (heartbeat, interrupts) = (Arc::clone(heartbeat), interrupts.clone());
    let launch = move || {
        let (owned, args) = (Arc::clone(&owned), args.clone());
        tokio::spawn(once(owned, args, Arc::clone(&heartbeat), interrupts.clone()))
    };
    Ok(Some(Drills::new(schedule, Box::new(launch), Utc::now())))
}

/// One drill. It resolves the settings now, because secret files may have changed.
async fn once(owned: Arc<OwnedContext>, args: DrillArgs, heartbeat: Arc<Heartbeat>, interrupts: Interrupts) {
    let context = owned.context();
    context.writer.learn(Redactor::new(config::secrets(context.flags, context.environment)));
    let inner = Arc::clone(&owned);
    let run = tokio::spawn(async move { Box::pin(run(&inner, &args, &interrupts)).await });
    let report = match run.await.unwrap_or_else(|panic| Err(Error::Internal(panic.into()))) {
        Ok(report) => report,
        Err(Error::Interrupted(signal)) => {
            tracing::warn!(%signal, "the drill was stopped");
            return;
        }
        Err(error) => {
            let verdict = DrillVerdict::NotProven(Finding::new(context.cause(&error)));
            DrillReport { file_name: None, verdict, record: None, not_written: None }
        }
    };
    log(&report);
    heartbeat.drilled(LastDrill { database: None, sample: sample(&report), file_name: report.file_name });
}

async fn run(owned: &OwnedContext, args: &DrillArgs, interrupts: &Interrupts) -> Result<DrillReport, Error> {
    let context = owned.context();
    let config = config::drill(context.flags, context.environment).map_err(Error::Settings)?;
    let job = DrillJob::of(args, &config.s3, config.drill.target).map_err(Error::Settings)?;
    let job = job.ok_or_else(|| Error::Internal(anyhow::anyhow!("DRILL_CONNECTION_STRING is not set any more")))?;
    job.run(context.writer, ProgressStyleChoice::Lines, interrupts).await
}

fn log(report: &DrillReport) {
    let exit_code = ExitCode::CheckFailed.number();
    let file_name = report.file_name.as_deref();
    match &report.verdict {
        DrillVerdict::Ok => {
            let result = report.record.as_ref().map(summary);
            tracing::info!(file_name, result, "drill completed");
        }
        DrillVerdict::Fail(error) => tracing::error!(file_name, exit_code, %error, "drill failed"),
        DrillVerdict::NotProven(error) => tracing::error!(file_name, exit_code, %error, "drill could not be run"),
    }
    if let Some(error) = &report.not_written {
        tracing::warn!(file_name, error, "the record of the drill was not written");
    }
}

/// Reads the newest record in the destination, so that metrics and `/status` know the last drill after a restart.
async fn find_last(s3: S3Settings, heartbeat: Arc<Heartbeat>) {
    let found = async {
        let destination = Box::pin(Destination::open(&s3)).await?;
        Ok::<_, Error>(Listing::read(&destination).await?.last_drill().await)
    };
    match found.await {
        Ok(record) => record.as_ref().and_then(last_drill).into_iter().for_each(|last| heartbeat.found_drill(last)),
        Err(error) => tracing::info!(%error, "the last drill is unknown, because the destination cannot be listed"),
    }
}

fn last_drill(record: &DrillRecord) -> Option<LastDrill> {
    let ended = DateTime::parse_from_rfc3339(&record.finished_at).ok()?.to_utc();
    let sample = DrillSample { ended, result: record.result.word(), duration: Some(record.duration) };
    Some(LastDrill { database: None, file_name: Some(record.file_name.clone()), sample })
}
