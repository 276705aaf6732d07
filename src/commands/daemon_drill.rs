//! The drills of `daemon`: runs one at each tick of `DRILL_INTERVAL`, and reports it to the log, the metrics and `/status`.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::archive::drill::{DrillRecord, DrillResult};
use crate::cli::DrillArgs;
use crate::config::{self, DaemonConfig, Problems};
use crate::databases::DatabasePatterns;
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupts;
use crate::restore::{DrillReport, DrillVerdict, Finding};
use crate::scheduler::{Drills, Heartbeat, LastDrill};
use crate::storage::{Destination, S3Settings};
use crate::telemetry::metrics::DrillSample;
use crate::telemetry::{ProgressStyleChoice, Redactor};

use super::OwnedContext;
use super::destinations::Destinations;
use super::drill::{DatabaseDrill, DrillJob, sample, summary, without_backup, worst};

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
    let backups = (&config.backup.s3, config.backup.databases.as_ref());
    DrillJob::of(args, backups, config.drill.target.clone())?;
    let Some(schedule) = config.drill.schedule.clone() else { return Ok(None) };
    tracing::info!(drills = %schedule, "the daemon runs restore drills");
    tokio::spawn(tokio::time::timeout(
        PATIENCE,
        find_last(backups.0.clone(), backups.1.cloned(), Arc::clone(heartbeat)),
    ));
    let (owned, args) = (Arc::clone(owned), args.clone());
    let (heartbeat, interrupts) = (Arc::clone(heartbeat), interrupts.clone());
    let launch = move || {
        let (owned, args) = (Arc::clone(&owned), args.clone());
        tokio::spawn(once(owned, args, Arc::clone(&heartbeat), interrupts.clone()))
    };
    Ok(Some(Drills::new(schedule, Box::new(launch), Utc::now())))
}

/// One drill of each database. It resolves the settings now, because secret files may have changed.
async fn once(owned: Arc<OwnedContext>, args: DrillArgs, heartbeat: Arc<Heartbeat>, interrupts: Interrupts) {
    let context = owned.context();
    context.writer.learn(Redactor::new(config::secrets(context.flags, context.environment)));
    let inner = Arc::clone(&owned);
    let run = tokio::spawn(async move { Box::pin(run(&inner, &args, &interrupts)).await });
    let drills = match run.await.unwrap_or_else(|panic| Err(Error::Internal(panic.into()))) {
        Ok(drills) => drills,
        Err(Error::Interrupted(signal)) => {
            tracing::warn!(%signal, "the drill was stopped");
            return;
        }
        Err(error) => {
            let report = without_backup(DrillVerdict::NotProven(Finding::new(context.cause(&error))));
            log(&report);
            vec![DatabaseDrill { database: None, report }]
        }
    };
    if let Some(report) = worst(&drills) {
        heartbeat.drilled(LastDrill { sample: sample(report), file_name: report.file_name.clone() });
    }
}

/// Runs the drills, and logs each as it ends.
async fn run(owned: &OwnedContext, args: &DrillArgs, interrupts: &Interrupts) -> Result<Vec<DatabaseDrill>, Error> {
    let context = owned.context();
    let config = config::drill(context.flags, context.environment).map_err(Error::Settings)?;
    let backups = (&config.s3, config.databases.as_ref());
    let job = DrillJob::of(args, backups, config.drill.target).map_err(Error::Settings)?;
    let job = job.ok_or_else(|| Error::Internal(anyhow::anyhow!("DRILL_CONNECTION_STRING is not set any more")))?;
    let mut drills = Vec::new();
    let ended = |drill: DatabaseDrill| {
        drill.span().in_scope(|| log(&drill.report));
        drills.push(drill);
    };
    job.run(context.writer, ProgressStyleChoice::Lines, interrupts, ended).await?;
    Ok(drills)
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

/// Reads the newest record of each database, so that metrics and `/status` know the last drill after a restart.
async fn find_last(s3: S3Settings, databases: Option<DatabasePatterns>, heartbeat: Arc<Heartbeat>) {
    let found = async {
        let root = Box::pin(Destination::open(&s3)).await?;
        let listings = Destinations::find(root, databases.as_ref()).await?.listings().await?;
        let mut found = Vec::new();
        for listing in listings {
            found.extend(listing.last_drill().await);
        }
        Ok::<_, Error>(found)
    };
    match found.await {
        // Of several databases, a failed one, else the one that was drilled first.
        Ok(records) => {
            let last = records.iter().filter_map(last_drill);
            let last = last.min_by_key(|last| (last.sample.result == DrillResult::Ok.word(), last.sample.ended));
            if let Some(last) = last {
                heartbeat.found_drill(last);
            }
        }
        Err(error) => tracing::info!(%error, "the last drill is unknown, because the destination cannot be listed"),
    }
}

fn last_drill(record: &DrillRecord) -> Option<LastDrill> {
    let ended = DateTime::parse_from_rfc3339(&record.finished_at).ok()?.to_utc();
    let sample = DrillSample { ended, result: record.result.word(), duration: Some(record.duration) };
    Some(LastDrill { file_name: Some(record.file_name.clone()), sample })
}
