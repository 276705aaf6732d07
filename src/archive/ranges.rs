//! Reads sections of a stored backup that has an index: downloads only the ranges that hold them, and unpacks each from its restart
//! point. Used by `restore`.
//!
//! A read takes sections of the plain dump, in order and apart, and writes exactly their bytes to a sink. Ranges that it needs are
//! read from their first to their last byte, because their CRC-32 is that of all their bytes. Adjacent ranges are one download.
//! Several reads may run at once. The memory of each is that of its [`crate::storage::Download`] (2 MiB for each connection) and of [`PIECES`] pieces.
//!
//! Where the bytes of the compressed stream are in the object, [`super::layout`] knows. Of an encrypted object it needs the header first.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::index::Index;
use crate::storage::{Download, SectionedObject, StorageError};

use super::layout::{Layout, Opener};
use super::name::BackupName;
use super::range_contents::{RangeDamage, RangeUnpacker, Run, Span, VerifiedRanges};
use super::reader::{PIECES, ReadProgress, Stop, joined};
use super::sidecar::Stored;
use super::verify::Mismatch;

/// A backup of which sections are read; cheap to clone.
#[derive(Clone, Debug)]
pub struct Ranges {
    object: SectionedObject,
    layout: Layout,
    index: Arc<Index>,
    connections: usize,
    progress: Arc<ReadProgress>,
}

/// Why sections of a backup cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRanges {
    /// It does not exist.
    Gone,
    /// The store sends only complete objects.
    Unsupported,
    /// It is encrypted, and cannot be opened.
    Closed {
        /// Its size.
        bytes: u64,
        /// Why.
        mismatch: Mismatch,
    },
    /// The object is not as long as the index says.
    OtherSize {
        /// Its size.
        bytes: u64,
    },
}

/// Why sections were not read.
#[derive(Debug)]
pub enum RangeError<W> {
    /// The object was replaced or deleted meanwhile, S3 refuses it, or nothing comes within the outage budget.
    Storage(StorageError),
    /// A range is not what the index says.
    Damaged {
        /// Which, and what differs.
        damage: RangeDamage,
        /// The sink.
        sink: W,
    },
    /// A write to the sink failed.
    Sink {
        /// Why.
        error: io::Error,
        /// The sink.
        sink: W,
    },
}

impl Ranges {
    /// Opens a backup; an inner error says why its sections cannot be read.
    ///
    /// # Errors
    /// If S3 refuses it or is unavailable for the outage budget.
    pub async fn open(
        (destination, identities): Stored<'_>,
        file_name: &str,
        index: Arc<Index>,
    ) -> Result<Result<Self, NoRanges>, StorageError> {
        let Some(object) = destination.sectioned(file_name).await? else { return Ok(Err(NoRanges::Gone)) };
        let bytes = object.bytes();
        let is_encrypted = BackupName::parse(file_name).is_some_and(|name| name.is_encrypted());
        let layout = match identities {
            _ if !is_encrypted => Layout::Plain(index.codec_bytes),
            _ if !object.has_ranges() => return Ok(Err(NoRanges::Unsupported)),
            None => return Ok(Err(NoRanges::Closed { bytes, mismatch: Mismatch::NoIdentity })),
            Some(identities) => match Layout::encrypted(&object, identities, index.codec_bytes).await? {
                Ok(layout) => layout,
                Err(error) => return Ok(Err(NoRanges::Closed { bytes, mismatch: Mismatch::Encryption(error) })),
            },
        };
        // The size first: with another one, the store does not matter.
        if bytes != layout.object_bytes() {
            return Ok(Err(NoRanges::OtherSize { bytes }));
        }
        if !object.has_ranges() {
            return Ok(Err(NoRanges::Unsupported));
        }
        Ok(Ok(Self { object, layout, index, connections: 1, progress: ReadProgress::of(bytes) }))
    }

    /// With this many connections for each read, and a progress that ends with these sections.
    #[must_use]
    pub fn for_sections(self, sections: &[Span], connections: usize) -> Self {
        Self { connections, progress: ReadProgress::of(self.stored_bytes(sections)), ..self }
    }

    /// With this many connections for each read, and a progress that ends with this many stored bytes.
    #[must_use]
    pub fn with_progress_of(self, stored_bytes: u64, connections: usize) -> Self {
        Self { connections, progress: ReadProgress::of(stored_bytes), ..self }
    }

