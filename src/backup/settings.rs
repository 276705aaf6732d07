//! The settings of a backup; `config` fills them.

use std::path::PathBuf;
use std::time::Duration;

use crate::pipeline::{PartSettings, PipelineSettings};
use crate::postgres::PostgresSettings;
use crate::retention::RetentionPolicy;
use crate::storage::S3Settings;

/// What a backup needs to know.
#[derive(Debug)]
pub struct BackupSettings {
    /// The destination.
    pub s3: S3Settings,
    /// The source.
    pub postgres: PostgresSettings,
    /// Compression.
    pub pipeline: PipelineSettings,
    /// How the object is cut into parts.
    pub parts: PartSettings,
    /// Where parts are kept until the object is committed.
    pub spool_dir: Option<PathBuf>,
    /// The longest time that a run may take.
    pub max_duration: Option<Duration>,
    /// The longest time that the dump may block other sessions.
    pub max_blocking: Option<Duration>,
    /// What is deleted after the backup; nothing where no rule is set.
    pub retention: Option<RetentionPolicy>,
}
