//! Backup Manager: takes one backup, from connecting to the report.
//!
//! `run` is the story, `target` where the dump goes, `stream` the middle, or `spooled` with a spool, from which `resume`
//! delivers what an earlier run left; `ownership` says whose backups lie where it goes; `name`, `manifest`, `sidecars` and
//! `restore_instructions` are what it leaves behind, `limits` and `watch` what may end it early. Called by `commands::take`.

mod limits;
mod ownership;
mod report;
mod resume;
mod run;
mod sidecars;
mod spooled;
pub mod stall;
mod stream;
mod upload_target;
mod watch;

use std::time::Duration;

pub use limits::Limits;
pub use ownership::MixedDatabases;
pub use report::{Attempt, Report};
pub use run::Backup;

use crate::pipeline::PipelineError;
use crate::proof::NotWhole;

/// Why there is no whole dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The evidence is against it.
    #[error(transparent)]
    NotWhole(NotWhole),
    /// It could not be read or compressed.
    #[error(transparent)]
    Pipeline(PipelineError),
    /// `pg_dump` closed its output and went on.
    #[error("pg_dump closed its output, but did not end within {}", humantime::format_duration(*.limit))]
    DoesNotEnd {
        /// How long was waited.
        limit: Duration,
    },
    /// It does not move any more.
    #[error(
        "pg_dump wrote nothing for {}, and {finding}: look at what holds it up, or raise BACKUP_STALL_TIMEOUT",
        humantime::format_duration(*.limit)
    )]
    Stalled {
        /// `BACKUP_STALL_TIMEOUT`
        limit: Duration,
        /// What the server says.
        finding: stall::Finding,
    },
    /// It ended while it waited for another's lock.
    #[error(
        "{failure}; it waited for a lock of another session ({holder}): end that, back up at a quieter time, or raise BACKUP_LOCK_WAIT_TIMEOUT"
    )]
    Locked {
        /// How it ended.
        failure: NotWhole,
        /// The session in its way.
        holder: String,
    },
    /// Others waited for its locks for too long.
    #[error(
        "the dump gave way after it had blocked another session (pid {pid}: {query}) for {}: back up at a quieter time, or raise BACKUP_MAX_BLOCKING",
        humantime::format_duration(*.limit)
    )]
    GaveWay {
        /// `BACKUP_MAX_BLOCKING`
        limit: Duration,
        /// The backend that waited.
        pid: i32,
        /// What it wanted to do.
        query: String,
    },
    /// The system does not say how it ended.
    #[error("wait for pg_dump")]
    Wait(#[source] std::io::Error),
}
