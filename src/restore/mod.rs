//! Restore: brings a stored backup back.

mod ending;
pub mod replace;
pub mod scratch;
mod scratch_error;

pub use scratch_error::ScratchError;
