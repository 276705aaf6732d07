//! `backup`: one backup, reported as a line or as JSON.

use crate::backup::{MixedDatabases, Report};
use crate::cli::BackupArgs;
use crate::config;
use crate::error::Error;
use crate::error_chain::Chain;
use crate::interrupt::Interrupts;
use crate::telemetry::ProgressStyleChoice;
use crate::telemetry::metrics::MetricsStore;

use super::Context;
use super::run_backup::{Notifiers, RunOptions, RunOutcome, run_backup};

/// Takes one backup and prints its report.
///
/// # Errors
/// Why there is no backup.
pub async fn run(context: &Context<'_>, args: &BackupArgs, interrupts: Interrupts) -> Result<(), Error> {
    let notifications = config::notifications(context.flags, context.environment);
    let metrics = MetricsStore::open(notifications.destination.as_deref(), notifications.metrics_file);
    let notifiers = Notifiers::begin(&metrics, notifications.ping);
    let choice = if args.no_progress { ProgressStyleChoice::Lines } else { ProgressStyleChoice::Auto };
    let options = RunOptions {
        choice,
        mixed_databases: MixedDatabases::when(args.allow_mixed),
        allows_pooler: args.pooler.allow_pooler,
    };
    let taken = run_backup(context, options, interrupts).await;
    print(context, args, &taken);
    notifiers.end(context, &taken).await;
    taken.outcome.map(drop)
}

fn print(context: &Context<'_>, args: &BackupArgs, taken: &RunOutcome) {
    if args.json {
        let report = taken
            .outcome
            .as_ref()
            .map_or_else(|error| Report::failure(&taken.attempt, context.cause(error), taken.elapsed), Report::clone);
        warn_of(context.print_json(&report));
    } else if let Ok(report) = &taken.outcome {
        warn_of(context.print(&report.summary()));
    }
}

/// The backup is what counts: a report that cannot be written does not undo it.
fn warn_of(printed: Result<(), Error>) {
    if let Err(error) = printed {
        tracing::warn!(error = %Chain(&error), "the report cannot be written");
    }
}
