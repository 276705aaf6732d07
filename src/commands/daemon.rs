//! `daemon`: takes backups on a schedule until a signal stops it.
//!
//! Invalid settings end the start. Later failures are logged and retried. Each run resolves the settings again, because secret
//! files may change; schedule, address and metrics file stay.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::archive::manifest::time_text;
use crate::backup::{BackupSettings, MixedDatabases};
use crate::cli::DaemonArgs;
use crate::config::{self, DaemonConfig};
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::health::Server;
use crate::interrupt::Interrupts;
use crate::scheduler::{Due, Ended, Heartbeat, Launch, Missed, Opening, RunQueue, Scheduler};
use crate::telemetry::metrics::{MetricsStore, RunResult};
use crate::telemetry::{Pings, ProgressStyleChoice, ping};

use super::daemon_inventory::InventoryKeeper;
use super::run_backup::{Notifiers, RunOptions, RunOutcome, run_backup};
use super::{Context, OwnedContext, catch_up, daemon_drill, log_failure};

/// Takes backups until a signal comes.
///
/// # Errors
/// Settings that cannot be used, an address that cannot be listened on; in the end, the signal.
pub async fn run(context: &Context<'_>, args: &DaemonArgs, interrupts: Interrupts) -> Result<(), Error> {
    let config = config::daemon(context.flags, context.environment).map_err(Error::Settings)?;
    let notifications = config::notifications(context.flags, context.environment);
    let metrics = Arc::new(super::metrics_store(context, &notifications));
    let heartbeat = Arc::new(Heartbeat::new(config.schedule.clone(), Arc::clone(&metrics)));
    let owned = Arc::new(OwnedContext::of(context));
    let keeper = InventoryKeeper::new(&owned, &heartbeat);
    // Served as long as it lives.
    let server = listen(&config, &heartbeat, &keeper).await?;
    config.effective.announce();
    tracing::info!(schedule = %config.schedule, "the daemon starts");
    let run_queue = RunQueue::new(config.schedule.clone(), config.retry_delays.clone(), Utc::now());
    // The first listing plans for the next run.
    heartbeat.planned(None, run_queue.next());
    let drills = daemon_drill::drills(&owned, &args.drill, (&config, &heartbeat, &keeper), &interrupts)
        .map_err(Error::Settings)?;
    // Only the status page and /status need it.
    let _keeping = server.as_ref().map(|_| keeper.keep());
    let pending = Pending::default();
    let opening = if args.run_on_start {
        Opening::Start
    } else {
        let last_tick = config.schedule.last_until(Utc::now()).filter(|_| args.catch_up);
        let store = Arc::clone(&metrics);
        Opening::Look(tokio::spawn(look(config.backup, args.pooler.allow_pooler, store, (last_tick, pending.clone()))))
    };
    let options = RunOptions {
        choice: ProgressStyleChoice::Lines,
        mixed_databases: MixedDatabases::when(args.allow_mixed),
        allows_pooler: args.pooler.allow_pooler,
        only: None,
        dumps: heartbeat.dumps().clone(),
    };
    let launch = launcher(Arc::clone(&owned), Arc::clone(&metrics), (options, pending, keeper), interrupts.clone());
    let scheduler = Scheduler::new(run_queue, heartbeat, launch, reporter(owned, metrics)).with_drills(drills);
    Err(Error::Interrupted(Box::pin(scheduler.run(opening, &interrupts)).await))
}

async fn listen(
    config: &DaemonConfig,
    heartbeat: &Arc<Heartbeat>,
    keeper: &InventoryKeeper,
) -> Result<Option<Server>, Error> {
    let Some(address) = &config.listen else { return Ok(None) };
    let server = Server::start(address, Arc::clone(heartbeat), keeper.cache())
        .await
        .map_err(|source| Error::Listen { address: address.clone(), source })?;
    tracing::info!(address = %server.address(), "listening");
    Ok(Some(server))
}

