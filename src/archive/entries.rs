//! One pass over a destination's listing: for each backup's name, what is stored under it and next to it.
//!
//! Called by [`super::Listing`], by retention and by the daemon's look at its start. Sizes alone are kept, so that 100,000
//! backups are a few megabytes.

use std::collections::BTreeMap;

use super::name::{BEGINNING, BackupName, GLOBALS_SUFFIX, MANIFEST_SUFFIX};
use crate::storage::{Destination, StorageError};

/// The sidecars of a backup, each under its complete name and one of these. Anything else is not this tool's. The manifest
/// comes first.
pub const SIDECARS: [&str; 3] = [MANIFEST_SUFFIX, GLOBALS_SUFFIX, ".drill.json"];

/// What is stored under one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Size of the backup in bytes; `None` where only sidecars are there, or its upload is open.
    pub backup: Option<u64>,
    /// Sizes of its sidecars in bytes, in the order of [`SIDECARS`].
    pub sidecars: [Option<u64>; SIDECARS.len()],
}

impl Entry {
    /// Whether a manifest is there.
    #[must_use]
    pub fn has_manifest(&self) -> bool {
        self.sidecars[0].is_some()
    }
}

/// Everything below a destination, by name; the oldest first.
pub type Entries = BTreeMap<BackupName, Entry>;

/// Lists a destination.
///
/// # Errors
/// Where the listing is refused, or not to be had within the outage budget.
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
