//! Stored backups: their names, manifests and sidecars, and what a destination holds.
//!
//! [`name`] is the only place that knows the pattern of names, and [`manifest`] what is recorded beside an object.
//! [`list_entries`] joins the listing of a destination by name: the one inventory from which [`Listing`], `retention`,
//! `check` and the daemon decide, all by the same [`BackupStatus`]. Called by `backup`, `retention`, `check`, `commands`.
//! [`Reader`] reads a backup from its first byte to its last and judges it: `check --deep` decides what follows. Nothing here
//! writes to S3.

mod contents;
mod entries;
mod listing;
pub mod manifest;
pub mod name;
mod reader;
pub mod restore_instructions;
mod status;

pub use contents::{Contents, Dump};
pub use entries::{Entries, Entry, SIDECARS, list_entries};
pub use listing::{Listing, MANIFESTS, StoredBackup, median};
pub use reader::Reader;
pub use status::{BackupStatus, SMALLEST_DUMP, is_too_small};
