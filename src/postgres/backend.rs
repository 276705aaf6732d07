//! What the server does for the dump: the backend of `pg_dump`, as `pg_stat_activity` shows it, and the end of it.
//!
//! `backup::watch` asks on the control session. `pg_dump` is found by its application name
//! ([`super::blocking::application_name`]). This decides nothing: whether a dump is stalled is `backup::stall`'s to say.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::{PostgresError, Session, foreign_query};

/// The backend that serves `pg_dump`. What this role may not know is absent.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Backend {
    /// Its process id.
    pub pid: i32,
    /// Such as `active` or `idle in transaction`.
    pub state: Option<String>,
    /// What kind of thing it waits for, such as `Client`, `Lock` or `IO`; nothing where it computes.
    pub wait_class: Option<String>,
    /// What it waits for, such as `ClientWrite`.
    pub wait: Option<String>,
    /// Seconds since its state last changed: since its query began, or the one before it ended.
    pub unchanged_s: Option<f64>,
    /// Its query, or the last one; the first 300 characters, on one line.
    pub query: Option<String>,
    /// Who holds the lock that it waits for.
    pub blockers: Option<Vec<Blocker>>,
}

/// A session that holds a lock which the dump waits for.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Blocker {
    /// The backend's process id.
    pub pid: i32,
    /// Its user, where this role may know.
    pub user: Option<String>,
    /// Such as `idle in transaction`.
    pub state: Option<String>,
    /// Its query, or the last one; without literals.
    #[serde(default, deserialize_with = "foreign_query::shown")]
    pub query: Option<String>,
}

impl Backend {
    /// Asks what the backend of that name does; `None` where the server has none. Where there are several (of parallel
    /// workers, which bear the same name), it is one that is at work.
    ///
    /// # Errors
    /// Where the session is lost.
    pub async fn ask(session: &mut Session, application_name: &str) -> Result<Option<Self>, PostgresError> {
        let question = format!(
            "SELECT pg_catalog.json_build_object('pid', a.pid, 'state', a.state, 'wait_class', a.wait_event_type, \
             'wait', a.wait_event, 'unchanged_s', extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change), \
             'query', pg_catalog.regexp_replace(pg_catalog.left(a.query, 300), '[[:space:]]+', ' ', 'g'), \
             'blockers', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('pid', b.pid, 'user', b.usename, \
             'state', b.state, 'query', pg_catalog.left(b.query, 300))) FROM pg_catalog.pg_stat_activity b \
             WHERE a.wait_event_type = 'Lock' AND b.pid = ANY (pg_catalog.pg_blocking_pids(a.pid)))) \
             FROM pg_catalog.pg_stat_activity a WHERE a.application_name = '{application_name}'"
        );
        // The session is in a transaction, where pg_stat_activity stays as it was first seen.
        session.query("SELECT pg_catalog.pg_stat_clear_snapshot()").await?;
        let answer = session.query_as_login(&question).await?;
        let backends = answer.iter().map(|line| serde_json::from_str(line).map_err(PostgresError::Answer));
        let backends: Vec<Self> = backends.collect::<Result<_, _>>()?;
        Ok(backends.into_iter().max_by_key(Self::is_at_work))
    }

    /// Ends the backend of that name, should there still be one: of a `pg_dump` that is gone, or cut off, it would keep its
    /// locks until the server notices.
    ///
    /// # Errors
    /// Where the session is lost.
    pub async fn terminate(session: &mut Session, application_name: &str) -> Result<(), PostgresError> {
        let order = format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
             WHERE application_name = '{application_name}'"
        );
        session.query("SELECT pg_catalog.pg_stat_clear_snapshot()").await?;
        let ended = session.query_as_login(&order).await?;
        if !ended.is_empty() {
            tracing::debug!("the session that pg_dump left on the server is ended");
        }
        Ok(())
    }

    /// Whether the server is busy with the dump, rather than waiting for `pg_dump` to read or to ask.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        let is_idle = self.state.as_deref().is_some_and(|state| state.starts_with("idle"));
        !is_idle && self.wait_class.as_deref() != Some("Client")
    }

    /// How long ago the server last did something for the dump; `None` where it does not tell.
    #[must_use]
    pub fn quiet_for(&self) -> Option<Duration> {
        if self.is_at_work() {
            return Some(Duration::ZERO);
        }
        Duration::try_from_secs_f64(self.unchanged_s?.max(0.0)).ok()
    }

    /// Who holds the lock that it waits for; `None` where it waits for none.
    #[must_use]
    pub fn lock_holder(&self) -> Option<String> {
        if self.wait_class.as_deref() != Some("Lock") {
            return None;
        }
        let blockers = self.blockers.as_deref().unwrap_or_default();
        let names: Vec<String> = blockers.iter().map(ToString::to_string).collect();
        Some(if names.is_empty() { "a prepared transaction".to_owned() } else { names.join(", ") })
    }
}

