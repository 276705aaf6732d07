//! Tells systemd how the daemon is: ready, what it does, still alive, stopping. Silent without `NOTIFY_SOCKET`.
//!
//! Used by the scheduler's loop. What cannot be told is worth a line at DEBUG and nothing else.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// The way to the service manager.
#[derive(Debug)]
pub struct Notifier {
    /// How often the watchdog wants to hear from us, halved; systemd's own advice (`sd_watchdog_enabled(3)`).
    every: Option<Duration>,
    heard: Option<Instant>,
}

impl Notifier {
    /// For this process, as its environment says.
    #[must_use]
    pub fn of_process() -> Self {
        Self { every: sd_notify::watchdog_enabled().map(|limit| limit / 2), heard: None }
    }

    /// How often [`Self::beat`] must be called for the watchdog to be content.
    #[must_use]
    pub fn every(&self) -> Option<Duration> {
        self.every
    }

    /// It has started, and does this.
    pub fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// It does this now.
    pub fn status(&self, status: &str) {
        tell(&[NotifyState::Status(status)]);
    }

    /// It is about to end.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    }

    /// The loop has turned. Passed on to the watchdog as often as it wants.
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
