//! Compresses blocks on several threads into pieces of one stream.
//!
//! The threads belong to a run and work for all of its pipelines. A pipeline's reader submits blocks, its collector takes
//! the pieces in the same order, and adds header and end.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use flate2::Crc;
use rustix::time::{ClockId, clock_gettime};

use super::PipelineError;
use super::levels::Work;
use super::places::{Claim, Place, Places};
use crate::codec::gzip::WINDOW_BYTES;
use crate::codec::{Compression, EncodeError, Encoder};

/// Plain bytes of one block: large enough that thread switches do not matter, small enough for bounded memory.
pub const BLOCK_BYTES: usize = 512 << 10;

/// Capacity for a compressed block. Deflate: incompressible data takes five bytes more for each 64 KiB (RFC 1951), then the
/// flush, then the margin of zlib's own estimate. zstd's bound is less.
const PIECE_BYTES: usize = BLOCK_BYTES + (4 << 10);

/// A block on its way to a worker: the window, then its own bytes.
pub struct Block {
    /// Window and block in one buffer, which may be longer.
    pub buffer: Vec<u8>,
    /// Length of the window in bytes.
    pub window: usize,
    /// Where the block ends in the buffer.
    pub end: usize,
    /// The restart point in the block, as an offset after the window.
    pub restart: Option<usize>,
    /// How it is compressed.
    pub compression: Compression,
}

/// A compressed block.
pub struct Piece {
    /// Compressed bytes.
    pub bytes: Vec<u8>,
    /// CRC-32 and length of the plain bytes, up to the restart point if there is one.
    pub crc: Crc,
    /// What follows the restart point.
    pub rest: Option<Rest>,
}

/// What follows the restart point in a piece.
pub struct Rest {
    /// Where it begins in the compressed bytes.
    pub at: usize,
    /// CRC-32 and length of its plain bytes.
    pub crc: Crc,
}

/// A block's place in the collector's order; the worker that takes the block fills it.
pub struct PendingPiece {
    piece: Receiver<Result<Piece, EncodeError>>,
    /// Free for another block once the collector drops it.
    _place: Place,
}

impl PendingPiece {
    /// Waits for the piece.
    ///
    /// # Errors
    /// If the worker failed or panicked.
    pub fn wait(&self) -> Result<Piece, PipelineError> {
        Ok(self.piece.recv().map_err(|_| PipelineError::WorkerDied)??)
    }
}

/// A block with all that a worker needs.
struct Job {
    block: Block,
    finished: Sender<Result<Piece, EncodeError>>,
}

/// The compression threads, shared by the pipelines of a run; cheap to clone. They end once no clone is left.
#[derive(Clone, Debug)]
pub struct Workers {
    jobs: Sender<Job>,
    places: Arc<Places>,
    // The places bound the number of pieces, the places and the readers that of blocks.
    recycled: Receiver<Vec<u8>>,
    spent: Sender<Vec<u8>>,
    times: Arc<WorkTimes>,
}

/// One pipeline's access to the workers.
pub(super) struct Compressor {
    workers: Workers,
    claim: Arc<Claim>,
}

impl Workers {
    /// Starts `threads` workers.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        // One block at each worker, one queued.
        let (jobs, queue) = bounded::<Job>(1);
        let (recycle, recycled) = unbounded();
        let (spent, fresh) = unbounded();
        let times = Arc::<WorkTimes>::default();
        for number in 0..threads {
            let (queue, recycle, fresh, times) = (queue.clone(), recycle.clone(), fresh.clone(), Arc::clone(&times));
            let work = move || work(&queue, (&recycle, &fresh), &times);
            std::thread::Builder::new().name(format!("deflate-{number}")).spawn(work)?;
        }
        // With a pipeline's own one, a place for each worker, one for the queue, and one for the collector.
        Ok(Self { jobs, places: Places::new(threads + 1), recycled, spent, times })
    }

    /// For another pipeline.
    pub(super) fn compressor(&self) -> Compressor {
        Compressor { workers: self.clone(), claim: self.places.claim() }
    }

    /// Where the collector returns the memory of used pieces.
    pub(super) fn spent(&self) -> Sender<Vec<u8>> {
        self.spent.clone()
    }
}

impl Compressor {
    /// Submits a block and returns its place in the order; waits while all places are taken or all workers are busy.
    ///
    /// # Errors
    /// `None` if the workers have ended.
    #[must_use]
    pub fn submit(&self, block: Block) -> Option<PendingPiece> {
        let place = self.claim.take();
        let (finished, piece) = bounded(1);
        self.workers.jobs.send(Job { block, finished }).ok().map(|()| PendingPiece { piece, _place: place })
    }

    /// What the workers have done so far, for all pipelines.
    #[must_use]
    pub fn work(&self) -> Work {
        self.workers.times.work()
    }

