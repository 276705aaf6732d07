//! One object, read from its first byte to its last: pinned to its ETag, resumed where it broke off, in bounded memory.
//!
//! `check --deep` reads backups through it; small objects come whole ([`Small`]). An object that is replaced in the middle is an error, never a mixture of two. What
//! comes is handed on as it came: what it must be is for the reader to judge.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::failure::{Failure, FailureKind};
use super::head::{Head, run_id};
use super::requests::{Bucket, damaged};
use super::retry::Outage;
use super::{Destination, StorageError};

pub(super) const READ: &str = "read the backup";
/// This program's own code for an answer that does not say how long the object is.
const NO_LENGTH: &str = "NoLength";
/// Pause before a body that broke off is asked for again; the outage budget bounds how often nothing comes.
const PAUSE: Duration = Duration::from_secs(1);

/// An object being read.
#[derive(Debug)]
pub struct Download {
    bucket: Bucket,
    outage: Arc<Outage>,
    /// For bodies that break off: S3 answers each new request well, which must not make one that never gets on go on for ever.
    progress: Outage,
    key: String,
    etag: Option<String>,
    run_id: Option<String>,
    bytes: u64,
    at: u64,
    body: Option<ByteStream>,
}

/// An object that fits into memory, or does not.
#[derive(Clone, Debug)]
pub(super) enum Small {
    /// There is none.
    Absent,
    /// All of it.
    Whole(Bytes),
    /// It has more bytes than are wanted.
    TooLarge,
}

/// The first answer to GET, or a later one from some byte on.
struct Opened {
    body: ByteStream,
    etag: Option<String>,
    run_id: Option<String>,
    /// Size of the whole object in bytes.
    bytes: u64,
    /// The byte that the body begins with.
    from: u64,
}

impl Destination {
    /// Begins to read an object; `None` where there is none.
    ///
    /// # Errors
    /// Where S3 refuses it, or answers nothing well within the outage budget.
    pub async fn download(&self, file_name: &str) -> Result<Option<Download>, StorageError> {
        let (bucket, outage) = self.parts();
        Download::open(bucket, outage, self.key(file_name)).await
    }
}

impl Download {
    /// Begins to read the object under a key; `None` where there is none.
    pub(super) async fn open(bucket: Bucket, outage: Arc<Outage>, key: String) -> Result<Option<Self>, StorageError> {
        let opened = outage.persist(READ, || bucket.open(&key, 0, None)).await?;
        Ok(opened.map(|opened| Self {
            bucket,
            progress: outage.afresh(),
            outage,
            key,
            etag: opened.etag,
            run_id: opened.run_id,
            bytes: opened.bytes,
            at: 0,
            body: Some(opened.body),
        }))
    }

    /// Size of the object in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the answer is provably of the object that HEAD said this of: a proxy may have answered in the store's place.
    pub(super) fn is_of(&self, head: &Head) -> bool {
        let is_equal = |ours: &Option<String>, theirs: &Option<String>| ours.is_some() && ours == theirs;
        let is_named = is_equal(&self.run_id, &head.run_id) || is_equal(&self.etag, &head.etag);
        is_named && head.bytes.is_none_or(|bytes| bytes == self.bytes)
    }

