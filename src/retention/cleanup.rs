//! Aborts this tool's abandoned multipart uploads. A killed process leaves them; they are invisible, but their parts are billed.
//!
//! Called by `commands::prune`, and by [`super::after_backup`]. An upload is stale if it has one of this tool's names, was
//! initiated long ago and got no part since. Failures are logged only: a later run tries again.

use std::collections::{BTreeMap, BTreeSet};
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
        if self.kept.is_none() {
            return Vec::new();
        }
        self.stale(destination, listed(destination.open_uploads(BEGINNING).await), now).await
    }

    /// The open uploads of the sub-paths of a destination, with one listing; none if they cannot be listed.
    pub async fn open_below(destination: &Destination) -> BTreeMap<String, Vec<AbandonedUpload>> {
        let mut uploads: BTreeMap<String, Vec<AbandonedUpload>> = BTreeMap::new();
        for (sub_path, upload) in listed(destination.open_uploads_below(BEGINNING).await) {
            uploads.entry(sub_path).or_default().push(upload);
        }
        uploads
    }

    /// Those of a destination's open uploads that are stale.
    pub async fn stale(
        &self,
        destination: &Destination,
        uploads: Vec<AbandonedUpload>,
        now: DateTime<Utc>,
    ) -> Vec<AbandonedUpload> {
        let Some(kept) = &self.kept else { return Vec::new() };
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
        Self::abort(destination, self.find(destination, now).await).await
    }

    /// Aborts uploads and returns the number of those that are.
    pub async fn abort(destination: &Destination, uploads: Vec<AbandonedUpload>) -> usize {
        let mut aborted = 0;
        for upload in uploads {
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

fn listed<T>(uploads: Result<Vec<T>, Failure>) -> Vec<T> {
    uploads.inspect_err(|failure| log(failure, "stale uploads cannot be listed")).unwrap_or_default()
}

/// Warns of a failing or incomplete answer. Denied access is expected of write-only credentials.
fn log(failure: &Failure, what: &str) {
    if failure.may_pass() || failure.is_broken_listing() {
        tracing::warn!(error = %failure, "{what}");
    } else {
        tracing::debug!(error = %failure, "{what}");
    }
}