/// Starts runs.
fn launcher(
    owned: Arc<OwnedContext>,
    metrics: Arc<MetricsStore>,
    (options, pending, keeper): (RunOptions, Pending, InventoryKeeper),
    interrupts: Interrupts,
) -> Launch {
    Box::new(move |due| {
        let (owned, metrics, pending) = (Arc::clone(&owned), Arc::clone(&metrics), pending.clone());
        let only = match due {
            Due::Retry { .. } | Due::CatchUp => pending.get(),
            Due::Tick { .. } | Due::Start => None,
        };
        let (options, interrupts) = (RunOptions { only: only.clone(), ..options.clone() }, interrupts.clone());
        let keeper = keeper.clone();
        tokio::spawn(async move {
            let taken = once(owned, metrics, due, options, interrupts).await;
            keeper.refresh();
            // A run that failed before its databases leaves those that it was for.
            pending.set(taken.failed_databases().or(only));
            if taken.verdict().is_ok() { Ended::Well } else { Ended::Badly }
        })
    })
}

/// Of several databases those that need a backup before the next tick; `None` for all.
#[derive(Clone, Default)]
struct Pending(Arc<Mutex<Option<BTreeSet<String>>>>);

impl Pending {
    fn get(&self) -> Option<BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, databases: Option<BTreeSet<String>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = databases;
    }
}

/// Whether a backup is due at the start.
async fn look(
    mut settings: BackupSettings,
    allows_pooler: bool,
    metrics: Arc<MetricsStore>,
    (last_tick, pending): (Option<DateTime<Utc>>, Pending),
) -> bool {
    settings.postgres.allows_pooler = allows_pooler;
    if let Some(patterns) = settings.databases.clone() {
        let due = catch_up::due_databases(settings, patterns, metrics, last_tick).await;
        let is_due = due.as_ref().is_none_or(|due| !due.is_empty());
        pending.set(due);
        return is_due;
    }
    let kept = catch_up::is_kept(settings.spool_dir, settings.s3.identity());
    let look = catch_up::is_due(settings.s3, metrics, last_tick);
    kept.await | look.await
}

/// One run. Its own panic is a failure like any other.
async fn once(
    owned: Arc<OwnedContext>,
    metrics: Arc<MetricsStore>,
    due: Due,
    options: RunOptions,
    interrupts: Interrupts,
) -> RunOutcome {
    let context = owned.learned();
    let notifiers = Notifiers::begin(&metrics, config::notifications(context.flags, context.environment).ping);
    let (inner, store) = (Arc::clone(&owned), Arc::clone(&metrics));
    let run = async move { run_backup(&inner.context(), options, &store, interrupts).await };
    let taken = match tokio::spawn(run).await {
        Ok(taken) => taken,
        Err(panic) => RunOutcome::failed(Error::Internal(panic.into())),
    };
    let reason = due.reason();
    match &taken.error {
        None => tracing::info!(reason, result = taken.summary(), "backup completed"),
        Some(error) => log_failure("backup", error),
    }
    notifiers.end(&context, &taken).await;
    taken
}

/// Reports a tick that counts as a failed run, as if a backup had found another one running.
fn reporter(owned: Arc<OwnedContext>, metrics: Arc<MetricsStore>) -> Missed {
    Box::new(move |skipped| {
        let exit_code = ExitCode::AlreadyRunning.number();
        let (scheduled, in_a_row) = (time_text(skipped.scheduled), skipped.in_a_row);
        let cause = format!("{in_a_row} backups in a row were skipped, because the one before them still runs");
        tracing::error!(exit_code, scheduled, in_a_row, "{cause}: this counts as a failed backup");
        metrics.ended(&RunResult::without_backup(Utc::now(), Duration::ZERO, exit_code));
        if let Some(url) = config::notifications(&owned.flags, &owned.environment).ping {
            let text = format!("exit code {exit_code}: {cause}");
            tokio::spawn(async move { Pings::only(url).failed(text, ping::PATIENCE).await });
        }
    })
}
