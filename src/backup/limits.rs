//! What ends a run from outside: a signal, or `BACKUP_MAX_DURATION`.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::interrupt::Interrupts;

use super::BackupError;

/// What everything that is still done once a limit is reached may take in all: the rest of the 10 s of SPEC §6 is for telling
/// of it.
pub(super) const WAY_OUT: Duration = Duration::from_secs(8);
/// How long files may take to be deleted then.
const MOMENT: Duration = Duration::from_secs(1);
/// How much of it a commit that has begun may go on for; the rest is for giving it up.
pub(super) const COMMIT_GRACE: Duration = Duration::from_secs(6);

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
    pub async fn reached(&self) -> BackupError {
        self.reached_at().await.0
    }

    /// As [`Self::reached`], with the moment since when it is.
    async fn reached_at(&self) -> (BackupError, Instant) {
        let too_long = async {
            match self.end {
                Some((end, limit)) => {
                    sleep_until(end).await;
                    (BackupError::TooLong { limit }, end)
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (interrupt, at) = self.interrupts.received_at() => (BackupError::Interrupted(interrupt), at),
            reached = too_long => reached,
        }
    }

    /// What is left of the way out, once a limit is reached.
    pub(super) async fn time_left(&self) -> Duration {
        let (_, at) = self.reached_at().await;
        WAY_OUT.saturating_sub(at.elapsed())
    }

    /// Does some work unless a limit is reached first.
    ///
    /// # Errors
    /// The work's own, or the limit.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, BackupError>>) -> Result<T, BackupError> {
        tokio::select! {
            done = work => done,
            reason = self.reached() => Err(reason),
        }
    }

    /// As [`Self::within`], but the work may go on until `grace` after a limit: what is nearly done is better ended
    /// well.
    ///
    /// # Errors
    /// The work's own, or the limit.
    pub async fn within_grace<T>(
        &self,
        grace: Duration,
        work: impl Future<Output = Result<T, BackupError>>,
    ) -> Result<T, BackupError> {
        tokio::select! {
            done = work => done,
            reason = async { let (reason, at) = self.reached_at().await; sleep_until(at + grace).await; reason } => Err(reason),
        }
    }
}

impl Limits {
    /// Waits for work that is no reason to end otherwise: to its end, but no more than a moment once a limit is reached. Work
    /// of [`crate::disk`] goes on by itself.
    pub(super) async fn to_the_end(&self, work: impl Future<Output = ()>) {
        let asked = Instant::now();
        let given_up = async {
            let (_, at) = self.reached_at().await;
            sleep_until(at.max(asked) + MOMENT).await;
        };
        tokio::select! {
            () = work => {}
            () = given_up => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::interrupt::HangUp;

    /// Limits of which one was reached so long ago.
    fn reached(ago: Duration) -> Limits {
        let interrupts = Interrupts::listen(HangUp::Unhandled).expect("handlers");
        Limits { interrupts, end: Instant::now().checked_sub(ago).map(|end| (end, Duration::from_mins(1))) }
    }

    #[tokio::test]
    async fn the_way_out_is_counted_from_the_limit_whatever_came_since() {
        let never = std::future::pending::<Result<(), BackupError>>;
        // Shorter than any grace: what is used up ends at once, before the clock is even looked at.
        let soon = Duration::from_secs(3);
        let limits = reached(COMMIT_GRACE);
        let ended = timeout(soon, limits.within_grace(COMMIT_GRACE, never())).await.expect("no grace anew");
        assert!(matches!(ended, Err(BackupError::TooLong { .. })), "{ended:?}");
        assert!(limits.time_left().await + COMMIT_GRACE <= WAY_OUT, "the commit's time is spent twice");
        let limits = reached(WAY_OUT);
        assert_eq!(limits.time_left().await, Duration::ZERO);
        let ended = timeout(soon, limits.within_grace(WAY_OUT, never())).await.expect("no way out anew");
        assert!(matches!(ended, Err(BackupError::TooLong { .. })), "{ended:?}");
    }

    #[tokio::test]
    async fn what_has_its_grace_left_is_not_cut_off() {
        let work = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(())
        };
        let done = reached(Duration::ZERO).within_grace(WAY_OUT, work).await;
        assert!(done.is_ok(), "{done:?}");
    }
}
