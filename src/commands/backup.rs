//! `backup`: one backup, reported as a line or as JSON.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::backup::{Attempt, Backup, Limits, Report};
use crate::cli::BackupArgs;
use crate::config;
use crate::error::{Chain, Error};
use crate::interrupt::Interrupts;
use crate::pipeline::Progress;
use crate::telemetry::{Display, ProgressStyleChoice};

use super::Context;

/// Takes one backup and prints its report.
///
/// # Errors
/// Why there is no backup.
pub async fn run(context: &Context<'_>, args: &BackupArgs, interrupts: Interrupts) -> Result<(), Error> {
    let began = Instant::now();
    let mut attempt = Attempt::default();
    let outcome = take(context, args, interrupts, &mut attempt).await;
    if args.json {
        let report = outcome.as_ref().map_or_else(
            |error| {
                // Other programs' words may stand in it.
                let cause = context.writer.clean(&Chain(error).to_string());
                Report::failure(&attempt, cause, began.elapsed())
            },
            Report::clone,
        );
        let json = serde_json::to_string(&report).map_err(|error| Error::Internal(error.into()))?;
        warn_of(context.print(&json));
    } else if let Ok(report) = &outcome {
        warn_of(context.print(&report.summary()));
    }
    outcome.map(drop)
}

async fn take(
    context: &Context<'_>,
    args: &BackupArgs,
    interrupts: Interrupts,
    attempt: &mut Attempt,
) -> Result<Report, Error> {
    let config = config::backup(context.flags, context.environment).map_err(Error::Settings)?;
    let limits = Limits::new(interrupts, config.max_duration);
    let progress = Arc::new(Progress::default());
    let choice = if args.no_progress { ProgressStyleChoice::Lines } else { ProgressStyleChoice::Auto };
    let display = Mutex::new(None);
    let show = |estimate| {
        let started = Display::start(context.writer.bars(), choice, Arc::clone(&progress), estimate);
        *display.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    };
    Box::pin(Backup::new(&config, limits, Arc::clone(&progress), show).run(attempt)).await
}

/// The backup is what counts: a report that cannot be written does not undo it.
fn warn_of(printed: Result<(), Error>) {
    if let Err(error) = printed {
        tracing::warn!(error = %Chain(&error), "the report was not written");
    }
}
