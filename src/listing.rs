//! What is stored: the destination's objects joined by name into backups.
//!
//! `commands::list` shows it. Names and sizes come from the listing; what only a manifest knows comes from the manifests
//! of the newest backups.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::backup::manifest::{Manifest, time_text};
use crate::backup::name::{BEGINNING, BackupName, MANIFEST_SUFFIX};
use crate::storage::{Destination, StorageError};

/// Manifests are read of the newest this many (SPEC §8).
const MANIFESTS: usize = 50;

/// One backup, or one that is being uploaded.
#[derive(Clone, Debug, Serialize)]
pub struct StoredBackup {
    /// File name.
    pub file_name: String,
    /// `s3://bucket/key`
    pub s3_location: String,
    /// Start time, from the name; RFC 3339, UTC.
    pub started_at: String,
    /// Size in bytes; 0 while it is uploaded.
    pub file_size: u64,
    /// Plain bytes for each stored byte.
    pub compression_ratio: Option<f64>,
    /// The database, from the manifest.
    pub database: Option<String>,
    /// What is to be known about it.
    pub state: State,
    /// The start time.
    #[serde(skip)]
    pub started: DateTime<Utc>,
}

/// What is to be known about a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is there, and its manifest is.
    Ok,
    /// It is there, without a manifest.
    NoManifest,
    /// It is there, but holds only a part of its database.
    Partial,
    /// It is there, but has another size than its manifest says.
    WrongSize,
    /// Its upload is open.
    Uploading,
}

impl State {
    /// For the table.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NoManifest => "no manifest",
            Self::Partial => "partial",
            Self::WrongSize => "WRONG SIZE",
            Self::Uploading => "uploading",
        }
    }
}

/// Lists the backups of a destination, newest first.
///
/// # Errors
/// Where the listing is refused, or not to be had within the outage budget. Manifests and open uploads that cannot be
/// read are warnings.
pub async fn stored_backups(destination: &Destination) -> Result<Vec<StoredBackup>, StorageError> {
    let objects = destination.list(BEGINNING).await?;
    let manifests: BTreeSet<&str> =
        objects.iter().filter_map(|object| object.file_name.strip_suffix(MANIFEST_SUFFIX)).collect();
    let mut backups: BTreeMap<BackupName, StoredBackup> = BTreeMap::new();
    for object in &objects {
        let Some(name) = BackupName::parse(&object.file_name) else { continue };
        let state = if manifests.contains(object.file_name.as_str()) { State::Ok } else { State::NoManifest };
        backups.insert(name, entry(destination, name, object.bytes, state));
    }
    match destination.uploading(BEGINNING).await {
        Ok(names) => {
            for name in names.iter().filter_map(|name| BackupName::parse(name)) {
                backups.entry(name).or_insert_with(|| entry(destination, name, 0, State::Uploading));
            }
        }
        Err(error) => tracing::warn!(%error, "open uploads cannot be listed"),
    }
    let mut newest_first: Vec<StoredBackup> = backups.into_values().rev().collect();
    for backup in newest_first.iter_mut().filter(|backup| backup.state == State::Ok).take(MANIFESTS) {
        describe(destination, backup).await;
    }
    Ok(newest_first)
}

fn entry(destination: &Destination, name: BackupName, bytes: u64, state: State) -> StoredBackup {
    let file_name = name.to_string();
    StoredBackup {
        s3_location: destination.location(&destination.key(&file_name)),
        file_name,
        started_at: time_text(name.started()),
        file_size: bytes,
        compression_ratio: None,
        database: None,
        state,
        started: name.started(),
    }
}

/// Adds what the manifest knows. One that is damaged or cannot be read takes nothing from the backup.
async fn describe(destination: &Destination, backup: &mut StoredBackup) {
    let read = destination.read(&format!("{}{MANIFEST_SUFFIX}", backup.file_name)).await;
    let manifest: Option<Manifest> = match read {
        Ok(body) => body.and_then(|body| serde_json::from_slice(&body).ok()),
        Err(error) => {
            tracing::warn!(file_name = backup.file_name, %error, "the manifest cannot be read");
            None
        }
    };
    let Some(manifest) = manifest else {
        backup.state = State::NoManifest;
        return;
    };
    if manifest.object_bytes != backup.file_size {
        backup.state = State::WrongSize;
    } else if manifest.partial {
        backup.state = State::Partial;
    }
    backup.compression_ratio = Some(manifest.compression_ratio);
    backup.database = Some(manifest.database);
}
