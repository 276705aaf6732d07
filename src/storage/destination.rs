//! The destination: one prefix of one bucket, and the backups in it.
//!
//! `backup` starts uploads here, `list` and `prune` read. Owns the prefix, the listing, and the outage budget of a
//! run's requests.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::pipeline::PartChecksum;

use super::client::Built;
use super::head::Head;
use super::requests::{Bucket, SmallObject};
use super::retry::{FIRST_CONTACT, Outage};
use super::sidecar::Sidecar;
use super::{Prefix, S3Settings, StorageError, client};

/// Nearly all manifests are smaller, in bytes: 10,000 tables with names of 50 bytes.
const USUAL_MANIFEST: usize = 1 << 20;
/// The largest manifest in bytes: 90,000 tables with schema and name of 63 bytes each (PostgreSQL's limit) take 180
/// bytes a row.
const LARGEST_MANIFEST: usize = 16 << 20;

/// Why a manifest cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// It is not JSON, or not a manifest's.
    #[error(transparent)]
    NotJson(serde_json::Error),
    /// It is too large to be one.
    #[error("it has more than {} MiB", LARGEST_MANIFEST >> 20)]
    TooLarge,
}

/// A prefix of a bucket; cheap to clone.
#[derive(Clone, Debug)]
pub struct Destination {
    pub(super) bucket: Bucket,
    pub(super) prefix: Prefix,
    pub(super) outage: Arc<Outage>,
    endpoint: Option<Arc<str>>,
    /// Lets one large manifest at a time into memory.
    large_manifests: Arc<Semaphore>,
}

impl Destination {
    /// Builds the client; sends nothing to S3.
    ///
    /// # Errors
    /// If there are no credentials, or the CA bundle cannot be used.
    pub async fn open(settings: &S3Settings) -> Result<Self, StorageError> {
        let Built { client, renewable, url } = Box::pin(client::build(settings)).await?;
        let bucket = Bucket::new(client, settings, url.as_deref());
        if settings.endpoint.as_ref().is_some_and(super::Endpoint::is_exposed) {
            tracing::warn!("S3_URL is plain http to another host: backups cross the network in the clear");
        }
        let url = settings.endpoint.as_ref().map(super::Endpoint::url);
        let outage = Outage::new(settings.max_outage, settings.request_timeout).naming(&settings.bucket, url);
        Ok(Self {
            bucket,
            prefix: settings.prefix.clone(),
            outage: Arc::new(outage.renewing(renewable)),
            endpoint: settings.endpoint.as_ref().map(|endpoint| endpoint.url().into()),
            large_manifests: Arc::new(Semaphore::new(1)),
        })
    }

    /// The checksum that parts must carry.
    #[must_use]
    pub fn checksum(&self) -> PartChecksum {
        self.bucket.checksum
    }

    /// The outage budget.
    #[must_use]
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    /// The same destination with its own outage budget of at most `most`, and of what an outage has left.
    #[must_use]
    pub fn with_patience(&self, most: Duration) -> Self {
        Self { outage: Arc::new(self.outage.at_most(most.min(self.outage.left()))), ..self.clone() }
    }

    /// The same destination with a limit of 30 s for a server that cannot be connected to and has never answered. For commands
    /// that a person waits for: a backup continues until its outage budget is used up.
    #[must_use]
    pub fn with_first_contact(self) -> Self {
        Self { outage: Arc::new(self.outage.separate().with_first_contact(FIRST_CONTACT)), ..self }
    }

    /// The destination in a sub-path of this one, with the same client and outage budget.
    #[must_use]
    pub fn below(&self, sub_path: &str) -> Self {
        self.at(&self.prefix.below(sub_path))
    }

    /// The destination at another prefix of the bucket, for another backup of the run: with the same client and outage,
    /// which each suspends for its own requests.
    #[must_use]
    pub fn at(&self, prefix: &Prefix) -> Self {
        Self { prefix: prefix.clone(), outage: Arc::new(self.outage.shared()), ..self.clone() }
    }

