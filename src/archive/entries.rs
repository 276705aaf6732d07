//! Lists a destination: for each name the sizes of the backup and its sidecars.
//!
//! Called by [`super::Listing`], retention and the daemon's start. Only sizes are kept, so that 100,000 backups need a few
//! megabytes.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::name::{
    BEGINNING, BackupName, DRILL_SUFFIX, ENCRYPTED_GLOBALS_SUFFIX, ENCRYPTED_INDEX_SUFFIX, GLOBALS_SUFFIX,
    INDEX_SUFFIX, MANIFEST_SUFFIX,
};
use crate::storage::{Destination, StorageError};

/// The suffixes of a backup's sidecars, also those of later versions, the manifest first. Other suffixes are not this tool's.
pub const SIDECARS: [&str; 6] =
    [MANIFEST_SUFFIX, GLOBALS_SUFFIX, DRILL_SUFFIX, INDEX_SUFFIX, ENCRYPTED_GLOBALS_SUFFIX, ENCRYPTED_INDEX_SUFFIX];

/// The objects with one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Size of the backup in bytes; `None` if only sidecars exist or the upload is open.
    pub backup: Option<u64>,
    /// Its sidecars.
    pub sidecars: Sidecars,
}

impl Entry {
    /// Whether it has a manifest.
    #[must_use]
    pub fn has_manifest(&self) -> bool {
        self.sidecars.0[0].is_some()
    }

    /// Whether it has the record of a drill.
    #[must_use]
    pub fn has_drill(&self) -> bool {
        self.sidecars.0[2].is_some()
    }

    /// Its size in bytes, with those of its sidecars.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.backup.unwrap_or_default() + self.sidecars.iter().map(|(_, bytes)| bytes).sum::<u64>()
    }
}

/// The sidecars of one backup, in the order of [`SIDECARS`]. There may be 100,000 backups, so each is four bytes: its size and one,
/// up to 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sidecars([Option<NonZeroU32>; SIDECARS.len()]);

impl Sidecars {
    /// Returns the existing sidecars: each with its suffix and its size in bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let there = SIDECARS.into_iter().zip(self.0);
        there.filter_map(|(suffix, stored)| Some((suffix, u64::from(stored?.get()) - 1)))
    }

    /// Records a sidecar.
    pub(super) fn set(&mut self, index: usize, bytes: u64) {
        self.0[index] = Some(NonZeroU32::MIN.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX)));
    }
}

/// All names of a destination, the oldest first.
pub type Entries = BTreeMap<BackupName, Entry>;

/// Lists a destination.
///
/// # Errors
/// If the listing is refused, or S3 is unavailable for the outage budget.
pub async fn list_entries(destination: &Destination) -> Result<Entries, StorageError> {
    let mut entries = Entries::new();
    let mut take = |file_name: &str, bytes: u64| {
        if let Some(name) = BackupName::parse(file_name) {
            entries.entry(name).or_default().backup = Some(bytes);
            return;
        }
        for (index, suffix) in SIDECARS.iter().enumerate() {
            if let Some(name) = file_name.strip_suffix(suffix).and_then(BackupName::parse) {
                entries.entry(name).or_default().sidecars.set(index, bytes);
            }
        }
    };
    destination.list(BEGINNING, &mut take).await?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_sidecar_is_one_and_a_huge_one_is_four_gibibytes() {
        let mut sidecars = Sidecars::default();
        assert_eq!(sidecars.iter().count(), 0);
        sidecars.set(0, 0);
        sidecars.set(1, 700);
        sidecars.set(2, u64::MAX);
        let wanted = [(MANIFEST_SUFFIX, 0), (GLOBALS_SUFFIX, 700), (".drill.json", u64::from(u32::MAX) - 1)];
        assert_eq!(sidecars.iter().collect::<Vec<_>>(), wanted);
    }
}
