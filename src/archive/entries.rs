//! Lists a destination: for each name the sizes of the backup and its sidecars.
//!
//! Called by [`super::Listing`], retention and the daemon's start. Only sizes are kept, so that 100,000 backups need a few
//! megabytes.

use std::collections::BTreeMap;

use super::name::{BEGINNING, BackupName, GLOBALS_SUFFIX, MANIFEST_SUFFIX};
use crate::storage::{Destination, StorageError};

/// The suffixes of a backup's sidecars, the manifest first. Other suffixes are not this tool's.
pub const SIDECARS: [&str; 3] = [MANIFEST_SUFFIX, GLOBALS_SUFFIX, ".drill.json"];

/// The objects with one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Size of the backup in bytes; `None` if only sidecars exist or the upload is open.
    pub backup: Option<u64>,
    /// Sizes of its sidecars in bytes, in the order of [`SIDECARS`].
    pub sidecars: [Option<u64>; SIDECARS.len()],
}

impl Entry {
    /// Whether it has a manifest.
    #[must_use]
    pub fn has_manifest(&self) -> bool {
        self.sidecars[0].is_some()
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
                entries.entry(name).or_default().sidecars[index] = Some(bytes);
            }
        }
    };
    destination.list(BEGINNING, &mut take).await?;
    Ok(entries)
}
