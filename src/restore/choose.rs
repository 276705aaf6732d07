//! Which backup is restored: the one that was named, or the newest valid one; and by what it is judged.

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::Tz;

use crate::archive::manifest::Manifest;
use crate::archive::name::{BackupName, MANIFEST_SUFFIX};
use crate::archive::{ListedStatus, Listing, StoredBackup};
use crate::storage::Destination;

use super::RestoreError;

/// How a local time may be written.
const LOCAL: [&str; 4] = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];

/// Which backup is wanted.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// The newest valid one.
    Latest,
    /// The newest valid one that was started by then.
    At(DateTime<Utc>),
    /// This one.
    Named(BackupName),
}

/// By what a backup is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Its manifest, where it has one.
    Manifest,
    /// Itself alone, as a backup without a manifest.
    Itself,
}

/// A backup that was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// What the listing knows of it.
    pub backup: StoredBackup,
    /// What it is judged by: its manifest, where it has one that is not to be ignored.
    pub manifest: Option<Manifest>,
}

/// Chooses a backup; `None` where there is no such one. Says which it is, and what is less than well with it.
///
/// # Errors
/// Where the listing or the manifest is refused, or not to be had within the outage budget; and where the manifest is damaged.
pub async fn choose(
    destination: &Destination,
    wanted: Wanted,
    evidence: Evidence,
) -> Result<Option<Chosen>, RestoreError> {
    let listing = Listing::read(destination).await?;
    let found = match wanted {
        Wanted::Latest => listing.latest(None).await,
        Wanted::At(time) => listing.latest(Some(time)).await,
        Wanted::Named(name) => listing.find(name).await,
    };
    let Some((backup, found)) = found else { return Ok(None) };
    let name = BackupName::new(backup.started);
    let manifest = match (evidence, found) {
        (Evidence::Manifest, Some(manifest)) => Some(manifest),
        (Evidence::Manifest, None) if listing.has_manifest(name) => required_manifest(destination, name).await?,
        (Evidence::Itself, _) | (Evidence::Manifest, None) => None,
    };
    tracing::info!(
        file_name = backup.file_name,
        started_at = backup.started_at,
        database = manifest.as_ref().map(|manifest| manifest.database.as_str()),
        "the backup to restore"
    );
    match backup.status {
        ListedStatus::Partial => tracing::warn!("this backup is partial: it holds only a part of its database"),
        ListedStatus::Future => tracing::warn!("this backup's name lies in the future: nobody knows when it was made"),
        _ => {}
    }
    Ok(Some(Chosen { backup, manifest }))
}

/// The manifest that is listed: one that cannot be read must not make a backup one without.
async fn required_manifest(destination: &Destination, name: BackupName) -> Result<Option<Manifest>, RestoreError> {
    let read = destination.read_manifest(&format!("{name}{MANIFEST_SUFFIX}")).await?;
    let damaged = |source| RestoreError::DamagedManifest { file_name: name.to_string(), source };
    read.transpose().map_err(damaged)
}

/// Reads a moment: RFC 3339, or a local time in this zone.
///
/// # Errors
/// Where it is neither, or the zone skips it.
pub fn parse_time(text: &str, zone: Tz) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let local = LOCAL.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let local = local.ok_or("must be a time such as 2026-11-23T02:00:00Z or '2026-11-23 02:00'")?;
    match zone.from_local_datetime(&local) {
        LocalResult::Single(time) => Ok(time.to_utc()),
        // Of an hour that comes twice, all of it has passed by its second end.
        LocalResult::Ambiguous(_, later) => Ok(later.to_utc()),
        LocalResult::None => Err(format!("there is no such time in {zone}: its clocks skip it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_an_offset_or_is_local() {
        let read = |text| parse_time(text, chrono_tz::Europe::Berlin).map(|time| time.to_rfc3339());
        for (text, wanted) in [
            ("2026-11-23T02:00:00Z", "2026-11-23T02:00:00+00:00"),
            ("2026-11-23 02:00:00+05:30", "2026-11-22T20:30:00+00:00"),
            ("2026-11-23T02:00:00", "2026-11-23T01:00:00+00:00"),
            ("2026-07-23 02:00", "2026-07-23T00:00:00+00:00"),
            ("2026-10-25 02:30", "2026-10-25T01:30:00+00:00"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(wanted), "{text}");
        }
        assert!(read("2026-03-29 02:30").is_err_and(|why| why.contains("skip")));
        for wrong in ["", "yesterday", "2026-11-23", "23.11.2026 02:00", "2026-13-01 00:00"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
