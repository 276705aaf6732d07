//! Watches a running dump from the control session: whether the session works, which sessions the dump blocks, which block the
//! dump, and (`stall`) whether it progresses.
//!
//! Runs next to `stream`. It returns only when the dump must end, and logs everything else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::error_chain::Chain;
use crate::pipeline::Progress;
use crate::postgres::activity::{Activity, Backend, Waiting};
use crate::postgres::{Dump, PostgresError, Session};
use crate::verified_dump::IncompleteDump;

use super::{BackupError, BackupSettings, DumpError};

/// How often to ask. Asking also keeps the session alive: an idle psql does not notice that its connection is lost.
const EVERY: Duration = Duration::from_secs(5);
/// The shortest interval, however short the limits are: the server has other work.
const AT_MOST_EVERY: Duration = Duration::from_millis(250);
/// How long a session waits for the dump before that is logged.
const WARN_AFTER: Duration = Duration::from_secs(10);
/// How long an answer may take: an overloaded server is slow in this, too.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Time to terminate the dump's session: the program exits within 10 s of a signal.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// A dump, watched from the control session.
pub(super) struct Watch<'a> {
    /// `None` once it is lost.
    session: tokio::sync::Mutex<Option<&'a mut Session>>,
    application_name: &'a str,
    pub(super) settings: &'a BackupSettings,
    pub(super) progress: &'a Progress,
    /// The session that held the lock that the dump waited for, at the last look.
    lock_holder: Mutex<Option<String>>,
}

impl<'a> Watch<'a> {
    /// Watches a dump from this control session.
    pub fn new(
        session: &'a mut Session,
        application_name: &'a str,
        settings: &'a BackupSettings,
        progress: &'a Progress,
    ) -> Self {
        let (session, lock_holder) = (tokio::sync::Mutex::new(Some(session)), Mutex::default());
        Self { session, application_name, settings, progress, lock_holder }
    }

    /// Ends a failed dump, here and on the server; adds the session that blocked it to the error.
    pub async fn conclude(&self, dump: Dump, error: BackupError) -> BackupError {
        dump.stop().await;
        let end = async {
            match self.session.lock().await.as_deref_mut() {
                Some(session) => Activity::terminate(session, self.application_name).await,
                None => Ok(()),
            }
        };
        let ended = timeout(END_DEADLINE, end).await.unwrap_or(Err(PostgresError::Silent { deadline: END_DEADLINE }));
        if let Err(error) = ended {
            let error = Chain(&error).to_string();
            tracing::debug!(error, "the server does not say whether pg_dump's session has ended");
        }
        let holder = self.lock_holder.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (error, holder) {
            (BackupError::Dump(DumpError::IncompleteDump(failure @ IncompleteDump::Failed { .. })), Some(holder)) => {
                DumpError::Locked { failure, holder }.into()
            }
            (error, _) => error,
        }
    }

    /// Asks something on the control session. `None` once that is lost, which costs the lock and this watch, not the
    /// backup.
    async fn ask<T>(&self, question: impl AsyncFnOnce(&mut Session, &str) -> Result<T, PostgresError>) -> Option<T> {
        let mut session = self.session.lock().await;
        let deadline = ANSWER_DEADLINE.min(self.settings.postgres.stall_timeout);
        let answer = timeout(deadline, question(session.as_deref_mut()?, self.application_name)).await;
        match answer.unwrap_or(Err(PostgresError::Silent { deadline })) {
            Ok(answer) => Some(answer),
            Err(error) => {
                let error = Chain(&error).to_string();
                tracing::warn!(error, "the control session and its lock are lost; the dump continues");
                *session = None;
                None
            }
        }
    }

    /// Asks the server about the dump; `None` once the session is lost.
    pub(super) async fn activity(&self) -> Option<Activity> {
        let activity = self.ask(async |session, name| Activity::read(session, name).await).await?;
        Some(if self.settings.recipients.is_some() { activity.without_names() } else { activity })
    }

    /// Watches which sessions wait for the dump; returns when the dump must give way.
    pub async fn gives_way(&self) -> DumpError {
        let mut known: HashMap<i32, Waiter> = HashMap::new();
        let every = pace(self.settings.postgres.lock_wait, self.settings.max_blocking);
        loop {
            sleep(every).await;
            let Some(mut activity) = self.activity().await else { return std::future::pending().await };
            let waiting = std::mem::take(&mut activity.waiting);
            self.note_lock_holder(activity.backend().as_ref());
            known.retain(|pid, _| waiting.iter().any(|session| session.pid == *pid));
            for session in waiting {
                let waiter = known.entry(session.pid).or_insert_with(Waiter::new);
                if let Some(error) = waiter.look_at(session, self.settings.max_blocking) {
                    return error;
                }
            }
        }
    }

    /// Records the session that blocks the dump, and logs it once.
    fn note_lock_holder(&self, backend: Option<&Backend>) {
        let holder = backend.and_then(Backend::lock_holder);
        let mut noted = self.lock_holder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = holder.as_ref().filter(|holder| noted.as_ref() != Some(*holder)) {
            let query = backend.and_then(|backend| backend.query.as_deref());
            tracing::warn!(holder, query, "pg_dump waits for a lock of another session");
        }
        *noted = holder;
    }
}

/// How often to ask, so that neither limit passes unnoticed.
fn pace(lock_wait: Duration, max_blocking: Option<Duration>) -> Duration {
    let soonest = max_blocking.map_or(lock_wait, |limit| limit.min(lock_wait));
    (soonest / 2).clamp(AT_MOST_EVERY, EVERY)
}

/// A session that waits for the dump.
struct Waiter {
    since: Instant,
    is_reported: bool,
}

impl Waiter {
    fn new() -> Self {
        Self { since: Instant::now(), is_reported: false }
    }

    fn look_at(&mut self, session: Waiting, limit: Option<Duration>) -> Option<DumpError> {
        let waited = self.since.elapsed();
        let query = session.query.unwrap_or_else(|| "a query that this role may not see".to_owned());
        if let Some(limit) = limit.filter(|limit| waited >= *limit) {
            return Some(DumpError::GaveWay { limit, pid: session.pid, query });
        }
        if waited >= WARN_AFTER && !self.is_reported {
            self.is_reported = true;
            let waited_s = waited.as_secs();
            tracing::warn!(
                pid = session.pid,
                user = session.user,
                query,
                waited_s,
                "a session waits for the dump's locks"
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_asked_in_time_and_not_too_often() {
        let millis = Duration::from_millis;
        for (lock_wait, max_blocking, every) in [
            (millis(60_000), None, EVERY),
            (millis(4_000), None, millis(2_000)),
            (millis(60_000), Some(millis(3_000)), millis(1_500)),
            (millis(1), None, AT_MOST_EVERY),
            (millis(60_000), Some(millis(1)), AT_MOST_EVERY),
        ] {
            assert_eq!(pace(lock_wait, max_blocking), every, "{lock_wait:?} {max_blocking:?}");
        }
    }
}
