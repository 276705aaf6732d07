//! The last snapshot, kept while the bucket cannot be listed.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};

use super::Snapshot;

/// The last snapshot of a daemon. `commands::daemon` fills it, `health` reads it.
#[derive(Debug, Default)]
pub struct InventoryCache(Mutex<Known>);

/// What is known of the bucket.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The last snapshot.
    pub snapshot: Option<Arc<Snapshot>>,
    /// Why there is no later one; `None` if the last listing succeeded.
    pub failure: Option<Failure>,
}

/// Listings that fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When the first one failed.
    pub since: DateTime<Utc>,
    /// Why the last one failed, without secrets.
    pub error: String,
}

impl InventoryCache {
    /// Replaces the snapshot.
    pub fn listed(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Known { snapshot: Some(Arc::new(snapshot)), failure: None };
    }

    /// Records that the bucket could not be listed. Returns whether the listing before succeeded.
    pub fn failed(&self, now: DateTime<Utc>, error: String) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = known.failure.as_ref().map(|failure| failure.since);
        known.failure = Some(Failure { since: since.unwrap_or(now), error });
        since.is_none()
    }

    /// What is known now.
    #[must_use]
    pub fn known(&self) -> Known {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
