//! Decides at the daemon's start whether a backup is due: the newest backup is older than the last scheduled time, or the spool
//! holds a complete dump.
//!
//! The result also initialises the metrics and `/status`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::archive::manifest::time_text;
use crate::archive::{self, BackupStatus};
use crate::at_once::at_once;
use crate::backup::{BackupError, BackupSettings, meant_databases};
use crate::databases::DatabasePatterns;
use crate::error_chain::Chain;
use crate::printable::enumerated;
use crate::spool::{complete_dumps, holds_complete_dump};
use crate::storage::{Destination, S3Settings, StorageError};
use crate::telemetry::metrics::MetricsStore;

use super::server_run;

/// Destinations that are listed at once.
const AT_ONCE: usize = 8;

/// The outage budget of the listing.
const PATIENCE: Duration = Duration::from_secs(20);
/// The time limit, because scheduled backups wait for it. It is enough to list several hundred thousand objects and to ask the
/// AWS chain for credentials.
const LIMIT: Duration = Duration::from_mins(2);

/// Lists the destination and returns whether a backup is due. Without a last scheduled time, none is.
pub(super) async fn is_due(s3: S3Settings, metrics: Arc<MetricsStore>, last_tick: Option<DateTime<Utc>>) -> bool {
    let looking = async {
        let max_outage = s3.max_outage.min(PATIENCE);
        let destination = Box::pin(Destination::open(&S3Settings { max_outage, ..s3 })).await?;
        newest(&destination, &metrics).await
    };
    let newest = match tokio::time::timeout(LIMIT, looking).await {
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

/// The databases of a server of which a backup is due, or which the spool holds a complete dump of; `None` if it is not known.
pub(super) async fn due_databases(
    settings: BackupSettings,
    patterns: DatabasePatterns,
    metrics: Arc<MetricsStore>,
    last_tick: Option<DateTime<Utc>>,
) -> Option<BTreeSet<String>> {
    let mut due = databases_in_spool(&settings, &patterns).await;
    let Some(last_tick) = last_tick else { return Some(due) };
    let looking = async {
        let names = meant_databases(&settings.postgres, &patterns).await?;
        let max_outage = settings.s3.max_outage.min(PATIENCE);
        let s3 = S3Settings { max_outage, ..settings.s3.clone() };
        let destination = Box::pin(Destination::open(&s3)).await?;
        let look = |name: String| {
            let s3 = settings.of_database(&name).s3;
            let store = metrics.of_database(&name, server_run::label(&s3.location()));
            let below = destination.at(&s3.prefix);
            async move { Ok::<_, StorageError>((newest(&below, &store).await?, name)) }
        };
        let looked = at_once(AT_ONCE, names.into_iter().map(look)).await?;
        let is_due = |newest: Option<DateTime<Utc>>| newest.is_none_or(|newest| newest < last_tick);
        due.extend(looked.into_iter().filter(|(newest, _)| is_due(*newest)).map(|(_, name)| name));
        Ok::<_, BackupError>(())
    };
    match tokio::time::timeout(LIMIT, looking).await {
        Ok(Ok(())) => {
            let databases = enumerated(&due.iter().map(String::as_str).collect::<Vec<_>>());
            tracing::info!(due = due.len(), databases, last_tick = time_text(last_tick), "destination listed");
            Some(due)
        }
        Ok(Err(BackupError::Storage(error @ StorageError::Refused { .. }))) => {
            tracing::info!(error = %Chain(&error), "these credentials cannot list the destination: no catch-up");
            Some(due)
        }
        Ok(Err(error)) => {
            tracing::warn!(error = %Chain(&error), "it is not known which databases have no recent backup: backing up all");
            None
        }
        Err(_) => {
            tracing::warn!(limit_s = LIMIT.as_secs(), "listing the destination takes too long");
            None
        }
    }
}

/// The databases of which the spool holds a complete dump, which a backup uploads at once.
async fn databases_in_spool(settings: &BackupSettings, patterns: &DatabasePatterns) -> BTreeSet<String> {
    let Some(spool) = &settings.spool_dir else { return BTreeSet::new() };
    // A backup reports why the spool cannot be read.
    let dumps = complete_dumps(spool).await.unwrap_or_default();
    let ours = dumps.iter().filter_map(|dump| settings.database_at(&dump.destination, patterns));
    ours.map(|(database, _)| database).collect()
}

/// The start time of the newest backup. Names in the future and objects too small to hold a dump do not count.
async fn newest(destination: &Destination, metrics: &MetricsStore) -> Result<Option<DateTime<Utc>>, StorageError> {
    let entries = archive::list_entries(destination).await?;
    let now = Utc::now();
    let stored = || entries.iter().filter_map(|(name, entry)| Some((name, entry, entry.backup?)));
    let valid = stored().rev().find(|(name, entry, _)| BackupStatus::listed(**name, entry, now).is_none());
    let newest = valid.map(|(name, ..)| name.started());
    metrics.looked(stored().count() as u64, stored().map(|(.., bytes)| bytes).sum(), newest);
    Ok(newest)
}
