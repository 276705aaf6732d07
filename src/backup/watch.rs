//! Looks after a running dump from the control session: is the session still there, and whom does the dump block?
//!
//! Runs beside `stream`. It ends only to say that the dump must give way; everything else it only logs.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::Chain;
use crate::postgres::Session;
use crate::postgres::blocking::{Waiting, waiting_for};

use super::DumpError;

/// How often to look (SPEC §4). Also what tells that the session is alive: an idle psql does not notice that it is not.
const EVERY: Duration = Duration::from_secs(5);
/// How long somebody waits before it is worth a warning (SPEC §2).
const WARN_AFTER: Duration = Duration::from_secs(10);

/// Watches until the dump must give way. Losing the session costs the lock and this watch, not the backup (SPEC §4.3).
pub(super) async fn watch(session: &mut Session, application_name: &str, limit: Option<Duration>) -> DumpError {
    let mut known: HashMap<i32, Waiter> = HashMap::new();
    let every = limit.map_or(EVERY, |limit| EVERY.min(limit / 2));
    loop {
        sleep(every).await;
        let waiting = match waiting_for(session, application_name).await {
            Ok(waiting) => waiting,
            Err(error) => {
                let error = Chain(&error).to_string();
                tracing::warn!(error, "the control session and its lock are lost; the dump goes on");
                return std::future::pending().await;
            }
        };
        known.retain(|pid, _| waiting.iter().any(|session| session.pid == *pid));
        for session in waiting {
            let waiter = known.entry(session.pid).or_insert_with(Waiter::new);
            if let Some(error) = waiter.look_at(session, limit) {
                return error;
            }
        }
    }
}

/// A session that was seen waiting.
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
