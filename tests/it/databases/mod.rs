//! Several databases of a server in one run.

mod faults;
mod notified;
mod odd_names;
mod places;
pub mod server;
mod sharing;
mod zstd;
