//! The commit: the only place that completes an upload, and the check of what S3 has then.
//!
//! `complete` sends the request; this file decides what the object under the key is. The object is this run's if it
//! has this run's id and, if the store says so, this object's size. The store accepted every part with its own
//! checksum, so another ETag or checksum of the object is no reason to delete it: the object is read back
//! (`read_back`), and its sha256 decides. The result, [`Committed`], is needed to write any sidecar.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use crate::verified_dump::VerifiedDump;

use super::complete::{COMMIT, Completed, PAUSE};
use super::expected::{Expected, Verdict};
use super::head::Head;
use super::read_back::ReadBack;
use super::requests::Bucket;
use super::sidecar::Sidecar;
use super::upload::{ABORT_DEADLINE, Upload};
use super::{Failure, Outage, StorageError};

/// The storage class of an object for which the store names none.
const STANDARD: &str = "STANDARD";

/// An object that is committed, complete, and checked.
#[derive(Debug)]
pub struct Committed {
    bucket: Bucket,
    outage: Arc<Outage>,
    key: String,
    verified: VerifiedDump,
}

impl Committed {
    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The object's size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.verified.totals().object_bytes
    }

    /// The verified dump, with the object's totals.
    #[must_use]
    pub fn verified(&self) -> &VerifiedDump {
        &self.verified
    }

    /// Writes a sidecar of the backup.
    ///
    /// # Errors
    /// If S3 refuses it, or does not accept it within the outage budget.
    pub async fn write_sidecar(&self, kind: Sidecar, body: Vec<u8>) -> Result<(), StorageError> {
        let (key, body) = (format!("{}{}", self.key, kind.suffix), bytes::Bytes::from(body));
        self.outage.retry(kind.action, || self.bucket.put(&key, body.clone(), kind.content_type)).await
    }
}

impl Upload {
    /// Completes the upload and checks the object. The only caller of Complete.
    ///
    /// # Errors
    /// If S3 does not hold exactly this object afterwards. Then the upload is aborted, unless the spool keeps the
    /// complete dump for the next run, or a Complete may still take effect. An object of this run with other bytes is
    /// deleted.
    pub async fn commit(self, verified: VerifiedDump) -> Result<Committed, StorageError> {
        match self.complete_and_check(&verified).await {
            Ok(()) => Ok(self.committed(verified)),
            Err(error) => {
                let error = self.because_of_sizes(error);
                self.abort_unless_kept(ABORT_DEADLINE).await;
                Err(error)
            }
        }
    }