    /// A buffer for a window and a block, with any bytes in it: a recycled one, or a new one.
    #[must_use]
    pub fn buffer(&self) -> Vec<u8> {
        self.workers.recycled.try_recv().unwrap_or_else(|_| vec![0; WINDOW_BYTES + BLOCK_BYTES])
    }
}

fn work(queue: &Receiver<Job>, (recycle, fresh): (&Sender<Vec<u8>>, &Receiver<Vec<u8>>), times: &WorkTimes) {
    let mut encoder = None;
    while let Ok(Job { block, finished }) = queue.recv() {
        let began = (Instant::now(), cpu_time());
        let mut piece = fresh.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES));
        piece.clear();
        // A panic is the error of the block's own pipeline: the worker goes on for the others.
        let compressed = panic::catch_unwind(AssertUnwindSafe(|| compress(&mut encoder, &block, piece)));
        times.add(began);
        match compressed {
            // A collector or reader that has ended reports why itself.
            Ok(result) => drop(finished.send(result)),
            Err(_) => encoder = None,
        }
        let _ = recycle.send(block.buffer);
    }
}

fn compress(encoder: &mut Option<Encoder>, block: &Block, mut bytes: Vec<u8>) -> Result<Piece, EncodeError> {
    let (window, plain) = block.buffer[..block.end].split_at(block.window);
    let encoder = encoder_for(encoder, block.compression)?;
    let (before, after) = plain.split_at(block.restart.unwrap_or(plain.len()));
    if !before.is_empty() {
        encoder.block(window, before, &mut bytes)?;
    }
    let rest = match block.restart {
        Some(_) => {
            let at = bytes.len();
            encoder.block(&[], after, &mut bytes)?;
            Some(Rest { at, crc: crc_of(after) })
        }
        None => None,
    };
    Ok(Piece { bytes, crc: crc_of(before), rest })
}

fn crc_of(plain: &[u8]) -> Crc {
    let mut crc = Crc::new();
    crc.update(plain);
    crc
}

/// The time that the workers have spent on blocks, in nanoseconds.
#[derive(Debug, Default)]
struct WorkTimes {
    wall: AtomicU64,
    cpu: AtomicU64,
}

impl WorkTimes {
    /// Adds a block that was begun at this time, and at this time of the thread's processor.
    fn add(&self, (wall, cpu): (Instant, Duration)) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.wall.fetch_add(nanos(wall.elapsed()), Ordering::Relaxed);
        self.cpu.fetch_add(nanos(cpu_time().saturating_sub(cpu)), Ordering::Relaxed);
    }

    fn work(&self) -> Work {
        let read = |count: &AtomicU64| Duration::from_nanos(count.load(Ordering::Relaxed));
        Work { wall: read(&self.wall), cpu: read(&self.cpu) }
    }
}

/// What this thread has had of a processor.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The thread's encoder. Its memory is free before another has some.
fn encoder_for(encoder: &mut Option<Encoder>, compression: Compression) -> Result<&mut Encoder, EncodeError> {
    if encoder.as_ref().is_some_and(|encoder| !encoder.is_for(compression)) {
        *encoder = None;
    }
    match encoder {
        Some(encoder) => Ok(encoder),
        none => Ok(none.insert(Encoder::new(compression)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;

    fn block(buffer: Vec<u8>, (codec, level): (Codec, u32)) -> Block {
        let end = buffer.len();
        Block { buffer, window: 0, end, restart: None, compression: Compression { codec, level } }
    }

    #[test]
    fn a_panic_is_the_error_of_its_own_block_alone() {
        let workers = Workers::start(1).expect("a thread");
        let (one, other) = (workers.compressor(), workers.compressor());
        let (fast, small) = ((Codec::Gzip, 2), (Codec::Zstd, 9));
        let plain = || b"plain".to_vec();
        let before = other.submit(block(plain(), small)).expect("taken").wait().expect("compressed");
        // A window that is longer than its buffer.
        let impossible = one.submit(Block { window: 1, ..block(Vec::new(), fast) }).expect("taken");
        assert!(matches!(impossible.wait(), Err(PipelineError::WorkerDied)));
        for (compressor, compression) in [(&other, small), (&one, fast)] {
            let after = compressor.submit(block(plain(), compression)).expect("taken").wait().expect("compressed");
            assert_eq!(after.crc.sum(), before.crc.sum());
        }
    }

    #[test]
    fn pieces_wait_in_as_many_places_as_there_are_and_their_memory_is_reused() {
        let workers = Workers::start(2).expect("threads");
        let compressor = workers.compressor();
        let submit = || compressor.submit(block(compressor.buffer(), (Codec::Gzip, 2))).expect("taken");
        let mut buffers = std::collections::HashSet::new();
        for _ in 0..50 {
            let pending = [submit(), submit(), submit(), submit()];
            for pending in pending {
                let piece = pending.wait().expect("compressed");
                buffers.insert(piece.bytes.as_ptr());
                workers.spent().send(piece.bytes).expect("taken back");
            }
        }
        assert!(buffers.len() <= 4, "{} buffers", buffers.len());
    }
}