    /// The next piece; `None` after the last byte.
    ///
    /// # Errors
    /// Where the object was replaced or deleted meanwhile, S3 refuses it, or nothing comes within the outage budget.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        while self.at < self.bytes {
            let began = Instant::now();
            let failure = match self.piece().await? {
                Ok(piece) => {
                    self.progress.succeeded();
                    self.outage.succeeded();
                    self.at += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Err(failure) => failure,
            };
            self.body = None;
            self.progress.wait(READ, began, failure, PAUSE).await?;
        }
        Ok(None)
    }

    /// A piece of the body, or why it broke off.
    async fn piece(&mut self) -> Result<Result<Bytes, Failure>, StorageError> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.resume().await?,
        };
        let piece = match body.next().await {
            None => Err(damaged("the body ended early")),
            Some(Err(error)) => Err(damaged(&crate::error_chain::Chain(&error).to_string())),
            Some(Ok(piece)) if piece.len() as u64 > self.bytes - self.at => {
                Err(damaged("the body is longer than the object"))
            }
            Some(Ok(piece)) => Ok(piece),
        };
        self.body = Some(body);
        Ok(piece)
    }

    /// Asks for the rest of the very same object.
    async fn resume(&self) -> Result<ByteStream, StorageError> {
        tracing::debug!(key = self.key, at = self.at, bytes = self.bytes, "reading goes on where it broke off");
        let replaced = || StorageError::Replaced { key: self.key.clone() };
        let open = || self.bucket.open(&self.key, self.at, self.etag.as_deref());
        match self.outage.persist(READ, open).await {
            // A store that passes over the condition or the range is caught here.
            Ok(Some(opened)) if opened.etag == self.etag && opened.bytes == self.bytes && opened.from == self.at => {
                Ok(opened.body)
            }
            Ok(_) => Err(replaced()),
            Err(StorageError::Refused { failure, .. }) if failure.kind == FailureKind::Exists => Err(replaced()),
            Err(error) => Err(error),
        }
    }
}

impl Bucket {
    /// A small object: what it holds, unless that is more than `most` bytes, which are never in memory.
    pub async fn get(&self, key: &str, most: usize) -> Result<Small, Failure> {
        let request = self.client.get_object().bucket(&self.name).key(key);
        let mut answer = match Box::pin(request.send()).await.map_err(Failure::from) {
            Ok(answer) => answer,
            Err(failure) if failure.kind == FailureKind::NotFound => return Ok(Small::Absent),
            Err(failure) => return Err(failure),
        };
        let told = answer.content_length.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
        if told > most {
            return Ok(Small::TooLarge);
        }
        let mut body = BytesMut::with_capacity(told);
        while let Some(piece) = answer.body.next().await {
            let piece = piece.map_err(|error| damaged(&crate::error_chain::Chain(&error).to_string()))?;
            // A store need not tell the length.
            if body.len() + piece.len() > most {
                return Ok(Small::TooLarge);
            }
            body.extend_from_slice(&piece);
        }
        Ok(Small::Whole(body.freeze()))
    }

    /// GET of an object from a byte on, if it still is the one with this ETag.
    async fn open(&self, key: &str, from: u64, etag: Option<&str>) -> Result<Option<Opened>, Failure> {
        match self.open_range(key, (from > 0).then_some(from), etag).await {
            // An answer without a length (Google and R2 leave it out where they might pack the body) has one in its range.
            Err(failure) if failure.code == NO_LENGTH => self.open_range(key, Some(from), etag).await,
            other => other,
        }
    }

    async fn open_range(&self, key: &str, from: Option<u64>, etag: Option<&str>) -> Result<Option<Opened>, Failure> {
        let request = self.client.get_object().bucket(&self.name).key(key).set_if_match(etag.map(str::to_owned));
        let request = request.set_range(from.map(|from| format!("bytes={from}-")));
        match Box::pin(request.send()).await.map_err(Failure::from) {
            Ok(answer) => {
                let length = answer.content_length.and_then(|length| u64::try_from(length).ok());
                let range = answer.content_range.as_deref().and_then(Range::parse);
                let Range { from, whole } = range
                    .or_else(|| Some(Range { from: 0, whole: length? }))
                    .ok_or_else(|| Failure { code: NO_LENGTH.to_owned(), ..damaged("the answer has no length") })?;
                let run_id = answer.metadata.as_ref().and_then(run_id);
                Ok(Some(Opened { body: answer.body, etag: answer.e_tag, run_id, bytes: whole, from }))
            }
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// What `Content-Range: bytes 100-199/200` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: u64,
    whole: u64,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (from, _) = range.split_once('-')?;
        Some(Self { from: from.parse().ok()?, whole: whole.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_writes_them() {
        assert_eq!(Range::parse("bytes 100-199/200"), Some(Range { from: 100, whole: 200 }));
        for other in ["bytes 100-199/*", "bytes */200", "100-199/200", ""] {
            assert_eq!(Range::parse(other), None, "{other}");
        }
    }
}
