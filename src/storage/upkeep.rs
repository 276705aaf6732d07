//! Taking things away: deleting objects, and finding and aborting uploads that nobody goes on with.
//!
//! Called by `retention`, and by `upload` and `commit` for what they clean up themselves. What may be taken away is decided
//! there; here no key is touched but the one that is given.

use aws_sdk_s3::primitives::DateTime as SdkTime;
use chrono::{DateTime, Utc};

use super::StorageError;
use super::destination::Destination;
use super::failure::{Failure, FailureKind};
use super::requests::{Bucket, OpenUpload};

/// What a delete came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The object is gone, or was not there.
    Gone,
    /// A marker hides it: on a versioned bucket its bytes stay, as a noncurrent version.
    Hidden,
}

/// An upload below the destination that is neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbandonedUpload {
    /// The file name of its key.
    pub file_name: String,
    /// The store's name for it.
    pub id: String,
    /// When it was begun, where the store tells.
    pub initiated: Option<DateTime<Utc>>,
}

impl Bucket {
    /// Deletes an object; that it is not there is a success: somebody else was faster, or the answer was lost.
    pub async fn delete(&self, key: &str) -> Result<Deletion, Failure> {
        let request = self.client.delete_object().bucket(&self.name).key(key);
        match Box::pin(request.send()).await.map_err(Failure::from) {
            Ok(answer) if answer.delete_marker.unwrap_or_default() => Ok(Deletion::Hidden),
            Ok(_) => Ok(Deletion::Gone),
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(Deletion::Gone),
            Err(failure) => Err(failure),
        }
    }

    /// The open uploads of keys that begin with `prefix`.
    pub async fn open_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, Failure> {
        let mut found = Vec::new();
        let mut after: (Option<String>, Option<String>) = (None, None);
        loop {
            let request = self.client.list_multipart_uploads().bucket(&self.name).prefix(prefix);
            let request = request.set_key_marker(after.0.clone()).set_upload_id_marker(after.1.clone());
            let answer = Box::pin(request.send()).await?;
            let is_more = answer.is_truncated.unwrap_or_default();
            let next = (answer.next_key_marker, answer.next_upload_id_marker);
            found.extend(answer.uploads.unwrap_or_default().into_iter().filter_map(|upload| {
                let initiated = upload.initiated.as_ref().and_then(time);
                Some(OpenUpload { key: upload.key?, id: upload.upload_id?, initiated })
            }));
            // A store that says that there is more, but not where, has no more to say.
            if !is_more || next == after || next.0.is_none() {
                return Ok(found);
            }
            after = next;
        }
    }

    /// Whether an upload is open no more.
    pub async fn is_gone(&self, key: &str, id: &str) -> Result<bool, Failure> {
        let request = self.client.list_parts().bucket(&self.name).key(key).upload_id(id).max_parts(1);
        match Box::pin(request.send()).await.map_err(Failure::from) {
            Ok(_) => Ok(false),
            Err(failure) if failure.kind == FailureKind::NoSuchUpload => Ok(true),
            Err(failure) => Err(failure),
        }
    }

    /// Whether a part of an upload was written after a time; looks at pages of a thousand parts until it knows.
    pub async fn is_written_after(&self, key: &str, id: &str, earliest: DateTime<Utc>) -> Result<bool, Failure> {
        let mut after = None;
        loop {
            let request = self.client.list_parts().bucket(&self.name).key(key).upload_id(id);
            let answer = Box::pin(request.set_part_number_marker(after.clone()).send()).await?;
            let mut parts = answer.parts.unwrap_or_default().into_iter();
            // A part without a time may be new.
            if parts.any(|part| part.last_modified.as_ref().and_then(time).is_none_or(|written| written > earliest)) {
                return Ok(true);
            }
            let next = answer.next_part_number_marker.filter(|_| answer.is_truncated.unwrap_or_default());
            if next.is_none() || next == after {
                return Ok(false);
            }
            after = next;
        }
    }
}

impl Destination {
    /// Deletes one object below the prefix.
    ///
    /// # Errors
    /// Where S3 refuses it, or answers nothing well within the outage budget.
    pub async fn delete(&self, file_name: &str) -> Result<Deletion, StorageError> {
        let key = self.prefix.key(file_name);
        self.outage.persist("delete", || self.bucket.delete(&key)).await
    }

    /// The open uploads directly below the prefix whose file name begins with `beginning`. Asked once: what is looked for
    /// by this can be looked for another day.
    ///
    /// # Errors
    /// Where S3 does not answer well.
    pub async fn open_uploads(&self, beginning: &str) -> Result<Vec<AbandonedUpload>, Failure> {
        let uploads = self.bucket.open_uploads(&self.prefix.key(beginning)).await?;
        let ours = uploads.into_iter().filter_map(|upload| {
            let file_name = self.prefix.file_name(&upload.key)?.to_owned();
            Some(AbandonedUpload { file_name, id: upload.id, initiated: upload.initiated })
        });
        Ok(ours.collect())
    }

    /// Whether a part of an open upload was written after a time. Asked once.
    ///
    /// # Errors
    /// Where S3 does not answer well.
    pub async fn is_written_after(&self, upload: &AbandonedUpload, earliest: DateTime<Utc>) -> Result<bool, Failure> {
        self.bucket.is_written_after(&self.prefix.key(&upload.file_name), &upload.id, earliest).await
    }

    /// Aborts an open upload. Asked once.
    ///
    /// # Errors
    /// Where S3 does not answer well.
    pub async fn abort_upload(&self, upload: &AbandonedUpload) -> Result<(), Failure> {
        self.bucket.abort(&self.prefix.key(&upload.file_name), &upload.id).await
    }
}

fn time(time: &SdkTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.secs(), time.subsec_nanos())
}
