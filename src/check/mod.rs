//! Verifies everything that a backup needs, and the latest backup.
//!
//! `source` checks PostgreSQL, `schema_dump` runs a `pg_dump`, `spool` checks the disk, `monitoring` metrics, HTTP and pings,
//! `store` S3, `newest` the latest backup, and `deep` its content. Each adds a [`CheckResult`] per check and goes on after a
//! failure: an unavailable S3 must not hide a problem of PostgreSQL. Called by `commands::check`. It writes only one probe
//! object, which it deletes.

mod clock;
mod deep;
mod error;
mod monitoring;
mod newest;
mod request;
mod result;
mod schema_dump;
mod source;
mod spool;
mod store;
mod thresholds;

use std::path::Path;
use std::time::Duration;

pub use error::CheckError;
pub use monitoring::Monitoring;
pub use result::{CheckName, CheckResult, CheckResults, Report, Status};
pub use thresholds::{MaxAge, MaxShrink, MinSize, Thresholds};

use crate::interrupt::Interrupts;
use crate::postgres::{Coverage, PostgresSettings};
use crate::storage::{Destination, S3Settings};

/// `check` reports an outage of S3 instead of waiting as long as a backup does.
const MOST_OUTAGE: Duration = Duration::from_secs(30);
/// Added to the outage budget, so that S3's error comes before the deadline.
const GRACE: Duration = Duration::from_secs(2);

/// The destination's settings for a check, with a small outage budget.
#[must_use]
pub fn impatient(s3: &S3Settings) -> S3Settings {
    S3Settings { max_outage: s3.max_outage.min(MOST_OUTAGE), ..s3.clone() }
}

/// One check of a destination, and of the source that is backed up to it.
pub struct Check<'a> {
    /// The destination.
    pub destination: &'a Destination,
    /// Its settings, from [`impatient`].
    pub s3: &'a S3Settings,
    /// What is backed up; `None` to check only the bucket, without writing.
    pub source: Option<&'a PostgresSettings>,
    /// Metrics, HTTP and pings.
    pub monitoring: &'a Monitoring,
    /// `BACKUP_SPOOL_DIR`
    pub spool_dir: Option<&'a Path>,
    /// The thresholds for the latest backup.
    pub thresholds: &'a Thresholds,
}

impl Check<'_> {
    /// Runs all checks and adds them to `results`.
    ///
    /// # Errors
    /// A signal. The probe object and the probe upload are removed first, and child processes end.
    pub async fn run(&self, interrupts: &Interrupts, results: &mut CheckResults<'_>) -> Result<(), CheckError> {
        let probe = self.destination.probe();
        let outcome = tokio::select! {
            () = Box::pin(self.try_all(&probe, results)) => Ok(()),
            interrupt = interrupts.received() => Err(CheckError::Interrupted(interrupt)),
        };
        probe.clean_up().await;
        outcome
    }

    async fn try_all(&self, probe: &crate::storage::Probe, results: &mut CheckResults<'_>) {
        self.monitoring.examine(results).await;
        let mut source = None;
        if let Some(settings) = self.source {
            source = source::examine(settings, self.spool_dir.is_some(), results).await;
        }
        if let Some(dir) = self.spool_dir {
            let verdict = spool::examine(dir, source.as_ref().map(|facts| facts.size_bytes)).await;
            results.add(CheckName::Spool, verdict);
        }
        let deadline = self.s3.max_outage + GRACE;
        let store = store::Store { probe, deadline, writes: self.source.is_some() };
        if store.examine(results).await == store::Access::Lists {
            let newest = newest::Freshness {
                destination: self.destination,
                thresholds: self.thresholds,
                database: source.as_ref().map(|facts| facts.database.as_str()),
                wants_partial: self.source.is_some_and(|source| source.arguments.coverage() == Coverage::Partial),
                deadline,
            };
            newest.examine(results).await;
        }
    }
}
