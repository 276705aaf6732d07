//! Which backup is restored: the one that was named, or the newest valid one.

use crate::archive::manifest::Manifest;
use crate::archive::name::BackupName;
use crate::archive::{Listing, StoredBackup};
use crate::storage::{Destination, StorageError};

/// Which backup is wanted.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// The newest valid one.
    Latest,
    /// This one.
    Named(BackupName),
}

/// A backup that was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// What the listing knows of it.
    pub backup: StoredBackup,
    /// What it is judged by: its manifest, where it has one that can be read and is not to be ignored.
    pub manifest: Option<Manifest>,
}

/// Chooses a backup; `None` where there is no such one.
///
/// # Errors
/// Where the listing is refused, or not to be had within the outage budget.
pub async fn choose(destination: &Destination, wanted: Wanted) -> Result<Option<Chosen>, StorageError> {
    let listing = Listing::read(destination).await?;
    let name = match wanted {
        Wanted::Latest => None,
        Wanted::Named(name) => Some(name),
    };
    Ok(listing.find(name).await.map(|(backup, manifest)| Chosen { backup, manifest }))
}
