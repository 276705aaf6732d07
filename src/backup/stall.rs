//! Distinguishes a stalled `pg_dump` from a slow one: asks the server what it does for a silent one.
//!
//! Part of `watch`. A dump is slow if the server ran, started or ended a query for it within the limit. If the
//! server cannot be asked, silence alone decides.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::postgres::activity::{Activity, Backend};

use super::watch::Watch;
use super::{DumpError, StallFinding};

/// How often the silence is checked; a fraction of the limit if that is short.
const EVERY: Duration = Duration::from_secs(1);

impl Watch<'_> {
    /// Waits until `pg_dump` is stalled.
    pub(super) async fn stalled(&self) -> DumpError {
        let limit = self.settings.postgres.stall_timeout;
        // On tokio's clock, which has the same time as the reader's.
        let mut alive = Instant::now();
        loop {
            sleep(EVERY.min(limit / 10)).await;
            let Some(silent_since) = self.progress.silent_since() else { continue };
            if Instant::from_std(silent_since).max(alive).elapsed() < limit {
                continue;
            }
            let finding = match self.activity().await.map(Activity::backend) {
                Some(Some(backend)) => StallFinding::Waits(Box::new(backend)),
                Some(None) => StallFinding::Gone,
                None => StallFinding::Unknown,
            };
            if self.progress.silent_since() != Some(silent_since) {
                // It has written meanwhile.
                continue;
            }
            match finding {
                StallFinding::Waits(backend) if backend.quiet_for().is_some_and(|quiet| quiet < limit) => {
                    let quiet = backend.quiet_for().unwrap_or_default();
                    alive = Instant::now().checked_sub(quiet).unwrap_or(alive);
                    report(&backend, silent_since.elapsed());
                }
                finding => return DumpError::Stalled { limit, finding },
            }
        }
    }
}

/// Logs a slow dump, once in each stall timeout.
fn report(backend: &Backend, silent: Duration) {
    let silent_s = silent.as_secs();
    if backend.is_at_work() {
        let server = backend.to_string();
        tracing::warn!(silent_s, server, "pg_dump writes nothing, but the server works for it: waiting on");
    } else {
        tracing::debug!(silent_s, server = %backend, "pg_dump writes nothing, but talks to the server: waiting on");
    }
}
