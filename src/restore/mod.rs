//! Restore: brings a backup back, into a database, a file or stdout; proved to its last byte, or not at all.
//!
//! `commands::restore` resolves the settings, has a backup chosen ([`choose`]) and calls one of the targets with a [`Request`]:
//! [`database`], or a file or a stream ([`into_file`]). Each reads the backup through [`crate::archive::Reader`], which downloads and
//! unpacks it, and takes nothing for restored before [`crate::archive::Contents::verify`] has made a
//! [`crate::archive::VerifiedStream`] of it. Where it does not, the target is as it was before. What came of it is a [`Report`].
//!
//! Sits beside `check`: it uses `archive`, `postgres`, `storage` and `sql`, and only `commands` uses it.

mod choose;
pub mod database;
mod ending;
mod error;
mod file;
mod filling;
pub mod filter;
mod glob;
mod hold_back;
mod left_out;
mod new_database;
mod new_file;
mod open;
mod options;
mod preconditions;
pub mod replace;
mod report;
pub mod roles;
pub mod rules;
pub mod scratch;
mod scratch_error;
mod sink;
mod statement;

pub use choose::{Chosen, Evidence, Wanted, choose, parse_time};
pub use error::RestoreError;
pub use file::{Output, OutputForm, restore as into_file};
pub use left_out::LeftOut;
pub use options::{DatabaseName, LeaveOut, RestoreOptions};
pub use report::Report;
pub use roles::{RolesError, RolesReport};
pub use scratch_error::ScratchError;

use std::sync::Arc;

use crate::archive::ReadProgress;
use crate::interrupt::Interrupts;
use crate::storage::Destination;

/// What every target gets.
pub struct Request<'a> {
    /// Where the backup is.
    pub destination: &'a Destination,
    /// The backup.
    pub chosen: &'a Chosen,
    /// What the command line says.
    pub options: &'a RestoreOptions,
    /// What ends it early.
    pub interrupts: &'a Interrupts,
    /// Shows how far the reading is, from now to the end of the command.
    pub show: &'a (dyn Fn(Arc<ReadProgress>) + Sync),
}
