//! Dumps into the target and commits; sends the dump again from the spool if S3 wants another upload of it.
//!
//! Called by [`super::run`].

use crate::error_chain::Chain;
use crate::postgres::Session;
use crate::storage::{Committed, FailureKind, StorageError};
use crate::verified_dump::VerifiedDump;

use super::BackupError;
use super::resume;
use super::stream::Job;
use super::upload_target::{Target, commit, report_kept};

impl Job<'_> {
    /// Dumps into the target and commits it. `describe` makes the manifest that a spool keeps.
    pub async fn fill(
        &self,
        target: Target,
        session: &mut Session,
        describe: impl AsyncFnOnce(&VerifiedDump) -> serde_json::Value,
    ) -> Result<Committed, BackupError> {
        let (spool, destination) = (target.spool.clone(), target.destination.clone());
        let (upload, verified) = self.stream(target, session, describe).await?;
        let refused = upload.clone();
        let committed = commit(self.limits, upload, verified).await;
        let Some(spool) = spool else { return committed };
        let committed = match committed {
            Err(error) if spool.is_complete() && wants_another_upload(&error) => {
                tracing::warn!(error = %Chain(&error), "the upload cannot be completed: sending the dump again from disk");
                refused.abort().await;
                resume::send_again(&spool, (&destination, self.shared), &self.settings.parts, self.limits).await
            }
            committed => committed,
        };
        match &committed {
            Ok(_) => {}
            Err(_) if spool.is_complete() => report_kept(&spool),
            Err(_) => self.limits.to_the_end(spool.delete()).await,
        }
        committed
    }
}

/// Whether another upload of the same parts can become the backup: S3 wants them again, has lost them, or the name is taken.
fn wants_another_upload(error: &BackupError) -> bool {
    match error {
        BackupError::Storage(StorageError::Refused { failure, .. }) => {
            matches!(failure.kind, FailureKind::Conflict | FailureKind::NoSuchUpload)
        }
        BackupError::Storage(StorageError::Foreign { .. }) => true,
        _ => false,
    }
}
