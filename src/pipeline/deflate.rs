//! Deflates blocks on several threads into pieces of one gzip member (the scheme of pigz, FACTS §4).
//!
//! The reader hands in blocks, the collector takes pieces out in the same order. Each block is raw deflate with the
//! 32 KiB before it as dictionary and ends with a sync flush, so that pieces follow each other without a seam; the
//! collector adds header, last block and trailer. Independent members would be simpler, but flate2's `GzDecoder` and
//! others stop after the first without an error, and a file cut between members decompresses cleanly.

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Plain bytes of one block: enough to hide the thread hops, little enough for bounded memory (SPEC §5).
pub const BLOCK_BYTES: usize = 512 << 10;
/// Deflate's window (RFC 1951): how far back a block may refer.
pub const WINDOW_BYTES: usize = 32 << 10;

/// Room for a deflated block that cannot be compressed: five bytes for each 64 KiB of stored data (RFC 1951), and the flush; and
/// what zlib's own estimate has next to it.
const PIECE_BYTES: usize = BLOCK_BYTES + (4 << 10);

/// A block on its way to a worker: the window before it, and its own bytes behind that.
pub struct Block {
    /// Window and block in one buffer.
    pub buffer: Vec<u8>,
    /// Length of the window in bytes.
    pub window: usize,
    /// Compression level, 1 to 9; each block may have its own.
    pub level: u32,
}

/// A block that was deflated.
pub struct Piece {
    /// Deflated bytes.
    pub deflated: Vec<u8>,
    /// CRC-32 and length of the plain bytes.
    pub crc: Crc,
}

/// A place in the collector's order, filled by whichever worker took the block.
pub type PendingPiece = Receiver<Result<Piece, DeflateError>>;

/// The compressor refused; cannot happen with memory for its state.
#[derive(Debug, thiserror::Error)]
pub enum DeflateError {
    /// zlib's own error.
    #[error("compress a block")]
    Zlib(#[from] flate2::CompressError),
    /// The output had no room, though room was made.
    #[error("compress a block: no progress")]
    NoProgress,
}

type Job = (Block, Sender<Result<Piece, DeflateError>>);

/// The workers' side of the pipeline: blocks go in here.
pub struct Deflaters {
    jobs: Sender<Job>,
    recycled: Receiver<Vec<u8>>,
    spent: Sender<Vec<u8>>,
}

impl Deflaters {
    /// Starts `threads` workers, which end when this is dropped.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        // One block at each worker, one that waits, one that is read: so many buffers there are, and no more.
        let (jobs, queue) = bounded::<Job>(1);
        let (recycle, recycled) = bounded(threads + 2);
        // One at each place in the collector's order, one at each worker, one that is collected.
        let (spent, fresh) = bounded(2 * threads + 1);
        for number in 0..threads {
            let (queue, recycle, fresh) = (queue.clone(), recycle.clone(), fresh.clone());
            let work = move || work(&queue, &recycle, &fresh);
            std::thread::Builder::new().name(format!("deflate-{number}")).spawn(work)?;
        }
        Ok(Self { jobs, recycled, spent })
    }

    /// Hands a block in and gives its place in the order; waits while all workers are busy.
    ///
    /// # Errors
    /// `None` where the workers have ended.
    #[must_use]
    pub fn submit(&self, block: Block) -> Option<PendingPiece> {
        let (sender, receiver) = bounded(1);
        self.jobs.send((block, sender)).ok().map(|()| receiver)
    }

    /// Where the memory of pieces goes that nobody needs any more.
    pub fn spent(&self) -> Sender<Vec<u8>> {
        self.spent.clone()
    }

    /// A buffer for a block: one that a worker is done with, or a new one.
    #[must_use]
    pub fn buffer(&self) -> Vec<u8> {
        let mut buffer = self.recycled.try_recv().unwrap_or_else(|_| Vec::with_capacity(WINDOW_BYTES + BLOCK_BYTES));
        buffer.clear();
        buffer
    }
}

fn work(queue: &Receiver<Job>, recycle: &Sender<Vec<u8>>, fresh: &Receiver<Vec<u8>>) {
    let mut worker = Worker { compress: None };
    while let Ok((block, place)) = queue.recv() {
        let output = fresh.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES));
        let result = worker.deflate(&block, output);
        // A collector or reader that has gone has its own reasons, which it reports itself.
        let _ = place.send(result);
        let _ = recycle.try_send(block.buffer);
    }
}

struct Worker {
    compress: Option<(u32, Compress)>,
}

impl Worker {
    /// Deflates a block into memory that was used before.
    fn deflate(&mut self, block: &Block, mut deflated: Vec<u8>) -> Result<Piece, DeflateError> {
        let (window, plain) = block.buffer.split_at(block.window);
        let compress = self.compressor(block.level);
        if !window.is_empty() {
            compress.set_dictionary(window)?;
        }
        deflated.clear();
        loop {
            let used = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
            let before = deflated.len();
            let status = compress.compress_vec(&plain[used..], &mut deflated, FlushCompress::Sync)?;
            let consumed = usize::try_from(compress.total_in()).unwrap_or(usize::MAX) == plain.len();
            // zlib: the flush is complete when the call leaves room in the output.
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

    fn compressor(&mut self, level: u32) -> &mut Compress {
        match &mut self.compress {
            Some((current, compress)) if *current == level => compress.reset(),
            other => *other = Some((level, Compress::new(Compression::new(level), false))),
        }
        // Just set above in both arms.
        let (_, compress) = self.compress.get_or_insert_with(|| (level, Compress::new(Compression::new(level), false)));
        compress
    }
}

/// The ten bytes that begin a gzip member (RFC 1952): deflate, no name, no time, from Unix.
pub const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// What ends a gzip member: an empty last block, CRC-32 and length of the plain bytes (RFC 1952).
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