    /// The sub-paths directly below the prefix that have objects, without slashes.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn sub_paths(&self) -> Result<Vec<String>, StorageError> {
        let prefix = self.prefix.key("");
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let request = || self.bucket.list_sub_paths(&prefix, after.clone());
            let (page, next) = self.outage.retry("list the databases", request).await.map_err(of_listing)?;
            let inner = |path: String| path.strip_prefix(&prefix)?.strip_suffix('/').map(str::to_owned);
            found.extend(page.into_iter().filter_map(inner));
            after = next;
            if after.is_none() {
                return Ok(found);
            }
        }
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

    /// `s3://bucket/path/`
    #[must_use]
    pub fn url(&self) -> String {
        self.location(&self.key(""))
    }

    /// The URL of the store; `None` for AWS.
    #[must_use]
    pub fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    /// Whether an object has this key. `false` also if HEAD is denied: the commit is conditional, and HEAD is no
    /// write test.
    ///
    /// # Errors
    /// If S3 does not answer within the outage budget.
    pub async fn is_taken(&self, key: &str) -> Result<bool, StorageError> {
        match self.outage.retry("look for the name", || self.bucket.find(key)).await {
            Ok(_) => Ok(true),
            Err(StorageError::Refused { failure, .. }) => {
                tracing::debug!(key, %failure, "HEAD finds nothing, or is refused");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Calls `take` with file name and size in bytes of every object directly below the prefix, if its file name begins
    /// with `beginning`. Holds one page of the listing in memory.
    ///
    /// # Errors
    /// A refusal is a misconfiguration; otherwise the outage budget was used up.
    pub async fn list(&self, beginning: &str, take: &mut impl FnMut(&str, u64)) -> Result<(), StorageError> {
        self.list_after(beginning, None, take).await
    }

    /// As [`Self::list`], for file names that sort after `first`. One may come twice.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn list_after(
        &self,
        beginning: &str,
        first: Option<&str>,
        take: &mut impl FnMut(&str, u64),
    ) -> Result<(), StorageError> {
        let (prefix, start) = (self.prefix.key(beginning), first.map(|first| self.prefix.key(first)));
        let (mut start_after, mut after) = (start.as_deref(), None);
        let mut previous = start.clone().unwrap_or_default();
        loop {
            let request = || self.bucket.list(&prefix, start_after, after.clone());
            let (objects, next) = self.outage.retry("list the backups", request).await.map_err(of_listing)?;
            let mut is_in_order = true;
            for object in objects {
                is_in_order &= previous < object.key;
                let file_name = self.prefix.file_name(&object.key);
                if let Some(file_name) = file_name.filter(|_| start.as_ref().is_none_or(|start| *start < object.key)) {
                    take(file_name, object.bytes);
                }
                previous = object.key;
            }
            if start_after.is_some() && !is_in_order {
                // A store with another order (Storj sorts by encrypted keys) starts anywhere: list everything.
                (start_after, after) = (None, None);
                continue;
            }
            after = next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// The file names of the open uploads directly below the prefix that begin with `beginning`, as far as the store
    /// lists them.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn uploading(&self, beginning: &str) -> Result<Vec<String>, StorageError> {
        let uploads = self.outage.retry("list the uploads", || self.open_uploads(beginning)).await?;
        Ok(uploads.into_iter().map(|upload| upload.file_name).collect())
    }

    /// Reads a manifest, if there is one. An inner error means that it is damaged.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn read_manifest<T: DeserializeOwned>(
        &self,
        file_name: &str,
    ) -> Result<Option<Result<T, Damaged>>, StorageError> {
        let key = self.prefix.key(file_name);
        let read = async |most| self.outage.retry("read a manifest", || self.bucket.get(&key, most)).await;
        let (mut manifest, mut _alone) = (read(USUAL_MANIFEST).await?, None);
        if matches!(manifest, SmallObject::TooLarge) {
            // Several manifests are read at once, and large ones must not fill the memory.
            _alone = self.large_manifests.acquire().await.ok();
            manifest = read(LARGEST_MANIFEST).await?;
        }
        Ok(match manifest {
            SmallObject::Absent => None,
            SmallObject::Complete(body) => Some(serde_json::from_slice(&body).map_err(Damaged::NotJson)),
            SmallObject::TooLarge => {
                tracing::warn!(file_name, most = LARGEST_MANIFEST, "this manifest is too large: treated as damaged");
                Some(Err(Damaged::TooLarge))
            }
        })
    }

    /// HEAD of an object, if there is one.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn head(&self, file_name: &str) -> Result<Option<Head>, StorageError> {
        let key = self.prefix.key(file_name);
        self.outage.retry("look at the backup", || self.bucket.head(&key)).await
    }

    /// Writes a sidecar of a stored backup, and replaces an existing one.
    ///
    /// # Errors
    /// If S3 refuses it, or does not accept it within the outage budget.
    pub async fn write_sidecar(&self, file_name: &str, kind: Sidecar, body: Vec<u8>) -> Result<(), StorageError> {
        let (key, body) = (format!("{}{}", self.key(file_name), kind.suffix), bytes::Bytes::from(body));
        self.outage.retry(kind.action, || self.bucket.put(&key, body.clone(), kind.content_type)).await
    }
}

/// A refused listing is a misconfiguration, unless it breaks off, which is the store's fault.
fn of_listing(error: StorageError) -> StorageError {
    match error {
        StorageError::Refused { ref failure, .. } if failure.is_broken_listing() => error,
        error => error.at_first_request(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Failure;

    #[tokio::test]
    async fn backups_share_an_outage_but_not_its_suspension() {
        let destination = Destination::open(&S3Settings::of_test_server("http://localhost")).await.expect("a client");
        let (one, other) = (destination.at(&Prefix::new("one")), destination.at(&Prefix::new("other")));
        let began = tokio::time::Instant::now().checked_sub(Duration::from_mins(1)).expect("a clock that is older");
        let fails = async |at: &Destination| at.outage.wait("try", began, Failure::timeout(""), Duration::ZERO).await;
        one.outage.suspend();
        fails(&one).await.expect("it dumps meanwhile");
        fails(&other).await.expect_err("it waits for S3");
        assert_eq!(
            other.with_patience(Duration::from_secs(1)).outage.left(),
            Duration::ZERO,
            "nothing is left for reads"
        );
    }
}
