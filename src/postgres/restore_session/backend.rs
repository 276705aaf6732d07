//! The server's session of a restore: ended after a failure, and watched for a psql that waits. Part of [`super`].

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::postgres::{PostgresError, Session};

/// How long a terminated session may take to be gone: a signal's clean-up has 10 s in all.
const GONE_DEADLINE: Duration = Duration::from_secs(5);
/// psql sends its input within milliseconds. If the server's session is idle for this long, psql will not send it.
const LEFT_WAITING: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_millis(100);

/// The server's session.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub pid: u32,
    pub started: String,
}

impl Backend {
    /// Ends the server's session and waits until it is gone, with all that it did.
    ///
    /// # Errors
    /// If that cannot be seen.
    pub async fn end(&self, control: &mut Session) -> Result<(), PostgresError> {
        let Self { pid, started } = self;
        if *pid == 0 {
            return Ok(());
        }
        let is_it = format!("a.pid = {pid} AND a.backend_start = '{started}'");
        let end = format!(
            "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_get_activity({pid}) a WHERE {is_it}"
        );
        let began = Instant::now();
        loop {
            if control.query_activity(&end).await?.is_empty() {
                return Ok(());
            }
            if began.elapsed() > GONE_DEADLINE {
                let reason = format!("the restore's session (pid {pid}) does not end: it will roll back when it does");
                return Err(PostgresError::SessionLost { reason });
            }
            sleep(EVERY).await;
        }
    }

    /// Ends if the server's session waits although psql was asked something: psql takes the question for a part of what came
    /// before, and would wait forever for its end.
    pub async fn is_left_waiting(&self, control: &mut Session) -> PostgresError {
        let question = format!(
            "SELECT 1 FROM pg_catalog.pg_stat_get_activity({}) a WHERE a.state LIKE 'idle%' \
             AND a.state_change < pg_catalog.clock_timestamp() - interval '{} s'",
            self.pid,
            LEFT_WAITING.as_secs()
        );
        loop {
            sleep(LEFT_WAITING / 4).await;
            // Without the control session, the restore's own connection will fail as well.
            if control.query_activity(&question).await.is_ok_and(|rows| !rows.is_empty()) {
                let reason = "psql reads the dump otherwise than this program: it waits for more of it".to_owned();
                return PostgresError::SessionLost { reason };
            }
        }
    }
}
