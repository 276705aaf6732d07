//! The outer of two retry layers: waits an outage out, until its budget is used up.
//!
//! The SDK tries most requests three times within seconds, and its token bucket empties after about 50 timeouts (FACTS
//! §1). Around it stands this loop, shared by all requests of a run: as long as any of them succeeds, there is no
//! outage. Every request of `upload`, `commit` and `destination` goes through it.
//!
//! An outage begins when something moved last in the first attempt that failed, and ends with a success. It ends the run at its
//! budget, or within one request timeout after it: then an attempt goes on only while its bytes move (`watchdog`). Bytes that
//! move are no success: S3 may refuse all that it takes. Nor are they an outage: what is slow is waited for.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::StorageError;
use super::credentials::RenewableCredentials;
use super::failure::{Failure, FailureKind};

/// SPEC §6: pauses from 0.5 s to 20 s, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// How long a server is waited for that cannot be connected to and has never answered: as a rule its address is wrong.
pub const FIRST_CONTACT: Duration = Duration::from_secs(30);

/// What ends the waiting for S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageLimit {
    /// `BACKUP_MAX_UPLOAD_OUTAGE`
    Budget,
    /// The time for a first connection.
    FirstContact,
}

impl OutageLimit {
    /// What to do after an outage whose last failure this was.
    #[must_use]
    pub fn advice(self, last: &Failure) -> String {
        match self {
            Self::Budget => format!("{}, or raise BACKUP_MAX_UPLOAD_OUTAGE", last.outage_advice()),
            Self::FirstContact => last.outage_advice().to_owned(),
        }
    }
}

/// One attempt, as a type of its own: the SDK's futures are nested so deeply that the compiler gives up a few layers above.
type Attempt<'a, T> = Pin<Box<dyn Future<Output = (Result<T, Failure>, Instant)> + Send + 'a>>;

/// The state of a run's connection to S3.
#[derive(Debug)]
pub struct Outage {
    budget: Duration,
    /// The longest time in which nothing moves in an attempt.
    request_timeout: Duration,
    /// The longest time without a connection, until S3 has answered.
    first_contact: Option<Duration>,
    state: Mutex<State>,
    credentials: Option<Arc<RenewableCredentials>>,
    /// Nothing waits for S3 now: the budget does not end anything.
    is_suspended: AtomicBool,
    /// An attempt has failed.
    disturbed: Notify,
    /// S3 has answered in this run: shared with the budgets that come from this one.
    has_answered: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    /// When something moved last in the first of the attempts that have all failed since.
    since: Option<Instant>,
    failed: u32,
}

impl Outage {
    /// With `BACKUP_MAX_UPLOAD_OUTAGE` as budget, and `S3_REQUEST_TIMEOUT`.
    #[must_use]
    pub fn new(budget: Duration, request_timeout: Duration) -> Self {
        Self {
            budget,
            request_timeout,
            first_contact: None,
            state: Mutex::default(),
            credentials: None,
            is_suspended: AtomicBool::new(false),
            disturbed: Notify::new(),
            has_answered: Arc::default(),
        }
    }

    /// With a limit for a server that cannot be connected to, as long as it has never answered.
    #[must_use]
    pub(super) fn with_first_contact(self, first_contact: Option<Duration>) -> Self {
        Self { first_contact, ..self }
    }

    /// With credentials that can be renewed when S3 says that they have expired.
    #[must_use]
    pub(super) fn renewing(self, credentials: Option<Arc<RenewableCredentials>>) -> Self {
        Self { credentials, ..self }
    }

    /// Lets no budget end anything until [`Self::resume`]: while a dump goes to disk, S3 may take its time.
    pub fn suspend(&self) {
        self.is_suspended.store(true, Ordering::Relaxed);
    }

    /// Lets the budget count again; what was used of it meanwhile is used.
    pub fn resume(&self) {
        self.is_suspended.store(false, Ordering::Relaxed);
    }

    /// Waits for the next attempt that fails, from this call on.
    pub fn disturbed(&self) -> impl Future<Output = ()> {
        self.disturbed.notified()
    }

    /// A budget of its own, for a request that must not live on the success of others.
    #[must_use]
    pub fn afresh(&self) -> Self {
        self.at_most(self.budget)
    }

    /// A budget of its own that is no larger than this.
    #[must_use]
    pub fn at_most(&self, budget: Duration) -> Self {
        let has_answered = Arc::clone(&self.has_answered);
        let fresh = Self::new(self.budget.min(budget), self.request_timeout).renewing(self.credentials.clone());
        Self { has_answered, first_contact: self.first_contact, ..fresh }
    }

    /// Sends a request until it succeeds, is refused, or the budget is used up.
    ///
    /// # Errors
    /// [`StorageError::Refused`] with the last answer, or [`StorageError::Outage`].
    pub async fn persist<T, Sending: Future<Output = Result<T, Failure>> + Send>(
        &self,
        action: &'static str,
        mut request: impl FnMut() -> Sending,
    ) -> Result<T, StorageError> {
        let attempt = || {
            let (began, sending) = (Instant::now(), request());
            async move {
                // The SDK's own attempts count, too: they must not carry the end away.
                let answer = tokio::select! {
                    answer = sending => answer,
                    () = self.overdrawn(began) => Err(Failure::timeout("the outage budget is used up")),
                };
                (answer, began)
            }
        };
        self.keep_trying(action, attempt).await
    }

