//! What is stored: the destination's objects joined by name into backups.
//!
//! `commands::list` shows it, `check` looks at the newest. Names and sizes come from the listing alone, of which a few bytes a
//! backup are kept, so that 100,000 of them fit; what only a manifest knows comes from the manifests of the newest.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::storage::{Destination, StorageError};

use super::entries::{Entries, Entry, list_entries};
use super::manifest::{Manifest, time_text};
use super::name::{BEGINNING, BackupName, MANIFEST_SUFFIX};
use super::status::{BackupStatus, is_too_small};

/// Manifests are read of the newest this many where nobody asks for more (SPEC §8): each is a request.
pub const MANIFESTS: usize = 50;

/// One backup, or one that is being uploaded.
#[derive(Clone, Debug, Serialize)]
pub struct StoredBackup {
    /// File name.
    pub file_name: String,
    /// `s3://bucket/key`
    pub s3_location: String,
    /// Start time, from the name; RFC 3339, UTC.
    pub started_at: String,
    /// Size in bytes; 0 while it is uploaded.
    pub file_size: u64,
    /// Plain bytes for each stored byte.
    pub compression_ratio: Option<f64>,
    /// The database, from the manifest.
    pub database: Option<String>,
    /// What is known of it.
    pub status: ListedStatus,
    /// The start time.
    #[serde(skip)]
    pub started: DateTime<Utc>,
}

/// What is known of a backup that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListedStatus {
    /// It is there, with a manifest that says its size.
    Valid,
    /// It is there, without a manifest to verify it by.
    Unverified,
    /// It is there, but holds only a part of its database.
    Partial,
    /// It is there, but has another size than its manifest says.
    SizeMismatch,
    /// It is there, without a manifest, and too small to hold a dump.
    Empty,
    /// Its name lies in the future.
    Future,
    /// Its upload is open.
    Uploading,
}

impl ListedStatus {
    /// For the table.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unverified => "unverified",
            Self::Partial => "partial",
            Self::SizeMismatch => "SIZE MISMATCH",
            Self::Empty => "EMPTY",
            Self::Future => "FUTURE",
            Self::Uploading => "uploading",
        }
    }
}

impl From<BackupStatus> for ListedStatus {
    fn from(status: BackupStatus) -> Self {
        match status {
            BackupStatus::Valid => Self::Valid,
            BackupStatus::Partial => Self::Partial,
            BackupStatus::SizeMismatch => Self::SizeMismatch,
            BackupStatus::Empty => Self::Empty,
            BackupStatus::Future => Self::Future,
        }
    }
}

/// Everything below a destination, by name.
pub struct Listing<'a> {
    destination: &'a Destination,
    entries: Entries,
    /// When it was listed: what lies in the future.
    now: DateTime<Utc>,
}

impl<'a> Listing<'a> {
    /// Lists a destination.
    ///
    /// # Errors
    /// Where the listing is refused, or not to be had within the outage budget. Open uploads that cannot be listed are
    /// a warning.
    pub async fn read(destination: &'a Destination) -> Result<Self, StorageError> {
        let mut entries = list_entries(destination).await?;
        // A sidecar without its backup is none.
        entries.retain(|_, entry| entry.backup.is_some());
        match destination.uploading(BEGINNING).await {
            Ok(names) => {
                let names = names.iter().filter_map(|name| BackupName::parse(name));
                names.for_each(|name| _ = entries.entry(name).or_default());
            }
            Err(error) => tracing::warn!(%error, "open uploads cannot be listed"),
        }
        Ok(Self { destination, entries, now: Utc::now() })
    }

    /// The file names of the newest backups, newest first; not of those that are being uploaded.
    pub fn names(&self, limit: usize) -> impl Iterator<Item = String> {
        self.stored().take(limit).map(|(name, ..)| name.to_string())
    }

    /// Every backup, its size in bytes, and its status where the listing tells it; newest first. Not those that are
    /// being uploaded.
    pub fn stored(&self) -> impl Iterator<Item = (BackupName, u64, Option<BackupStatus>)> {
        let entries = self.entries.iter().rev();
        entries.filter_map(|(name, entry)| Some((*name, entry.backup?, BackupStatus::listed(*name, entry, self.now))))
    }

    /// How many backups there are, with those that are being uploaded, and how many bytes they have in all.
    #[must_use]
    pub fn totals(&self) -> (usize, u64) {
        (self.entries.len(), self.stored().map(|(_, bytes, _)| bytes).sum())
    }

