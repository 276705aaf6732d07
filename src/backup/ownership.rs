//! Which database the backups of a destination belong to. One `S3_PATH` holds one database (SPEC §4, "Name"): among the names
//! of two, "the newest" and "the last seven" would mean nothing.
//!
//! Called by [`super::run`] before anything is begun. Decided by the newest manifest that can be read; where there is none,
//! or nothing may be listed or read (write-only credentials), the backup goes on; where there are some and none can be read,
//! too, but nothing is deleted then. It never costs a backup that S3 is slow with this question.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::postgres::Facts;
use crate::storage::{Destination, StorageError};

use crate::archive::name::{BEGINNING, BackupName, MANIFEST_SUFFIX};

use super::BackupError;

/// What another database's backups in the destination mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MixedDatabases {
    /// The end of the run.
    #[default]
    Refused,
    /// Nothing.
    Allowed,
}

impl MixedDatabases {
    /// As the command line has `--allow-mixed` or not.
    #[must_use]
    pub fn when(is_allowed: bool) -> Self {
        if is_allowed { Self::Allowed } else { Self::Refused }
    }
}

/// So many of the newest manifests are tried: one may be damaged, several in a row are somebody else's.
const TRIED: usize = 3;
/// How far back to look, step by step: names sort by time, so that the newest of 100,000 are found with one small
/// request as a rule.
const STEPS: [Option<TimeDelta>; 4] =
    [Some(TimeDelta::days(2)), Some(TimeDelta::days(60)), Some(TimeDelta::days(730)), None];
/// How long S3 may answer nothing well before the question is left.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a manifest says about where a backup came from. Read alone, so that a manifest of any version will do.
#[derive(Debug, Deserialize)]
struct Origin {
    database: String,
    system_identifier: Option<String>,
}

/// Whether it is known that a destination holds no other database's backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    /// This database's, nobody's, or what the user allows.
    Ours,
    /// Nobody knows: nothing may be deleted here.
    Unknown,
}

/// Refuses a destination that holds another database's backups, and warns of another server's.
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

/// What the newest manifests tell.
enum Newest {
    /// The newest that can be read.
    Of(BackupName, Origin),
    /// There is none.
    Nobodys,
    /// There are some, none of which can be read; the newest.
    Unreadable(BackupName),
}

/// The newest backup whose manifest can be read. Names that lie in the future are asked only where there is no other.
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
            tracing::debug!(%name, "passed over a damaged manifest");
        }
        if let Some(name) = names.last() {
            return Ok(Newest::Unreadable(*name));
        }
    }
    Ok(Newest::Nobodys)
}

/// The newest backups that have a manifest, and those whose names lie in the future.
#[derive(Default)]
struct Described {
    past: BTreeSet<BackupName>,
    future: BTreeSet<BackupName>,
}

/// The newest backups with a manifest that were started since then.
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
