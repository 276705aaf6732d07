//! What `check` needs: the settings of a backup or only those of the bucket, and the schedule if there is one.

use std::path::PathBuf;

use super::drill::{DrillSettings, drill_in};
use super::retention::zone;
use super::{Effective, Environment, Flags, Problems, Resolver, backup_in, daemon, databases, finish, log, s3, table};
use crate::codec::age::Recipients;
use crate::databases::DatabasePatterns;
use crate::postgres::PostgresSettings;
use crate::scheduler::Schedule;
use crate::storage::S3Settings;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything that a backup needs.
    Everything,
    /// Only the bucket, which needs no setting of PostgreSQL.
    Bucket,
}

/// What `check` needs.
#[derive(Debug)]
pub struct CheckConfig {
    /// The destination.
    pub s3: S3Settings,
    /// `BACKUP_DATABASES`
    pub databases: Option<DatabasePatterns>,
    /// `BACKUP_DATABASE_JOBS`
    pub database_jobs: usize,
    /// What is backed up; `None` for [`Scope::Bucket`].
    pub postgres: Option<PostgresSettings>,
    /// Where parts are buffered; `None` for [`Scope::Bucket`].
    pub spool_dir: Option<PathBuf>,
    /// Whom the next backup is encrypted for; `None` without encryption, and for [`Scope::Bucket`].
    pub recipients: Option<Recipients>,
    /// Where a daemon listens; `None` for [`Scope::Bucket`].
    pub listen: Option<String>,
    /// The restore drill. With a schedule it is the daemon's, and `check` runs it only for `--restore-to`.
    pub drill: DrillSettings,
    /// When backups are due, from `BACKUP_INTERVAL`.
    pub schedule: Option<Schedule>,
    /// Every value as it is used, without secrets.
    pub effective: Effective,
}

/// Resolves the settings of `check`.
///
/// # Errors
/// Every problem at once, for [`Scope::Everything`] also those of settings that only a backup uses.
pub fn check(flags: &Flags, environment: &Environment, scope: Scope) -> Result<CheckConfig, Problems> {
    let mut resolver = Resolver::new(flags, environment);
    let zone = zone(&mut resolver);
    let (mut listen, mut database_jobs, mut recipients) = (None, 1, None);
    let parts = match scope {
        Scope::Everything => {
            listen = daemon::address(&mut resolver);
            let backup = backup_in(&mut resolver, zone);
            database_jobs = backup.as_ref().map_or(1, |backup| backup.database_jobs);
            recipients = backup.as_ref().and_then(|backup| backup.recipients.clone());
            backup.map(|backup| (backup.s3, backup.databases, Some(backup.postgres), backup.spool_dir))
        }
        Scope::Bucket => {
            log(&mut resolver);
            let databases = databases(&mut resolver);
            s3(&mut resolver).map(|s3| (s3, databases, None, None))
        }
    };
    let drill = drill_in(&mut resolver, flags, zone);
    let text = resolver.text(&table::BACKUP_INTERVAL);
    let schedule = daemon::schedule_of(&mut resolver, &table::BACKUP_INTERVAL, (text, zone));
    let ((s3, databases, postgres, spool_dir), effective) = finish(resolver, parts)?;
    Ok(CheckConfig {
        s3,
        databases,
        database_jobs,
        postgres,
        spool_dir,
        recipients,
        listen,
        drill,
        schedule,
        effective,
    })
}
