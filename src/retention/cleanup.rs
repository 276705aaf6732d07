//! Aborts this tool's abandoned multipart uploads. A killed process leaves them; they are invisible, but their parts are billed.
//!
//! Called by `commands::prune`, and by [`super::after_backup`]. An upload is stale if it has one of this tool's names, was
//! initiated long ago and got no part since. Failures are logged only: a later run tries again.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::archive::name::{BEGINNING, BackupName};
use crate::error_chain::Chain;
use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::spool::{SpoolError, upload_ids};
use crate::storage::{AbandonedUpload, Destination, Failure, FailureKind};

/// How long an upload must have been idle, by default.
pub const STALE_AFTER: Duration = Duration::from_hours(7 * 24);

/// Which uploads are stale.
#[derive(Clone, Debug)]
pub struct UploadCleanup {
    after: Duration,
    /// Upload ids to keep; `None` if they are not known, and then no upload is stale.
    kept: Option<BTreeSet<String>>,
}

impl UploadCleanup {
    /// Uploads that were idle for so long.
    #[must_use]
    pub fn after(after: Duration) -> Self {
        Self { after, kept: Some(BTreeSet::new()) }
    }

    /// No uploads.
    #[must_use]
    pub fn disabled() -> Self {
        Self { after: STALE_AFTER, kept: None }
    }

    /// Keeps the uploads in the journals of this spool, because the next backup resumes them. Keeps all uploads if the spool
    /// cannot be read.
    pub async fn keeping_spooled(self, spool: Option<&Path>) -> Self {
        let ids = match spool {
            None => Ok(BTreeSet::new()),
            Some(spool) => upload_ids(spool).await,
        };
        let warn = |error: &SpoolError| {
            tracing::warn!(error = %Chain(error), "no stale upload is aborted: the spool cannot be read, and one of them may belong to a dump in it");
        };
        Self { kept: ids.inspect_err(warn).ok(), ..self }
    }

    /// The stale uploads of a destination; none if they cannot be listed.
    pub async fn find(&self, destination: &Destination, now: DateTime<Utc>) -> Vec<AbandonedUpload> {
        let Some(kept) = &self.kept else { return Vec::new() };
        let uploads = match destination.open_uploads(BEGINNING).await {
            Ok(uploads) => uploads,
            Err(failure) => {
                log(&failure, "stale uploads cannot be listed");
                return Vec::new();
            }
        };
        let latest = TimeDelta::from_std(self.after).ok().and_then(|after| now.checked_sub_signed(after));
        let Some(latest) = latest else { return Vec::new() };
        let mut stale = Vec::new();
        for upload in uploads {
            let is_ours = BackupName::parse(&upload.file_name).is_some() && !kept.contains(&upload.id);
            // A store that does not report the time of initiation needs a lifecycle rule.
            if !is_ours || upload.initiated.is_none_or(|initiated| initiated > latest) {
                continue;
            }
            match destination.is_written_after(&upload, latest).await {
                Ok(false) => stale.push(upload),
                Ok(true) => {}
                // Completed or aborted meanwhile.
                Err(failure) if matches!(failure.kind, FailureKind::NoSuchUpload | FailureKind::NotFound) => {}
                Err(failure) => log(&failure, "an upload is kept: the time of its last part is unknown"),
            }
        }
        stale
    }

    /// Aborts the stale uploads and returns their number.
    pub async fn run(&self, destination: &Destination, now: DateTime<Utc>) -> usize {
        let mut aborted = 0;
        for upload in self.find(destination, now).await {
            match destination.abort_upload(&upload).await {
                Ok(()) => {
                    aborted += 1;
                    tracing::info!(target: FOR_MACHINES, file_name = upload.file_name, upload_id = upload.id, "stale upload aborted");
                    tracing::info!(target: FOR_PEOPLE, "aborted a stale upload of {}", upload.file_name);
                }
                Err(failure) => log(&failure, "a stale upload cannot be aborted"),
            }
        }
        aborted
    }
}

/// Warns of a failing or incomplete answer. Denied access is expected of write-only credentials.
fn log(failure: &Failure, what: &str) {
    if failure.may_pass() || failure.is_broken_listing() {
        tracing::warn!(error = %failure, "{what}");
    } else {
        tracing::debug!(error = %failure, "{what}");
    }
}
