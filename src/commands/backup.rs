//! `backup`: one backup, reported as a line or as JSON.

use crate::backup::{Mixing, Report};
use crate::cli::BackupArgs;
use crate::config;
use crate::error::{Chain, Error};
use crate::interrupt::Interrupts;
use crate::telemetry::ProgressStyleChoice;
use crate::telemetry::metrics::Ledger;

use super::Context;
use super::take::{Audience, Manner, Taken, take};

/// Takes one backup and prints its report.
///
/// # Errors
/// Why there is no backup.
pub async fn run(context: &Context<'_>, args: &BackupArgs, interrupts: Interrupts) -> Result<(), Error> {
    let watchers = config::watchers(context.flags, context.environment);
    let ledger = Ledger::open(watchers.destination.as_deref(), watchers.metrics_file);
    let audience = Audience::begin(&ledger, watchers.ping);
    let choice = if args.no_progress { ProgressStyleChoice::Lines } else { ProgressStyleChoice::Auto };
    let manner = Manner { choice, mixing: Mixing::when(args.allow_mixed) };
    let taken = take(context, manner, interrupts).await;
    let printed = print(context, args, &taken);
    audience.end(context, &taken).await;
    printed.and(taken.outcome.map(drop))
}

fn print(context: &Context<'_>, args: &BackupArgs, taken: &Taken) -> Result<(), Error> {
    if args.json {
        let report = taken.outcome.as_ref().map_or_else(
            |error| {
                // Other programs' words may stand in it.
                let cause = context.writer.clean(&Chain(error).to_string());
                Report::failure(&taken.attempt, cause, taken.elapsed)
            },
            Report::clone,
        );
        let json = serde_json::to_string(&report).map_err(|error| Error::Internal(error.into()))?;
        warn_of(context.print(&json));
    } else if let Ok(report) = &taken.outcome {
        warn_of(context.print(&report.summary()));
    }
    Ok(())
}

/// The backup is what counts: a report that cannot be written does not undo it.
fn warn_of(printed: Result<(), Error>) {
    if let Err(error) = printed {
        tracing::warn!(error = %Chain(&error), "the report was not written");
    }
}
