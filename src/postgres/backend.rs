//! A server session of this program: terminated after a failure, and watched for a psql that waits.
//!
//! Another session of the same login role, which is inside a transaction, queries and terminates it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{PostgresError, Session};
use crate::sql::literal;

/// How long a terminated session may take to be gone: a signal's clean-up has 10 s in all.
const GONE_DEADLINE: Duration = Duration::from_secs(5);
/// psql takes milliseconds to ask what it has read. This long the server has nothing to do only where it will not.
const LEFT_WAITING: Duration = Duration::from_secs(20);
/// How often a session is looked at.
pub(super) const CHECKED_EVERY: Duration = Duration::from_secs(5);
const EVERY: Duration = Duration::from_millis(100);

/// A server session. Its start time distinguishes it from a later one with the same process id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    pid: u32,
    started: String,
}

impl Backend {
    /// The columns that [`Self::parse`] reads, of `pg_stat_get_activity(pg_backend_pid()) a`. Only the login role may query them.
    pub const COLUMNS: &str = "a.pid, '|', a.backend_start";

    /// Reads `pid|start time`.
    pub fn parse(answer: &str) -> Option<Self> {
        let (pid, started) = answer.split_once('|')?;
        let pid = pid.parse().ok()?;
        (!started.is_empty()).then(|| Self { pid, started: started.to_owned() })
    }

    /// The process id on the server's machine.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The server session of `session`.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn of(session: &mut Session) -> Result<Self, PostgresError> {
        let columns = Self::COLUMNS;
        let question = format!(
            "SELECT pg_catalog.concat({columns}) FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a"
        );
        let answer = session.query_activity(&question).await?;
        answer.first().and_then(|line| Self::parse(line)).ok_or_else(Self::unknown)
    }

    /// The error if the server does not return the columns.
    pub fn unknown() -> PostgresError {
        PostgresError::SessionLost { reason: "the server does not say which session this is".to_owned() }
    }

    /// Terminates the session, and waits until it is gone. The outcome of its last transaction is then certain.
    ///
    /// # Errors
    /// If the query fails, or the session does not end.
    pub async fn end(&self, control: &mut Session) -> Result<(), PostgresError> {
        let Self { pid, started } = self;
        let is_it = format!("a.pid = {pid} AND a.backend_start = {}", literal(started));
        let end = format!(
            "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_get_activity({pid}) a WHERE {is_it}"
        );
        let began = Instant::now();
        loop {
            if control.query_activity(&end).await?.is_empty() {
                return Ok(());
            }
            if began.elapsed() > GONE_DEADLINE {
                let reason = format!("the session with pid {pid} does not end on the server");
                return Err(PostgresError::SessionLost { reason });
            }
            sleep(EVERY).await;
        }
    }

    /// Returns when the session waits although psql was asked something: psql takes the question for a part of what came
    /// before, and would wait for its end without limit.
    pub async fn is_left_waiting(&self, control: &mut Session) -> PostgresError {
        loop {
            sleep(CHECKED_EVERY).await;
            if let Some(error) = self.left_waiting(control).await {
                return error;
            }
        }
    }

    /// The error if the session has been waiting for long.
    pub async fn left_waiting(&self, control: &mut Session) -> Option<PostgresError> {
        let question = format!(
            "SELECT 1 FROM pg_catalog.pg_stat_get_activity({}) a WHERE a.state LIKE 'idle%' \
             AND a.state_change < pg_catalog.clock_timestamp() - interval '{} s'",
            self.pid,
            LEFT_WAITING.as_secs()
        );
        // Without the control session, the restore's own connection will fail as well.
        let is_waiting = control.query_activity(&question).await.is_ok_and(|rows| !rows.is_empty());
        is_waiting.then(|| {
            let reason = "psql reads the dump otherwise than this program: it waits for more of it".to_owned();
            PostgresError::SessionLost { reason }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_answer_of_server() {
        let parsed = Backend::parse("7|2026-11-28 11:45:59.123+00");
        assert_eq!(parsed, Some(Backend { pid: 7, started: "2026-11-28 11:45:59.123+00".to_owned() }));
        for answer in ["", "7", "7|", "x|2026-11-28"] {
            assert_eq!(Backend::parse(answer), None, "{answer:?}");
        }
    }
}
