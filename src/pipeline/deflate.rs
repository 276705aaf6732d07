//! Compresses blocks on several threads into pieces of one stream.
//!
//! The reader submits blocks, the collector takes the pieces in the same order, and adds header and end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use flate2::Crc;
use rustix::time::{ClockId, clock_gettime};

use super::levels::Work;
use crate::codec::gzip::WINDOW_BYTES;
use crate::codec::{Compression, EncodeError, Encoder};

/// Plain bytes of one block: large enough that thread switches do not matter, small enough for bounded memory.
pub const BLOCK_BYTES: usize = 512 << 10;

/// Capacity for a compressed block. Deflate: incompressible data takes five bytes more for each 64 KiB (RFC 1951), then the
/// flush, then the margin of zlib's own estimate. zstd's bound is less.
const PIECE_BYTES: usize = BLOCK_BYTES + (4 << 10);

/// A block on its way to a worker: the window, then its own bytes.
pub struct Block {
    /// Window and block in one buffer.
    pub buffer: Vec<u8>,
    /// Length of the window in bytes.
    pub window: usize,
    /// How it is compressed.
    pub compression: Compression,
}

/// A compressed block.
pub struct Piece {
    /// Compressed bytes.
    pub bytes: Vec<u8>,
    /// CRC-32 and length of the plain bytes.
    pub crc: Crc,
}

/// A place in the collector's order; the worker that took the block fills it.
pub type PendingPiece = Receiver<Result<Piece, EncodeError>>;

type Job = (Block, Sender<Result<Piece, EncodeError>>);

/// The pipeline's compression threads.
pub struct Deflaters {
    jobs: Sender<Job>,
    recycled: Receiver<Vec<u8>>,
    spent: Sender<Vec<u8>>,
    times: Arc<WorkTimes>,
}

impl Deflaters {
    /// Starts `threads` workers; they end when this is dropped.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        // One block at each worker, one queued, one being read: no more buffers exist.
        let (jobs, queue) = bounded::<Job>(1);
        let (recycle, recycled) = bounded(threads + 2);
        // One at each place in the collector's order, one at each worker, one being collected.
        let (spent, fresh) = bounded(2 * threads + 1);
        let times = Arc::<WorkTimes>::default();
        for number in 0..threads {
            let (queue, recycle, fresh, times) = (queue.clone(), recycle.clone(), fresh.clone(), Arc::clone(&times));
            let work = move || work(&queue, (&recycle, &fresh), &times);
            std::thread::Builder::new().name(format!("deflate-{number}")).spawn(work)?;
        }
        Ok(Self { jobs, recycled, spent, times })
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

    /// What the workers have done so far.
    #[must_use]
    pub fn work(&self) -> Work {
        self.times.work()
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

fn work(queue: &Receiver<Job>, (recycle, fresh): (&Sender<Vec<u8>>, &Receiver<Vec<u8>>), times: &WorkTimes) {
    let mut encoder = None;
    while let Ok((block, place)) = queue.recv() {
        let began = (Instant::now(), cpu_time());
        let mut bytes = fresh.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE_BYTES));
        bytes.clear();
        let (window, plain) = block.buffer.split_at(block.window);
        let result = encoder_for(&mut encoder, block.compression).and_then(|encoder| {
            encoder.block(window, plain, &mut bytes)?;
            let mut crc = Crc::new();
            crc.update(plain);
            Ok(Piece { bytes, crc })
        });
        times.add(began);
        // A collector or reader that has ended reports why itself.
        let _ = place.send(result);
        let _ = recycle.try_send(block.buffer);
    }
}

/// The time that the workers have spent on blocks, in nanoseconds.
#[derive(Default)]
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
