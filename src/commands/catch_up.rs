//! The daemon's look at the destination when it starts: is the newest backup older than the last tick? And at the spool:
//! does a complete dump wait there, which a backup delivers?
//!
//! What it finds is also the first that the metrics and `/status` know.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::archive::manifest::time_text;
use crate::archive::{self, BackupStatus};
use crate::error_chain::Chain;
use crate::spool::holds_complete_dump;
use crate::storage::{Destination, S3Settings, StorageError};
use crate::telemetry::metrics::MetricsStore;

/// How long S3 may answer nothing well during the look.
const PATIENCE: Duration = Duration::from_secs(20);
/// Ticks wait for the look, so it has an end: that of a listing of several hundred thousand objects, and of all that the
/// AWS chain may ask for credentials.
const LIMIT: Duration = Duration::from_mins(2);

/// Looks, and says whether a backup is to be taken now. Without a last tick none ever is.
pub(super) async fn is_due(s3: S3Settings, metrics: Arc<MetricsStore>, last_tick: Option<DateTime<Utc>>) -> bool {
    let newest = match tokio::time::timeout(LIMIT, newest(s3, &metrics)).await {
        Ok(Ok(newest)) => newest,
        Ok(Err(error @ StorageError::Refused { .. })) => {
            // Credentials that may only write: a backup at every start would be too many.
            tracing::info!(error = %Chain(&error), "the destination cannot be listed: there is no catching up");
            return false;
        }
        Ok(Err(error)) => {
            tracing::warn!(error = %Chain(&error), "the destination does not answer: the next backup will say more");
            return last_tick.is_some();
        }
        Err(_) => {
            tracing::warn!(limit_s = LIMIT.as_secs(), "the look at the destination takes too long");
            return last_tick.is_some();
        }
    };
    let is_due = last_tick.is_some_and(|last_tick| newest.is_none_or(|newest| newest < last_tick));
    tracing::info!(newest = newest.map(time_text), last_tick = last_tick.map(time_text), is_due, "looked for backups");
    is_due
}

/// Says whether a complete dump for this destination waits in the spool: that is delivered at once, whatever the schedule.
pub(super) async fn is_kept(spool: Option<PathBuf>, destination: String) -> bool {
    let Some(spool) = spool else { return false };
    let is_kept = holds_complete_dump(&spool, &destination).await;
    if is_kept {
        tracing::info!("a complete dump waits in the spool: a backup starts at once, and delivers it");
    }
    is_kept
}

/// When the newest backup was started. One whose name lies in the future, or that is too small to hold a dump, is no
/// success of anybody's.
async fn newest(s3: S3Settings, metrics: &MetricsStore) -> Result<Option<DateTime<Utc>>, StorageError> {
    let max_outage = s3.max_outage.min(PATIENCE);
    let destination = Box::pin(Destination::open(&S3Settings { max_outage, ..s3 })).await?;
    let entries = archive::list_entries(&destination).await?;
    let now = Utc::now();
    let stored = || entries.iter().filter_map(|(name, entry)| Some((name, entry, entry.backup?)));
    let valid = stored().rev().find(|(name, entry, _)| BackupStatus::listed(**name, entry, now).is_none());
    let newest = valid.map(|(name, ..)| name.started());
    metrics.looked(stored().count() as u64, stored().map(|(.., bytes)| bytes).sum(), newest);
    Ok(newest)
}
