//! Deflates blocks on several threads into pieces of one gzip member.
//!
//! The threads belong to a run and work for all of its pipelines. A pipeline's reader submits blocks, its collector takes
//! the pieces in the same order, and adds header and trailer.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use flate2::Crc;

use super::PipelineError;
use super::places::{Claim, Place, Places};
use crate::codec::gzip::{DeflateError, Encoder, WINDOW_BYTES};

/// Plain bytes of one block: large enough that thread switches do not matter, small enough for bounded memory.
pub const BLOCK_BYTES: usize = 512 << 10;

/// Capacity for a deflated block: incompressible data takes five bytes more for each 64 KiB (RFC 1951), then the flush,
/// then the margin of zlib's own estimate.
const PIECE_BYTES: usize = BLOCK_BYTES + (4 << 10);

/// A block on its way to a worker: the window, then its own bytes.
pub struct Block {
    /// Window and block in one buffer.
    pub buffer: Vec<u8>,
    /// Length of the window in bytes.
    pub window: usize,
}

/// A deflated block.
pub struct Piece {
    /// Deflated bytes.
    pub deflated: Vec<u8>,
    /// CRC-32 and length of the plain bytes.
    pub crc: Crc,
}

/// A block's place in the collector's order; the worker that takes the block fills it.
pub struct PendingPiece {
    piece: Receiver<Result<Piece, DeflateError>>,
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
    level: u32,
    finished: Sender<Result<Piece, DeflateError>>,
}

/// The compression threads, shared by the pipelines of a run; cheap to clone. They end once no clone is left.
#[derive(Clone, Debug)]
pub struct Workers {
    jobs: Sender<Job>,
    places: Arc<Places>,
    // The places bound the number of pieces, the places and the readers that of blocks.
    recycled: Receiver<Vec<u8>>,
    spent: Sender<Vec<u8>>,
}

/// One pipeline's access to the workers.
pub(super) struct Compressor {
    workers: Workers,
    claim: Arc<Claim>,
    level: u32,
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
        for number in 0..threads {
            let (queue, recycle, fresh) = (queue.clone(), recycle.clone(), fresh.clone());
            let work = move || work(&queue, (&recycle, &fresh));
            std::thread::Builder::new().name(format!("deflate-{number}")).spawn(work)?;
        }
        // With a pipeline's own one, a place for each worker, one for the queue, and one for the collector.
        Ok(Self { jobs, places: Places::new(threads + 1), recycled, spent })
    }

    /// For another pipeline, with a compression level of 1 to 9.
    pub(super) fn compressor(&self, level: u32) -> Compressor {
        Compressor { workers: self.clone(), claim: self.places.claim(), level }
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
        let job = Job { block, level: self.level, finished };
        self.workers.jobs.send(job).ok().map(|()| PendingPiece { piece, _place: place })
    }

    /// A buffer for a block: a recycled one, or a new one.
    #[must_use]
    pub fn buffer(&self) -> Vec<u8> {
        let recycled = self.workers.recycled.try_recv();
        let mut buffer = recycled.unwrap_or_else(|_| Vec::with_capacity(WINDOW_BYTES + BLOCK_BYTES));
        buffer.clear();
        buffer
    }
}

fn work(queue: &Receiver<Job>, (recycle, fresh): (&Sender<Vec<u8>>, &Receiver<Vec<u8>>)) {
    let mut encoder = None;
    while let Ok(Job { block, level, finished }) = queue.recv() {
        let mut piece = fresh.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES));
        piece.clear();
        // A panic is the error of the block's own pipeline: the worker goes on for the others.
        let deflated = panic::catch_unwind(AssertUnwindSafe(|| {
            if !matches!(&encoder, Some((kept, _)) if *kept == level) {
                encoder = None;
            }
            let (_, encoder) = encoder.get_or_insert_with(|| (level, Encoder::new(level)));
            deflate(encoder, &block, piece)
        }));
        match deflated {
            // A collector or reader that has ended reports why itself.
            Ok(result) => drop(finished.send(result)),
            Err(_) => encoder = None,
        }
        let _ = recycle.send(block.buffer);
    }
}

fn deflate(encoder: &mut Encoder, block: &Block, mut deflated: Vec<u8>) -> Result<Piece, DeflateError> {
    let (window, plain) = block.buffer.split_at(block.window);
    encoder.block(window, plain, &mut deflated)?;
    let mut crc = Crc::new();
    crc.update(plain);
    Ok(Piece { deflated, crc })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_the_error_of_its_own_block_alone() {
        let workers = Workers::start(1).expect("a thread");
        let (one, other) = (workers.compressor(2), workers.compressor(9));
        let plain = Block { buffer: b"plain".to_vec(), window: 0 };
        let before = other.submit(plain).expect("taken").wait().expect("deflated");
        // A window that is longer than its buffer.
        let impossible = one.submit(Block { buffer: Vec::new(), window: 1 }).expect("taken");
        assert!(matches!(impossible.wait(), Err(PipelineError::WorkerDied)));
        for compressor in [&other, &one] {
            let plain = Block { buffer: b"plain".to_vec(), window: 0 };
            let after = compressor.submit(plain).expect("taken").wait().expect("deflated");
            assert_eq!(after.crc.sum(), before.crc.sum());
        }
    }

    #[test]
    fn pieces_wait_in_as_many_places_as_there_are_and_their_memory_is_reused() {
        let workers = Workers::start(2).expect("threads");
        let compressor = workers.compressor(2);
        let submit = || compressor.submit(Block { buffer: compressor.buffer(), window: 0 }).expect("taken");
        let mut buffers = std::collections::HashSet::new();
        for _ in 0..50 {
            let pending = [submit(), submit(), submit(), submit()];
            for pending in pending {
                let piece = pending.wait().expect("deflated");
                buffers.insert(piece.deflated.as_ptr());
                workers.spent().send(piece.deflated).expect("taken back");
            }
        }
        assert!(buffers.len() <= 4, "{} buffers", buffers.len());
    }
}
