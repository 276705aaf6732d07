//! One object, read from its first byte to its last: in closed ranges, several at once, handed on in order, in bounded memory.
//!
//! `archive` and the commit read backups through it; small objects come in one piece ([`Small`]). Every range is pinned to the
//! ETag of the first answer, so that an object that is replaced in the middle is an error, never a mixture of two. What comes is
//! handed on as it came: what it must be is for the reader to judge.
//!
//! Memory is at most [`MOST_RANGES`] × [`RANGE_BYTES`] and what one read of each connection brings: a range is asked for when
//! the one that many before it has been handed on.

use std::collections::VecDeque;
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::failure::{Failure, FailureKind};
use super::head::Head;
use super::range::{Opened, READ, RangeReader, Source};
use super::requests::{Bucket, damaged};
use super::retry::Outage;
use super::{Destination, StorageError};

/// Bytes of a range: at 40 MB/s a connection, a request of 10 ms costs a sixth of the time. More would cost memory.
pub(super) const RANGE_BYTES: u64 = 2 << 20;
/// Ranges that are read at once. Four connections fill what one decoder takes (FACTS §10).
const MOST_RANGES: usize = 4;
/// Pieces that wait in a range. More than a range has, unless its connection brings less than 4 KiB at a time.
const PIECES: usize = 1024;
/// The same where one range is all of the object, because the store passes over ranges.
const PIECES_OF_ALL: usize = 16;

/// An object being read. Dropping it ends the requests.
#[derive(Debug)]
pub struct Download {
    source: Arc<Source>,
    /// The ranges that are being read, in order.
    ranges: VecDeque<RangeInFlight>,
    /// The end of the last of them.
    asked: u64,
}

#[derive(Debug)]
struct RangeInFlight {
    pieces: mpsc::Receiver<Result<Bytes, StorageError>>,
    reading: AbortOnDropHandle<()>,
}

/// An object that fits into memory, or does not.
#[derive(Clone, Debug)]
pub(super) enum Small {
    /// There is none.
    Absent,
    /// All of it.
    Complete(Bytes),
    /// It has more bytes than are wanted.
    TooLarge,
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
        let Some(opened) = outage.persist(READ, || bucket.open(&key, 0..RANGE_BYTES)).await? else { return Ok(None) };
        let progress = outage.afresh();
        let Opened { etag, run_id, bytes, last_modified, .. } = opened;
        let source = Source { bucket, outage, progress, key, etag, run_id, bytes, last_modified };
        let mut download = Self { source: Arc::new(source), ranges: VecDeque::with_capacity(MOST_RANGES), asked: 0 };
        let end = if opened.is_range { RANGE_BYTES } else { bytes };
        download.ask(end, Some(opened.body));
        Ok(Some(download))
    }

    /// Size of the object in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.source.bytes
    }

    /// When the store says that the object was written.
    #[must_use]
    pub fn last_modified(&self) -> Option<DateTime<Utc>> {
        self.source.last_modified
    }

    /// Whether the answers are provably of the object that HEAD said this of: a proxy may have answered in the store's place.
    pub(super) fn is_of(&self, head: &Head) -> bool {
        let Source { etag, run_id, bytes, .. } = &*self.source;
        let is_equal = |ours: &Option<String>, theirs: &Option<String>| ours.is_some() && ours == theirs;
        let is_named = is_equal(run_id, &head.run_id) || is_equal(etag, &head.etag);
        is_named && head.bytes.is_none_or(|size| size == *bytes)
    }

    /// The next piece; `None` after the last byte.
    ///
    /// # Errors
    /// Where the object was replaced or deleted meanwhile, S3 refuses it, or nothing comes within the outage budget.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        loop {
            while self.ranges.len() < MOST_RANGES && self.asked < self.source.bytes {
                self.ask(self.asked + RANGE_BYTES, None);
            }
            let Some(first) = self.ranges.front_mut() else { return Ok(None) };
            if let Some(piece) = first.pieces.recv().await {
                return piece.map(Some);
            }
            // A range that broke down must not look like one that is complete.
            match (&mut first.reading).await {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => drop(self.ranges.pop_front()),
            }
        }
    }

    /// Begins to read the next range, up to this byte or the object's end.
    fn ask(&mut self, end: u64, body: Option<ByteStream>) {
        let range = self.asked..end.min(self.source.bytes);
        let length = range.end - range.start;
        let (sender, pieces) = mpsc::channel(if length > RANGE_BYTES { PIECES_OF_ALL } else { PIECES });
        self.asked = range.end;
        let reader = RangeReader { source: Arc::clone(&self.source), range, body };
        self.ranges
            .push_back(RangeInFlight { pieces, reading: AbortOnDropHandle::new(tokio::spawn(reader.run(sender))) });
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
        Ok(Small::Complete(body.freeze()))
    }
}
