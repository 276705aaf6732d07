//! Lists stored backups: the destination's objects, grouped by name.
//!
//! `commands::list` prints it, `check` verifies the newest. Names and sizes come from the listing, a few bytes per backup, so
//! that 100,000 of them fit into memory. Other facts come from the manifests of the newest.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::storage::{Destination, StorageError};

use super::drill::{DrillRecord, DrillResult};
use super::entries::{Entries, Entry, list_entries};
use super::manifest::{Manifest, time_text};
use super::name::{BEGINNING, BackupName, DRILL_SUFFIX, MANIFEST_SUFFIX};
use super::status::{BackupStatus, is_too_small};

/// The manifests of this many backups are read by default: each is a request.
pub const MANIFESTS: usize = 50;
/// PostgreSQL's names have 63 bytes, of servers with a larger NAMEDATALEN more. What is longer in a manifest is no name: a daemon keeps
/// the names of many backups, and others may write manifests.
const LONGEST_NAME: usize = 1024;

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
    /// Seconds from the start to the commit, from the manifest.
    pub duration: Option<f64>,
    /// The database: from the manifest, else that of the sub-path.
    pub database: Option<String>,
    /// Its status.
    pub status: BackupStatus,
    /// Whether it is encrypted, by its name.
    pub encrypted: bool,
    /// When it was last restored for a drill; RFC 3339, UTC.
    pub drilled_at: Option<String>,
    /// The result of that drill.
    pub drill_result: Option<DrillResult>,
    /// The start time.
    #[serde(skip)]
    pub started: DateTime<Utc>,
}

/// The latest backup, and the newer ones that are none.
#[derive(Debug)]
pub struct Latest {
    /// The backup and its manifest; `None` if there is none.
    pub found: Option<(StoredBackup, Option<Manifest>)>,
    /// The newer ones, newest first.
    pub passed_over: Vec<StoredBackup>,
}

/// The backups of a destination.
#[derive(Debug)]
pub struct Listing {
    destination: Destination,
    /// The database of a sub-path.
    database: Option<String>,
    entries: Entries,
    /// Backups with the facts of their manifests, from an earlier listing.
    known: BTreeMap<BackupName, StoredBackup>,
    /// When it was listed; later names are in the future.
    now: DateTime<Utc>,
}

impl Listing {
    /// Lists a destination.
    ///
    /// # Errors
    /// If the listing is refused, or S3 is unavailable for the outage budget. Open uploads that cannot be listed are a warning.
    pub async fn read(destination: &Destination) -> Result<Self, StorageError> {
        let mut entries = list_entries(destination).await?;
        // Sidecars without a backup are ignored.
        entries.retain(|_, entry| entry.backup.is_some());
        match destination.uploading(BEGINNING).await {
            Ok(names) => {
                let names = names.iter().filter_map(|name| BackupName::parse(name));
                names.for_each(|name| _ = entries.entry(name).or_default());
            }
            Err(error) => tracing::warn!(%error, "open uploads cannot be listed"),
        }
        let known = BTreeMap::new();
        Ok(Self { destination: destination.clone(), database: None, entries, known, now: Utc::now() })
    }

    /// Names the database of backups without a manifest.
    #[must_use]
    pub fn of_database(self, database: Option<String>) -> Self {
        Self { database, ..self }
    }

    /// Adds what an earlier listing read of these backups. A manifest never changes, so it is not read again.
    #[must_use]
    pub fn with_known(mut self, backups: impl IntoIterator<Item = StoredBackup>) -> Self {
        let read = backups.into_iter().filter(|backup| backup.compression_ratio.is_some());
        self.known = read.filter_map(|backup| Some((BackupName::parse(&backup.file_name)?, backup))).collect();
        self
    }

    /// The destination.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Every name, with the sizes of its objects.
    #[must_use]
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// The file names of the newest backups, newest first; not of those that are being uploaded.
    pub fn names(&self, limit: usize) -> impl Iterator<Item = String> {
        self.stored().take(limit).map(|(name, ..)| name.to_string())
    }

    /// Every backup with its size in bytes and its status by the listing, newest first, without open uploads.
    pub fn stored(&self) -> impl Iterator<Item = (BackupName, u64, Option<BackupStatus>)> {
        let entries = self.entries.iter().rev();
        entries.filter_map(|(name, entry)| Some((*name, entry.backup?, BackupStatus::listed(*name, entry, self.now))))
    }

