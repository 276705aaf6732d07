//! The outer of two retry layers: waits for the end of an outage, until its budget is used up.
//!
//! The SDK tries most requests three times within seconds, and its token bucket is empty after about 50 timeouts. This
//! loop is around it, for every request of `upload`, `commit` and `destination`. The requests of a run share it: while
//! any of them succeeds, there is no outage. Backups of several databases at once share the outage, too, but not its
//! suspension: the budget ends the requests of those that wait for S3 alone, and an outage that has used it up ends the
//! next one at its first failure.
//!
//! An outage begins with the last progress in the first attempt that failed, and ends with a success. It ends the run
//! at its budget, or within one request timeout after it; in that time an attempt continues only while its bytes move
//! (`watchdog`). Moving bytes are no success: S3 may refuse all that it receives. They are no outage either: a slow
//! transfer is waited for.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::StorageError;
use super::credentials::RenewableCredentials;
use super::failure::{Failure, FailureKind, Store};

/// Pauses between attempts, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// The limit for a server that cannot be connected to and has never answered: as a rule its address is wrong.
pub(super) const FIRST_CONTACT: Duration = Duration::from_secs(30);

/// The limit that ended an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageLimit {
    /// `BACKUP_MAX_UPLOAD_OUTAGE`
    Budget,
    /// The time for a first connection.
    FirstContact,
}

impl OutageLimit {
    /// What to do after an outage with this last failure.
    #[must_use]
    pub fn advice(self, last: &Failure) -> String {
        match self {
            Self::Budget => format!("{}, or raise BACKUP_MAX_UPLOAD_OUTAGE", last.outage_advice()),
            Self::FirstContact => last.outage_advice().to_owned(),
        }
    }
}

/// An attempt as a type of its own: the SDK's futures are nested too deeply for the compiler a few layers above.
type Attempt<'a, T> = Pin<Box<dyn Future<Output = (Result<T, Failure>, Instant)> + Send + 'a>>;

