//! Restores a backup into a database, a file or stdout. If verification fails, nothing is restored.
//!
//! `commands::restore` resolves the settings, chooses a backup ([`choose()`]) and calls one of the targets with a [`Request`]:
//! [`database`], or a file or a stream ([`into_file`]). Of a part of a backup `selective` reads only the ranges that hold it. Each reads the backup through [`crate::archive::Reader`], which downloads and
//! unpacks it, and commits nothing before [`crate::archive::Contents::verify`] has returned a
//! [`crate::archive::VerifiedStream`] of it. If verification fails, the target is as it was. The result is a [`Report`].
//!
//! It uses `archive`, `postgres`, `storage` and `sql`, and only `commands` uses it.

mod abandoned;
mod analyze;
mod busy;
mod check_sql;
mod choose;
pub mod database;
mod drill;
mod drill_error;
mod ending;
mod error;
mod exclusion;
mod file;
mod filling;
pub mod filter;
mod hold_back;
mod left_out;
mod new_database;
mod new_file;
mod open;
mod options;
mod parallel;
mod plan;
mod preconditions;
pub mod replace;
mod report;
pub mod roles;
pub mod rules;
pub mod scratch;
mod scratch_error;
mod selective;
mod statement;
mod subject;
mod timescaledb;
mod verified;

pub use abandoned::{Abandoned, abandoned};
pub use busy::Busy;
pub use check_sql::{CheckSql, CheckSqlError};
pub use choose::{Chosen, Evidence, Wanted, choose, parse_time};
pub use drill::{Allowed, Drill, DrillReport, DrillVerdict};
pub use drill_error::Finding;
pub use error::RestoreError;
pub use file::{Output, OutputForm, restore as into_file};
pub use left_out::LeftOut;
pub use options::{DatabaseName, LeaveOut, RestoreOptions};
pub use report::Report;
pub use roles::{RolesError, RolesReport};
pub use scratch_error::ScratchError;
pub use selective::{Part, Selected, Selection};

use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::archive::ReadProgress;
use crate::codec::age::Identities;
use crate::interrupt::Interrupts;
use crate::storage::Destination;

/// The input of every target.
pub struct Request<'a> {
    /// The destination of the backup.
    pub destination: &'a Destination,
    /// The backup.
    pub chosen: &'a Chosen,
    /// The flags of the command line.
    pub options: &'a RestoreOptions,
    /// What opens an encrypted backup.
    pub identities: Option<&'a Identities>,
    /// Signals, which end the restore early.
    pub interrupts: &'a Interrupts,
    /// The progress display, until the command ends.
    pub show: &'a (dyn Fn(Arc<ReadProgress>) + Sync),
}

/// Runs a call that may block without limit on another process.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}