    /// The number of backups, with open uploads, and their bytes.
    #[must_use]
    pub fn totals(&self) -> (usize, u64) {
        (self.entries.len(), self.stored().map(|(_, bytes, _)| bytes).sum())
    }

    /// `s3://bucket/key` of a backup.
    #[must_use]
    pub fn location(&self, file_name: &str) -> String {
        self.destination.location(&self.destination.key(file_name))
    }

    /// The newest backups, newest first, with facts of this many manifests or objects.
    pub async fn newest(self, limit: usize, manifests: usize) -> Newest {
        let newest = self.entries.iter().rev().take(limit.min(manifests));
        let mut described: Vec<StoredBackup> = newest.map(|(name, entry)| self.backup(*name, *entry)).collect();
        for backup in &mut described {
            self.add_drill(backup).await;
            if self.recall(backup) {
                continue;
            }
            match backup.status {
                BackupStatus::Valid | BackupStatus::Future => _ = self.describe(backup).await,
                BackupStatus::Unverified => self.look(backup).await,
                BackupStatus::Partial | BackupStatus::SizeMismatch | BackupStatus::Empty | BackupStatus::Uploading => {}
            }
        }
        let count = limit.min(self.entries.len());
        Newest { listing: self, described, count }
    }

    /// Adds what an earlier listing read of a backup of the same size. Returns whether it did.
    fn recall(&self, backup: &mut StoredBackup) -> bool {
        let name = BackupName::parse(&backup.file_name);
        let known = name.and_then(|name| self.known.get(&name)).filter(|known| known.file_size == backup.file_size);
        let Some(known) = known.filter(|_| backup.status == BackupStatus::Valid) else { return false };
        backup.status = known.status;
        backup.compression_ratio = known.compression_ratio;
        backup.duration = known.duration;
        backup.database.clone_from(&known.database);
        true
    }

    /// Whether the listing has a backup's manifest.
    #[must_use]
    pub fn has_manifest(&self, name: BackupName) -> bool {
        self.entries.get(&name).is_some_and(Entry::has_manifest)
    }

    /// One backup and its manifest; not one that is being uploaded.
    pub async fn find(&self, name: BackupName) -> Option<(StoredBackup, Option<Manifest>)> {
        let entry = self.entries.get(&name).filter(|entry| entry.backup.is_some())?;
        Some(self.full(name, *entry).await)
    }

    /// The latest backup and its manifest, optionally as of a time: the newest valid one that was started by then. If none of the
    /// newest 50 is valid, the newest partial one.
    pub async fn latest(&self, by: Option<DateTime<Utc>>) -> Latest {
        let is_wanted = |name: &BackupName| by.is_none_or(|by| name.started() <= by);
        let (mut partial, mut passed_over, mut looked_at) = (None, Vec::new(), 0);
        for (name, _, status) in self.stored().filter(|(name, ..)| is_wanted(name)) {
            let Some(entry) = self.entries.get(&name) else { continue };
            if status.is_some() {
                passed_over.push(self.backup(name, *entry));
                continue;
            }
            if looked_at == MANIFESTS {
                break;
            }
            looked_at += 1;
            let (backup, manifest) = self.full(name, *entry).await;
            match backup.status {
                BackupStatus::Valid | BackupStatus::Unverified => {
                    return Latest { found: Some((backup, manifest)), passed_over };
                }
                BackupStatus::Partial if partial.is_none() => {
                    // What is older than this one was not passed over for it.
                    partial = Some((backup.clone(), manifest, passed_over.len()));
                    passed_over.push(backup);
                }
                _ => passed_over.push(backup),
            }
        }
        let Some((backup, manifest, newer)) = partial else { return Latest { found: None, passed_over } };
        passed_over.truncate(newer);
        Latest { found: Some((backup, manifest)), passed_over }
    }

