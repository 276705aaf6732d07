//! Restore: brings a stored backup back.

pub mod filter;
pub mod glob;
mod left_out;
pub mod rules;
mod statement;

pub use left_out::LeftOut;
