//! The sweep: this tool's own multipart uploads that nobody goes on with, left by a process that was killed outright. They
//! are invisible, but cost what their parts weigh.
//!
//! Called by `commands::prune` and at the end of `backup`. It never fails anything: what it cannot do today it does another
//! day. Stale is an upload under one of this tool's names that was begun, and last written to, long ago: one that still gets
//! parts is a backup that takes its time.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::archive::name::{BEGINNING, BackupName};
use crate::error_chain::Chain;
use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::spool::{SpoolError, upload_ids};
use crate::storage::{AbandonedUpload, Destination, Failure, FailureKind};

/// How long an upload must have been left alone, by default (SPEC §6).
pub const SWEEP_AFTER: Duration = Duration::from_hours(7 * 24);

/// What makes an upload stale.
#[derive(Clone, Debug)]
pub struct Sweep {
    after: Duration,
    /// `None` where nobody knows.
    spared: Option<BTreeSet<String>>,
}

impl Sweep {
    /// Uploads that were left alone for so long.
    #[must_use]
    pub fn after(after: Duration) -> Self {
        Self { after, spared: Some(BTreeSet::new()) }
    }

    /// None, whatever there is.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self { after: SWEEP_AFTER, spared: None }
    }

    /// But for those that a journal in this spool knows: the next backup means to go on with them. Where it cannot be read,
    /// nothing is stale.
    pub async fn sparing(self, spool: Option<&Path>) -> Self {
        let ids = match spool {
            None => Ok(BTreeSet::new()),
            Some(spool) => upload_ids(spool).await,
        };
        let warn = |error: &SpoolError| {
            tracing::warn!(error = %Chain(error), "no stale upload is aborted: one of them may wait in the spool");
        };
        let spared = ids.inspect_err(warn).ok();
        Self { spared, ..self }
    }

    /// The stale uploads of a destination. Where they cannot be looked for, none.
    pub async fn find(&self, destination: &Destination, now: DateTime<Utc>) -> Vec<AbandonedUpload> {
        let Some(spared) = &self.spared else { return Vec::new() };
        let uploads = match destination.open_uploads(BEGINNING).await {
            Ok(uploads) => uploads,
            Err(failure) => {
                tell(&failure, "stale uploads cannot be looked for");
                return Vec::new();
            }
        };
        let latest = TimeDelta::from_std(self.after).ok().and_then(|after| now.checked_sub_signed(after));
        let Some(latest) = latest else { return Vec::new() };
        let mut stale = Vec::new();
        for upload in uploads {
            let is_ours = BackupName::parse(&upload.file_name).is_some() && !spared.contains(&upload.id);
            // A store that does not tell when it was begun leaves it to a lifecycle rule.
            if !is_ours || upload.initiated.is_none_or(|initiated| initiated > latest) {
                continue;
            }
            match destination.is_written_after(&upload, latest).await {
                Ok(false) => stale.push(upload),
                Ok(true) => {}
                // Completed or aborted meanwhile.
                Err(failure) if matches!(failure.kind, FailureKind::NoSuchUpload | FailureKind::NotFound) => {}
                Err(failure) => tell(&failure, "it is not known when this upload was last written to: it is left"),
            }
        }
        stale
    }

    /// Finds the stale uploads and aborts them; gives their number.
    pub async fn run(&self, destination: &Destination, now: DateTime<Utc>) -> usize {
        let mut aborted = 0;
        for upload in self.find(destination, now).await {
            match destination.abort_upload(&upload).await {
                Ok(()) => {
                    aborted += 1;
                    tracing::info!(target: FOR_MACHINES, file_name = upload.file_name, upload_id = upload.id, "stale upload aborted");
                    tracing::info!(target: FOR_PEOPLE, "aborted a stale upload of {}", upload.file_name);
                }
                Err(failure) => tell(&failure, "a stale upload cannot be aborted"),
            }
        }
        aborted
    }
}

/// Credentials that may not look are no news; a store that does not answer, or half, is.
fn tell(failure: &Failure, what: &str) {
    if failure.may_pass() || failure.is_broken_listing() {
        tracing::warn!(error = %failure, "{what}");
    } else {
        tracing::debug!(error = %failure, "{what}");
    }
}
