//! What the backups of one process share while they run at the same time: compression threads, memory and lanes to S3.
//!
//! One backup and several use the same code: [`super::Backup`] makes its own where it is given none. Several backups of one server
//! also share what is known of the server.

use std::collections::HashMap;

use crate::pipeline::{PartBudget, PipelineError, Workers};
use crate::postgres::globals::{DatabaseSettings, Origin};
use crate::postgres::{EndedSessions, Tools};
use crate::storage::{Destination, Lanes};

use super::sidecars::ClusterGlobals;
use super::{BackupError, BackupSettings, DumpError};

/// What several backups of one server share.
pub(super) struct SharedServer {
    /// A destination of the bucket, at any prefix.
    pub destination: Destination,
    /// The programs that fit the server.
    pub tools: Tools,
    /// Sessions that have ended, for the databases that wait.
    pub ended: EndedSessions,
    pub globals: ClusterGlobals,
    /// What [`ClusterGlobals`] lack, by the database's name. Those of other databases are asked in each.
    pub settings: HashMap<String, DatabaseSettings>,
    pub origin: Origin,
    pub shared: Shared,
}

impl SharedServer {
    /// What is known of the server, with a database's own settings; `None` if those are not known.
    pub fn origin_of(&self, database: &str) -> Option<Origin> {
        let mut origin = self.origin.clone();
        origin.database = Some(self.settings.get(database)?.clone());
        Some(origin)
    }
}

/// Threads, memory and lanes; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) workers: Workers,
    pub(super) memory: PartBudget,
    pub(super) lanes: Lanes,
}

impl Shared {
    /// As many threads and lanes as the settings say, for any number of backups.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn new(settings: &BackupSettings) -> Result<Self, BackupError> {
        let workers = Workers::start(settings.pipeline.threads);
        let workers = workers.map_err(PipelineError::Thread).map_err(DumpError::Pipeline)?;
        Ok(Self { workers, memory: PartBudget::default(), lanes: Lanes::new(settings.parts.concurrency) })
    }
}
