//! One closed range of an object. Requests the rest again if an answer breaks off.
//!
//! Used by [`super::download`], several at once. All ranges share one outage budget: while any of them progresses,
//! there is no outage. Those that progress end soon, because none runs far ahead of the first.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::StorageError;
use super::failure::{Failure, FailureKind};
use super::head::run_id;
use super::requests::Bucket;
use super::retry::Outage;

pub(super) const READ: &str = "read the backup";
/// HTTP's status for a range after an object's end. Every range of an empty object is one.
const NO_SUCH_RANGE: u16 = 416;
/// Pause before a body that broke off is requested again; the outage budget bounds the number.
const PAUSE: Duration = Duration::from_secs(1);

/// The object being read.
#[derive(Debug)]
pub(super) struct Source {
    pub bucket: Bucket,
    pub outage: Arc<Outage>,
    /// The budget of bodies that break off. Each new request is answered, so the usual budget would never
    /// end a body without progress.
    pub progress: Outage,
    pub key: String,
    pub etag: Option<String>,
    pub run_id: Option<String>,
    pub bytes: u64,
    pub last_modified: Option<DateTime<Utc>>,
}

/// The rest of a range.
#[derive(Debug)]
pub(super) struct RangeReader {
    pub source: Arc<Source>,
    pub range: Range<u64>,
    /// The answer being read, if any.
    pub body: Option<ByteStream>,
}

/// An answer to GET.
#[derive(Debug)]
pub(super) struct Opened {
    pub body: ByteStream,
    pub etag: Option<String>,
    pub run_id: Option<String>,
    /// Size of the object in bytes.
    pub bytes: u64,
    /// When the store says that the object was written.
    pub last_modified: Option<DateTime<Utc>>,
    /// The offset of the body's first byte.
    pub from: u64,
    /// The store sent the range alone.
    pub is_range: bool,
}

impl Opened {
    /// The object that the answer is of, and the body.
    pub fn into_source(self, bucket: Bucket, outage: Arc<Outage>, key: String) -> (Source, ByteStream) {
        let progress = outage.separate();
        let Self { body, etag, run_id, bytes, last_modified, .. } = self;
        (Source { bucket, outage, progress, key, etag, run_id, bytes, last_modified }, body)
    }
}

impl Source {
    /// Whether an answer is of the same object as the first.
    fn is_of(&self, opened: &Opened) -> bool {
        opened.etag == self.etag && opened.run_id == self.run_id && opened.bytes == self.bytes
    }
}

impl RangeReader {
    /// Sends the pieces on, up to the last or to the first error.
    pub async fn run(mut self, pieces: mpsc::Sender<Result<Bytes, StorageError>>) {
        while let Some(piece) = self.next().await.transpose() {
            let has_failed = piece.is_err();
            if pieces.send(piece).await.is_err() || has_failed {
                return;
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        while !self.range.is_empty() {
            let began = Instant::now();
            match self.piece().await? {
                Ok(piece) => {
                    self.source.progress.succeeded();
                    self.source.outage.succeeded();
                    self.range.start += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Err(failure) => {
                    self.body = None;
                    self.source.progress.wait(READ, began, failure, PAUSE).await?;
                }
            }
        }
        Ok(None)
    }

    /// A piece of the body, or why it broke off.
    async fn piece(&mut self) -> Result<Result<Bytes, Failure>, StorageError> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.ask().await?,
        };
        let piece = match body.next().await {
            None => Err(Failure::damaged("the body ended early")),
            Some(Err(error)) => Err(Failure::damaged(&crate::error_chain::Chain(&error).to_string())),
            Some(Ok(piece)) if piece.len() as u64 > self.range.end - self.range.start => {
                Err(Failure::damaged("the body is longer than the range"))
            }
            Some(Ok(piece)) => Ok(piece),
        };
        self.body = Some(body);
        Ok(piece)
    }

    /// Requests the rest of the range, of the same object.
    async fn ask(&self) -> Result<ByteStream, StorageError> {
        let Source { bucket, outage, key, etag, .. } = &*self.source;
        tracing::debug!(key, from = self.range.start, to = self.range.end, "reading a range of the backup");
        let replaced = || StorageError::Replaced { key: key.clone() };
        let open = || bucket.open_range(key, Some(self.range.clone()), etag.as_deref());
        match outage.retry(READ, open).await {
            // A store that ignores the condition or the range is caught here.
            Ok(Some(opened)) if opened.from == self.range.start && self.source.is_of(&opened) => Ok(opened.body),
            Ok(_) => Err(replaced()),
            Err(StorageError::Refused { failure, .. }) if failure.kind == FailureKind::Exists => Err(replaced()),
            Err(error) => Err(error),
        }
    }
}

impl Bucket {
    /// GET of an object's first range; of the complete object if it is empty.
    pub async fn open(&self, key: &str, first: Range<u64>) -> Result<Option<Opened>, Failure> {
        match self.open_range(key, Some(first), None).await {
            Err(failure) if failure.status == Some(NO_SUCH_RANGE) => self.open_range(key, None, None).await,
            other => other,
        }
    }

    /// GET of a range of an object, if it still has this ETag.
    async fn open_range(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        etag: Option<&str>,
    ) -> Result<Option<Opened>, Failure> {
        let request = self.client.get_object().bucket(&self.name).key(key).set_if_match(etag.map(str::to_owned));
        let request = request.set_range(range.map(|range| format!("bytes={}-{}", range.start, range.end - 1)));
        match Box::pin(request.send()).await.map_err(Failure::from) {
            Ok(answer) => {
                let length = answer.content_length.and_then(|length| u64::try_from(length).ok());
                // Google and R2 omit the length if they might compress the body; the range has it.
                let range = answer.content_range.as_deref().and_then(ContentRange::parse);
                let ContentRange { from, of } = range
                    .or_else(|| Some(ContentRange { from: 0, of: length? }))
                    .ok_or_else(|| Failure::damaged("the answer has no length"))?;
                Ok(Some(Opened {
                    run_id: answer.metadata.as_ref().and_then(run_id),
                    body: answer.body,
                    etag: answer.e_tag,
                    bytes: of,
                    last_modified: answer.last_modified.and_then(|time| DateTime::from_timestamp(time.secs(), 0)),
                    from,
                    is_range: range.is_some(),
                }))
            }
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// The content of `Content-Range: bytes 100-199/200`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    from: u64,
    of: u64,
}

impl ContentRange {
    fn parse(text: &str) -> Option<Self> {
        let (range, of) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (from, _) = range.split_once('-')?;
        Some(Self { from: from.parse().ok()?, of: of.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_writes_them() {
        assert_eq!(ContentRange::parse("bytes 100-199/200"), Some(ContentRange { from: 100, of: 200 }));
        for other in ["bytes 100-199/*", "bytes */200", "100-199/200", ""] {
            assert_eq!(ContentRange::parse(other), None, "{other}");
        }
    }
}
