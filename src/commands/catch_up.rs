//! Decides at the daemon's start whether a backup is due: the newest backup is older than the last scheduled time, or the spool
//! holds a complete dump.
//!
//! The result also initialises the metrics and `/status`.

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

/// The outage budget of the listing.
const PATIENCE: Duration = Duration::from_secs(20);
/// The time limit, because scheduled backups wait for it. It is enough to list several hundred thousand objects and to ask the
/// AWS chain for credentials.
const LIMIT: Duration = Duration::from_mins(2);

/// Lists the destination and returns whether a backup is due. Without a last scheduled time, none is.
pub(super) async fn is_due(s3: S3Settings, metrics: Arc<MetricsStore>, last_tick: Option<DateTime<Utc>>) -> bool {
    let newest = match tokio::time::timeout(LIMIT, newest(s3, &metrics)).await {
        Ok(Ok(newest)) => newest,
        Ok(Err(error @ StorageError::Refused { .. })) => {
            // Write-only credentials cannot list: a backup at every start would be too many.
            tracing::info!(error = %Chain(&error), "these credentials cannot list the destination: no catch-up");
            return false;
        }
        Ok(Err(error)) => {
            tracing::warn!(error = %Chain(&error), "the destination cannot be listed: the next backup reports why");
            return last_tick.is_some();
        }
        Err(_) => {
            tracing::warn!(limit_s = LIMIT.as_secs(), "listing the destination takes too long");
            return last_tick.is_some();
        }
    };
    let is_due = last_tick.is_some_and(|last_tick| newest.is_none_or(|newest| newest < last_tick));
    tracing::info!(newest = newest.map(time_text), last_tick = last_tick.map(time_text), is_due, "destination listed");
    is_due
}

/// Returns whether the spool holds a complete dump for this destination, which a backup uploads at once.
pub(super) async fn is_kept(spool: Option<PathBuf>, destination: String) -> bool {
    let Some(spool) = spool else { return false };
    let is_kept = holds_complete_dump(&spool, &destination).await;
    if is_kept {
        tracing::info!("the spool holds a complete dump: starting a backup, which uploads it");
    }
    is_kept
}

/// The start time of the newest backup. Names in the future and objects too small to hold a dump do not count.
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
