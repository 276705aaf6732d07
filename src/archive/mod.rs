//! Stored backups: their names, manifests and sidecars, and what a destination holds.
//!
//! [`name`] is the only place that knows the pattern of names, and [`manifest`] what is recorded beside an object.
//! [`list_entries`] joins the listing of a destination by name: the one inventory from which [`Listing`], `retention`,
//! `check` and the daemon decide, all by the same [`BackupStatus`]. Called by `backup`, `retention`, `check`, `restore`, `commands`.
//! [`Reader`] reads a backup from its first byte to its last, [`Contents::verify`] judges it: `restore` and `check --deep` decide
//! what follows. Nothing here writes to S3.

mod contents;
mod database_options;
mod entries;
mod listing;
pub mod manifest;
pub mod name;
mod reader;
pub mod restore_instructions;
mod status;
mod verify;

pub use contents::{Contents, Dump};
pub use database_options::DatabaseOption;
pub use entries::{Entries, Entry, SIDECARS, Sidecars, list_entries};
pub use listing::{ListedStatus, Listing, MANIFESTS, StoredBackup, median};
pub use reader::{HeldSink, ReadError, ReadProgress, Reader};
pub use status::{BackupStatus, SMALLEST_DUMP, is_too_small};
pub use verify::{Mismatch, VerifiedStream};
