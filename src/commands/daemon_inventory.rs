//! Keeps the daemon's inventory: lists the bucket at the start, after each run and each drill, and now and then, because other hosts
//! back up and prune, too. Requests for the status page only read what is kept.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::backup::BackupSettings;
use crate::config;
use crate::error::Error;
use crate::inventory::{InventoryCache, Snapshot, SnapshotRequest};
use crate::scheduler::Heartbeat;
use crate::storage::{Destination, S3Settings};

use super::OwnedContext;
use super::destinations::{DatabaseDestination, Destinations};

/// How often the bucket is listed without a reason, with up to [`FEW`] databases; with more it is rarer, because each is a request.
const EVERY: Duration = Duration::from_mins(10);
const FEW: u32 = 50;
/// The shortest time between two listings: runs of small databases may be seconds apart.
const PAUSE: Duration = Duration::from_secs(5);
/// The outage budget of a listing.
const PATIENCE: Duration = Duration::from_secs(20);
/// The time limit of a listing and of the manifests.
const LIMIT: Duration = Duration::from_mins(5);

/// Keeps the inventory of a daemon. Clones keep the same one.
#[derive(Clone)]
pub(super) struct InventoryKeeper {
    owned: Arc<OwnedContext>,
    heartbeat: Arc<Heartbeat>,
    cache: Arc<InventoryCache>,
    wake: Arc<Notify>,
}

/// A task that ends when this is dropped.
pub(super) struct Keeping(AbortHandle);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl InventoryKeeper {
    /// Nothing is listed yet.
    pub fn new(owned: &Arc<OwnedContext>, heartbeat: &Arc<Heartbeat>) -> Self {
        let (owned, heartbeat) = (Arc::clone(owned), Arc::clone(heartbeat));
        Self { owned, heartbeat, cache: Arc::default(), wake: Arc::default() }
    }

    /// What it keeps.
    pub fn cache(&self) -> Arc<InventoryCache> {
        Arc::clone(&self.cache)
    }

    /// Lists the bucket soon.
    pub fn refresh(&self) {
        self.wake.notify_one();
    }

    /// Starts to keep it.
    pub fn keep(&self) -> Keeping {
        let keeper = self.clone();
        let keeping = async move {
            loop {
                keeper.list().await;
                tokio::time::sleep(PAUSE).await;
                // Neither a run nor a drill: another host may have changed the bucket.
                _ = tokio::time::timeout(keeper.every(), keeper.wake.notified()).await;
            }
        };
        Keeping(tokio::spawn(keeping).abort_handle())
    }

    fn every(&self) -> Duration {
        let databases = self.cache.known().snapshot.map_or(0, |snapshot| snapshot.databases.len());
        EVERY * (1 + u32::try_from(databases).unwrap_or(u32::MAX / FEW) / FEW)
    }

    async fn list(&self) {
        let listed = tokio::time::timeout(LIMIT, Box::pin(self.snapshot())).await;
        let error = match listed {
            Ok(Ok(snapshot)) => {
                self.report(&snapshot);
                return self.cache.listed(snapshot);
            }
            Ok(Err(error)) => self.owned.context().cause(&error),
            Err(_) => format!("no answer within {}", humantime::format_duration(LIMIT)),
        };
        if self.cache.failed(Utc::now(), error.clone()) {
            tracing::info!(error, "the destination cannot be listed: the status page shows what was known before");
        }
    }

    /// Resolves the settings now, because secret files may have changed.
    async fn snapshot(&self) -> Result<Snapshot, Error> {
        let context = self.owned.learned();
        let BackupSettings { s3, databases, retention, .. } =
            config::backup(context.flags, context.environment).map_err(Error::Settings)?.settings;
        let max_outage = s3.max_outage.min(PATIENCE);
        let root = Box::pin(Destination::open(&S3Settings { max_outage, ..s3 })).await?;
        let places = Destinations::look(root, databases.as_ref()).await?;
        let listings = places.listings().await?;
        let listings = places.each().iter().zip(listings);
        let listings =
            listings.map(|(place, listing)| (place.database.clone(), listing, DatabaseDestination::span(place)));
        let request = SnapshotRequest {
            policy: retention,
            next_run: self.heartbeat.health(Utc::now()).next_run,
            last: self.cache.known().snapshot,
        };
        Ok(Snapshot::read(listings.collect(), &request).await?)
    }

    /// Records what one destination has, as the look at the start does. The databases of several are left to their runs: the bucket
    /// does not say which ones the server still has.
    fn report(&self, snapshot: &Snapshot) {
        if let [only] = snapshot.databases.as_slice()
            && only.name.is_none()
        {
            self.heartbeat.metrics().looked(only.count as u64, only.bytes, only.newest);
        }
    }
}