/// The state of a run's connection to S3, as one of its backups sees it.
#[derive(Debug)]
pub struct Outage {
    budget: Duration,
    /// The longest time without progress in an attempt.
    request_timeout: Duration,
    /// The limit for a first connection, until S3 has answered.
    first_contact: Option<Duration>,
    /// Shared with the other backups of the run.
    state: Arc<Mutex<State>>,
    credentials: Option<Arc<RenewableCredentials>>,
    /// The budget ends nothing: nothing waits for S3 now.
    is_suspended: AtomicBool,
    /// Notified by each failed attempt of this backup.
    attempt_failed: Notify,
    /// Bucket and URL, for messages.
    store: Option<Arc<Store>>,
    /// S3 has answered in this run; shared with the budgets derived from this one.
    has_answered: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    /// The last progress in the first of the attempts that have all failed since.
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
            state: Arc::default(),
            credentials: None,
            is_suspended: AtomicBool::new(false),
            attempt_failed: Notify::new(),
            store: None,
            has_answered: Arc::default(),
        }
    }

    /// With a limit for a server that cannot be connected to and has never answered.
    #[must_use]
    pub(super) fn with_first_contact(self, limit: Duration) -> Self {
        Self { first_contact: Some(limit), ..self }
    }

    /// With credentials that can be renewed when S3 reports that they have expired.
    #[must_use]
    pub(super) fn renewing(self, credentials: Option<Arc<RenewableCredentials>>) -> Self {
        Self { credentials, ..self }
    }

    /// With the bucket and URL that messages name.
    #[must_use]
    pub(super) fn naming(self, bucket: &str, url: Option<&str>) -> Self {
        let store = Store { bucket: bucket.to_owned(), url: url.map(str::to_owned) };
        Self { store: Some(Arc::new(store)), ..self }
    }

    /// Keeps the budget from ending anything until [`Self::resume`]: while a dump goes to disk, S3 may be slow.
    pub fn suspend(&self) {
        self.is_suspended.store(true, Ordering::Relaxed);
    }

    /// Lets the budget end attempts again; the time in between counts.
    pub fn resume(&self) {
        self.is_suspended.store(false, Ordering::Relaxed);
    }

    /// Waits for the next failed attempt after this call.
    pub fn next_failure(&self) -> impl Future<Output = ()> {
        self.attempt_failed.notified()
    }

    /// The same outage for another backup of the run. Each suspends the budget for its own requests.
    #[must_use]
    pub fn shared(&self) -> Self {
        Self { state: Arc::clone(&self.state), ..self.separate() }
    }

    /// What is left of the budget.
    pub(super) fn left(&self) -> Duration {
        let since = self.state().since;
        since.map_or(self.budget, |since| self.budget.saturating_sub(since.elapsed()))
    }

    /// A separate budget, for a request that must not depend on the success of others.
    #[must_use]
    pub fn separate(&self) -> Self {
        self.at_most(self.budget)
    }

    /// A separate budget of at most this.
    #[must_use]
    pub fn at_most(&self, budget: Duration) -> Self {
        let has_answered = Arc::clone(&self.has_answered);
        let fresh = Self::new(self.budget.min(budget), self.request_timeout).renewing(self.credentials.clone());
        Self { has_answered, first_contact: self.first_contact, store: self.store.clone(), ..fresh }
    }

    /// Sends a request until it succeeds, is refused, or the budget is used up.
    ///
    /// # Errors
    /// [`StorageError::Refused`] with the last answer, or [`StorageError::Outage`].
    pub async fn retry<T, Sending: Future<Output = Result<T, Failure>> + Send>(
        &self,
        action: &'static str,
        mut request: impl FnMut() -> Sending,
    ) -> Result<T, StorageError> {
        let attempt = || {
            let (began, sending) = (Instant::now(), request());
            async move {
                // Bounds the SDK's own attempts, too: they must not exceed the budget.
                let answer = tokio::select! {
                    answer = sending => answer,
                    () = self.over_budget(began) => Err(Failure::timeout("the outage budget is used up")),
                };
                (answer, began)
            }
        };
        self.keep_trying(action, attempt).await
    }

    /// As [`Self::retry`], for a request that is a single attempt and may take as long as its bytes move.
    ///
    /// # Errors
    /// As [`Self::retry`].
    pub(super) async fn retry_while_moving<T, Sending: Future<Output = Result<T, Failure>> + Send>(
        &self,
        action: &'static str,
        mut request: impl FnMut() -> Sending,
    ) -> Result<T, StorageError> {
        let attempt = || {
            let (began, sending) = (Instant::now(), request());
            async move {
                let answer = sending.await;
                // While it ran, bytes moved within each request timeout.
                let moved = Instant::now().checked_sub(self.request_timeout);
                (answer, moved.map_or(began, |moved| moved.max(began)))
            }
        };
        self.keep_trying(action, attempt).await
    }

    /// Tries until an attempt succeeds; each also returns the time of its last progress.
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
            let named = |failure: Failure| match &self.store {
                Some(store) => failure.naming(store),
                None => failure,
            };
            match outcome.map_err(named) {
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
                    // A refusal is an answer: S3 is reachable.
                    self.refused(&failure);
                    return Err(StorageError::Refused { action, failure, first: false });
                }
                Err(failure) => self.wait(action, moved, failure, pause).await?,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Records a failed attempt with the time of its last progress, then waits, or gives up.
    ///
    /// # Errors
    /// [`StorageError::Outage`] if the budget is used up.
    pub async fn wait(
        &self,
        action: &'static str,
        moved: Instant,
        failure: Failure,
        pause: Duration,
    ) -> Result<(), StorageError> {
        // Between half and one and a half times the pause, so that many clients do not come back at once.
        let pause = pause.mul_f64(0.5 + fastrand::f64());
        let (lasted, failed) = self.failed(moved);
        let (budget, limit) = self.limit(&failure);
        let pause = match budget.checked_sub(lasted).filter(|left| !left.is_zero()) {
            // The last attempt is at the end of the budget, not before it.
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

    /// The limit for this failure.
    fn limit(&self, failure: &Failure) -> (Duration, OutageLimit) {
        let is_first = failure.is_no_connection() && !self.has_answered();
        match self.first_contact.filter(|limit| is_first && *limit <= self.budget) {
            Some(limit) => (limit, OutageLimit::FirstContact),
            None => (self.budget, OutageLimit::Budget),
        }
    }

    /// Waits until an attempt that began then is a request timeout over the budget. An attempt that begins later has a
    /// request timeout all the same.
    async fn over_budget(&self, began: Instant) {
        loop {
            let since = self.state().since.unwrap_or(began);
            let end = (since + self.budget).max(began) + self.request_timeout;
            if end <= Instant::now() && !self.is_suspended.load(Ordering::Relaxed) {
                return;
            }
            sleep_until(end.max(Instant::now() + self.request_timeout / 4)).await;
        }
    }

    /// Whether the credentials of a request that began then, and was refused as expired, have been renewed.
    pub(super) async fn renew(&self, began: Instant) -> bool {
        match &self.credentials {
            Some(credentials) => credentials.renew(began).await,
            None => false,
        }
    }

    /// Records a success.
    pub fn succeeded(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
        self.end_outage();
    }

    /// Records a refusal. Only the store's own code shows that the store answered.
    fn refused(&self, failure: &Failure) {
        if failure.is_from_s3 {
            self.has_answered.store(true, Ordering::Relaxed);
        }
        self.end_outage();
    }

    fn end_outage(&self) {
        *self.state() = State::default();
    }

    /// Whether S3 has answered in this run. Then an expired certificate, or a proxy that answers in S3's place, is an
    /// outage.
    fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    fn failed(&self, moved: Instant) -> (Duration, u32) {
        let mut state = self.state();
        state.failed += 1;
        let since = *state.since.get_or_insert(moved);
        self.attempt_failed.notify_waiters();
        (since.elapsed(), state.failed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
