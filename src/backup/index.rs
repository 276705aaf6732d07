//! The index of one backup: completed when the dump is, kept in the spool, written after the commit.
//!
//! Nothing here makes a backup fail: a missing index is logged, and named in the manifest.

use std::sync::OnceLock;

use crate::index::{Draft, Stream};

/// The index of one backup.
pub(super) struct IndexOfRun<'a> {
    run_id: &'a str,
    invalid_indexes: Option<u64>,
    /// The sidecar's bytes; `None` if the dump has no index.
    made: OnceLock<Option<Vec<u8>>>,
}

impl<'a> IndexOfRun<'a> {
    /// For the dump of this run, whose server has so many invalid indexes.
    pub fn new(run_id: &'a str, invalid_indexes: Option<u64>) -> Self {
        Self { run_id, invalid_indexes, made: OnceLock::new() }
    }

    /// Completes it.
    pub fn make(&self, entries: Option<Draft>, stream: Stream) {
        let made = entries.map(|entries| entries.complete(stream, self.run_id, self.invalid_indexes));
        // Set here alone.
        let _ = self.made.set(made);
    }
}
