//! Tells a stalled `pg_dump` from a slow one: when it has been silent for too long, the server is asked what it does for it.
//!
//! Part of `watch`. Slow is what has a sign of life on the server within the limit: a query that runs, or one that
//! began or ended. Where the server cannot be asked, silence alone decides.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::postgres::activity::{Activity, Backend};

use super::DumpError;
use super::watch::Watch;

/// The silence is looked at this often; a fraction of the limit where that is short.
const EVERY: Duration = Duration::from_secs(1);

/// What the server says of a `pg_dump` that is silent.
#[derive(Debug)]
pub enum Finding {
    /// It waits for `pg_dump`, or for the network.
    Waits(Box<Backend>),
    /// It has no session of this `pg_dump`.
    Gone,
    /// The control session is lost.
    Unknown,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waits(backend) => write!(f, "the server waits for it ({backend})"),
            Self::Gone => f.write_str("the server has no session of it"),
            Self::Unknown => f.write_str("the server cannot be asked what it does"),
        }
    }
}

impl Watch<'_> {
    /// Waits until `pg_dump` is stalled.
    pub(super) async fn stalled(&self) -> DumpError {
        let limit = self.stall_timeout;
        // By tokio's clock, which says the same as the reader's.
        let mut alive = Instant::now();
        loop {
            sleep(EVERY.min(limit / 10)).await;
            let Some(silent_since) = self.progress.silent_since() else { continue };
            if Instant::from_std(silent_since).max(alive).elapsed() < limit {
                continue;
            }
            let activity = self.ask(async |session, name| Activity::read(session, name).await).await;
            let finding = match activity.map(Activity::backend) {
                Some(Some(backend)) => Finding::Waits(Box::new(backend)),
                Some(None) => Finding::Gone,
                None => Finding::Unknown,
            };
            if self.progress.silent_since() != Some(silent_since) {
                // It wrote meanwhile.
                continue;
            }
            match finding {
                Finding::Waits(backend) if backend.quiet_for().is_some_and(|quiet| quiet < limit) => {
                    let quiet = backend.quiet_for().unwrap_or_default();
                    alive = Instant::now().checked_sub(quiet).unwrap_or(alive);
                    report(&backend, silent_since.elapsed());
                }
                finding => return DumpError::Stalled { limit, finding },
            }
        }
    }
}

/// Says that the dump is slow, once in each stall timeout.
fn report(backend: &Backend, silent: Duration) {
    let silent_s = silent.as_secs();
    if backend.is_at_work() {
        let server = backend.to_string();
        tracing::warn!(silent_s, server, "pg_dump writes nothing, but the server works for it: waiting on");
    } else {
        tracing::debug!(silent_s, server = %backend, "pg_dump writes nothing, but talks to the server: waiting on");
    }
}