    /// Checks whether an earlier run has committed this upload without recording it.
    ///
    /// # Errors
    /// If S3 does not answer, or the object has other bytes.
    pub async fn find_committed(&self, verified: VerifiedDump) -> Result<Option<Committed>, StorageError> {
        let head = self.outage.retry("look for the backup", || self.bucket.head(&self.key)).await?;
        let Some(head) = head else { return Ok(None) };
        match self.settle(&Expected::new(self, &verified), &verified, head).await {
            Ok(()) => Ok(Some(self.committed(verified))),
            Err(StorageError::Foreign { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn committed(&self, verified: VerifiedDump) -> Committed {
        Committed { bucket: self.bucket.clone(), outage: Arc::clone(&self.outage), key: self.key.clone(), verified }
    }

    async fn complete_and_check(&self, verified: &VerifiedDump) -> Result<(), StorageError> {
        self.check_parts(verified)?;
        let expected = Expected::new(self, verified);
        let answer = match self.complete(verified).await? {
            Completed::Found(head) => return self.settle(&expected, verified, head).await,
            Completed::Answered(answer) => answer,
        };
        match self.head_after_success().await {
            Ok(head) => {
                self.may_take_effect.store(false, Ordering::Relaxed);
                self.settle(&expected, verified, head).await
            }
            Err(error @ StorageError::Refused { .. }) => {
                tracing::info!(%error, "HEAD is denied: the answer to Complete is enough");
                match expected.difference(&answer) {
                    Some(what) => self.settle_difference(verified, &answer, what).await,
                    None => Ok(()),
                }
            }
            Err(error @ StorageError::Outage { .. }) if expected.is_named_by(&answer) => {
                tracing::info!(%error, "HEAD got no answer: the checksum in the answer to Complete is enough");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// HEAD after a success of Complete. Some stores show an object late.
    async fn head_after_success(&self) -> Result<Head, StorageError> {
        let outage = self.outage.separate();
        loop {
            let began = Instant::now();
            if let Some(head) = self.outage.retry(COMMIT, || self.bucket.head(&self.key)).await? {
                return Ok(head);
            }
            let absent = Failure::damaged("S3 said that the upload was complete, but HEAD does not find the object");
            if outage.wait(COMMIT, began, absent, PAUSE).await.is_err() {
                let what = "S3 said that it was complete, but it is not there".to_owned();
                return Err(StorageError::Inconsistent { key: self.key.clone(), what });
            }
        }
    }

    /// Decides by HEAD, and reads the object back if HEAD differs from what was sent.
    async fn settle(&self, expected: &Expected, verified: &VerifiedDump, head: Head) -> Result<(), StorageError> {
        let bytes = match head.bytes {
            None => self.bucket.listed_size(&self.key).await,
            given => given,
        };
        let head = Head { bytes, ..head };
        match expected.judge(&head) {
            Verdict::Ours => {}
            Verdict::Differs(what) => self.settle_difference(verified, &head, what).await?,
            Verdict::Foreign => return Err(StorageError::Foreign { key: self.key.clone() }),
            Verdict::Unnamed => match self.read_back(verified, &head, "it has no run id").await? {
                ReadBack::Same => {}
                ReadBack::Denied(failure) if bytes.is_some() => {
                    tracing::warn!(key = self.key, %failure, "the object has no run id, and these credentials may not read it: accepted as this backup by its size");
                }
                ReadBack::Unproven if bytes.is_some() => {
                    tracing::warn!(
                        key = self.key,
                        "the object has no run id, and the answers to GET are not the object: accepted as this backup by its size"
                    );
                }
                ReadBack::Denied(_) | ReadBack::Unproven | ReadBack::Other => {
                    return Err(StorageError::Foreign { key: self.key.clone() });
                }
            },
        }
        self.warn_of_class(&head);
        Ok(())
    }

    /// Decides about an object of this run that differs, by the store's own data, from what was sent.
    async fn settle_difference(&self, verified: &VerifiedDump, head: &Head, what: String) -> Result<(), StorageError> {
        match self.read_back(verified, head, &what).await? {
            ReadBack::Same => Ok(()),
            ReadBack::Other => self.take_back(what).await,
            ReadBack::Unproven => {
                tracing::warn!(
                    key = self.key,
                    difference = what,
                    "the store's data of the backup differ from what was sent, and the answers to GET are not the object (a proxy's?): it is kept, verify it with `check --deep`"
                );
                Ok(())
            }
            ReadBack::Denied(failure) => {
                tracing::warn!(key = self.key, difference = what, %failure, "the store's data of the backup differ from what was sent, and it may not be read back: it is kept, verify it with `check --deep` and other credentials");
                Ok(())
            }
        }
    }

    /// Warns of a storage class that the store does not confirm.
    fn warn_of_class(&self, head: &Head) {
        let Some(asked) = &self.bucket.at_rest.storage_class else { return };
        let answered = head.storage_class.as_deref().unwrap_or(STANDARD);
        if asked != answered {
            tracing::warn!(key = self.key, asked, answered, "the store does not confirm S3_STORAGE_CLASS");
        }
    }

    /// Checks that the parts are contiguous and add up to the object.
    fn check_parts(&self, verified: &VerifiedDump) -> Result<(), StorageError> {
        let totals = verified.totals();
        let bytes: u64 = self.parts.values().map(|part| part.bytes).sum();
        let is_contiguous = self.parts.keys().copied().eq(1..=totals.parts);
        if is_contiguous && bytes == totals.object_bytes {
            return Ok(());
        }
        let what = format!(
            "{} parts with {bytes} bytes were sent, but the dump has {} with {}",
            self.parts.len(),
            totals.parts,
            totals.object_bytes
        );
        Err(StorageError::Inconsistent { key: self.key.clone(), what })
    }

    /// Deletes an object of this run that differs from what was sent: only verified backups may have a name in the bucket.
    async fn take_back(&self, what: String) -> Result<(), StorageError> {
        if let Err(error) = self.outage.retry("delete", || self.bucket.delete(&self.key)).await {
            tracing::error!(key = self.key, %error, "a damaged object is left behind: delete it");
        }
        Err(StorageError::Mismatch { key: self.key.clone(), what })
    }
}
