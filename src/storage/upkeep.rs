//! Deletes objects, and lists and aborts abandoned uploads.
//!
//! Called by `retention`, and by `upload` and `commit` for their own cleanup. The callers decide what is deleted; this
//! file touches only the key that it is given.

use chrono::{DateTime, Utc};

use super::StorageError;
use super::destination::Destination;
use super::failure::{Failure, FailureKind};
use super::pages::OpenUpload;
use super::requests::Bucket;

/// The result of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The object does not exist any more.
    Gone,
    /// A delete marker hides it: on a versioned bucket its bytes stay, as a noncurrent version.
    Hidden,
}

/// An upload below the destination that is neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbandonedUpload {
    /// The file name of its key.
    pub file_name: String,
    /// S3's id of it.
    pub id: String,
    /// When it was started, if the store says so.
    pub initiated: Option<DateTime<Utc>>,
}

impl Bucket {
    /// Deletes an object. A missing object is a success: another request was faster, or an answer was lost.
    pub async fn delete(&self, key: &str) -> Result<Deletion, Failure> {
        let request = self.client.delete_object().bucket(&self.name).key(key);
        match Box::pin(request.send()).await.map_err(Failure::from) {
            Ok(answer) if answer.delete_marker.unwrap_or_default() => Ok(Deletion::Hidden),
            Ok(_) => Ok(Deletion::Gone),
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(Deletion::Gone),
            Err(failure) => Err(failure),
        }
    }

    /// Whether an upload is not open any more.
    pub async fn is_gone(&self, key: &str, id: &str) -> Result<bool, Failure> {
        let request = self.client.list_parts().bucket(&self.name).key(key).upload_id(id).max_parts(1);
        match Box::pin(request.send()).await.map_err(Failure::from) {
            Ok(_) => Ok(false),
            Err(failure) if failure.kind == FailureKind::NoSuchUpload => Ok(true),
            Err(failure) => Err(failure),
        }
    }
}

impl Destination {
    /// Deletes one object below the prefix.
    ///
    /// # Errors
    /// If S3 refuses it, or does not answer within the outage budget.
    pub async fn delete(&self, file_name: &str) -> Result<Deletion, StorageError> {
        let key = self.prefix.key(file_name);
        self.outage.retry("delete", || self.bucket.delete(&key)).await
    }

    /// The open uploads directly below the prefix with a file name that begins with `beginning`, as far as the store
    /// lists them. A single attempt: a later run can look again.
    ///
    /// # Errors
    /// If S3 does not answer.
    pub async fn open_uploads(&self, beginning: &str) -> Result<Vec<AbandonedUpload>, Failure> {
        // Some stores accept only a prefix that ends with a slash, or a complete key (docs/storage.md): filters here.
        let uploads = self.bucket.open_uploads(&self.prefix.key("")).await?;
        let ours = uploads.into_iter().filter_map(|upload| {
            let file_name = self.prefix.file_name(&upload.key).filter(|name| name.starts_with(beginning))?.to_owned();
            Some(AbandonedUpload { file_name, id: upload.id, initiated: upload.initiated })
        });
        Ok(ours.collect())
    }

    /// The same for the sub-paths directly below the prefix: each upload with its sub-path.
    ///
    /// # Errors
    /// If S3 does not answer.
    pub async fn open_uploads_below(&self, beginning: &str) -> Result<Vec<(String, AbandonedUpload)>, Failure> {
        let prefix = self.prefix.key("");
        let uploads = self.bucket.open_uploads(&prefix).await?;
        let ours = uploads.into_iter().filter_map(|OpenUpload { key, id, initiated }| {
            let (sub_path, file_name) = key.strip_prefix(&prefix)?.split_once('/')?;
            let is_ours = !file_name.contains('/') && file_name.starts_with(beginning);
            let upload = AbandonedUpload { file_name: file_name.to_owned(), id, initiated };
            is_ours.then(|| (sub_path.to_owned(), upload))
        });
        Ok(ours.collect())
    }

    /// Whether a part of an open upload was written after a time. A single attempt.
    ///
    /// # Errors
    /// If S3 does not answer.
    pub async fn is_written_after(&self, upload: &AbandonedUpload, earliest: DateTime<Utc>) -> Result<bool, Failure> {
        self.bucket.is_written_after(&self.prefix.key(&upload.file_name), &upload.id, earliest).await
    }

    /// Aborts an open upload. A single attempt.
    ///
    /// # Errors
    /// If S3 does not answer.
    pub async fn abort_upload(&self, upload: &AbandonedUpload) -> Result<(), Failure> {
        self.bucket.abort(&self.prefix.key(&upload.file_name), &upload.id).await
    }
}
