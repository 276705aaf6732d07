//! One object, read from its first to its last byte, or a section of it: in closed ranges, several at once, in order, in bounded
//! memory.
//!
//! `archive` and the commit read backups through it. Every range is pinned to the ETag of the first answer, so that an
//! object that is replaced meanwhile is an error, never a mixture. The reader judges the bytes.
//!
//! Memory is at most [`MOST_RANGES`] × [`RANGE_BYTES`], and one read buffer per connection: a range is requested once
//! the range [`MOST_RANGES`] before it has been handed on. The reader of a section chooses how many ranges it reads at once.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::head::Head;
use super::range::{READ, RangeReader, Source};
use super::requests::Bucket;
use super::retry::Outage;
use super::{Destination, StorageError};

/// Bytes of a range: at 40 MB/s a connection, a request of 10 ms takes a sixth of the time. Larger ones take memory.
pub(super) const RANGE_BYTES: u64 = 2 << 20;
/// Ranges that are read at once. Four connections keep one decoder busy.
const MOST_RANGES: usize = 4;
/// Buffered pieces of a range: more than a range has, unless its connection delivers less than 4 KiB at a time.
const PIECES: usize = 1024;
/// The same if one range is the complete object, because the store ignores ranges.
const PIECES_OF_ALL: usize = 16;

/// An object being read. Dropping it cancels the requests.
#[derive(Debug)]
pub struct Download {
    source: Arc<Source>,
    /// The ranges being read, in order.
    ranges: VecDeque<RangeInFlight>,
    /// How many of them are read at once.
    most_ranges: usize,
    /// The end of the last of them.
    asked: u64,
    /// The end of what is read.
    end: u64,
}

/// An object of which sections are read, each pinned to the ETag of the first answer; cheap to clone.
#[derive(Clone, Debug)]
pub struct SectionedObject {
    source: Arc<Source>,
    has_ranges: bool,
}

#[derive(Debug)]
struct RangeInFlight {
    pieces: mpsc::Receiver<Result<Bytes, StorageError>>,
    reading: AbortOnDropHandle<()>,
}

impl Destination {
    /// Starts to read an object; `None` if there is none.
    ///
    /// # Errors
    /// If S3 refuses it, or does not answer within the outage budget.
    pub async fn download(&self, file_name: &str) -> Result<Option<Download>, StorageError> {
        Download::open(self.bucket.clone(), Arc::clone(&self.outage), self.key(file_name)).await
    }

    /// Opens an object, to read sections of it; `None` if there is none.
    ///
    /// # Errors
    /// As [`Self::download`].
    pub async fn sectioned(&self, file_name: &str) -> Result<Option<SectionedObject>, StorageError> {
        let (bucket, outage, key) = (self.bucket.clone(), Arc::clone(&self.outage), self.key(file_name));
        // GET, not HEAD: only its answers say why an object cannot be read.
        let Some(opened) = outage.retry(READ, || bucket.open(&key, 0..1)).await? else { return Ok(None) };
        let has_ranges = opened.is_range;
        let (source, _) = opened.into_source(bucket, outage, key);
        Ok(Some(SectionedObject { source: Arc::new(source), has_ranges }))
    }
}

impl SectionedObject {
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

    /// Whether the store sends sections at all: one that ignores ranges sends the complete object.
    #[must_use]
    pub fn has_ranges(&self) -> bool {
        self.has_ranges
    }

    /// Starts to read a section, over this many connections. Each takes `RANGE_BYTES` of memory.
    #[must_use]
    pub fn download(&self, section: Range<u64>, connections: usize) -> Download {
        let end = section.end.min(self.source.bytes);
        let (source, most_ranges) = (Arc::clone(&self.source), connections.max(1));
        Download { source, ranges: VecDeque::with_capacity(most_ranges), most_ranges, asked: section.start, end }
    }
}

impl Download {
    /// Starts to read the object under a key; `None` if there is none.
    pub(super) async fn open(bucket: Bucket, outage: Arc<Outage>, key: String) -> Result<Option<Self>, StorageError> {
        let Some(opened) = outage.retry(READ, || bucket.open(&key, 0..RANGE_BYTES)).await? else { return Ok(None) };
        let is_range = opened.is_range;
        let (source, body) = opened.into_source(bucket, outage, key);
        let bytes = source.bytes;
        let object = SectionedObject { source: Arc::new(source), has_ranges: is_range };
        let mut download = object.download(0..bytes, MOST_RANGES);
        download.ask(if is_range { RANGE_BYTES } else { bytes }, Some(body));
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

    /// Whether the answers are provably the object of this HEAD: a proxy may have answered in the store's place.
    pub(super) fn is_of(&self, head: &Head) -> bool {
        let Source { etag, run_id, bytes, .. } = &*self.source;
        let is_equal = |ours: &Option<String>, theirs: &Option<String>| ours.is_some() && ours == theirs;
        let is_named = is_equal(run_id, &head.run_id) || is_equal(etag, &head.etag);
        is_named && head.bytes.is_none_or(|size| size == *bytes)
    }

    /// The next piece; `None` after the last byte.
    ///
    /// # Errors
    /// If the object was replaced or deleted meanwhile, S3 refuses it, or nothing comes within the outage budget.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        loop {
            self.begin();
            let Some(first) = self.ranges.front_mut() else { return Ok(None) };
            if let Some(piece) = first.pieces.recv().await {
                return piece.map(Some);
            }
            // A range that panicked must not look complete.
            match (&mut first.reading).await {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => drop(self.ranges.pop_front()),
            }
        }
    }

    /// Starts to read as many ranges as may be read at once, without waiting for any.
    pub fn begin(&mut self) {
        while self.ranges.len() < self.most_ranges && self.asked < self.end {
            self.ask(self.asked + RANGE_BYTES, None);
        }
    }

    /// Starts to read the next range, up to this byte or the end of what is read.
    fn ask(&mut self, end: u64, body: Option<ByteStream>) {
        let range = self.asked..end.min(self.end);
        let length = range.end - range.start;
        let (sender, pieces) = mpsc::channel(if length > RANGE_BYTES { PIECES_OF_ALL } else { PIECES });
        self.asked = range.end;
        let reader = RangeReader { source: Arc::clone(&self.source), range, body };
        self.ranges
            .push_back(RangeInFlight { pieces, reading: AbortOnDropHandle::new(tokio::spawn(reader.run(sender))) });
    }
}
