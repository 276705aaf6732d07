//! Settings of a backup; `config` fills them.

use std::path::PathBuf;
use std::time::Duration;

use crate::codec::age::Recipients;
use crate::databases::{DatabasePatterns, sub_path};
use crate::pipeline::{PartSettings, PipelineSettings};
use crate::postgres::PostgresSettings;
use crate::retention::RetentionPolicy;
use crate::storage::S3Settings;

/// Settings of a backup.
#[derive(Clone, Debug)]
pub struct BackupSettings {
    /// The destination.
    pub s3: S3Settings,
    /// The source.
    pub postgres: PostgresSettings,
    /// The databases of the server that are meant; `None` for the connection string's own.
    pub databases: Option<DatabasePatterns>,
    /// How many of them are backed up at once.
    pub database_jobs: usize,
    /// Compression.
    pub pipeline: PipelineSettings,
    /// Whom backups are encrypted for; `None` without encryption.
    pub recipients: Option<Recipients>,
    /// Sizes and number of parts.
    pub parts: PartSettings,
    /// Where parts are kept until the object is committed.
    pub spool_dir: Option<PathBuf>,
    /// The maximum duration of a run.
    pub max_duration: Option<Duration>,
    /// The longest time that the dump may block other sessions.
    pub max_blocking: Option<Duration>,
    /// The retention policy; `None` if no rule is set.
    pub retention: Option<RetentionPolicy>,
}

impl BackupSettings {
    /// The settings of one database of the server: its connection, and its own destination below the path.
    #[must_use]
    pub fn of_database(&self, database: &str) -> Self {
        let postgres = self.postgres.of_database(database);
        let mut settings = Self { databases: None, postgres, ..self.clone() };
        settings.s3.prefix = self.s3.prefix.below(&sub_path::of(database));
        settings
    }

    /// The database that is backed up to this destination (endpoint, bucket and path in one text), if it is meant, and its settings.
    #[must_use]
    pub fn database_at(&self, identity: &str, patterns: &DatabasePatterns) -> Option<(String, Self)> {
        let (_, path) = identity.rsplit_once('\n')?;
        let database = sub_path::database(path.rsplit_once('/').map_or(path, |(_, last)| last))?;
        let settings = self.of_database(&database);
        (patterns.mean(&database) && settings.s3.identity() == identity).then_some((database, settings))
    }
}
