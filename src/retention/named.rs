//! Deletes named backups with their sidecars. Called by `commands::delete`.
//!
//! [`RetentionReview`] lists the stored backups and finds the newest valid one. All names are checked before anything is deleted.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::archive::Entry;
use crate::archive::name::BackupName;
use crate::log_target::FOR_MACHINES;
use crate::storage::{Destination, StorageError};

use super::apply::{Deleted, run};
use super::policy::{RetentionPolicy, Rules};
use super::review::RetentionReview;
use super::{PruneError, Safety};

/// The named backups.
#[derive(Debug)]
pub struct NamedBackups {
    /// Newest first.
    entries: Vec<(BackupName, Entry)>,
}

/// A named backup, for the result.
#[derive(Clone, Debug, Serialize)]
pub struct NamedBackup {
    /// Its file name.
    pub file_name: String,
    /// Its size in bytes; `null` if only its sidecars exist.
    pub file_size: Option<u64>,
    /// Its bytes with those of its sidecars.
    pub bytes: u64,
    /// The number of its sidecars.
    pub sidecars: usize,
}

/// Why nothing was deleted.
#[derive(Debug, thiserror::Error)]
pub enum NamedError {
    /// The destination cannot be listed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no such backup.
    #[error("{0}")]
    Absent(BackupName),
    /// It is the newest valid one.
    #[error("{0}")]
    NewestValid(BackupName),
}

impl NamedBackups {
    /// Finds the named backups.
    ///
    /// # Errors
    /// If a name does not exist, or is the newest valid backup (if none is valid, the newest) without `--force`; or if the
    /// destination cannot be listed.
    pub async fn find(
        destination: &Destination,
        names: &BTreeSet<BackupName>,
        safety: Safety,
        now: DateTime<Utc>,
    ) -> Result<Self, NamedError> {
        let rules = Rules { last: Some(1), ..Rules::default() };
        let policy = RetentionPolicy::new(rules, 1, chrono_tz::UTC).unwrap_or_else(|| unreachable!("there is a rule"));
        let review = RetentionReview::load(destination, &policy, now).await?;
        let entry = |name: &BackupName| review.entries.get(name).copied();
        let found = names.iter().rev().map(|name| Ok((*name, entry(name).ok_or(NamedError::Absent(*name))?)));
        let entries = found.collect::<Result<Vec<_>, NamedError>>()?;
        let protected = review.plan().newest_valid().iter().map(|backup| backup.name).find(|name| names.contains(name));
        match (protected, safety) {
            (Some(name), Safety::Enforce) => return Err(NamedError::NewestValid(name)),
            (Some(name), Safety::Override) => {
                tracing::warn!(file_name = %name, "overridden by --force: this is the newest valid backup");
            }
            (None, _) => {}
        }
        Ok(Self { entries })
    }

    /// Each of them, newest first.
    pub fn iter(&self) -> impl Iterator<Item = NamedBackup> {
        self.entries.iter().map(|(name, entry)| NamedBackup {
            file_name: name.to_string(),
            file_size: entry.backup,
            bytes: entry.bytes(),
            sidecars: entry.sidecars.iter().count(),
        })
    }

    /// Deletes them, the oldest first, until it is done or `stop` completes.
    pub async fn delete<Waiting: Future<Output = ()>>(
        self,
        destination: &Destination,
        stop: impl Fn() -> Waiting,
    ) -> Deleted {
        let deleted = run(destination, self.entries, stop).await;
        let Deleted { backups, bytes, failed, .. } = &deleted;
        tracing::info!(target: FOR_MACHINES, deleted = backups, deleted_bytes = bytes, failed = failed.len(), "deletion");
        deleted
    }
}

impl Deleted {
    /// The failed deletions; `None` if all succeeded.
    #[must_use]
    pub fn shortfall(&self) -> Option<PruneError> {
        self.failed.first().map(|(file_name, reason)| PruneError::Failed {
            failed: self.failed.len(),
            remaining: self.remaining,
            first: format!("{file_name} ({reason})"),
        })
    }
}
