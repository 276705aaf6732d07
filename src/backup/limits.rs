//! What ends a run from outside: a signal, or `BACKUP_MAX_DURATION`.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::interrupt::Interrupts;

use super::BackupError;

/// Time for all work after a limit is reached. The program exits within 10 s of a signal; the rest is for reports.
pub(super) const EXIT_TIME: Duration = Duration::from_secs(8);
/// Time to delete files after a limit is reached.
const DELETE_TIME: Duration = Duration::from_secs(1);
/// The part of [`EXIT_TIME`] in which a started commit may go on; the rest is for aborting it.
pub(super) const COMMIT_GRACE: Duration = Duration::from_secs(6);

/// The limits of one run.
#[derive(Clone, Debug)]
pub struct Limits {
    interrupts: Interrupts,
    end: Option<(Instant, Duration)>,
}

impl Limits {
    /// Limits from now on.
    #[must_use]
    pub fn new(interrupts: Interrupts, max_duration: Option<Duration>) -> Self {
        Self { interrupts, end: max_duration.map(|limit| (Instant::now() + limit, limit)) }
    }

    /// Waits until a limit is reached; returns the limit.
    pub async fn reached(&self) -> BackupError {
        self.reached_at().await.0
    }

    /// The limit, if it is reached.
    pub(super) async fn already_reached(&self) -> Option<BackupError> {
        tokio::select! {
            biased;
            reason = self.reached() => Some(reason),
            () = std::future::ready(()) => None,
        }
    }

    /// As [`Self::reached`], with the time at which it was.
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

    /// The time left of [`EXIT_TIME`], once a limit is reached.
    pub(super) async fn time_left(&self) -> Duration {
        let (_, at) = self.reached_at().await;
        EXIT_TIME.saturating_sub(at.elapsed())
    }

    /// Does some work, until a limit is reached.
    ///
    /// # Errors
    /// The work's own, or the limit.
    pub async fn within<T>(&self, work: impl Future<Output = Result<T, BackupError>>) -> Result<T, BackupError> {
        self.within_grace(Duration::ZERO, work).await
    }

    /// As [`Self::within`], but lets the work go on until `grace` after a limit.
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

    /// Waits for work that returns no error, until [`DELETE_TIME`] after a limit is reached. Work of [`crate::disk`] then
    /// continues in its thread.
    pub(super) async fn to_the_end(&self, work: impl Future<Output = ()>) {
        let asked = Instant::now();
        let given_up = async {
            let (_, at) = self.reached_at().await;
            sleep_until(at.max(asked) + DELETE_TIME).await;
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

    /// Limits, one of which was reached this long ago.
    fn reached(ago: Duration) -> Limits {
        let interrupts = Interrupts::listen(HangUp::Unhandled).expect("handlers");
        Limits { interrupts, end: Instant::now().checked_sub(ago).map(|end| (end, Duration::from_mins(1))) }
    }

    #[tokio::test]
    async fn exit_time_counts_from_the_limit() {
        let never = std::future::pending::<Result<(), BackupError>>;
        // Shorter than any grace: a grace that is used up ends at once.
        let soon = Duration::from_secs(3);
        let limits = reached(COMMIT_GRACE);
        let ended = timeout(soon, limits.within_grace(COMMIT_GRACE, never())).await.expect("no second grace");
        assert!(matches!(ended, Err(BackupError::TooLong { .. })), "{ended:?}");
        assert!(limits.time_left().await + COMMIT_GRACE <= EXIT_TIME, "the commit's time is spent twice");
        let limits = reached(EXIT_TIME);
        assert_eq!(limits.time_left().await, Duration::ZERO);
        let ended = timeout(soon, limits.within_grace(EXIT_TIME, never())).await.expect("no second exit time");
        assert!(matches!(ended, Err(BackupError::TooLong { .. })), "{ended:?}");
    }

    #[tokio::test]
    async fn work_within_its_grace_is_not_cut_off() {
        let work = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(())
        };
        let done = reached(Duration::ZERO).within_grace(EXIT_TIME, work).await;
        assert!(done.is_ok(), "{done:?}");
    }
}
