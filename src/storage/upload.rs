//! One multipart upload: started or resumed, then committed or aborted. `parts` sends its parts.
//!
//! `backup` owns it. Only [`Upload::commit`](super::commit), which requires a [`VerifiedDump`](crate::verified_dump::VerifiedDump), completes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use crate::error_chain::Chain;
use crate::spool::{Journal, Spool, StartedUpload};

use super::destination::Destination;
use super::pages::OpenUpload;
use super::requests::{Bucket, Created, NewUpload, UploadedPart};
use super::retry::Outage;
use super::{Failure, StorageError};

/// Time for an abort: the program exits within 10 s of a SIGTERM, and stops `pg_dump` at the same time.
pub(super) const ABORT_DEADLINE: Duration = Duration::from_secs(7);
const CREATE: &str = "begin the upload";

/// A multipart upload that is open.
#[derive(Clone, Debug)]
pub struct Upload {
    pub(super) bucket: Bucket,
    pub(super) outage: Arc<Outage>,
    pub(super) key: String,
    pub(super) id: String,
    pub(super) run_id: String,
    pub(super) parts: BTreeMap<u32, UploadedPart>,
    /// A Complete was sent and may still take effect: until that is known, nothing is aborted. Shared with clones.
    pub(super) may_take_effect: Arc<AtomicBool>,
    /// Where the parts are on disk; `None` if they are in memory alone.
    pub(super) spool: Option<Arc<Spool>>,
}

impl Destination {
    /// Starts an upload. This is the write test; no probe object is written. A lost answer may leave an upload without parts
    /// and with an unknown id; it is cleaned up as abandoned. `spool` has the parts, if any.
    ///
    /// # Errors
    /// A refusal is a misconfiguration; otherwise the outage budget was used up.
    pub async fn begin(&self, with: NewUpload, spool: Option<Arc<Spool>>) -> Result<Upload, StorageError> {
        let (bucket, outage) = (self.bucket.clone(), Arc::clone(&self.outage));
        let created = outage.retry(CREATE, || bucket.create_upload(&with)).await;
        let created = created.map_err(StorageError::at_first_request)?;
        let confirmed = bucket.confirm_encryption(&created);
        let NewUpload { key, run_id, .. } = with;
        let (parts, may_take_effect) = (BTreeMap::new(), Arc::default());
        let upload = Upload { bucket, outage, key, id: created.id, run_id, parts, may_take_effect, spool };
        if let Err(error) = confirmed {
            upload.abort().await;
            return Err(error);
        }
        if let Some(spool) = &upload.spool {
            let started = StartedUpload { key: upload.key.clone(), upload_id: upload.id.clone() };
            if let Err(error) = spool.started(started).await {
                tracing::debug!(error = %Chain(&error), "the spool has no record of the upload, which cannot be resumed");
            }
        }
        Ok(upload)
    }

    /// The upload of an earlier run, if it started one, with the parts that S3 has accepted.
    #[must_use]
    pub fn resume(&self, journal: &Journal, spool: &Arc<Spool>) -> Option<Upload> {
        let StartedUpload { key, upload_id: id } = journal.started.clone()?;
        let uploaded = |(number, etag): (&u32, &String)| {
            let part = journal.parts.get(number)?;
            Some((*number, UploadedPart { etag: etag.clone(), digest: part.digest.clone(), bytes: part.bytes }))
        };
        Some(Upload {
            bucket: self.bucket.clone(),
            outage: Arc::clone(&self.outage),
            key,
            id,
            run_id: journal.start.run_id.clone(),
            parts: journal.uploaded.iter().filter_map(uploaded).collect(),
            may_take_effect: Arc::default(),
            spool: Some(Arc::clone(spool)),
        })
    }
}

impl Upload {
    /// Whether no other run uses this name, as far as the store lets one see: no other upload of the key is open, and
    /// no object's key begins with `second`, the key up to the time. A single attempt, after the upload was started: of
    /// two runs that do so at the same time, at least one sees the other.
    pub async fn is_alone(&self, second: &str) -> bool {
        let unknown = |failure: Failure| tracing::debug!(key = self.key, error = %failure, "other runs cannot be seen");
        // By the exact key: MinIO lists uploads for no other prefix.
        let uploads = self.bucket.open_uploads(&self.key).await.map_err(unknown).unwrap_or_default();
        let is_other = |upload: &OpenUpload| upload.key == self.key && upload.id != self.id;
        if uploads.iter().any(is_other) {
            return false;
        }
        let objects = self.bucket.list(second, None, None).await.map_err(unknown).unwrap_or_default().0;
        objects.iter().all(|object| !object.key.starts_with(second))
    }

    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The run's id, as in the object's metadata.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Whether S3 has accepted this part.
    #[must_use]
    pub fn has(&self, part: u32) -> bool {
        self.parts.contains_key(&part)
    }

    /// As [`Self::abort`], within this time, unless the spool keeps the complete dump for the next run.
    pub async fn abort_unless_kept(self, limit: Duration) {
        if self.spool.as_ref().is_none_or(|spool| !spool.is_complete()) {
            self.abort_within(limit.min(ABORT_DEADLINE)).await;
        }
    }

    /// Aborts the upload within its own deadline. Logs what cannot be removed instead of returning it, so that it does not
    /// hide the cause of the abort. Returns whether another attempt could remove more.
    pub async fn abort(self) -> Aborted {
        self.abort_within(ABORT_DEADLINE).await
    }

    async fn abort_within(self, limit: Duration) -> Aborted {
        if self.may_take_effect.load(Ordering::Relaxed) {
            tracing::warn!(
                key = self.key,
                upload_id = self.id,
                "the upload is not aborted: its Complete may still take effect; where it does not, it is cleaned up later"
            );
            return Aborted::AsFarAsPossible;
        }
        // An attempt that fails after half of the time is the last one.
        let outage = self.outage.at_most(limit / 2);
        let aborting = outage.retry("abort the upload", || self.bucket.abort(&self.key, &self.id));
        let (error, aborted) = match timeout(limit, aborting).await {
            Ok(Ok(())) => {
                tracing::debug!(key = self.key, "upload aborted");
                return Aborted::AsFarAsPossible;
            }
            Ok(Err(StorageError::Refused { failure, .. })) if !failure.may_pass() => {
                (failure.to_string(), Aborted::AsFarAsPossible)
            }
            Ok(Err(error)) => (error.to_string(), Aborted::NotYet),
            Err(_) => ("no answer in time".to_owned(), Aborted::NotYet),
        };
        let (key, upload_id) = (self.key, self.id);
        tracing::warn!(
            key,
            upload_id,
            error,
            "an open upload is left behind: abort it, or set a lifecycle rule that does"
        );
        aborted
    }
}

/// The result of an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// It is gone, or S3 refuses to remove it.
    AsFarAsPossible,
    /// S3 did not answer: another attempt may help.
    NotYet,
}

impl Bucket {
    /// Requires the store's own word that it encrypts: some accept the header and ignore it.
    ///
    /// # Errors
    /// [`StorageError::NotEncrypted`]
    pub(super) fn confirm_encryption(&self, created: &Created) -> Result<(), StorageError> {
        match self.at_rest.encryption {
            Some(asked) if !asked.is_confirmed_by(created.encryption.as_deref()) => {
                Err(StorageError::NotEncrypted { asked: asked.word(), answered: created.encryption.clone() })
            }
            _ => Ok(()),
        }
    }
}
