//! Reads sections of a stored backup that has an index: downloads only the ranges that hold them, and unpacks each from its restart
//! point. Used by `restore`.
//!
//! A read takes sections of the plain dump, in order and apart, and writes exactly their bytes to a sink. Ranges that it needs are
//! read from their first to their last byte, because their CRC-32 is that of all their bytes. Adjacent ranges are one download.
//! Several reads may run at once. The memory of each is that of its [`crate::storage::Download`] (2 MiB for each connection) and of [`PIECES`] pieces.
//!
//! Offsets in the compressed stream are offsets in the object. An encrypted backup has other ones: sections of it are not readable.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::index::Index;
use crate::storage::{Destination, SectionedObject, StorageError};

use super::name::BackupName;
use super::range_contents::{RangeDamage, RangeUnpacker, Run, Span, VerifiedRanges};
use super::reader::{PIECES, ReadProgress, Stop, joined};

/// A backup of which sections are read; cheap to clone.
#[derive(Clone, Debug)]
pub struct Ranges {
    object: SectionedObject,
    index: Arc<Index>,
    is_encrypted: bool,
    connections: usize,
    progress: Arc<ReadProgress>,
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
    /// Opens a backup; `None` if it does not exist.
    ///
    /// # Errors
    /// If S3 refuses it or is unavailable for the outage budget.
    pub async fn open(
        destination: &Destination,
        file_name: &str,
        index: Arc<Index>,
    ) -> Result<Option<Self>, StorageError> {
        let object = destination.sectioned(file_name).await?;
        let is_encrypted = BackupName::parse(file_name).is_some_and(|name| name.is_encrypted());
        Ok(object.map(|object| {
            let progress = ReadProgress::of(object.bytes());
            Self { object, index, is_encrypted, connections: 1, progress }
        }))
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

    /// Whether sections of it can be read: it is not encrypted, the store sends ranges, and the object is as long
    /// as the index says.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        !self.is_encrypted && self.object.has_ranges() && self.object.bytes() == self.index.codec_bytes
    }

    /// The progress of all reads, which stays current until the end.
    #[must_use]
    pub fn progress(&self) -> Arc<ReadProgress> {
        Arc::clone(&self.progress)
    }

    /// Stored bytes that a read of these sections downloads.
    #[must_use]
    pub fn stored_bytes(&self, sections: &[Span]) -> u64 {
        Run::of(&self.index, sections).iter().map(Run::section).map(|section| section.end - section.start).sum()
    }

    /// Reads sections, which are in order and apart, and writes their bytes to the sink on a thread. A slow sink slows the download.
    /// The sink may have got bytes of a damaged range: only [`VerifiedRanges`] says that all ranges are what was dumped.
    ///
    /// Dropping the future stops reading, and drops the sink after the current write.
    ///
    /// # Errors
    /// If reading, or a write to the sink, fails, or a range is damaged.
    pub async fn read<W: Write + Send + 'static>(
        &self,
        sections: &[Span],
        sink: W,
    ) -> Result<(VerifiedRanges, W), RangeError<W>> {
        let runs = Run::of(&self.index, sections);
        let unpacker = RangeUnpacker::new(sink, self.index.codec, &runs, sections);
        let (pieces, received) = mpsc::channel(PIECES);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Stop(Arc::clone(&stop));
        let unpacking = spawn_blocking(move || unpack(unpacker, received, &stop));
        self.download(runs, &pieces).await.map_err(RangeError::Storage)?;
        drop(pieces);
        stopped.defuse();
        let (sink, ended) = joined(unpacking.await);
        match ended {
            Ok(Ok(verified)) => Ok((verified, sink)),
            Ok(Err(damage)) => Err(RangeError::Damaged { damage, sink }),
            Err(error) => Err(RangeError::Sink { error, sink }),
        }
    }

    async fn download(&self, runs: VecDeque<Run>, pieces: &mpsc::Sender<Bytes>) -> Result<(), StorageError> {
        for run in runs {
            let mut download = self.object.download(run.section(), self.connections);
            while let Some(piece) = download.next().await? {
                self.progress.add(piece.len());
                // The thread may end first; its result says why.
                if pieces.send(piece).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

type Unpacked<W> = (W, io::Result<Result<VerifiedRanges, RangeDamage>>);

fn unpack<W: Write>(
    mut unpacker: RangeUnpacker<W>,
    mut pieces: mpsc::Receiver<Bytes>,
    stop: &AtomicBool,
) -> Unpacked<W> {
    while let Some(piece) = pieces.blocking_recv() {
        if stop.load(Ordering::Relaxed) || unpacker.take(&piece).is_break() {
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
