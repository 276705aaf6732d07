//! What was verified of a backup: all of it, or the ranges of a selective restore. Nothing is committed without it.

use crate::archive::VerifiedStream;

use super::selective::Restored;

/// A verified backup, or verified ranges of one.
#[derive(Debug)]
pub(super) enum Verified {
    /// All of it.
    Stream(VerifiedStream),
    /// What was chosen.
    Selected(Restored),
}
