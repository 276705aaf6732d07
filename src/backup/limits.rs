//! What ends a run from outside: a signal, or `BACKUP_MAX_DURATION`.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::error::Error;
use crate::interrupt::Interrupts;

/// How long a commit that has begun may go on after a signal: SPEC §6 gives the whole way out 10 s.
const COMMIT_GRACE: Duration = Duration::from_secs(6);

/// The limits of one run.
#[derive(Debug)]
pub struct Limits {
    interrupts: Interrupts,
    end: Option<(Instant, Duration)>,
}

impl Limits {
    /// From now on.
    #[must_use]
    pub fn new(interrupts: Interrupts, max_duration: Option<Duration>) -> Self {
        Self { interrupts, end: max_duration.map(|limit| (Instant::now() + limit, limit)) }
    }

    /// Waits until a limit is reached, and says which.
    pub async fn reached(&self) -> Error {
        let too_long = async {
            match self.end {
                Some((end, limit)) => {
                    sleep_until(end).await;
                    Error::TooLong { limit }
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            interrupt = self.interrupts.received() => Error::Interrupted(interrupt),
            error = too_long => error,
        }
    }

    /// Does some work unless a limit is reached first.
    ///
    /// # Errors
    /// The work's own, or the limit.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            done = work => done,
            reason = self.reached() => Err(reason),
        }
    }

    /// As [`Self::within`], but a limit gives the work a few seconds more: what is nearly done is better ended well.
    ///
    /// # Errors
    /// The work's own, or the limit.
    pub async fn within_grace<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            done = work => done,
            reason = async { let reason = self.reached().await; sleep(COMMIT_GRACE).await; reason } => Err(reason),
        }
    }
}
