//! `prune`: deletes the backups that no rule keeps and aborts stale uploads, or prints the plan.

use chrono::Utc;
use serde::Serialize;

use crate::cli::PruneArgs;
use crate::config::{self, PruneConfig};
use crate::error::Error;
use crate::interrupt::Interrupts;
use crate::log_target::FOR_MACHINES;
use crate::retention::{self, Occasion, PlanReport, RetentionReport, RetentionReview, Safety, UploadCleanup};
use crate::storage::Destination;

use super::Context;
use super::plan_table;

/// What `prune --json` prints.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    s3_location: Option<String>,
    #[serde(flatten)]
    retention: RetentionReport,
    uploads_aborted: usize,
}

/// Prunes a destination, or shows what would be done.
///
/// # Errors
/// If the settings are invalid, the destination cannot be read, or not everything was deleted that the rules say.
pub async fn run(context: &Context<'_>, args: &PruneArgs, interrupts: Interrupts) -> Result<(), Error> {
    if args.dry_run {
        let shown = interrupts.until_signal(preview(context, args)).await;
        return shown.inspect_err(|error| context.print_failure(args.json, error));
    }
    let mut outcome = Outcome::default();
    let done = prune(context, args, &interrupts, &mut outcome).await;
    let location = outcome.s3_location.as_deref().unwrap_or_default();
    context.conclude(args.json, done, &outcome, || plan_table::summary(&outcome.retention, location))
}

async fn prune(
    context: &Context<'_>,
    args: &PruneArgs,
    interrupts: &Interrupts,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let config = config::prune(context.flags, context.environment).map_err(Error::Settings)?;
    config.effective.announce();
    tracing::info!(target: FOR_MACHINES, "prune starts");
    let looking = async {
        let cleanup = UploadCleanup::after(args.sweep_after.get()).keeping_spooled(config.spool_dir.as_deref()).await;
        Ok::<_, Error>((cleanup, review(&config).await?))
    };
    let (cleanup, (destination, review)) = interrupts.until_signal(looking).await?;
    outcome.s3_location = Some(destination.location(&destination.key("")));
    let stop = || async { _ = interrupts.received().await };
    let enforced = retention::enforce(&destination, &review, safety(args), stop).await;
    outcome.retention = enforced.report;
    if enforced.is_stopped {
        return Err(Error::Interrupted(interrupts.received().await));
    }
    let cleaning = async { Ok::<_, Error>(cleanup.run(&destination, Utc::now()).await) };
    outcome.uploads_aborted = interrupts.until_signal(cleaning).await?;
    enforced.shortfall.map_or(Ok(()), |shortfall| Err(shortfall.into()))
}

async fn preview(context: &Context<'_>, args: &PruneArgs) -> Result<(), Error> {
    let config = config::prune(context.flags, context.environment).map_err(Error::Settings)?;
    let (destination, review) = review(&config).await?;
    retention::log_safety_checks(&review, safety(args), Occasion::DryRun);
    let cleanup = UploadCleanup::after(args.sweep_after.get()).keeping_spooled(config.spool_dir.as_deref()).await;
    let stale = cleanup.find(&destination, Utc::now()).await;
    let stale: Vec<String> = stale.into_iter().map(|upload| upload.file_name).collect();
    if args.json {
        return context.print_json(&PlanReport::new(&review, stale, safety(args)));
    }
    let report = RetentionReport::planned(&review, safety(args));
    let location = destination.location(&destination.key(""));
    context.print(&plan_table::of_plan(&review, &stale, &report, (&location, super::columns())))
}

fn safety(args: &PruneArgs) -> Safety {
    if args.force { Safety::Override } else { Safety::Enforce }
}

async fn review(config: &PruneConfig) -> Result<(Destination, RetentionReview), Error> {
    let destination = Destination::open(&config.s3).await?.with_first_contact();
    let review = RetentionReview::load(&destination, &config.retention, Utc::now()).await?;
    Ok((destination, review))
}