    /// Its index.
    #[must_use]
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Size of the object in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.object.bytes()
    }

    /// The object's `LastModified`.
    #[must_use]
    pub fn last_modified(&self) -> Option<DateTime<Utc>> {
        self.object.last_modified()
    }

    /// The progress of all reads, which stays current until the end.
    #[must_use]
    pub fn progress(&self) -> Arc<ReadProgress> {
        Arc::clone(&self.progress)
    }

    /// Stored bytes that a read of these sections downloads.
    #[must_use]
    pub fn stored_bytes(&self, sections: &[Span]) -> u64 {
        self.stored_bytes_of(&Run::of(&self.index, sections))
    }

    fn stored_bytes_of(&self, runs: &VecDeque<Run>) -> u64 {
        runs.iter().map(|run| self.layout.stored(&run.section())).map(|stored| stored.end - stored.start).sum()
    }

    /// Reads sections, which are in order and apart, into a sink: [`Self::begin`] and [`RangeRead::into_sink`] at once.
    ///
    /// # Errors
    /// As there.
    pub async fn read<W: Write + Send + 'static>(
        &self,
        sections: &[Span],
        sink: W,
    ) -> Result<(VerifiedRanges, W), RangeError<W>> {
        self.begin(sections.to_vec()).into_sink(sink, || {}).await
    }

    /// Asks for the first bytes of sections, which are in order and apart, without waiting for them. They take memory from here on.
    #[must_use]
    pub fn begin(&self, sections: Vec<Span>) -> RangeRead<'_> {
        let runs = Run::of(&self.index, &sections);
        let download = |run: &Run| self.object.download(self.layout.stored(&run.section()), self.connections);
        let mut downloads: VecDeque<_> = runs.iter().map(download).collect();
        if let Some(first) = downloads.front_mut() {
            first.begin();
        }
        RangeRead { ranges: self, sections, runs, downloads }
    }
}

/// Sections that are being downloaded.
pub struct RangeRead<'a> {
    ranges: &'a Ranges,
    sections: Vec<Span>,
    runs: VecDeque<Run>,
    /// One for each run.
    downloads: VecDeque<Download>,
}

impl RangeRead<'_> {
    /// Writes the bytes of the sections to the sink on a thread. A slow sink slows the download.
    /// The sink may have got bytes of a damaged range: only [`VerifiedRanges`] says that all ranges are what was dumped.
    ///
    /// Calls `downloaded` when the last bytes have come, which are then still to be unpacked: the memory of a download is free for
    /// another one.
    ///
    /// Dropping the future stops reading, and drops the sink after the current write.
    ///
    /// # Errors
    /// If reading, or a write to the sink, fails, or a range is damaged.
    pub async fn into_sink<W: Write + Send + 'static>(
        self,
        sink: W,
        downloaded: impl FnOnce(),
    ) -> Result<(VerifiedRanges, W), RangeError<W>> {
        let Self { ranges, sections, runs, downloads } = self;
        let (opener, stored_bytes) = (ranges.layout.opener(&runs), ranges.stored_bytes_of(&runs));
        let unpacker = RangeUnpacker::new(sink, ranges.index.codec, &runs, &sections);
        let (pieces, received) = mpsc::channel(PIECES);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Stop(Arc::clone(&stop));
        let unpacking = spawn_blocking(move || unpack((opener, unpacker), received, &stop));
        let is_passed_on = pass_on(downloads, (&ranges.progress, &pieces)).await.map_err(RangeError::Storage)?;
        drop(pieces);
        if is_passed_on {
            downloaded();
        }
        stopped.defuse();
        let (sink, ended) = joined(unpacking.await);
        match ended {
            Ok(Ok(verified)) => Ok((VerifiedRanges { stored_bytes, ..verified }, sink)),
            Ok(Err(damage)) => Err(RangeError::Damaged { damage, sink }),
            Err(error) => Err(RangeError::Sink { error, sink }),
        }
    }
}

/// Whether the thread took everything. It may end first; its result says why.
async fn pass_on(
    downloads: VecDeque<Download>,
    (progress, pieces): (&ReadProgress, &mpsc::Sender<Bytes>),
) -> Result<bool, StorageError> {
    for mut download in downloads {
        while let Some(piece) = download.next().await? {
            progress.add(piece.len());
            if pieces.send(piece).await.is_err() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

type Unpacked<W> = (W, io::Result<Result<VerifiedRanges, RangeDamage>>);

fn unpack<W: Write>(
    (mut opener, mut unpacker): (Opener, RangeUnpacker<W>),
    mut pieces: mpsc::Receiver<Bytes>,
    stop: &AtomicBool,
) -> Unpacked<W> {
    while let Some(piece) = pieces.blocking_recv() {
        if stop.load(Ordering::Relaxed) || opener.take(&piece, &mut unpacker).is_break() {
            break;
        }
    }
    // Ends the download before the rest of the work.
    drop(pieces);
    if stop.load(Ordering::Relaxed) {
        return (unpacker.into_sink(), Err(io::ErrorKind::Interrupted.into()));
    }
    unpacker.finish()
}
