//! What the daemon knows of the bucket after a listing: bounded, and without what only a listing needs.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tracing::{Instrument as _, Span};

use crate::archive::drill::{DrillRecord, DrillResult};
use crate::archive::{Listing, StoredBackup};
use crate::at_once::at_once;
use crate::error_chain::Chain;
use crate::retention::{Forecast, RetentionPolicy};
use crate::storage::StorageError;

use super::{AT_ONCE, Extent};

/// The most backups of a database in a snapshot.
pub const MOST_BACKUPS: usize = 100;
/// A snapshot has about so many backups at most, but at least [`FEWEST_BACKUPS`] of each database. One is half a kibibyte.
const MOST_OF_ALL: usize = 10_000;
const FEWEST_BACKUPS: usize = 10;
/// The most manifests that a snapshot reads, of all databases; at least one of each.
const MOST_MANIFESTS: usize = 500;

/// The backups in the bucket at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When they were listed.
    pub listed: DateTime<Utc>,
    /// Whether a rule of retention is set.
    pub has_retention: bool,
    /// Each database, by name; one without a name without `BACKUP_DATABASES`.
    pub databases: Vec<DatabaseSnapshot>,
}

/// The backups of a database.
#[derive(Clone, Debug)]
pub struct DatabaseSnapshot {
    /// Its name, with `BACKUP_DATABASES`.
    pub name: Option<String>,
    /// The newest, newest first.
    pub backups: Vec<StoredBackup>,
    /// The number of all, without open uploads.
    pub count: usize,
    /// The number of open uploads.
    pub uploads: usize,
    /// The bytes of all.
    pub bytes: u64,
    /// When the newest was started that counts as a success by the listing.
    pub newest: Option<DateTime<Utc>>,
    /// The last drill that left a record.
    pub drill: Option<RecordedDrill>,
    /// What the next retention deletes; `None` without a rule or a next run, or if it could not be found out.
    pub forecast: Option<Forecast>,
}

/// What is kept of the record of a drill.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedDrill {
    /// The backup.
    pub file_name: String,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// The result.
    pub result: DrillResult,
    /// How long the restore took, in seconds.
    pub duration: f64,
}

/// What a snapshot is made from.
#[derive(Clone, Debug)]
pub struct SnapshotRequest {
    /// The retention policy.
    pub policy: Option<RetentionPolicy>,
    /// When the next backup is due.
    pub next_run: Option<DateTime<Utc>>,
    /// The last snapshot: manifests that it has are not read again.
    pub last: Option<Arc<Snapshot>>,
}

impl Snapshot {
    /// Reads what the listings of the databases do not have.
    ///
    /// # Errors
    /// If what retention depends on cannot be read.
    pub async fn read(
        listings: Vec<(Option<String>, Listing, Span)>,
        request: &SnapshotRequest,
    ) -> Result<Self, StorageError> {
        let listed = Utc::now();
        let extent = Extent::of_each(listings.len());
        let each = listings.into_iter().map(|(name, listing, span)| {
            let request = request.clone();
            DatabaseSnapshot::read((name, listing), extent, request, listed).instrument(span)
        });
        let has_retention = request.policy.is_some();
        Ok(Self { listed, has_retention, databases: at_once(AT_ONCE, each).await? })
    }

    /// The snapshot of a database.
    #[must_use]
    pub fn database(&self, name: Option<&str>) -> Option<&DatabaseSnapshot> {
        self.databases.iter().find(|database| database.name.as_deref() == name)
    }

    /// The number and the bytes of all backups.
    #[must_use]
    pub fn totals(&self) -> (usize, u64) {
        self.databases.iter().fold((0, 0), |(count, bytes), of| (count + of.count, bytes + of.bytes))
    }
}

impl Extent {
    /// What a snapshot has of each of so many databases.
    fn of_each(databases: usize) -> Self {
        let databases = databases.max(1);
        let backups = (MOST_OF_ALL / databases).clamp(FEWEST_BACKUPS, MOST_BACKUPS);
        Self { backups, manifests: (MOST_MANIFESTS / databases).clamp(1, backups) }
    }
}

impl DatabaseSnapshot {
    async fn read(
        (name, listing): (Option<String>, Listing),
        extent: Extent,
        request: SnapshotRequest,
        now: DateTime<Utc>,
    ) -> Result<Self, StorageError> {
        let SnapshotRequest { policy, next_run, last } = request;
        let forecast = match policy.zip(next_run) {
            Some((policy, next)) => forecast(&listing, &policy, (now, next)).await?,
            None => None,
        };
        let newest = listing.stored().find(|(.., status)| status.is_none()).map(|(name, ..)| name.started());
        let drill = listing.last_drill().await.and_then(|record| {
            let ended = record.ended(now)?;
            let DrillRecord { file_name, result, duration, .. } = record;
            Some(RecordedDrill { file_name, ended, result, duration })
        });
        let (all, bytes) = listing.totals();
        let count = listing.stored().count();
        let known = last.as_ref().and_then(|last| last.database(name.as_deref()));
        let known = known.map(|known| known.backups.clone()).unwrap_or_default();
        let backups = listing.with_known(known).newest(extent.backups, extent.manifests).await;
        let backups = backups.iter().map(std::borrow::Cow::into_owned).collect();
        Ok(Self { name, backups, count, uploads: all - count, bytes, newest, drill, forecast })
    }
}

/// What the next retention deletes; `None` if these credentials may not read what that depends on.
async fn forecast(
    listing: &Listing,
    policy: &RetentionPolicy,
    times: (DateTime<Utc>, DateTime<Utc>),
) -> Result<Option<Forecast>, StorageError> {
    match Forecast::load((listing.destination(), listing.entries()), policy, times).await {
        Ok(forecast) => Ok(Some(forecast)),
        Err(error @ StorageError::Outage { .. }) => Err(error),
        Err(error) => {
            tracing::debug!(error = %Chain(&error), "it is not known what retention deletes next");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_is_bounded_with_many_databases() {
        let of_each = |databases| {
            let Extent { backups, manifests } = Extent::of_each(databases);
            (backups, manifests)
        };
        assert_eq!([0, 1, 5, 40, 100].map(of_each), [(100, 100), (100, 100), (100, 100), (100, 12), (100, 5)]);
        assert_eq!([500, 1000, 5000].map(of_each), [(20, 1), (10, 1), (10, 1)]);
    }
}
