//! `prune`: deletes the backups that no rule keeps and aborts stale uploads, or prints the plan. Of several databases each has a plan
//! of its own.

use chrono::Utc;
use serde::Serialize;
use tracing::Instrument as _;

use crate::cli::PruneArgs;
use crate::config::{self, PruneConfig};
use crate::databases::LeftAlone;
use crate::error::Error;
use crate::interrupt::Interrupts;
use crate::log_target::FOR_MACHINES;
use crate::printable::printable;
use crate::retention::{self, Occasion, PlanReport, RetentionReport, RetentionReview, Safety, UploadCleanup};
use crate::storage::{Destination, StorageError};

use super::destinations::{DatabaseDestination, Destinations, Failures};
use super::{Concluded, Context, columns, plan_table};

/// What `prune --json` prints of one destination.
#[derive(Debug, Default, Serialize)]
struct Pruned {
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    s3_location: Option<String>,
    #[serde(flatten)]
    retention: RetentionReport,
    uploads_aborted: usize,
}

impl Pruned {
    fn summary(&self) -> String {
        plan_table::summary(&self.retention, self.s3_location.as_deref().unwrap_or_default())
    }
}

/// The plan of one of several databases.
#[derive(Serialize)]
struct Planned {
    database: Option<String>,
    s3_location: String,
    #[serde(flatten)]
    plan: Option<PlanReport>,
}

/// The results of several databases, as JSON.
#[derive(Serialize)]
struct Several<T> {
    databases: Vec<Concluded<T>>,
    /// Sub-paths that may belong to another deployment.
    left_alone: Vec<LeftAlone>,
}

impl<T> Several<T> {
    /// No results yet; `None` without `BACKUP_DATABASES`.
    fn of(context: &Context<'_>) -> Option<Self> {
        let are_databases = config::means_several_databases(context.flags, context.environment);
        are_databases.then_some(Self { databases: Vec::new(), left_alone: Vec::new() })
    }
}

/// What `prune --json` prints.
#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    One(Pruned),
    Several(Several<Pruned>),
}

/// Prunes each destination, or shows what would be done.
///
/// # Errors
/// If the settings are invalid, a destination cannot be read, or not everything was deleted that the rules say.
pub async fn run(context: &Context<'_>, args: &PruneArgs, interrupts: Interrupts) -> Result<(), Error> {
    if args.dry_run {
        let mut several = Several::of(context);
        let shown = interrupts.until_signal(preview(context, args, &mut several)).await;
        return match several.filter(|_| args.json) {
            Some(several) => context.conclude(true, shown, &several, String::new),
            None => shown.inspect_err(|error| context.print_failure(args.json, error)),
        };
    }
    let mut outcome = Several::of(context).map_or_else(|| Outcome::One(Pruned::default()), Outcome::Several);
    let done = prune(context, args, &interrupts, &mut outcome).await;
    match &outcome {
        // Each was printed as it ended.
        Outcome::Several(_) if !args.json => done,
        Outcome::Several(_) => context.conclude(true, done, &outcome, String::new),
        Outcome::One(pruned) => context.conclude(args.json, done, &outcome, || pruned.summary()),
    }
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
    let looking = async { Ok::<_, Error>((cleanup(args, &config).await, destinations(&config).await?)) };
    let (cleanup, places) = interrupts.until_signal(looking).await?;
    if let Outcome::Several(several) = outcome {
        several.left_alone = places.left_alone().to_vec();
    }
    let mut failures = Failures::default();
    for place in places.each() {
        let mut pruned = Pruned { database: place.database.clone(), ..Pruned::default() };
        let job = PruneJob { config: &config, cleanup: &cleanup, safety: safety(args), interrupts };
        let done = job.run(&place.destination, &mut pruned).instrument(place.span()).await;
        match outcome {
            Outcome::One(only) => *only = pruned,
            Outcome::Several(several) => {
                if done.is_ok() && !args.json {
                    context.print(&pruned.summary())?;
                }
                several.databases.push(concluded(context, &done, pruned));
            }
        }
        failures.keep(place, done)?;
    }
    failures.conclude()
}

/// How a destination is pruned.
struct PruneJob<'a> {
    config: &'a PruneConfig,
    cleanup: &'a UploadCleanup,
    safety: Safety,
    interrupts: &'a Interrupts,
}

