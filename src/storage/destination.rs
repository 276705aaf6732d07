//! The destination: one prefix of one bucket, and the backups in it.
//!
//! `backup` begins uploads here, `list` reads. Owns the prefix, the listing, and the outage budget that all of a run's
//! requests share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::pipeline::PartChecksum;
use crate::spool::Journal;

use super::client::Built;
use super::head::Head;
use super::parts::PartStore;
use super::requests::Bucket;
use super::retry::Outage;
use super::upload::{Beginning, Upload};
use super::{Prefix, S3Settings, StorageError, client};

/// A prefix of a bucket; cheap to clone.
#[derive(Clone, Debug)]
pub struct Destination {
    pub(super) bucket: Bucket,
    pub(super) prefix: Prefix,
    pub(super) outage: Arc<Outage>,
    endpoint: Option<Arc<str>>,
}

impl Destination {
    /// Builds the client; sends nothing to S3 yet.
    ///
    /// # Errors
    /// Where there are no credentials, or the CA bundle cannot be used.
    pub async fn open(settings: &S3Settings) -> Result<Self, StorageError> {
        let Built { client, renewable } = Box::pin(client::build(settings)).await?;
        let bucket = Bucket {
            client,
            name: settings.bucket.clone(),
            request_timeout: settings.request_timeout,
            at_rest: settings.at_rest.clone(),
            checksum: settings.part_checksum(),
        };
        if settings.endpoint.as_ref().is_some_and(super::Endpoint::is_exposed) {
            tracing::warn!("S3_URL is plain http to another host: backups cross the network in the clear");
        }
        Ok(Self {
            bucket,
            prefix: settings.prefix.clone(),
            outage: Arc::new(Outage::new(settings.max_outage).renewing(renewable)),
            endpoint: settings.endpoint.as_ref().map(|endpoint| endpoint.url().into()),
        })
    }

    /// The checksum that parts must carry.
    #[must_use]
    pub fn checksum(&self) -> PartChecksum {
        self.bucket.checksum
    }

    /// The outage budget of this run.
    #[must_use]
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    /// The same destination with an outage budget of its own: no more than this, whatever else fails or succeeds.
    #[must_use]
    pub fn with_patience(&self, most: Duration) -> Self {
        Self { outage: Arc::new(self.outage.at_most(most)), ..self.clone() }
    }

    /// The key of a file below the prefix.
    #[must_use]
    pub fn key(&self, file_name: &str) -> String {
        self.prefix.key(file_name)
    }

    /// `s3://bucket/key`
    #[must_use]
    pub fn location(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket.name)
    }

    /// The URL of a store other than AWS.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// Whether an object stands under this key. `false` also where these credentials may not know: the commit is
    /// conditional, and HEAD is no write test.
    ///
    /// # Errors
    /// Where S3 answers nothing well within the outage budget.
    pub async fn is_taken(&self, key: &str) -> Result<bool, StorageError> {
        match self.outage.persist("look for the name", || self.bucket.find(key)).await {
            Ok(_) => Ok(true),
            Err(StorageError::Refused { failure, .. }) => {
                tracing::debug!(key, %failure, "HEAD finds nothing, or is refused");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins an upload. This is the write test: no probe objects.
    ///
    /// # Errors
    /// Refused is a misconfiguration; otherwise the outage budget was used up.
    pub async fn begin(&self, with: Beginning) -> Result<Upload, StorageError> {
        Upload::begin(self.bucket.clone(), Arc::clone(&self.outage), with).await
    }

    /// The upload that an earlier run began, where it began one.
    #[must_use]
    pub fn take_up(&self, journal: &Journal, store: PartStore) -> Option<Upload> {
        Upload::taken_up(self.bucket.clone(), Arc::clone(&self.outage), journal, store)
    }

    /// Shows `take` the file name and the size in bytes of every object directly below the prefix whose file name
    /// begins with `beginning`; a page of the listing at a time is in memory.
    ///
    /// # Errors
    /// Refused is a misconfiguration; otherwise the outage budget was used up.
    pub async fn list(&self, beginning: &str, take: &mut impl FnMut(&str, u64)) -> Result<(), StorageError> {
        self.list_after(beginning, None, take).await
    }

    /// As [`Self::list`], but only of the file names that sort behind `first`.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn list_after(
        &self,
        beginning: &str,
        first: Option<&str>,
        take: &mut impl FnMut(&str, u64),
    ) -> Result<(), StorageError> {
        let (prefix, first) = (self.prefix.key(beginning), first.map(|first| self.prefix.key(first)));
        let mut after = None;
        loop {
            let request = || self.bucket.list(&prefix, first.as_deref(), after.clone());
            let (objects, next) =
                self.outage.persist("list the backups", request).await.map_err(StorageError::at_first_request)?;
            for object in &objects {
                if let Some(file_name) = self.prefix.file_name(&object.key) {
                    take(file_name, object.bytes);
                }
            }
            after = next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// The keys of the uploads that are open below the prefix and whose file name begins with `beginning`.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn uploading(&self, beginning: &str) -> Result<Vec<String>, StorageError> {
        let prefix = self.prefix.key(beginning);
        let uploads = self.outage.persist("list the uploads", || self.bucket.open_uploads(&prefix)).await?;
        Ok(uploads.iter().filter_map(|upload| self.prefix.file_name(&upload.key)).map(str::to_owned).collect())
    }

    /// A whole small object, where it is there.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn read(&self, file_name: &str) -> Result<Option<Bytes>, StorageError> {
        let key = self.prefix.key(file_name);
        self.outage.persist("read a manifest", || self.bucket.get(&key)).await
    }

    /// What HEAD says of an object, where it is there.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn head(&self, file_name: &str) -> Result<Option<Head>, StorageError> {
        let key = self.prefix.key(file_name);
        self.outage.persist("look at the backup", || self.bucket.head(&key)).await
    }

    /// What the other files of this room send their own requests with.
    pub(super) fn parts(&self) -> (Bucket, Arc<Outage>) {
        (self.bucket.clone(), Arc::clone(&self.outage))
    }
}
