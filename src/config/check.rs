//! What `check` needs: all that a backup needs, or a bucket alone; and when backups are due, where that is known.

use std::path::PathBuf;

use super::retention::zone;
use super::{Environment, Flags, Problems, Resolver, backup_in, daemon, finish, log, s3, table};
use crate::postgres::PostgresSettings;
use crate::scheduler::Schedule;
use crate::storage::S3Settings;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything that a backup needs.
    Everything,
    /// The bucket alone: no setting of PostgreSQL is needed.
    Bucket,
}

/// What `check` needs.
#[derive(Debug)]
pub struct CheckConfig {
    /// Where to look.
    pub s3: S3Settings,
    /// What is backed up; absent where the bucket alone is looked at.
    pub postgres: Option<PostgresSettings>,
    /// Where parts are kept; absent where the bucket alone is looked at.
    pub spool_dir: Option<PathBuf>,
    /// Where a daemon listens; absent where the bucket alone is looked at.
    pub listen: Option<String>,
    /// When backups are due, where `BACKUP_INTERVAL` says.
    pub schedule: Option<Schedule>,
}

/// Resolves the settings of `check`.
///
/// # Errors
/// Every problem at once; of everything, also those that only a backup would meet.
pub fn check(flags: &Flags, environment: &Environment, scope: Scope) -> Result<CheckConfig, Problems> {
    let mut resolver = Resolver::new(flags, environment);
    let zone = zone(&mut resolver);
    let mut listen = None;
    let parts = match scope {
        Scope::Everything => {
            listen = daemon::address(&mut resolver);
            backup_in(&mut resolver, zone).map(|backup| (backup.s3, Some(backup.postgres), backup.spool_dir))
        }
        Scope::Bucket => {
            log(&mut resolver);
            s3(&mut resolver).map(|s3| (s3, None, None))
        }
    };
    let text = resolver.text(&table::BACKUP_INTERVAL);
    let schedule = daemon::schedule_of(&mut resolver, text, zone);
    let config = parts.map(|(s3, postgres, spool_dir)| CheckConfig { s3, postgres, spool_dir, listen, schedule });
    finish(resolver, config).map(|(config, _)| config)
}
