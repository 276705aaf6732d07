//! Chooses the backup to restore: the named one, or the newest valid one; and reads its manifest.

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeZone as _, Utc};
use chrono_tz::Tz;

use crate::archive::manifest::Manifest;
use crate::archive::name::{BackupName, MANIFEST_SUFFIX};
use crate::archive::{BackupStatus, Latest, Listing, Stored, StoredBackup, VerifiedStream};
use crate::log_target::FOR_MACHINES;
use crate::storage::Destination;

use super::RestoreError;

/// The accepted formats of a local time.
const LOCAL: [&str; 4] = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"];

/// The most backups that are named as not the latest.
const MOST_ANNOUNCED: usize = 5;

/// The backup that the user asks for.
#[derive(Clone, Copy, Debug)]
pub enum Wanted {
    /// The newest valid one.
    Latest,
    /// The newest valid one that was started at or before this time.
    At(DateTime<Utc>),
    /// This one.
    Named(BackupName),
}

/// What a backup is verified against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Its manifest, if it has one.
    Manifest,
    /// Only the codec's checksum and the end of the dump, as for a backup without a manifest.
    Itself,
}

impl Evidence {
    /// What of the stream was not verified, and why.
    pub(super) fn unchecked(self, stream: &VerifiedStream) -> Option<String> {
        let why = match self {
            Self::Manifest => "there is no manifest",
            Self::Itself => "the manifest is ignored",
        };
        stream.unchecked().map(|what| format!("{what}: {why}"))
    }
}

/// A backup that was chosen.
#[derive(Debug)]
pub struct Chosen {
    /// Its entry in the listing.
    pub backup: StoredBackup,
    /// Its manifest; `None` if it has none or it is ignored.
    pub manifest: Option<Manifest>,
    /// Whether a manifest is ignored.
    pub evidence: Evidence,
}

impl Chosen {
    /// Adds what only the encrypted index names, if there is an identity that opens it.
    #[must_use]
    pub async fn with_names(self, from: Stored<'_>) -> Self {
        let manifest = match self.manifest {
            Some(manifest) => Some(manifest.with_names(&self.backup.file_name, from).await),
            None => None,
        };
        Self { manifest, ..self }
    }
}

/// Chooses a backup; `None` if none matches. Logs its name, and warns if it is not valid.
///
/// # Errors
/// If the listing or the manifest is refused or unavailable for the outage budget, or the manifest is damaged.
pub async fn choose(
    destination: &Destination,
    wanted: Wanted,
    evidence: Evidence,
) -> Result<Option<Chosen>, RestoreError> {
    let listing = Listing::read(destination).await?;
    let found = match wanted {
        Wanted::Latest => announced(listing.latest(None).await),
        Wanted::At(time) => announced(listing.latest(Some(time)).await),
        Wanted::Named(name) => listing.find(name).await,
    };
    let Some((backup, found)) = found else { return Ok(None) };
    let Some(name) = BackupName::parse(&backup.file_name) else { return Ok(None) };
    let manifest = match (evidence, found) {
        (Evidence::Manifest, Some(manifest)) => Some(manifest),
        (Evidence::Manifest, None) if listing.has_manifest(name) => required_manifest(destination, name).await?,
        (Evidence::Itself, _) | (Evidence::Manifest, None) => None,
    };
    tracing::info!(
        target: FOR_MACHINES,
        file_name = backup.file_name,
        started_at = backup.started_at,
        database = manifest.as_ref().map(|manifest| manifest.database.as_str()),
        "the backup to restore"
    );
    match backup.status {
        BackupStatus::Partial => tracing::warn!("this backup is partial: arguments of pg_dump left something out"),
        BackupStatus::Future => tracing::warn!("this backup's name is in the future: it is unknown when it was made"),
        _ => {}
    }
    Ok(Some(Chosen { backup, manifest, evidence }))
}

/// Warns of the newer backups that are not the latest, and says why.
fn announced(Latest { found, passed_over }: Latest) -> Option<(StoredBackup, Option<Manifest>)> {
    for backup in passed_over.iter().take(MOST_ANNOUNCED) {
        let Some(name) = BackupName::parse(&backup.file_name) else { continue };
        let why = backup.status.why_not_latest(name, backup.file_size);
        tracing::warn!(file_name = backup.file_name, "skipped a newer backup: {why}");
    }
    if passed_over.len() > MOST_ANNOUNCED {
        tracing::warn!(backups = passed_over.len() - MOST_ANNOUNCED, "skipped more: `list` shows them");
    }
    found
}

/// Reads the manifest. If a listed manifest cannot be read, that is an error, or the backup would pass as one without a manifest.
async fn required_manifest(destination: &Destination, name: BackupName) -> Result<Option<Manifest>, RestoreError> {
    let read = destination.read_manifest(&format!("{name}{MANIFEST_SUFFIX}")).await?;
    let damaged = |damage| RestoreError::DamagedManifest { file_name: name.to_string(), damage };
    read.transpose().map_err(damaged)
}

/// Parses a time: RFC 3339, or a local time in this zone.
///
/// # Errors
/// If it is neither, or the zone skips it (daylight saving).
pub fn parse_time(text: &str, zone: Tz) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let local = LOCAL.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let local = local.ok_or("must be a time such as 2026-11-23T02:00:00Z or '2026-11-23 02:00'")?;
    match zone.from_local_datetime(&local) {
        LocalResult::Single(time) => Ok(time.to_utc()),
        // If an hour occurs twice, take the later one.
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
