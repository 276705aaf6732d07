//! Compares the index of a backup with its object, while the object is read for another purpose.
//!
//! Used by `check --deep`. The ranges are unpacked by a thread, each from its restart point, beside the stream that is read from its
//! first byte on: so the object is downloaded once. The scanner makes the index of the dump again, and the two must be equal.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::index::{Builder, Draft, Index, Stream};

use super::range_contents::{RangeDamage, RangeUnpacker, Run, VerifiedRanges};

/// Pieces that wait for the thread.
const PIECES: usize = 8;

/// Why an index is not that of the object.
#[derive(Debug, thiserror::Error)]
pub enum IndexMismatch {
    /// A range is not what the index says.
    #[error(transparent)]
    Range(#[from] RangeDamage),
    /// The ranges could not be read.
    #[error("read the ranges")]
    Read(#[source] io::Error),
    /// The dump cannot have an index.
    #[error("the dump has no index")]
    NotMade,
    /// An entry differs.
    #[error("entry {number} of the dump is another one: {kind} {name} at byte {at}")]
    Entry {
        /// From 1.
        number: usize,
        /// Its type in the dump.
        kind: String,
        /// Its name in the dump.
        name: String,
        /// Its offset in the dump.
        at: u64,
    },
    /// Something else differs.
    #[error("the dump has {made} entries, and the index {recorded}, or other offsets")]
    Other {
        /// Entries in the dump.
        made: usize,
        /// Entries in the index.
        recorded: usize,
    },
}

/// An index that is equal to one that was made of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedIndex {
    /// Number of entries.
    pub entries: usize,
    /// Number of ranges.
    pub ranges: usize,
}

/// What the thread found.
type Ranges = Result<VerifiedRanges, IndexMismatch>;

/// A comparison that is being made.
pub(super) struct IndexChecker {
    index: Arc<Index>,
    /// Bytes of the header that are missing.
    header: usize,
    pieces: Sender<Vec<u8>>,
    ranges: io::Result<JoinHandle<Ranges>>,
}

impl IndexChecker {
    /// Starts before the first byte of the compressed stream.
    pub fn start(index: Arc<Index>) -> Self {
        let (pieces, received) = bounded(PIECES);
        let of_thread = Arc::clone(&index);
        let read = move || read(&of_thread, &received);
        let ranges = std::thread::Builder::new().name("ranges".to_owned()).spawn(read);
        Self { header: index.codec.header().len(), index, pieces, ranges }
    }

    /// Makes the index again.
    pub fn builder(&self) -> Builder {
        Builder::with_points(self.index.points.iter().map(|point| point.plain_at).collect())
    }

    /// Takes the next bytes of the compressed stream.
    pub fn take(&mut self, piece: &[u8]) {
        let skipped = self.header.min(piece.len());
        self.header -= skipped;
        // The thread ends at the first damage, and returns it.
        let _ = self.pieces.send(piece[skipped..].to_vec());
    }

    /// Compares, after the last byte.
    pub fn finish(self, made: Option<Draft>) -> Result<VerifiedIndex, IndexMismatch> {
        let Self { index, pieces, ranges, .. } = self;
        drop(pieces);
        let ended = ranges.map_err(IndexMismatch::Read)?.join();
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let made = made.ok_or(IndexMismatch::NotMade)?;
        let stream = Stream { codec: index.codec, codec_bytes: index.codec_bytes, points: index.points.clone() };
        let packed = made.complete(stream, &index.run_id, index.invalid_indexes, index.details.clone());
        let made = Index::unpacked(&packed).map_err(|_| IndexMismatch::NotMade)?;
        if made == *index {
            return Ok(VerifiedIndex { entries: index.entries.len(), ranges: index.points.len() });
        }
        let mut pairs = made.entries.iter().zip(&index.entries).enumerate();
        Err(match pairs.find(|(_, (made, recorded))| made != recorded) {
            Some((at, (entry, _))) => {
                let (kind, name) = (entry.kind.clone(), entry.name.clone());
                IndexMismatch::Entry { number: at + 1, kind, name, at: entry.at }
            }
            None => IndexMismatch::Other { made: made.entries.len(), recorded: index.entries.len() },
        })
    }
}

fn read(index: &Index, pieces: &Receiver<Vec<u8>>) -> Ranges {
    let dump = 0..index.plain_bytes;
    let runs = Run::of(index, std::slice::from_ref(&dump));
    let mut unpacker = RangeUnpacker::new(io::sink(), index.codec, &runs, &[]);
    while let Ok(piece) = pieces.recv() {
        if unpacker.take(&piece).is_break() {
            break;
        }
    }
    Ok(unpacker.finish().1.map_err(IndexMismatch::Read)??)
}
