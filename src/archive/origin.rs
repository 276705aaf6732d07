//! The origin of the newest backup of a destination: its database and server.
//!
//! `backup` refuses a destination with another database's backups, and `databases` decides which sub-paths of the bucket belong to a
//! database.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use crate::storage::{Destination, StorageError};

use super::name::{BEGINNING, BackupName, MANIFEST_SUFFIX};

/// Number of newest manifests that are tried: one may be damaged; several in a row are another program's.
const TRIED: usize = 3;
/// How far back to look, step by step. Names sort by time, so one small request usually finds the newest of 100,000.
const STEPS: [Option<TimeDelta>; 4] =
    [Some(TimeDelta::days(2)), Some(TimeDelta::days(60)), Some(TimeDelta::days(730)), None];

/// The origin of a backup, read alone from its manifest, so that any version fits.
#[derive(Debug, Deserialize)]
pub struct Origin {
    /// The database's name.
    pub database: String,
    /// The server's system identifier, if the role could read it.
    pub system_identifier: Option<String>,
}

/// The result of reading the newest manifests.
#[derive(Debug)]
pub enum NewestOrigin {
    /// The newest readable one.
    Of(BackupName, Origin),
    /// No backup has a manifest.
    None,
    /// There are some, and none is readable; the newest.
    Unreadable(BackupName),
}

/// Finds the newest backup with a readable manifest. Names in the future count only if there is no other.
///
/// # Errors
/// As [`Destination::list`].
pub async fn newest(destination: &Destination) -> Result<NewestOrigin, StorageError> {
    let now = Utc::now();
    for step in STEPS {
        let Described { past, future } = described(destination, step.map(|step| now - step), now).await?;
        let names = if step.is_none() && past.is_empty() { future } else { past };
        for name in names.iter().rev() {
            let manifest = destination.read_manifest(&format!("{name}{MANIFEST_SUFFIX}")).await?;
            if let Some(origin) = manifest.and_then(Result::ok) {
                return Ok(NewestOrigin::Of(*name, origin));
            }
            tracing::debug!(%name, "skipped a damaged manifest");
        }
        if let Some(name) = names.last() {
            return Ok(NewestOrigin::Unreadable(*name));
        }
    }
    Ok(NewestOrigin::None)
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
