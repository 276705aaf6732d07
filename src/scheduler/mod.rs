//! Cron Scheduler: the daemon's loop. It starts runs on the [`Schedule`] until a signal stops it.
//!
//! Called by `commands::daemon`, which defines a run. [`RunQueue`] decides what is due. The loop sleeps in short steps and reads the
//! wall clock after each, because machines suspend and clocks are set. A run is a separate task: if it blocks or panics, the
//! loop still beats for [`Heartbeat`] and systemd's watchdog. [`Drills`] have a schedule of their own, and never delay a backup.

mod drills;
mod heartbeat;
mod run_queue;
mod schedule;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use tokio::task::JoinHandle;

use crate::archive::manifest::time_text;
use crate::interrupt::{Interrupt, Interrupts};
use crate::telemetry::Notifier;
use drills::Backups;

pub use drills::{Drills, LaunchDrill};
pub use heartbeat::{DatabaseHealth, DrillState, Health, Heartbeat, LastDrill};
pub use run_queue::{Due, RunQueue, Skipped};
pub use schedule::Schedule;

/// How often the loop reads the clock.
const STEP: Duration = Duration::from_millis(250);
/// How long a run may take to stop, including its last ping: a little less than the 10 s of the process (`crate::STOP_WITHIN`).
const STOP_GRACE: Duration = Duration::from_millis(9_500);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The backup succeeded.
    Well,
    /// The backup failed, and the failure was reported.
    Badly,
}

/// Starts a run.
pub type Launch = Box<dyn FnMut(Due) -> JoinHandle<Ended> + Send>;
/// Reports a skipped tick that counts as a failed run: not the first in a row, and the last backup is too old.
pub type Missed = Box<dyn FnMut(Skipped) + Send>;

/// The loop and its parts.
pub struct Scheduler {
    run_queue: RunQueue,
    heartbeat: Arc<Heartbeat>,
    notifier: Notifier,
    launch: Launch,
    missed: Missed,
    drills: Option<Drills>,
    step: Duration,
}

/// What the loop waits for, other than the time.
enum Occupation {
    Nothing,
    /// Whether the newest backup is too old. Ticks wait for the answer, which has a deadline.
    Looking(JoinHandle<bool>),
    Running(JoinHandle<Ended>),
}

impl Occupation {
    /// Whether a backup runs, or may be about to.
    fn backups(&self) -> Backups {
        match self {
            Self::Nothing => Backups::Idle,
            Self::Looking(_) | Self::Running(_) => Backups::Running,
        }
    }
}

/// What the loop starts with.
pub enum Opening {
    /// A backup.
    Start,
    /// A look at the stored backups, and a backup if its answer is true.
    Look(JoinHandle<bool>),
}

impl Scheduler {
    /// A loop that has not started.
    #[must_use]
    pub fn new(run_queue: RunQueue, heartbeat: Arc<Heartbeat>, launch: Launch, missed: Missed) -> Self {
        let notifier = Notifier::of_process();
        let step = notifier.every().map_or(STEP, |every| STEP.min(every / 4));
        Self { run_queue, heartbeat, notifier, launch, missed, drills: None, step }
    }

    /// Adds restore drills.
    #[must_use]
    pub fn with_drills(self, drills: Option<Drills>) -> Self {
        Self { drills, ..self }
    }

    /// Runs until a signal, then gives a running backup time to stop.
    pub async fn run(mut self, opening: Opening, interrupts: &Interrupts) -> Interrupt {
        self.notifier.ready(&self.waiting());
        tracing::info!(next = self.next(), "waiting");
        self.heartbeat.planned(None, self.run_queue.next());
        if let Some(drills) = &self.drills {
            drills.begin(&self.heartbeat);
        }
        let mut occupation = match opening {
            Opening::Look(look) => Occupation::Looking(look),
            Opening::Start => self.start(Due::Start),
        };
        loop {
            self.beat();
            occupation = self.step(occupation).await;
            if let Some(drills) = &mut self.drills {
                drills.step(Utc::now(), occupation.backups(), &self.heartbeat).await;
            }
            tokio::select! {
                interrupt = interrupts.received() => {
                    self.stop(occupation).await;
                    return interrupt;
                }
                () = tokio::time::sleep(self.step) => {}
            }
        }
    }

