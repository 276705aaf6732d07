//! The drills of `daemon`: runs one at each tick of `DRILL_INTERVAL`, and reports it to the log, the metrics and `/status`.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;

use crate::archive::drill::DrillRecord;
use crate::cli::DrillArgs;
use crate::config::{self, DaemonConfig, Problems};
use crate::databases::DatabasePatterns;
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupts;
use crate::restore::{DrillReport, DrillVerdict, Finding};
use crate::scheduler::{Drills, Heartbeat, LastDrill};
use crate::storage::{Destination, S3Settings};
use crate::telemetry::ProgressStyleChoice;
use crate::telemetry::metrics::DrillSample;

use super::OwnedContext;
use super::daemon_inventory::InventoryKeeper;
use super::destinations::{DatabaseDestination, Destinations};
use super::drill::{DatabaseDrill, DrillJob, sample, summary};

/// The time limit for the record of an earlier drill.
const PATIENCE: Duration = Duration::from_mins(2);

/// The drills that the settings ask for.
///
/// # Errors
/// Every problem of the flags.
pub(super) fn drills(
    owned: &Arc<OwnedContext>,
    args: &DrillArgs,
    (config, heartbeat, keeper): (&DaemonConfig, &Arc<Heartbeat>, &InventoryKeeper),
    interrupts: &Interrupts,
) -> Result<Option<Drills>, Problems> {
    let backups = (&config.backup.s3, config.backup.databases.as_ref());
    DrillJob::of(args, backups, &config.drill)?;
    let Some(schedule) = config.drill.schedule.clone() else { return Ok(None) };
    tracing::info!(drills = %schedule, "the daemon runs restore drills");
    tokio::spawn(tokio::time::timeout(
        PATIENCE,
        find_last(backups.0.clone(), backups.1.cloned(), Arc::clone(heartbeat)),
    ));
    let (owned, args) = (Arc::clone(owned), args.clone());
    let (heartbeat, interrupts, keeper) = (Arc::clone(heartbeat), interrupts.clone(), keeper.clone());
    let launch = move || {
        let drill = once(Arc::clone(&owned), args.clone(), Arc::clone(&heartbeat), interrupts.clone());
        let keeper = keeper.clone();
        tokio::spawn(async move {
            drill.await;
            keeper.refresh();
        })
    };
    Ok(Some(Drills::new(schedule, Box::new(launch), Utc::now())))
}

/// One drill of each database. It resolves the settings now, because secret files may have changed.
async fn once(owned: Arc<OwnedContext>, args: DrillArgs, heartbeat: Arc<Heartbeat>, interrupts: Interrupts) {
    let context = owned.learned();
    let (inner, heard) = (Arc::clone(&owned), Arc::clone(&heartbeat));
    let run = tokio::spawn(async move { Box::pin(run(&inner, &args, &heard, &interrupts)).await });
    match run.await.unwrap_or_else(|panic| Err(Error::Internal(panic.into()))) {
        Ok(()) => {}
        Err(Error::Interrupted(signal)) => tracing::warn!(%signal, "the drill was stopped"),
        Err(error) => {
            let verdict = DrillVerdict::NotProven(Finding::new(context.cause(&error)));
            report(&DatabaseDrill::without_backup(verdict), &heartbeat);
        }
    }
}

/// Runs the drills, and reports each as it ends.
async fn run(
    owned: &OwnedContext,
    args: &DrillArgs,
    heartbeat: &Heartbeat,
    interrupts: &Interrupts,
) -> Result<(), Error> {
    let context = owned.context();
    let config = config::drill(context.flags, context.environment).map_err(Error::Settings)?;
    let backups = (&config.s3, config.databases.as_ref());
    let job = DrillJob::of(args, backups, &config.drill).map_err(Error::Settings)?;
    let job = job.ok_or_else(|| Error::Internal(anyhow::anyhow!("DRILL_CONNECTION_STRING is not set any more")))?;
    job.run(context.writer, ProgressStyleChoice::Lines, interrupts, |drill| report(&drill, heartbeat)).await
}

fn report(drill: &DatabaseDrill, heartbeat: &Heartbeat) {
    drill.span().in_scope(|| log(&drill.report));
    let (database, sample) = (drill.labels(), sample(&drill.report));
    heartbeat.drilled(LastDrill { database, sample, file_name: drill.report.file_name.clone() });
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
        let places = Destinations::find(root, databases.as_ref()).await?;
        for (place, listing) in places.each().iter().zip(places.listings().await?) {
            let last = listing.last_drill().await.and_then(|record| last_drill(place, &record));
            if let Some(last) = last {
                heartbeat.found_drill(last);
            }
        }
        Ok::<_, Error>(())
    };
    if let Err(error) = found.await {
        tracing::info!(%error, "the last drill is unknown, because the destination cannot be listed");
    }
}

fn last_drill(place: &DatabaseDestination, record: &DrillRecord) -> Option<LastDrill> {
    let ended = record.ended(Utc::now())?;
    let sample = DrillSample { ended, result: record.result.word(), duration: Some(record.duration) };
    Some(LastDrill { database: place.labels(), file_name: Some(record.file_name.clone()), sample })
}
