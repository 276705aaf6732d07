//! Since when `pg_dump` has written nothing although the reader is ready: told here by the reader, judged by
//! `backup::stall`.
//!
//! A reader that waits for room after it is not ready: a slow S3 is never `pg_dump`'s silence.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The silence that goes on, if any.
#[derive(Debug, Default)]
pub(super) struct OutputSilence(Mutex<Option<Instant>>);

impl OutputSilence {
    /// The reader has waited since then.
    pub fn lasts_since(&self, since: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(since);
    }

    /// Something came, or the reader does not listen any more.
    pub fn ends(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Since when the reader has been waiting.
    pub fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
