//! What the daemon knows of the bucket after a listing: bounded, and without what only a listing needs.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tracing::{Instrument as _, Span};

use crate::archive::drill::DrillRecord;
use crate::archive::{Listing, StoredBackup};
use crate::at_once::at_once;
use crate::error_chain::Chain;
use crate::retention::{Forecast, RetentionPolicy};
use crate::storage::StorageError;

use super::AT_ONCE;

/// The most backups of a database in a snapshot.
pub const MOST_BACKUPS: usize = 100;
/// The most manifests that a snapshot reads, of all databases; at least one of each.
const MOST_MANIFESTS: usize = 500;

/// The backups in the bucket at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When they were listed.
    pub listed: DateTime<Utc>,
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
    /// The number of all, with open uploads.
    pub count: usize,
    /// The bytes of all.
    pub bytes: u64,
    /// When the newest was started that counts as a success by the listing.
    pub newest: Option<DateTime<Utc>>,
    /// The last drill that left a record.
    pub drill: Option<DrillRecord>,
    /// What the next retention deletes; `None` without a rule, or a next run.
    pub forecast: Option<Forecast>,
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
        let manifests = (MOST_MANIFESTS / listings.len().max(1)).clamp(1, MOST_BACKUPS);
        let each = listings.into_iter().map(|(name, listing, span)| {
            let request = request.clone();
            DatabaseSnapshot::read((name, listing), manifests, request, listed).instrument(span)
        });
        Ok(Self { listed, databases: at_once(AT_ONCE, each).await? })
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

impl DatabaseSnapshot {
    async fn read(
        (name, listing): (Option<String>, Listing),
        manifests: usize,
        request: SnapshotRequest,
        now: DateTime<Utc>,
    ) -> Result<Self, StorageError> {
        let SnapshotRequest { policy, next_run, last } = request;
        let forecast = match policy.zip(next_run) {
            Some((policy, next)) => forecast(&listing, &policy, (now, next)).await?,
            None => None,
        };
        let newest = listing.stored().find(|(.., status)| status.is_none()).map(|(name, ..)| name.started());
        let drill = listing.last_drill().await;
        let (count, bytes) = listing.totals();
        let known = last.as_ref().and_then(|last| last.database(name.as_deref()));
        let known = known.map(|known| known.backups.clone()).unwrap_or_default();
        let backups = listing.with_known(known).newest(MOST_BACKUPS, manifests).await;
        let backups = backups.iter().map(std::borrow::Cow::into_owned).collect();
        Ok(Self { name, backups, count, bytes, newest, drill, forecast })
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
