//! Since when `pg_dump` has written nothing while the reader waits for it. The reader writes it, `backup::stall` judges
//! it.
//!
//! A reader that waits for the next stage is not waiting for `pg_dump`.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The current silence, if any.
#[derive(Debug, Default)]
pub(super) struct OutputSilence(Mutex<Option<Instant>>);

impl OutputSilence {
    /// The reader has been waiting since then.
    pub fn lasts_since(&self, since: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(since);
    }

    /// Output came, or the reader has ended.
    pub fn ends(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Since when the reader has been waiting.
    pub fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
