//! Check: is everything fit to back up, and is the newest backup fresh and valid.
//!
//! `source` tries PostgreSQL and `rehearsal` a `pg_dump`, `spool` the disk, `monitoring` what others watch, `store` tries S3, `newest` looks at the newest backup and `deep` reads it
//! complete. Each tells a [`CheckResult`] for each thing that it tried, and goes on after a failure as far as that makes sense: an S3
//! that is dead must not hide what is wrong with PostgreSQL. Called by `commands::check`. It changes nothing but one probe
//! object, which it deletes again.

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

/// An outage of S3 is not waited out as in a backup: what does not answer now is what a check is there to tell.
const MOST_OUTAGE: Duration = Duration::from_secs(30);
/// On top of the outage budget, so that S3's own words come before the deadline.
const GRACE: Duration = Duration::from_secs(2);

/// The destination's settings as a check uses them: with a small outage budget.
#[must_use]
pub fn impatient(s3: &S3Settings) -> S3Settings {
    S3Settings { max_outage: s3.max_outage.min(MOST_OUTAGE), ..s3.clone() }
}

/// One check of a destination, and of the source that is backed up to it.
pub struct Check<'a> {
    /// Where the backups are.
    pub destination: &'a Destination,
    /// As [`impatient`] made them.
    pub s3: &'a S3Settings,
    /// What is backed up; `None` where the bucket alone is looked at, and nothing is written.
    pub source: Option<&'a PostgresSettings>,
    /// Where those who watch are told.
    pub monitoring: &'a Monitoring,
    /// `BACKUP_SPOOL_DIR`
    pub spool_dir: Option<&'a Path>,
    /// What the newest backup must be like.
    pub thresholds: &'a Thresholds,
}

impl Check<'_> {
    /// Tries everything, and tells `results`.
    ///
    /// # Errors
    /// A signal. Then, too, the probe object and the probe upload are taken away, and children end.
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
