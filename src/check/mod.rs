//! Verifies everything that a backup needs, and the latest backup.
//!
//! `databases` finds what to check with `BACKUP_DATABASES`. `source` checks PostgreSQL, `schema_dump` runs a `pg_dump`, `spool` checks the disk, `monitoring` metrics, HTTP and pings,
//! `store` S3, `newest` the latest backup, and `deep` its content. Each adds a [`CheckResult`] per check and goes on after a
//! failure: an unavailable S3 must not hide a problem of PostgreSQL. Called by `commands::check`. It writes only one probe
//! object, which it deletes.

mod clock;
mod databases;
mod deep;
mod encryption;
mod error;
mod monitoring;
mod name;
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

pub use encryption::Keys;
pub use error::CheckError;
pub use monitoring::Monitoring;
pub use name::CheckName;
pub use result::{CheckResult, CheckResults, Report, Status};
pub use thresholds::{MaxAge, MaxShrink, MinSize, Thresholds};

use databases::{Databases, Subject};

use crate::databases::DatabasePatterns;
use crate::interrupt::Interrupts;
use crate::postgres::{Coverage, PostgresSettings};
use crate::storage::{Destination, S3Settings};
use source::Source;

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
    /// `BACKUP_DATABASES`, and how many are backed up at once.
    pub databases: Option<(&'a DatabasePatterns, usize)>,
    /// Metrics, HTTP and pings.
    pub monitoring: &'a Monitoring,
    /// `BACKUP_SPOOL_DIR`
    pub spool_dir: Option<&'a Path>,
    /// The keys of encryption.
    pub keys: &'a Keys,
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
        let databases = self.databases.map(|(patterns, _)| Databases { patterns, root: self.destination });
        let on_server = self.examine_source(databases.as_ref(), results).await;
        if let Some(dir) = self.spool_dir {
            let verdict = spool::examine(dir, self.bytes_at_once(on_server.as_deref())).await;
            results.add(CheckName::Spool, verdict);
        }
        let deadline = self.s3.max_outage + GRACE;
        let store = store::Store { probe, deadline, writes: self.source.is_some() };
        if store.examine(results).await != store::Access::Lists {
            return;
        }
        let subjects = match &databases {
            Some(databases) => databases.complete(on_server, results).await,
            None => on_server.unwrap_or_default(),
        };
        for Subject { database, destination, facts } in &subjects {
            let facts = facts.as_ref();
            let newest = newest::Freshness {
                destination,
                thresholds: self.thresholds,
                keys: self.keys,
                is_source_known: self.source.is_some(),
                database: database.as_deref().or(facts.map(|facts| facts.database.as_str())),
                server: facts.filter(|_| database.is_some()).and_then(|facts| facts.system_identifier.as_deref()),
                wants_partial: self.source.is_some_and(|source| source.arguments.coverage() == Coverage::Partial),
                deadline,
            };
            results.of_database(database.clone());
            newest.examine(results).await;
            results.of_database(None);
            if let Some(database) = database {
                results.show_total(database);
            }
        }
    }

    /// Checks what is backed up. `None` if the databases of the server are not known.
    async fn examine_source(
        &self,
        databases: Option<&Databases<'_>>,
        results: &mut CheckResults<'_>,
    ) -> Option<Vec<Subject>> {
        let source = self.source.map(|settings| Source { settings, has_spool: self.spool_dir.is_some() });
        match (source, databases) {
            (Some(source), Some(databases)) => databases.examine_server(source, results).await,
            (None, Some(_)) => None,
            (source, None) => {
                let facts = match source {
                    Some(source) => source.examine(results).await,
                    None => None,
                };
                Some(vec![Subject { database: None, destination: self.destination.clone(), facts }])
            }
        }
    }

    /// The sizes of the largest databases that are backed up at once.
    fn bytes_at_once(&self, subjects: Option<&[Subject]>) -> Option<u64> {
        let mut sizes: Vec<u64> =
            subjects?.iter().filter_map(|subject| Some(subject.facts.as_ref()?.size_bytes)).collect();
        sizes.sort_unstable_by_key(|size| std::cmp::Reverse(*size));
        let at_once = self.databases.map_or(1, |(_, jobs)| jobs);
        sizes.into_iter().take(at_once).reduce(u64::saturating_add)
    }
}