impl fmt::Display for Backend {
    /// `pid 7, active for 31m, waiting for Client:ClientWrite, query: COPY …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}, {}", self.pid, self.state.as_deref().unwrap_or("in an unknown state"))?;
        if let Some(seconds) = self.unchanged_s.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            write!(f, " for {}", humantime::format_duration(Duration::from_secs(seconds.as_secs())))?;
        }
        if let (Some(class), Some(wait)) = (&self.wait_class, &self.wait) {
            write!(f, ", waiting for {class}:{wait}")?;
        }
        if let Some(holder) = self.lock_holder() {
            write!(f, " held by {holder}")?;
        }
        match &self.query {
            Some(query) => write!(f, ", query: {query}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        for word in [&self.user, &self.state].into_iter().flatten() {
            write!(f, ", {word}")?;
        }
        let query = self.query.as_deref().filter(|query| !query.is_empty());
        write!(f, ": {}", query.unwrap_or("a query that this role may not see"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(state: &str, class: Option<&str>) -> Backend {
        let text = |word: &str| Some(word.to_owned());
        Backend { pid: 7, state: text(state), wait_class: class.and_then(text), ..Backend::default() }
    }

    #[test]
    fn a_server_that_waits_for_pg_dump_is_not_at_work() {
        for (state, class, expected) in [
            ("active", None, true),
            ("active", Some("IO"), true),
            ("active", Some("Lock"), true),
            ("fastpath function call", None, true),
            ("active", Some("Client"), false),
            ("idle", Some("Client"), false),
            ("idle in transaction", None, false),
            ("idle in transaction (aborted)", Some("Client"), false),
        ] {
            assert_eq!(backend(state, class).is_at_work(), expected, "{state} {class:?}");
        }
        assert!(Backend::default().is_at_work(), "nothing is known: track_activities is off");
    }

    #[test]
    fn quiet_is_what_has_not_changed_and_is_not_at_work() {
        let idle = Backend { unchanged_s: Some(90.5), ..backend("idle in transaction", Some("Client")) };
        assert_eq!(idle.quiet_for(), Some(Duration::from_millis(90_500)));
        let active = Backend { unchanged_s: Some(90.5), ..backend("active", Some("IO")) };
        assert_eq!(active.quiet_for(), Some(Duration::ZERO));
        assert_eq!(backend("idle", None).quiet_for(), None);
    }

    #[test]
    fn it_is_shown_with_all_that_is_known() {
        let blocker = Blocker { pid: 9, user: Some("ann".to_owned()), state: None, query: Some("LOCK t".to_owned()) };
        let waiting = Backend {
            wait: Some("relation".to_owned()),
            unchanged_s: Some(61.2),
            query: Some("COPY t".to_owned()),
            blockers: Some(vec![blocker]),
            ..backend("active", Some("Lock"))
        };
        let shown = "pid 7, active for 1m 1s, waiting for Lock:relation held by pid 9, ann: LOCK t, query: COPY t";
        assert_eq!(waiting.to_string(), shown);
        assert_eq!(backend("active", Some("Lock")).lock_holder().as_deref(), Some("a prepared transaction"));
        assert_eq!(backend("active", Some("IO")).lock_holder(), None);
    }
}