    /// Handles what has ended and what is due.
    async fn step(&mut self, occupation: Occupation) -> Occupation {
        match occupation {
            Occupation::Looking(look) if look.is_finished() => {
                let is_needed = look.await.unwrap_or_else(|error| {
                    tracing::error!(%error, "the look at the destination panicked");
                    false
                });
                match self.run_queue.due(Utc::now()) {
                    Some(due) => self.start(due),
                    None if is_needed => self.start(Due::CatchUp),
                    None => Occupation::Nothing,
                }
            }
            Occupation::Running(run) if run.is_finished() => {
                let ended = run.await.unwrap_or_else(|error| {
                    tracing::error!(%error, "the run panicked");
                    Ended::Badly
                });
                self.ended(ended);
                Occupation::Nothing
            }
            Occupation::Running(run) => {
                if let Some(skipped) = self.run_queue.skip(Utc::now()) {
                    self.skip(skipped);
                }
                Occupation::Running(run)
            }
            Occupation::Looking(look) => Occupation::Looking(look),
            Occupation::Nothing => match self.run_queue.due(Utc::now()) {
                Some(due) => self.start(due),
                None => Occupation::Nothing,
            },
        }
    }

    fn start(&mut self, due: Due) -> Occupation {
        let (now, scheduled) = (Utc::now(), due.scheduled().map(time_text));
        tracing::info!(reason = due.reason(), scheduled, next = self.next(), "a backup is due");
        self.notifier.status(&format!("a backup runs since {}", time_text(now)));
        self.heartbeat.planned(Some(now), self.run_queue.next());
        Occupation::Running((self.launch)(due))
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Well => self.run_queue.succeeded(),
            Ended::Badly => self.run_queue.failed(Utc::now()),
        }
        tracing::info!(next = self.next(), "waiting");
        self.heartbeat.planned(None, self.run_queue.next());
        self.notifier.status(&match ended {
            Ended::Well => self.waiting(),
            Ended::Badly => format!("the last backup failed; {}", self.waiting()),
        });
    }

    fn skip(&mut self, skipped: Skipped) {
        let (scheduled, in_a_row) = (time_text(skipped.scheduled), skipped.in_a_row);
        tracing::warn!(scheduled, in_a_row, next = self.next(), "skipped: the backup before it still runs");
        self.heartbeat.metrics().skipped();
        // The health right before this tick: a long backup is no failure while the previous one is fresh.
        let before = skipped.scheduled - TimeDelta::seconds(1);
        if in_a_row > 1 && !self.heartbeat.health(before).is_healthy {
            (self.missed)(skipped);
        }
    }

    /// Waits for the running backup and the running drill, which received the signal, too.
    async fn stop(mut self, occupation: Occupation) {
        self.notifier.stopping();
        let drill = self.drills.take().and_then(Drills::into_running);
        let run = match occupation {
            Occupation::Nothing => None,
            Occupation::Looking(look) => {
                look.abort();
                None
            }
            Occupation::Running(run) => Some(run),
        };
        let abort_handles = [
            ("backup", run.as_ref().map(JoinHandle::abort_handle)),
            ("drill", drill.as_ref().map(JoinHandle::abort_handle)),
        ];
        let mut ended = std::pin::pin!(async {
            // A panic is an end, too.
            if let Some(run) = run {
                _ = run.await;
            }
            if let Some(drill) = drill {
                _ = drill.await;
            }
        });
        let began = Instant::now();
        while began.elapsed() < STOP_GRACE {
            self.beat();
            if tokio::time::timeout(self.step, &mut ended).await.is_ok() {
                return;
            }
        }
        for (what, handle) in abort_handles {
            if let Some(handle) = handle.filter(|handle| !handle.is_finished()) {
                tracing::warn!("the running {what} does not stop: it is aborted");
                handle.abort();
            }
        }
    }

    fn beat(&mut self) {
        self.heartbeat.beat();
        self.notifier.beat();
    }

    fn next(&self) -> String {
        self.run_queue.next().map_or_else(|| "never".to_owned(), time_text)
    }

    fn waiting(&self) -> String {
        format!("the next backup is due at {}", self.next())
    }
}

#[cfg(test)]
mod tests;
