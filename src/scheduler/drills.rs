//! The daemon's restore drills: a second schedule beside the backups.
//!
//! [`super::Scheduler`] calls it at every step. A drill never delays a backup: it starts only while no backup runs, and a backup that
//! becomes due starts beside a running drill. A tick during a backup waits for the end of the backup. If it were skipped, a drill with
//! the same schedule as the backups would never run.

use chrono::{DateTime, Utc};
use tokio::task::JoinHandle;

use super::{Heartbeat, RunQueue, Schedule};
use crate::archive::manifest::time_text;

/// Starts a drill.
pub type LaunchDrill = Box<dyn FnMut() -> JoinHandle<()> + Send>;

/// The drills and their schedule.
pub struct Drills {
    /// A failed drill is not retried: its next tick is the retry.
    queue: RunQueue,
    launch: LaunchDrill,
    running: Option<Running>,
    is_waiting: bool,
}

struct Running {
    since: DateTime<Utc>,
    drill: JoinHandle<()>,
}

/// Whether a backup runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backups {
    Idle,
    Running,
}

impl Drills {
    /// No drill runs yet.
    #[must_use]
    pub fn new(schedule: Schedule, launch: LaunchDrill, now: DateTime<Utc>) -> Self {
        Self { queue: RunQueue::new(schedule, Vec::new(), now), launch, running: None, is_waiting: false }
    }

    /// Logs the first tick.
    pub(super) fn begin(&self, heartbeat: &Heartbeat) {
        tracing::info!(next = self.next(), "drills are scheduled");
        heartbeat.drill_planned(None, self.queue.next());
    }

    /// Handles what has ended and what is due.
    pub(super) async fn step(&mut self, now: DateTime<Utc>, backups: Backups, heartbeat: &Heartbeat) {
        if let Some(ended) = self.running.take_if(|running| running.drill.is_finished()) {
            if let Err(error) = ended.drill.await {
                tracing::error!(%error, "the drill panicked");
            }
            tracing::info!(next = self.next(), "the drill has ended");
            heartbeat.drill_planned(None, self.queue.next());
        }
        if let Some(Running { since, .. }) = self.running {
            if let Some(skipped) = self.queue.skip(now) {
                let scheduled = time_text(skipped.scheduled);
                tracing::warn!(scheduled, next = self.next(), "skipped: the drill before it still runs");
                heartbeat.metrics().drill_skipped();
                heartbeat.drill_planned(Some(since), self.queue.next());
            }
            return;
        }
        if backups == Backups::Running {
            let is_due = self.queue.next().is_some_and(|next| next <= now);
            if is_due && !std::mem::replace(&mut self.is_waiting, true) {
                tracing::info!("a drill is due: it waits for the end of the backup");
            }
            return;
        }
        if let Some(due) = self.queue.due(now) {
            self.is_waiting = false;
            tracing::info!(scheduled = due.scheduled().map(time_text), next = self.next(), "a drill is due");
            heartbeat.drill_planned(Some(now), self.queue.next());
            self.running = Some(Running { since: now, drill: (self.launch)() });
        }
    }

    /// The running drill, to wait for its end.
    pub(super) fn into_running(self) -> Option<JoinHandle<()>> {
        self.running.map(|running| running.drill)
    }

    fn next(&self) -> String {
        self.queue.next().map_or_else(|| "never".to_owned(), time_text)
    }
}