impl PruneJob<'_> {
    async fn run(&self, destination: &Destination, pruned: &mut Pruned) -> Result<(), Error> {
        let interrupts = self.interrupts;
        let reviewing = async { Ok::<_, Error>(review(self.config, destination).await?) };
        let review = interrupts.until_signal(reviewing).await?;
        pruned.s3_location = Some(destination.url());
        let stop = || async { _ = interrupts.received().await };
        let enforced = retention::enforce(destination, &review, self.safety, stop).await;
        pruned.retention = enforced.report;
        if enforced.is_stopped {
            return Err(Error::Interrupted(interrupts.received().await));
        }
        let cleaning = async { Ok::<_, Error>(self.cleanup.run(destination, Utc::now()).await) };
        pruned.uploads_aborted = interrupts.until_signal(cleaning).await?;
        enforced.shortfall.map_or(Ok(()), |shortfall| Err(shortfall.into()))
    }
}

/// Shows the plan of each destination. As JSON, those of several databases are collected.
async fn preview(context: &Context<'_>, args: &PruneArgs, several: &mut Option<Several<Planned>>) -> Result<(), Error> {
    let config = config::prune(context.flags, context.environment).map_err(Error::Settings)?;
    let places = destinations(&config).await?;
    if let Some(several) = several {
        several.left_alone = places.left_alone().to_vec();
    }
    let cleanup = cleanup(args, &config).await;
    let mut failures = Failures::default();
    for place in places.each() {
        let planned = plan(context, args, (&config, &cleanup), place).instrument(place.span()).await;
        let (plan, done) = match planned {
            Ok(plan) => (Some(plan), Ok(())),
            Err(error) => (None, Err(error)),
        };
        match (several.as_mut(), plan) {
            (Some(several), plan) => {
                let planned = Planned { database: place.database.clone(), s3_location: place.location(), plan };
                several.databases.push(concluded(context, &done, planned));
            }
            (None, Some(plan)) if args.json => context.print_json(&plan)?,
            (None, _) => {}
        }
        failures.keep(place, done)?;
    }
    failures.conclude()
}

/// The plan of one destination; prints it unless it is for JSON.
async fn plan(
    context: &Context<'_>,
    args: &PruneArgs,
    (config, cleanup): (&PruneConfig, &UploadCleanup),
    place: &DatabaseDestination,
) -> Result<PlanReport, Error> {
    let (destination, safety) = (&place.destination, safety(args));
    let review = review(config, destination).await?;
    retention::log_safety_checks(&review, safety, Occasion::DryRun);
    let stale = cleanup.find(destination, Utc::now()).await;
    let stale: Vec<String> = stale.into_iter().map(|upload| upload.file_name).collect();
    if !args.json {
        let report = RetentionReport::planned(&review, safety);
        let plan = plan_table::of_plan(&review, &stale, &report, (&place.location(), columns()));
        context.print(&match &place.database {
            Some(database) => format!("DATABASE {}\n{plan}\n", printable(database)),
            None => plan,
        })?;
    }
    Ok(PlanReport::new(&review, stale, safety))
}

fn concluded<T>(context: &Context<'_>, done: &Result<(), Error>, outcome: T) -> Concluded<T> {
    Concluded { success: done.is_ok(), outcome, error: done.as_ref().err().map(|error| context.cause(error)) }
}

fn safety(args: &PruneArgs) -> Safety {
    if args.force { Safety::Override } else { Safety::Enforce }
}

async fn cleanup(args: &PruneArgs, config: &PruneConfig) -> UploadCleanup {
    UploadCleanup::after(args.sweep_after.get()).keeping_spooled(config.spool_dir.as_deref()).await
}

async fn destinations(config: &PruneConfig) -> Result<Destinations, Error> {
    let root = Destination::open(&config.s3).await?.with_first_contact();
    let databases = config.databases.as_ref();
    Ok(Destinations::find(root, databases).await?.with_uploads(databases).await)
}

async fn review(config: &PruneConfig, destination: &Destination) -> Result<RetentionReview, StorageError> {
    RetentionReview::load(destination, &config.retention, Utc::now()).await
}