    /// The newest backups, newest first, with what the manifests of so many of them know, or the objects themselves.
    pub async fn newest(&self, limit: usize, manifests: usize) -> Newest<'_> {
        let described = self.entries.iter().rev().take(limit.min(manifests));
        let mut described: Vec<StoredBackup> = described.map(|(name, entry)| self.backup(*name, *entry)).collect();
        for backup in &mut described {
            match backup.status {
                ListedStatus::Valid | ListedStatus::Future => _ = self.describe(backup).await,
                ListedStatus::Unverified => self.look(backup).await,
                ListedStatus::Partial | ListedStatus::SizeMismatch | ListedStatus::Empty | ListedStatus::Uploading => {}
            }
        }
        Newest { listing: self, described, count: limit.min(self.entries.len()) }
    }

    /// Whether a manifest is listed beside a backup.
    #[must_use]
    pub fn has_manifest(&self, name: BackupName) -> bool {
        self.entries.get(&name).is_some_and(Entry::has_manifest)
    }

    /// One backup and its manifest; not one that is being uploaded.
    pub async fn find(&self, name: BackupName) -> Option<(StoredBackup, Option<Manifest>)> {
        let entry = self.entries.get(&name).filter(|entry| entry.backup.is_some())?;
        Some(self.full(name, *entry).await)
    }

    /// The latest backup, as of a time where one is given, and its manifest: the newest valid one that was started by then; where
    /// none of the newest 50 of those is valid, the newest partial one.
    pub async fn latest(&self, by: Option<DateTime<Utc>>) -> Option<(StoredBackup, Option<Manifest>)> {
        let is_wanted = |name: &BackupName| by.is_none_or(|by| name.started() <= by);
        let stored = self.stored().filter(|(name, _, status)| status.is_none() && is_wanted(name));
        let mut partial = None;
        for (name, ..) in stored.take(MANIFESTS) {
            let found = self.full(name, self.entries.get(&name).copied()?).await;
            match found.0.status {
                ListedStatus::Valid | ListedStatus::Unverified => return Some(found),
                ListedStatus::Partial => partial = partial.or(Some(found)),
                ListedStatus::SizeMismatch | ListedStatus::Empty | ListedStatus::Future | ListedStatus::Uploading => {}
            }
        }
        partial
    }

    /// A backup with what its manifest, or the object itself, knows.
    async fn full(&self, name: BackupName, entry: Entry) -> (StoredBackup, Option<Manifest>) {
        let mut backup = self.backup(name, entry);
        let manifest = if entry.has_manifest() {
            self.describe(&mut backup).await
        } else {
            self.look(&mut backup).await;
            None
        };
        (backup, manifest)
    }

    fn backup(&self, name: BackupName, entry: Entry) -> StoredBackup {
        let file_name = name.to_string();
        let status = match (entry.backup, BackupStatus::listed(name, &entry, self.now)) {
            (None, _) => ListedStatus::Uploading,
            (Some(_), Some(status)) => status.into(),
            (Some(_), None) if entry.has_manifest() => ListedStatus::Valid,
            (Some(_), None) => ListedStatus::Unverified,
        };
        StoredBackup {
            s3_location: self.destination.location(&self.destination.key(&file_name)),
            file_name,
            started_at: time_text(name.started()),
            file_size: entry.backup.unwrap_or_default(),
            compression_ratio: None,
            database: None,
            status,
            started: name.started(),
        }
    }

    /// Adds what the object itself tells where it has no manifest. Credentials that may not look take nothing from it.
    async fn look(&self, backup: &mut StoredBackup) {
        if matches!(backup.status, ListedStatus::Empty | ListedStatus::Future) {
            return;
        }
        match self.destination.head(&backup.file_name).await {
            Ok(Some(head)) if head.is_partial => backup.status = ListedStatus::Partial,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(file_name = backup.file_name, %error, "it is not known whether it is partial");
            }
        }
    }

    /// Adds what the manifest knows. One that is damaged or cannot be read takes nothing from the backup.
    async fn describe(&self, backup: &mut StoredBackup) -> Option<Manifest> {
        let read = self.destination.read_manifest(&format!("{}{MANIFEST_SUFFIX}", backup.file_name)).await;
        let manifest: Option<Manifest> = match read {
            Ok(manifest) => manifest.and_then(Result::ok),
            Err(error) => {
                tracing::warn!(file_name = backup.file_name, %error, "the manifest cannot be read");
                None
            }
        };
        let Some(manifest) = manifest else {
            if backup.status != ListedStatus::Future {
                backup.status =
                    if is_too_small(backup.file_size) { ListedStatus::Empty } else { ListedStatus::Unverified };
            }
            self.look(backup).await;
            return None;
        };
        if backup.status != ListedStatus::Future {
            backup.status = BackupStatus::by_manifest(backup.file_size, manifest.object_bytes, manifest.partial).into();
        }
        backup.compression_ratio = Some(manifest.compression_ratio);
        backup.database = Some(manifest.database.clone());
        Some(manifest)
    }
}

/// The newest backups, newest first. Those whose manifests were not read are made as they are asked for: there may be a
/// hundred thousand of them.
pub struct Newest<'a> {
    listing: &'a Listing<'a>,
    described: Vec<StoredBackup>,
    count: usize,
}

impl Newest<'_> {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, StoredBackup>> {
        let others = self.listing.entries.iter().rev().take(self.count).skip(self.described.len());
        let others = others.map(|(name, entry)| Cow::Owned(self.listing.backup(*name, *entry)));
        self.described.iter().map(Cow::Borrowed).chain(others)
    }
}

impl Serialize for Newest<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// The median of backups' sizes, in bytes: what the newest is compared with, by `check` and by retention before it
/// deletes. Of an even number the mean of the two in the middle; none of none.
#[must_use]
pub fn median(sizes: impl IntoIterator<Item = u64>) -> Option<u64> {
    let mut sizes: Vec<u64> = sizes.into_iter().collect();
    sizes.sort_unstable();
    let upper = sizes.len() / 2;
    let lower = sizes.len().checked_sub(1)? / 2;
    Some(u64::midpoint(*sizes.get(lower)?, *sizes.get(upper)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([7]), Some(7));
        assert_eq!(median([9, 1]), Some(5));
        assert_eq!(median([5, 1, 9, 3, 7]), Some(5));
        assert_eq!(median([u64::MAX, u64::MAX]), Some(u64::MAX));
    }
}
