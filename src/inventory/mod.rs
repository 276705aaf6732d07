//! The inventory: the newest backups of each destination, which `list` prints and the daemon's status page shows.
//!
//! Both read it here, so that they show the same. `list` reads it once. The daemon keeps the last one ([`InventoryCache`]), with
//! retention's forecast, because a request for the page must not list the bucket. A [`Snapshot`] holds at most a hundred backups of
//! a database, however many the bucket has.

mod cache;
mod snapshot;

use std::borrow::Cow;
use std::convert::Infallible;

use serde::{Serialize, Serializer};
use tracing::{Instrument as _, Span};

use crate::archive::{Listing, MANIFESTS, Newest, StoredBackup};
use crate::at_once::at_once;

pub use cache::{Failure, InventoryCache, Known};
pub use snapshot::{DatabaseSnapshot, MOST_BACKUPS, RecordedDrill, Snapshot, SnapshotRequest};

/// Databases that are read at once.
const AT_ONCE: usize = 16;

/// How many backups of a database an inventory has.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// The newest so many.
    pub backups: usize,
    /// The facts of so many manifests.
    pub manifests: usize,
}

/// The newest backups of each destination.
#[derive(Debug)]
pub struct Inventory(Vec<Newest>);

impl Inventory {
    /// Reads the newest backups of each listing. `extent` decides how many, given the listing's share of the manifests that are read
    /// by default.
    pub async fn read(listings: Vec<(Listing, Span)>, extent: impl Fn(usize) -> Extent) -> Self {
        let shares = shares(listings.iter().map(|(listing, _)| listing.totals().0));
        let read = |((listing, span), share): ((Listing, Span), usize)| {
            let Extent { backups, manifests } = extent(share);
            async move { Ok::<_, Infallible>(listing.newest(backups, manifests).await) }.instrument(span)
        };
        let Ok(newest) = at_once(AT_ONCE, listings.into_iter().zip(shares).map(read)).await;
        Self(newest)
    }

    /// The number of backups in it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(Newest::count).sum()
    }

    /// The number of all backups, with open uploads, and their bytes.
    #[must_use]
    pub fn totals(&self) -> (usize, u64) {
        self.0.iter().map(Newest::totals).fold((0, 0), |(count, bytes), (more, size)| (count + more, bytes + size))
    }

    /// Each backup: by database, newest first.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, StoredBackup>> {
        self.0.iter().flat_map(Newest::iter)
    }
}

impl Serialize for Inventory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// Shares the default number of backups fairly among databases that have so many. Each has at least one.
fn shares(counts: impl Iterator<Item = usize>) -> Vec<usize> {
    let counts: Vec<usize> = counts.collect();
    let mut by_count: Vec<usize> = (0..counts.len()).collect();
    by_count.sort_by_key(|index| counts[*index]);
    let (mut shares, mut left) = (vec![0; counts.len()], MANIFESTS);
    for (done, index) in by_count.into_iter().enumerate() {
        let equal = left / (counts.len() - done);
        shares[index] = counts[index].min(equal.max(1));
        left = left.saturating_sub(shares[index]);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_the_rows_fairly() {
        let of = |counts: &[usize]| shares(counts.iter().copied());
        assert_eq!(of(&[312]), [50]);
        assert_eq!(of(&[7]), [7]);
        assert_eq!(of(&[100, 3, 100]), [23, 3, 24], "what one leaves, the others get");
        assert_eq!(of(&[5, 0, 5]), [5, 0, 5]);
        assert_eq!(of(&[9; 60]), [1; 60], "no database is hidden");
        assert!(of(&[]).is_empty());
    }
}