    /// Reads the record of a backup's last drill and adds its result; `None` if there is no record, or it cannot be read.
    pub async fn add_drill(&self, backup: &mut StoredBackup) -> Option<DrillRecord> {
        let entry = self.entries.get(&BackupName::parse(&backup.file_name)?)?;
        let file_name = entry.has_drill().then(|| format!("{}{DRILL_SUFFIX}", backup.file_name))?;
        let record: DrillRecord = match self.destination.read_manifest(&file_name).await {
            Ok(read) => read?.ok()?,
            Err(error) => {
                tracing::warn!(file_name, %error, "the record of a drill cannot be read");
                return None;
            }
        };
        if record.file_name != backup.file_name {
            return None;
        }
        let drilled_at = DateTime::parse_from_rfc3339(&record.drilled_at).ok()?.to_utc();
        backup.drilled_at = Some(time_text(drilled_at));
        backup.drill_result = Some(record.result);
        Some(record)
    }

    /// Reads the record of the newest backup that has one.
    pub async fn last_drill(&self) -> Option<DrillRecord> {
        let (name, entry) = self.entries.iter().rev().find(|(_, entry)| entry.has_drill())?;
        self.add_drill(&mut self.backup(*name, *entry)).await
    }

    /// A backup with the facts of its manifest or object.
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
            (None, _) => BackupStatus::Uploading,
            (Some(_), Some(status)) => status,
            (Some(_), None) if entry.has_manifest() => BackupStatus::Valid,
            (Some(_), None) => BackupStatus::Unverified,
        };
        StoredBackup {
            s3_location: self.location(&file_name),
            file_name,
            started_at: time_text(name.started()),
            file_size: entry.backup.unwrap_or_default(),
            compression_ratio: None,
            duration: None,
            database: self.database.clone(),
            status,
            encrypted: name.is_encrypted(),
            drilled_at: None,
            drill_result: None,
            started: name.started(),
        }
    }

    /// Adds the object's metadata, for a backup without a manifest. If it cannot be read, the status stays.
    async fn look(&self, backup: &mut StoredBackup) {
        if matches!(backup.status, BackupStatus::Empty | BackupStatus::Future) {
            return;
        }
        match self.destination.head(&backup.file_name).await {
            Ok(Some(head)) if head.is_partial => backup.status = BackupStatus::Partial,
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(file_name = backup.file_name, %error, "it is unknown whether the backup is partial");
            }
        }
    }

    /// Adds the facts of the manifest. If it is damaged or cannot be read, the status stays.
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
            if backup.status != BackupStatus::Future {
                let name = BackupName::parse(&backup.file_name);
                let is_empty = name.is_some_and(|name| is_too_small(name, backup.file_size));
                backup.status = if is_empty { BackupStatus::Empty } else { BackupStatus::Unverified };
            }
            self.look(backup).await;
            return None;
        };
        if backup.status != BackupStatus::Future {
            backup.status = BackupStatus::by_manifest(backup.file_size, manifest.object_bytes, manifest.partial);
        }
        backup.compression_ratio = Some(manifest.compression_ratio);
        backup.duration = manifest.duration();
        if manifest.database.len() <= LONGEST_NAME {
            backup.database = Some(manifest.database.clone());
        }
        Some(manifest)
    }
}

/// The newest backups, newest first. Those of which no manifest was read are created on demand, because there may be 100,000.
#[derive(Debug)]
pub struct Newest {
    listing: Listing,
    described: Vec<StoredBackup>,
    count: usize,
}

impl Newest {
    /// Their number.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The number of all backups, with open uploads, and their bytes.
    #[must_use]
    pub fn totals(&self) -> (usize, u64) {
        self.listing.totals()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, StoredBackup>> {
        let others = self.listing.entries.iter().rev().take(self.count).skip(self.described.len());
        let others = others.map(|(name, entry)| Cow::Owned(self.listing.backup(*name, *entry)));
        self.described.iter().map(Cow::Borrowed).chain(others)
    }
}

/// The median of sizes in bytes, for `check` and retention. Of an even number it is the mean of the middle two; `None`
/// without sizes.
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
    fn computes_the_median() {
        assert_eq!(median([]), None);
        assert_eq!(median([7]), Some(7));
        assert_eq!(median([9, 1]), Some(5));
        assert_eq!(median([5, 1, 9, 3, 7]), Some(5));
        assert_eq!(median([u64::MAX, u64::MAX]), Some(u64::MAX));
    }
}
