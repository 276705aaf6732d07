//! `backup`: one backup, or one of each database of a server, reported for people or as JSON.

use crate::backup::MixedDatabases;
use crate::cli::BackupArgs;
use crate::config;
use crate::error::Error;
use crate::error_chain::Chain;
use crate::interrupt::Interrupts;
use crate::telemetry::{ProgressStyleChoice, RunningDumps};

use super::Context;
use super::run_backup::{Notifiers, RunOptions, run_backup};

/// Takes the backups and prints their report.
///
/// # Errors
/// Why there is no backup, or which databases have none.
pub async fn run(context: &Context<'_>, args: &BackupArgs, interrupts: Interrupts) -> Result<(), Error> {
    let notifications = config::notifications(context.flags, context.environment);
    let metrics = super::metrics_store(context, &notifications);
    let notifiers = Notifiers::begin(&metrics, notifications.ping);
    let choice = if args.no_progress { ProgressStyleChoice::Lines } else { ProgressStyleChoice::Auto };
    let options = RunOptions {
        choice,
        mixed_databases: MixedDatabases::when(args.allow_mixed),
        allows_pooler: args.pooler.allow_pooler,
        only: None,
        dumps: RunningDumps::default(),
    };
    let taken = run_backup(context, options, &metrics, interrupts).await;
    warn_of(taken.print(context, args.json));
    notifiers.end(context, &taken).await;
    taken.verdict()
}

/// The backup is what counts: a report that cannot be written does not undo it.
fn warn_of(printed: Result<(), Error>) {
    if let Err(error) = printed {
        tracing::warn!(error = %Chain(&error), "the report cannot be written");
    }
}
