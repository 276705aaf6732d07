//! Notifies systemd of the daemon's state: ready, status, watchdog, stopping. Does nothing without `NOTIFY_SOCKET`.
//!
//! Used by the scheduler's loop. A failed notification is only logged at DEBUG.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The connection to the service manager.
#[derive(Debug)]
pub struct Notifier {
    /// Half the watchdog's interval, as `sd_watchdog_enabled(3)` recommends.
    every: Option<Duration>,
    heard: Option<Instant>,
}

impl Notifier {
    /// Reads the environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self { every: sd_notify::watchdog_enabled().map(|limit| limit / 2), heard: None }
    }

    /// The interval in which [`Self::beat`] must be called for the watchdog.
    #[must_use]
    pub fn every(&self) -> Option<Duration> {
        self.every
    }

    /// Notifies readiness and a status.
    pub fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// Notifies a status.
    pub fn status(&self, status: &str) {
        tell(&[NotifyState::Status(status)]);
    }

    /// Notifies the end.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// The loop is alive. Notifies the watchdog once per interval.
    pub fn beat(&mut self) {
        let Some(every) = self.every else { return };
        if self.heard.is_none_or(|heard| heard.elapsed() >= every) {
            self.heard = Some(Instant::now());
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd is not notified");
    }
}