    /// As [`Self::persist`], for a request that is one attempt and may take as long as its bytes move.
    ///
    /// # Errors
    /// As [`Self::persist`].
    pub(super) async fn persist_while_moving<T, Sending: Future<Output = Result<T, Failure>> + Send>(
        &self,
        action: &'static str,
        mut request: impl FnMut() -> Sending,
    ) -> Result<T, StorageError> {
        let attempt = || {
            let (began, sending) = (Instant::now(), request());
            async move {
                let answer = sending.await;
                // While it went on, something moved in it within each request timeout.
                let moved = Instant::now().checked_sub(self.request_timeout);
                (answer, moved.map_or(began, |moved| moved.max(began)))
            }
        };
        self.keep_trying(action, attempt).await
    }

    /// Tries until one of the attempts succeeds; each says, too, when something moved in it last.
    async fn keep_trying<T, Sending>(
        &self,
        action: &'static str,
        mut attempt: impl FnMut() -> Sending,
    ) -> Result<T, StorageError>
    where
        Sending: Future<Output = (Result<T, Failure>, Instant)> + Send,
    {
        let mut pause = FIRST_PAUSE;
        let mut renewed = false;
        loop {
            let began = Instant::now();
            let attempt: Attempt<'_, T> = Box::pin(attempt());
            let (outcome, moved) = attempt.await;
            match outcome {
                Ok(answer) => {
                    self.succeeded();
                    return Ok(answer);
                }
                Err(failure) if failure.kind == FailureKind::Expired && !renewed && self.renew(began).await => {
                    renewed = true;
                    continue;
                }
                Err(failure) if failure.may_pass_later() && !self.has_answered() => {
                    return Err(StorageError::Refused { action, failure, first: true });
                }
                Err(failure) if !failure.may_pass() => {
                    // An answer is an answer: S3 is there.
                    self.refused(&failure);
                    return Err(StorageError::Refused { action, failure, first: false });
                }
                Err(failure) => self.wait(action, moved, failure, pause).await?,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Takes note of a failed attempt, in which something moved last at this time, and waits, or gives up.
    ///
    /// # Errors
    /// [`StorageError::Outage`] where the budget is used up.
    pub async fn wait(
        &self,
        action: &'static str,
        moved: Instant,
        failure: Failure,
        pause: Duration,
    ) -> Result<(), StorageError> {
        // Between half and one and a half times, so that many clients do not come back at once.
        let pause = pause.mul_f64(0.5 + fastrand::f64());
        let (lasted, failed) = self.failed(moved);
        let (budget, limit) = self.limit(&failure);
        let pause = match budget.checked_sub(lasted).filter(|left| !left.is_zero()) {
            // The last attempt falls on the end of the budget, not somewhere before it.
            Some(left) => pause.min(left),
            None if self.is_suspended.load(Ordering::Relaxed) => pause,
            None => return Err(StorageError::Outage { action, lasted, failed, last: failure, limit }),
        };
        tracing::warn!(
            action,
            error = %failure,
            outage_s = lasted.as_secs(),
            budget_s = budget.as_secs(),
            backoff_ms = pause.as_millis(),
            "S3 request failed, retrying"
        );
        sleep(pause).await;
        Ok(())
    }

    /// How long S3 may fail like this.
    fn limit(&self, failure: &Failure) -> (Duration, OutageLimit) {
        let is_first = failure.is_no_connection() && !self.has_answered();
        match self.first_contact.filter(|limit| is_first && *limit <= self.budget) {
            Some(limit) => (limit, OutageLimit::FirstContact),
            None => (self.budget, OutageLimit::Budget),
        }
    }

    /// Waits until an attempt that began then has gone on for a request timeout beyond the budget. One that begins behind that,
    /// for something else, has a request timeout all the same.
    async fn overdrawn(&self, began: Instant) {
        loop {
            let since = self.state().since.unwrap_or(began);
            let end = (since + self.budget).max(began) + self.request_timeout;
            if end <= Instant::now() && !self.is_suspended.load(Ordering::Relaxed) {
                return;
            }
            sleep_until(end.max(Instant::now() + self.request_timeout / 4)).await;
        }
    }

    /// Whether the credentials of a request that began then, and was told that they have expired, have been renewed.
    pub(super) async fn renew(&self, began: Instant) -> bool {
        match &self.credentials {
            Some(credentials) => credentials.renew(began).await,
            None => false,
        }
    }

    /// Takes note of a request that was answered well.
    pub fn succeeded(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
        self.end_outage();
    }

    /// Takes note of a request that was answered, but not done. Only the store's own code shows that it was the store.
    fn refused(&self, failure: &Failure) {
        if failure.is_from_s3 {
            self.has_answered.store(true, Ordering::Relaxed);
        }
        self.end_outage();
    }

    fn end_outage(&self) {
        *self.state() = State::default();
    }

    /// Whether S3 has answered anything well in this run. Who was trusted then may be trusted again: a certificate that is
    /// renewed too late, a proxy that answers in S3's place, is an outage.
    fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    fn failed(&self, moved: Instant) -> (Duration, u32) {
        let mut state = self.state();
        state.failed += 1;
        let since = *state.since.get_or_insert(moved);
        self.disturbed.notify_waiters();
        (since.elapsed(), state.failed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
