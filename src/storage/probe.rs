//! Tests each S3 request that a backup needs, on one fixed key below the path, and removes what it wrote.
//!
//! `check` calls one method after the other. The key is never a backup's, and no upload is completed: Complete belongs
//! to [`super::Upload::commit`] alone. [`Probe::clean_up`] is the last call, however the check ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use crate::pipeline::PartChecksum;

use super::failure::Failure;
use super::requests::{Bucket, NewUpload, PartBody, SmallObject};
use super::retry::Outage;
use super::upload::ABORT_DEADLINE;
use super::{Destination, StorageError};

/// The probe object's file name: no backup begins or ends like this.
pub const PROBE_NAME: &str = "pg-s3-backup-check-probe";
/// The content of the probe object and the probe part.
const CONTENT: &[u8] = b"written by pg-s3-backup check, which deletes it again\n";

/// The probes of one check.
#[derive(Debug)]
pub struct Probe {
    bucket: Bucket,
    outage: Arc<Outage>,
    checksum: PartChecksum,
    key: String,
    leftovers: Mutex<Leftovers>,
}

/// What this check may have left in the bucket.
#[derive(Debug, Default)]
struct Leftovers {
    has_object: bool,
    upload: Option<String>,
    /// An upload was requested, and its id did not arrive.
    has_unknown_upload: bool,
}

/// The result of the first request.
#[derive(Debug)]
pub struct FirstLook {
    /// The listing.
    pub listed: Result<(), StorageError>,
    /// How far the store's clock is ahead of this machine's, if an answer had a date.
    pub clock_ahead: Option<TimeDelta>,
}

impl Destination {
    /// The probes of this destination; sends nothing.
    #[must_use]
    pub fn probe(&self) -> Probe {
        let (bucket, outage) = (self.bucket.clone(), Arc::clone(&self.outage));
        Probe { bucket, outage, checksum: self.checksum(), key: self.key(PROBE_NAME), leftovers: Mutex::default() }
    }
}

impl Probe {
    /// The key that is written, read and deleted.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Lists, and reads the store's clock from the answer, even from a refusal.
    pub async fn list(&self) -> FirstLook {
        let clock = AnswerClock::default();
        let request = || self.bucket.list_one(&self.key, clock.clone());
        let listed = self.outage.retry("list the backups", request).await;
        FirstLook { listed, clock_ahead: clock.ahead() }
    }

    /// DELETE of the key, whether or not there is an object.
    ///
    /// # Errors
    /// As every probe: refused, or not answered within the outage budget.
    pub async fn delete(&self) -> Result<(), StorageError> {
        self.outage.retry("delete the probe", || self.bucket.delete(&self.key)).await?;
        self.leftovers().has_object = false;
        Ok(())
    }

