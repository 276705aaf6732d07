//! Restore: brings a stored backup back.

mod ending;
pub mod replace;
pub mod roles;
pub mod scratch;
mod scratch_error;

pub use roles::{RolesError, RolesReport};
pub use scratch_error::ScratchError;
