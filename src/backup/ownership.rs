//! Which database a destination's backups belong to. One `S3_PATH` holds one database: among the names of two, "the
//! newest" and "the last seven" would mean nothing.
//!
//! Called by [`super::run`] before the upload starts. The newest readable manifest decides. Without a manifest, or
//! without the permission to list or read (write-only credentials), the backup continues. If there are manifests and
//! none is readable, it continues, and nothing is deleted. A slow S3 does not prevent the backup.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::postgres::Facts;
use crate::storage::{Destination, StorageError};

use crate::archive::name::{BEGINNING, BackupName, MANIFEST_SUFFIX};

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

/// Number of newest manifests that are tried: one may be damaged; several in a row are another program's.
const TRIED: usize = 3;
/// How far back to look, step by step. Names sort by time, so one small request usually finds the newest of 100,000.
const STEPS: [Option<TimeDelta>; 4] =
    [Some(TimeDelta::days(2)), Some(TimeDelta::days(60)), Some(TimeDelta::days(730)), None];
/// The outage budget of this check.
const PATIENCE: Duration = Duration::from_secs(30);

/// The origin of a backup, read alone from its manifest, so that any version fits.
#[derive(Debug, Deserialize)]
struct Origin {
    database: String,
    system_identifier: Option<String>,
}

/// Whether the destination may hold another database's backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    /// It holds this database's, none, or what the user allows.
    Ours,
    /// Not known: nothing may be deleted.
    Unknown,
}

/// Refuses a destination with another database's backups, and warns of another server's.
pub(super) async fn check(destination: &Destination, facts: &Facts) -> Result<Ownership, BackupError> {
    let (name, origin) = match newest(&destination.with_patience(PATIENCE)).await {
        Ok(Newest::Of(name, origin)) => (name, origin),
        Ok(Newest::Nobodys) => return Ok(Ownership::Ours),
        Ok(Newest::Unreadable(name)) => {
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
        let destination = destination.location(&destination.key(""));
        return Err(BackupError::Mixed { destination, name, holds: origin.database, database: facts.database.clone() });
    }
    if let (Some(known), Some(here)) = (&origin.system_identifier, &facts.system_identifier)
        && known != here
    {
        tracing::warn!(
            newest = %name,
            previous_system_identifier = known,
            system_identifier = here,
            "the newest backup here is of the same database on another server: right after an upgrade or a move"
        );
    }
    Ok(Ownership::Ours)
}

/// The result of reading the newest manifests.
enum Newest {
    /// The newest readable one.
    Of(BackupName, Origin),
    /// There is none.
    Nobodys,
    /// There are some, and none is readable; the newest.
    Unreadable(BackupName),
}

/// Finds the newest backup with a readable manifest. Names in the future count only if there is no other.
async fn newest(destination: &Destination) -> Result<Newest, StorageError> {
    let now = Utc::now();
    for step in STEPS {
        let Described { past, future } = described(destination, step.map(|step| now - step), now).await?;
        let names = if step.is_none() && past.is_empty() { future } else { past };
        for name in names.iter().rev() {
            let manifest = destination.read_manifest(&format!("{name}{MANIFEST_SUFFIX}")).await?;
            if let Some(origin) = manifest.and_then(Result::ok) {
                return Ok(Newest::Of(*name, origin));
            }
            tracing::debug!(%name, "skipped a damaged manifest");
        }
        if let Some(name) = names.last() {
            return Ok(Newest::Unreadable(*name));
        }
    }
    Ok(Newest::Nobodys)
}

/// The newest backups that have a manifest, and those with names in the future.
#[derive(Default)]
struct Described {
    past: BTreeSet<BackupName>,
    future: BTreeSet<BackupName>,
}

/// Lists the newest backups with a manifest that were started since then.
async fn described(
    destination: &Destination,
    since: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<Described, StorageError> {
    let mut described = Described::default();
    let mut take = |file_name: &str, _: u64| {
        if let Some(name) = file_name.strip_suffix(MANIFEST_SUFFIX).and_then(BackupName::parse) {
            let names = if name.is_in_future(now) { &mut described.future } else { &mut described.past };
            names.insert(name);
            if names.len() > TRIED {
                names.pop_first();
            }
        }
    };
    let since = since.map(|time| BackupName::new(time).to_string());
    destination.list_after(BEGINNING, since.as_deref(), &mut take).await?;
    Ok(described)
}
