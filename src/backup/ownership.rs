//! Which database a destination's backups belong to. One `S3_PATH` holds one database: among the names of two, "the
//! newest" and "the last seven" would mean nothing.
//!
//! Called by [`super::run`] before the upload starts. The newest readable manifest decides. Without a manifest, or
//! without the permission to list or read (write-only credentials), the backup continues. If there are manifests and
//! none is readable, it continues, and nothing is deleted. A slow S3 does not prevent the backup.

use std::time::Duration;

use crate::archive::origin::{self, NewestOrigin};
use crate::postgres::Facts;
use crate::storage::{Destination, StorageError};

use super::BackupError;

/// How backups of another database in the destination are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MixedDatabases {
    /// They end the run.
    #[default]
    Refused,
    /// They are ignored.
    Allowed,
}

impl MixedDatabases {
    /// By the command line's `--allow-mixed`.
    #[must_use]
    pub fn when(is_allowed: bool) -> Self {
        if is_allowed { Self::Allowed } else { Self::Refused }
    }
}

/// The outage budget of this check.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the destination may hold another database's backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    /// It holds this database's, none, or what the user allows.
    Ours,
    /// Not known: nothing may be deleted.
    Unknown,
}

/// How backups of a database with the same name on another server are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtherServer {
    /// A warning: an upgrade or a move changes the system identifier.
    Accepted,
    /// They end the run: below one path, two servers may have databases of one name.
    Refused,
}

/// Refuses a destination with another database's backups, and warns of another server's or refuses them.
pub(super) async fn check(
    destination: &Destination,
    facts: &Facts,
    other_server: OtherServer,
) -> Result<Ownership, BackupError> {
    let (name, origin) = match origin::newest(&destination.with_patience(PATIENCE)).await {
        Ok(NewestOrigin::Of(name, origin)) => (name, origin),
        Ok(NewestOrigin::None) => return Ok(Ownership::Ours),
        Ok(NewestOrigin::Unreadable(name)) => {
            tracing::warn!(newest = %name, "the newest manifests here are damaged, so it is not known which database they belong to: going on");
            return Ok(Ownership::Unknown);
        }
        Err(StorageError::Refused { action, failure, .. }) if failure.is_bucket_in_url() => {
            return Err(StorageError::Refused { action, failure, first: true }.into());
        }
        Err(StorageError::Refused { failure, .. }) if !failure.is_broken_listing() => {
            tracing::debug!(error = %failure, "these credentials may not see which database the backups here belong to");
            return Ok(Ownership::Unknown);
        }
        Err(error) => {
            tracing::warn!(%error, "it is not known which database the backups here belong to: going on");
            return Ok(Ownership::Unknown);
        }
    };
    if origin.database != facts.database {
        let destination = destination.url();
        return Err(BackupError::Mixed { destination, name, holds: origin.database, database: facts.database.clone() });
    }
    if let (Some(known), Some(here)) = (&origin.system_identifier, &facts.system_identifier)
        && known != here
    {
        if other_server == OtherServer::Refused {
            let destination = destination.url();
            return Err(BackupError::OtherServer { destination, name, database: facts.database.clone() });
        }
        tracing::warn!(
            newest = %name,
            previous_system_identifier = known,
            system_identifier = here,
            "the newest backup here is of the same database on another server: right after an upgrade or a move"
        );
    }
    Ok(Ownership::Ours)
}
