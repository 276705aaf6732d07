//! Stored backups: their names, manifests and sidecars (the objects next to a backup, such as its manifest), and the listing of a
//! destination.
//!
//! [`name`] defines the pattern of names, and [`manifest`] the record next to an object. [`list_entries`] groups a listing by
//! name. [`Listing`], `retention`, `check` and the daemon use it, all with the same [`BackupStatus`]. [`Reader`] reads a complete
//! backup, [`Ranges`] sections of one that has an index. Called by `backup`, `retention`, `check`, `restore` and `commands`. Nothing here writes to S3.

mod contents;
mod database_options;
pub mod drill;
mod entries;
mod hidden_names;
pub mod index;
mod index_check;
mod layout;
mod listing;
pub mod manifest;
pub mod name;
pub mod origin;
mod range_contents;
mod ranges;
mod reader;
pub mod restore_instructions;
pub mod sidecar;
mod status;
mod verify;

pub use contents::{Contents, Dump};
pub use database_options::DatabaseOption;
pub use entries::{Entries, Entry, SIDECARS, Sidecars, list_entries};
pub use index_check::{IndexMismatch, VerifiedIndex};
pub use listing::{Latest, Listing, MANIFESTS, Newest, StoredBackup, median};
pub use range_contents::{RangeDamage, Span, VerifiedRanges};
pub use ranges::{NoRanges, RangeError, RangeRead, Ranges};
pub use reader::{ReadError, ReadProgress, Reader};
pub use sidecar::{SidecarFlaw, Stored};
pub use status::{BackupStatus, is_too_small, smallest_dump};
pub use verify::{Mismatch, VerifiedStream, verify_index};
