//! Queries `pg_stat_activity` about a running dump: the backend of `pg_dump`, the sessions that block it, and those it blocks.
//!
//! `backup::watch` asks on the control session, and `backup::stall` decides whether a dump is stalled. `pg_dump` has an
//! application name of its own for each run.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::{PostgresError, Session, foreign_query};

/// The sessions of one dump and its waiters. Fields that the role may not see are absent.
#[derive(Debug, Deserialize)]
pub struct Activity {
    /// The backends with the dump's application name: parallel workers have the same.
    backends: Vec<Backend>,
    /// The sessions that wait for the dump's locks.
    pub waiting: Vec<Waiting>,
}

/// The backend that serves `pg_dump`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Backend {
    /// Its process id.
    pub pid: i32,
    /// Such as `active` or `idle in transaction`.
    pub state: Option<String>,
    /// The kind of its wait, such as `Client`, `Lock` or `IO`; absent while it computes.
    pub wait_class: Option<String>,
    /// What it waits for, such as `ClientWrite`.
    pub wait: Option<String>,
    /// Seconds since its state changed: since its query began, or the previous one ended.
    pub unchanged_s: Option<f64>,
    /// Its query, or the previous one; the first 300 characters, on one line.
    pub query: Option<String>,
    /// The holders of the lock that it waits for.
    pub blockers: Option<Vec<Blocker>>,
}

/// A session that holds a lock which the dump waits for.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Blocker {
    /// The backend's process id.
    pub pid: i32,
    /// Its user.
    pub user: Option<String>,
    /// Such as `idle in transaction`.
    pub state: Option<String>,
    /// Its query, or the previous one, without literals.
    #[serde(default, deserialize_with = "foreign_query::redacted")]
    pub query: Option<String>,
}

/// A session that waits for the dump's locks.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Waiting {
    /// The backend's process id.
    pub pid: i32,
    /// Its user.
    pub user: Option<String>,
    /// Its query; the first 300 characters, on one line and without literals.
    #[serde(default, deserialize_with = "foreign_query::redacted")]
    pub query: Option<String>,
}

/// The application name of a run's `pg_dump`.
#[must_use]
pub fn application_name(run_id: &str) -> String {
    format!("pg_s3_backup {}", run_id.get(..12).unwrap_or(run_id))
}

/// In place of a query that names what is in the database.
const HIDDEN: &str = "a query that is not shown, because the backup is encrypted";

impl Activity {
    /// Without users and queries, for a log that names nothing in the database.
    #[must_use]
    pub fn without_names(mut self) -> Self {
        let hide = |query: &mut Option<String>| *query = query.take().map(|_| HIDDEN.to_owned());
        for backend in &mut self.backends {
            hide(&mut backend.query);
            for blocker in backend.blockers.iter_mut().flatten() {
                blocker.user = None;
                hide(&mut blocker.query);
            }
        }
        for session in &mut self.waiting {
            session.user = None;
            hide(&mut session.query);
        }
        self
    }

    /// Asks the server about the dump of that application name.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn read(session: &mut Session, application_name: &str) -> Result<Self, PostgresError> {
        // pg_blocking_pids() is expensive, so ungranted locks, which are few, select the waiting sessions first.
        let question = format!(
            "SELECT pg_catalog.json_build_object('backends', (SELECT coalesce(pg_catalog.json_agg(\
             pg_catalog.json_build_object('pid', a.pid, 'state', a.state, 'wait_class', a.wait_event_type, \
             'wait', a.wait_event, 'unchanged_s', extract(epoch FROM pg_catalog.clock_timestamp() - a.state_change), \
             'query', pg_catalog.regexp_replace(pg_catalog.left(a.query, 300), '[[:space:]]+', ' ', 'g'), \
             'blockers', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('pid', b.pid, 'user', b.usename, \
             'state', b.state, 'query', pg_catalog.left(b.query, 300))) FROM pg_catalog.pg_stat_activity b \
             WHERE a.wait_event_type = 'Lock' AND b.pid = ANY (pg_catalog.pg_blocking_pids(a.pid))))), '[]') \
             FROM pg_catalog.pg_stat_activity a WHERE a.application_name = '{application_name}'), \
             'waiting', (SELECT coalesce(pg_catalog.json_agg(pg_catalog.json_build_object('pid', a.pid, \
             'user', a.usename, 'query', pg_catalog.left(a.query, 300))), '[]') \
             FROM pg_catalog.pg_stat_activity a WHERE a.pid IN (SELECT l.pid FROM pg_catalog.pg_locks l WHERE NOT l.granted) \
             AND EXISTS (SELECT FROM pg_catalog.pg_stat_activity d WHERE d.application_name = '{application_name}' \
             AND d.pid = ANY (pg_catalog.pg_blocking_pids(a.pid)))))"
        );
        let answer = session.query_activity(&question).await?;
        serde_json::from_str(answer.first().map(String::as_str).unwrap_or_default()).map_err(PostgresError::Answer)
    }

    /// Ends the dump's backends: the server may keep the session of a killed `pg_dump`, and its locks, for a long time.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn terminate(session: &mut Session, application_name: &str) -> Result<(), PostgresError> {
        let command = format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
             WHERE application_name = '{application_name}'"
        );
        if !session.query_activity(&command).await?.is_empty() {
            tracing::debug!("terminated the backend that pg_dump left on the server");
        }
        Ok(())
    }

    /// The backend of `pg_dump`, preferably a working one; `None` if the server has none.
    #[must_use]
    pub fn backend(self) -> Option<Backend> {
        self.backends.into_iter().max_by_key(Backend::is_at_work)
    }
}

impl Backend {
    /// Whether the server works for the dump. If not, it waits until `pg_dump` reads or sends a query.
    #[must_use]
    pub fn is_at_work(&self) -> bool {
        let is_idle = self.state.as_deref().is_some_and(|state| state.starts_with("idle"));
        !is_idle && self.wait_class.as_deref() != Some("Client")
    }

    /// Time since the server last did something for the dump; `None` if it is not known.
    #[must_use]
    pub fn quiet_for(&self) -> Option<Duration> {
        if self.is_at_work() {
            return Some(Duration::ZERO);
        }
        Duration::try_from_secs_f64(self.unchanged_s?.max(0.0)).ok()
    }

    /// The holders of the lock that it waits for; `None` if it waits for none.
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
    fn backend_that_waits_for_pg_dump_is_not_at_work() {
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
        assert!(Backend::default().is_at_work(), "track_activities is off");
    }

    #[test]
    fn working_backend_is_never_quiet() {
        let idle = Backend { unchanged_s: Some(90.5), ..backend("idle in transaction", Some("Client")) };
        assert_eq!(idle.quiet_for(), Some(Duration::from_millis(90_500)));
        let active = Backend { unchanged_s: Some(90.5), ..backend("active", Some("IO")) };
        assert_eq!(active.quiet_for(), Some(Duration::ZERO));
        assert_eq!(backend("idle", None).quiet_for(), None);
    }

    #[test]
    fn display_has_all_known_fields() {
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