    /// PUT of a small object.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn put(&self) -> Result<(), StorageError> {
        // Set before the answer: a lost one may have taken effect.
        self.leftovers().has_object = true;
        let put = || self.bucket.put(&self.key, Bytes::from_static(CONTENT), "text/plain");
        let outcome = self.outage.retry("write the probe", put).await;
        if matches!(outcome, Err(StorageError::Refused { .. })) {
            self.leftovers().has_object = false;
        }
        outcome
    }

    /// HEAD of the probe object; whether it is what was written.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn head(&self) -> Result<bool, StorageError> {
        let head = self.outage.retry("look at the probe", || self.bucket.head(&self.key)).await?;
        Ok(head.is_some_and(|head| head.bytes.is_none_or(|bytes| bytes == CONTENT.len() as u64)))
    }

    /// GET of the probe object; whether it is what was written.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn get(&self) -> Result<bool, StorageError> {
        let body = self.outage.retry("read the probe", || self.bucket.get(&self.key, CONTENT.len())).await?;
        Ok(matches!(body, SmallObject::Complete(body) if body == CONTENT))
    }

    /// Starts a multipart upload as a backup does: with its storage class, encryption and checksum.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn begin_upload(&self) -> Result<(), StorageError> {
        self.leftovers().has_unknown_upload = true;
        let ambiguous = AtomicBool::new(false);
        let with = NewUpload {
            key: self.key.clone(),
            run_id: "check".to_owned(),
            is_partial: false,
            checksum: self.checksum,
            content_type: "application/octet-stream",
        };
        let create = || async {
            let created = self.bucket.create_upload(&with).await;
            ambiguous.fetch_or(created.as_ref().is_err_and(Failure::is_ambiguous), Ordering::Relaxed);
            created
        };
        let created = self.outage.retry("begin the upload", create).await;
        if matches!(created, Ok(_) | Err(StorageError::Refused { .. })) {
            self.leftovers().has_unknown_upload = ambiguous.into_inner();
        }
        let created = created?;
        self.leftovers().upload = Some(created.id.clone());
        self.bucket.confirm_encryption(&created)
    }

    /// Uploads one small part with its checksum.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn upload_part(&self) -> Result<(), StorageError> {
        let Some(id) = self.leftovers().upload.clone() else { return Ok(()) };
        let part = self.part();
        self.outage
            .retry_while_moving("upload a part", || self.bucket.upload_part(&self.key, &id, &part))
            .await
            .map(drop)
    }

    /// Aborts the upload.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn abort_upload(&self) -> Result<(), StorageError> {
        let Some(id) = self.leftovers().upload.clone() else { return Ok(()) };
        self.outage.retry("abort the upload", || self.bucket.abort(&self.key, &id)).await?;
        self.leftovers().upload = None;
        Ok(())
    }

    /// Removes what the probes may have left, within a deadline, and logs what it cannot remove.
    pub async fn clean_up(&self) {
        let Leftovers { has_object, upload, has_unknown_upload } = std::mem::take(&mut *self.leftovers());
        let cleaning = async {
            if has_object && let Err(error) = self.bucket.delete(&self.key).await {
                tracing::warn!(key = self.key, %error, "the probe object is left behind: delete it");
            }
            if let Some(id) = &upload
                && let Err(error) = self.bucket.abort(&self.key, id).await
            {
                tracing::warn!(key = self.key, upload_id = id, %error, "an open upload is left behind");
            }
            if has_unknown_upload {
                self.abort_unknown().await;
            }
        };
        if timeout(ABORT_DEADLINE, cleaning).await.is_err() {
            tracing::warn!(key = self.key, "the probe object or an open upload may be left behind: no answer in time");
        }
    }

    /// Aborts the uploads of the probe's key with unknown ids. No backup has that key; at worst one is another check's.
    async fn abort_unknown(&self) {
        let uploads = self.bucket.open_uploads(&self.key).await.unwrap_or_else(|error| {
            tracing::warn!(key = self.key, %error, "cannot look for an upload that a lost answer left behind");
            Vec::new()
        });
        for upload in uploads.iter().filter(|upload| upload.key == self.key) {
            if let Err(error) = self.bucket.abort(&self.key, &upload.id).await {
                tracing::warn!(key = self.key, upload_id = upload.id, %error, "an open upload is left behind");
            }
        }
    }

    fn leftovers(&self) -> std::sync::MutexGuard<'_, Leftovers> {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn part(&self) -> PartBody {
        PartBody { number: 1, bytes: Bytes::from_static(CONTENT), digest: self.checksum.of(CONTENT) }
    }
}

impl Bucket {
    /// Lists at most one entry; `clock` reads the answer's date.
    async fn list_one(&self, prefix: &str, clock: AnswerClock) -> Result<(), Failure> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix).max_keys(1);
        let listed = Box::pin(request.customize().interceptor(clock).send()).await;
        listed.map(drop).map_err(|error| Failure::from(error).of_listing())
    }
}

/// Reads the `Date` of an answer, even of a refusal, when it arrives.
#[derive(Clone, Debug, Default)]
struct AnswerClock(Arc<Mutex<Option<TimeDelta>>>);

impl AnswerClock {
    fn ahead(&self) -> Option<TimeDelta> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for AnswerClock {
    fn name(&self) -> &'static str {
        "AnswerClock"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(|text| DateTime::parse_from_rfc2822(text).ok());
        if let Some(date) = date {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(date.with_timezone(&Utc) - Utc::now());
        }
        Ok(())
    }
}
