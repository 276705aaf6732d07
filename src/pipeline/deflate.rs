//! Deflates blocks on several threads into pieces of one gzip member, as pigz does.
//!
//! The reader submits blocks, the collector takes the pieces in the same order. Each block is raw deflate with the 32
//! KiB before it as dictionary and ends with a sync flush, so the pieces can be joined. The collector adds header, last
//! block and trailer. Independent members would be simpler, but flate2's `GzDecoder` and others stop after the first
//! without an error, and a file cut between members decompresses cleanly.

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Plain bytes of one block: large enough that thread switches do not matter, small enough for bounded memory.
pub const BLOCK_BYTES: usize = 512 << 10;
/// Deflate's window (RFC 1951): how far back a block may refer.
pub const WINDOW_BYTES: usize = 32 << 10;

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

/// A place in the collector's order; the worker that took the block fills it.
pub type PendingPiece = Receiver<Result<Piece, DeflateError>>;

/// The compressor refused. Cannot happen while memory for its state is there.
#[derive(Debug, thiserror::Error)]
pub enum DeflateError {
    /// zlib's own error.
    #[error("compress a block")]
    Zlib(#[from] flate2::CompressError),
    /// The output did not grow, though capacity was left.
    #[error("compress a block: no progress")]
    NoProgress,
}

type Job = (Block, Sender<Result<Piece, DeflateError>>);

/// The pipeline's compression threads.
pub struct Deflaters {
    jobs: Sender<Job>,
    recycled: Receiver<Vec<u8>>,
    spent: Sender<Vec<u8>>,
}

impl Deflaters {
    /// Starts `threads` workers with a compression level of 1 to 9; they end when this is dropped.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(threads: usize, level: u32) -> std::io::Result<Self> {
        // One block at each worker, one queued, one being read: no more buffers exist.
        let (jobs, queue) = bounded::<Job>(1);
        let (recycle, recycled) = bounded(threads + 2);
        // One at each place in the collector's order, one at each worker, one being collected.
        let (spent, fresh) = bounded(2 * threads + 1);
        for number in 0..threads {
            let (queue, recycle, fresh) = (queue.clone(), recycle.clone(), fresh.clone());
            let work = move || work(Compression::new(level), &queue, (&recycle, &fresh));
            std::thread::Builder::new().name(format!("deflate-{number}")).spawn(work)?;
        }
        Ok(Self { jobs, recycled, spent })
    }

    /// Submits a block and returns its place in the order; waits while all workers are busy.
    ///
    /// # Errors
    /// `None` if the workers have ended.
    #[must_use]
    pub fn submit(&self, block: Block) -> Option<PendingPiece> {
        let (sender, receiver) = bounded(1);
        self.jobs.send((block, sender)).ok().map(|()| receiver)
    }

    /// Where the collector returns the memory of used pieces.
    pub fn spent(&self) -> Sender<Vec<u8>> {
        self.spent.clone()
    }

    /// A buffer for a block: a recycled one, or a new one.
    #[must_use]
    pub fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.recycled.try_recv().unwrap_or_else(|_| Vec::with_capacity(WINDOW_BYTES + BLOCK_BYTES));
        buffer.clear();
        buffer
    }
}

fn work(level: Compression, queue: &Receiver<Job>, (recycle, fresh): (&Sender<Vec<u8>>, &Receiver<Vec<u8>>)) {
    let mut compress = Compress::new(level, false);
    while let Ok((block, place)) = queue.recv() {
        let output = fresh.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES));
        let result = deflate(&mut compress, &block, output);
        // A collector or reader that has ended reports why itself.
        let _ = place.send(result);
        let _ = recycle.try_send(block.buffer);
    }
}

/// Deflates a block into recycled memory.
fn deflate(compress: &mut Compress, block: &Block, mut deflated: Vec<u8>) -> Result<Piece, DeflateError> {
    let (window, plain) = block.buffer.split_at(block.window);
    compress.reset();
    if !window.is_empty() {
        compress.set_dictionary(window)?;
    }
    deflated.clear();
    loop {
        let used = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let before = deflated.len();
        let status = compress.compress_vec(&plain[used..], &mut deflated, FlushCompress::Sync)?;
        let consumed = usize::try_from(compress.total_in()).unwrap_or(usize::MAX) == plain.len();
        // zlib: the flush is complete when the call leaves space in the output.
        if consumed && deflated.len() < deflated.capacity() {
            break;
        }
        if status == Status::BufError && deflated.len() == before && deflated.len() < deflated.capacity() {
            return Err(DeflateError::NoProgress);
        }
        deflated.reserve(PIECE_BYTES / 16);
    }
    let mut crc = Crc::new();
    crc.update(plain);
    Ok(Piece { deflated, crc })
}

/// The first ten bytes of a gzip member (RFC 1952): deflate, no name, no time, from Unix.
pub const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// The end of a gzip member: an empty last block, CRC-32 and length of the plain bytes (RFC 1952).
#[must_use]
pub fn gzip_trailer(crc: &Crc, plain_bytes: u64) -> [u8; 10] {
    let mut trailer = [0; 10];
    // An empty block with fixed codes, marked as the last.
    trailer[0] = 0x03;
    trailer[2..6].copy_from_slice(&crc.sum().to_le_bytes());
    // RFC 1952: the length modulo 2^32.
    trailer[6..].copy_from_slice(&plain_bytes.to_le_bytes()[..4]);
    trailer
}
