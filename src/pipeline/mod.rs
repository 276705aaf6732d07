//! From `pg_dump`'s stdout to sealed parts: read, scan, compress, collect, in bounded memory and in order.
//!
//! ```text
//! stdout -> reader (blocks of 512 KiB, scanner) -> N deflaters -> collector (order, CRC-32, sha256, parts) -> upload
//! ```
//!
//! `backup::stream` starts one pipeline for each database. Those of a run share the deflaters ([`Workers`]) and the memory
//! of the parts. Back-pressure is a bound at each stage: a slow S3 stops the collector, which stops the reader, which
//! stops `pg_dump`. This module knows nothing of
//! S3 and makes no decision about the dump: it reports what it saw.

mod bottleneck;
mod collector;
mod deflate;
mod levels;
mod memory;
mod parts;
mod places;
mod reader;
pub mod scanner;

use std::fs::File;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{bounded, unbounded};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::codec::age::{EncryptError, Recipients};
use crate::codec::{Codec, EncodeError};
use crate::index::Draft;

pub use bottleneck::Bottleneck;
pub use collector::{Collected, FinishGate, PartChecksum, PartDigest, SealedPart, Totals};
pub use deflate::{BLOCK_BYTES, Workers};
pub use levels::Level;
pub use memory::{PartBudget, PartBuffer, PartMemory};
pub use parts::{PartPlan, PartSettings};
pub use scanner::ScanReport;

/// Compression, as configured.
#[derive(Clone, Debug)]
pub struct PipelineSettings {
    /// The codec.
    pub codec: Codec,
    /// The level.
    pub level: Level,
    /// Compression threads.
    pub threads: usize,
}

impl PipelineSettings {
    /// The most bytes that the state of one thread's encoder has.
    #[must_use]
    pub fn encoder_memory(&self) -> u64 {
        levels::encoder_memory(self.codec, self.level, self.threads)
    }
}

/// Why a pipeline ended early.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// `pg_dump`'s output could not be read.
    #[error("read the output of pg_dump")]
    Read(#[source] std::io::Error),
    /// A block could not be compressed.
    #[error(transparent)]
    Compress(#[from] EncodeError),
    /// The store takes no more parts.
    #[error("the backup needs more than {limit} parts: set BACKUP_PART_SIZE higher")]
    TooManyParts {
        /// `S3_MAX_PARTS`.
        limit: u32,
    },
    /// A compression thread panicked.
    #[error("a compression thread died")]
    WorkerDied,
    /// Another stage gave up first, and reports why.
    #[error("the pipeline was aborted")]
    GivenUp,
    /// The system refused a thread.
    #[error("start a thread")]
    Thread(#[source] std::io::Error),
    /// age did not encrypt.
    #[error("encrypt the dump")]
    Encryption(#[from] EncryptError),
}

/// Progress of a run in bytes, and the stage that held it up. The pipeline and the upload write it; the progress
/// display and the report read it.
#[derive(Debug, Default)]
pub struct Progress {
    dumped: AtomicU64,
    stored: AtomicU64,
    uploaded: AtomicU64,
    stall_times: bottleneck::StallTimes,
    /// A bit for each level that a block had.
    levels: AtomicU32,
    /// Since when the reader has been waiting for `pg_dump`. A reader that waits for the next stage is not.
    silent_since: Mutex<Option<Instant>>,
}

impl Progress {
    /// Plain bytes that came from `pg_dump`.
    #[must_use]
    pub fn dumped(&self) -> u64 {
        self.dumped.load(Ordering::Relaxed)
    }

    /// Compressed bytes.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Compressed bytes that S3 has taken.
    #[must_use]
    pub fn uploaded(&self) -> u64 {
        self.uploaded.load(Ordering::Relaxed)
    }

    /// Since when `pg_dump` has written nothing while the reader waited for it; `None` while it writes, after its end,
    /// and while a later stage blocks the reader.
    #[must_use]
    pub fn silent_since(&self) -> Option<Instant> {
        *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The compression levels that blocks had, lowest first.
    #[must_use]
    pub fn levels(&self) -> Vec<u32> {
        let levels = self.levels.load(Ordering::Relaxed);
        (0..u32::BITS).filter(|level| levels & (1 << level) != 0).collect()
    }

    fn add_level(&self, level: u32) {
        self.levels.fetch_or(1 << level, Ordering::Relaxed);
    }

    /// Counts bytes that S3 has accepted.
    pub fn add_uploaded(&self, bytes: u64) {
        self.uploaded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Which stage held the pipeline up, after the dump's end.
    #[must_use]
    pub fn bottleneck(&self) -> Bottleneck {
        self.stall_times.bottleneck()
    }

    fn set_silent_since(&self, since: Option<Instant>) {
        *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn add_dumped(&self, bytes: u64) {
        self.dumped.fetch_add(bytes, Ordering::Relaxed);
    }

    fn add_stored(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What one pipeline is started with.
pub struct PipelineInput {
    /// `pg_dump`'s output.
    pub stdout: File,
    /// `pg_dump`'s process, if there is one.
    pub process: Option<u32>,
    /// The memory for parts, and the plan of their sizes.
    pub memory: PartMemory,
    /// The checksum of each part.
    pub checksum: PartChecksum,
    /// Whom the object is encrypted for; `None` without encryption.
    pub recipients: Option<Recipients>,
    /// The counters.
    pub progress: Arc<Progress>,
    /// Stops the reader and the collector.
    pub cancel: CancellationToken,
}

impl PipelineInput {
    /// An output of no process, not encrypted, with an MD5 for each part.
    #[must_use]
    pub fn of(stdout: File, memory: PartMemory) -> Self {
        Self {
            stdout,
            process: None,
            memory,
            checksum: PartChecksum::Md5,
            recipients: None,
            progress: Arc::default(),
            cancel: CancellationToken::new(),
        }
    }
}

/// A running pipeline.
pub struct Pipeline {
    /// Sealed parts in order; closed after the last.
    pub parts: mpsc::UnboundedReceiver<SealedPart>,
    /// The scanner's report, at the end of the output.
    pub scan: oneshot::Receiver<Result<Scanned, PipelineError>>,
    /// Lets the last part be made.
    pub gate: FinishGate,
    /// What the object is, after the last part.
    pub collected: oneshot::Receiver<Result<Collected, PipelineError>>,
}

/// What the reader saw.
#[derive(Debug)]
pub struct Scanned {
    /// The scanner's report.
    pub report: ScanReport,
    /// The entries of the dump, if there are not too many.
    pub entries: Option<Draft>,
}

/// Starts a reader and a collector between the workers of the run. Must be called within a tokio runtime.
///
/// # Errors
/// If the system refuses a thread.
pub fn start(settings: &PipelineSettings, workers: &Workers, input: PipelineInput) -> Result<Pipeline, PipelineError> {
    let compressor = workers.compressor();
    // The places bound it.
    let (order, pieces) = unbounded();
    let (gate, gate_opened) = bounded(1);
    let (parts_sender, parts) = mpsc::unbounded_channel();
    let (scan_sender, scan) = oneshot::channel();
    let (collected_sender, collected) = oneshot::channel();
    let PipelineSettings { codec, level, threads } = *settings;
    let levels = levels::Levels::new((codec, level), threads, (Instant::now(), compressor.work()));
    let collector = collector::Collector {
        codec,
        recipients: input.recipients,
        memory: input.memory,
        checksum: input.checksum,
        parts: parts_sender,
        runtime: tokio::runtime::Handle::current(),
        progress: Arc::clone(&input.progress),
        cancel: input.cancel.clone(),
        spent: workers.spent(),
    };
    let reader = reader::Reader {
        stdout: input.stdout,
        process: input.process,
        cancel: input.cancel,
        progress: input.progress,
        levels,
    };
    // If the receiver has gone, the run has ended already.
    spawn("collect", move || {
        let _ = collected_sender.send(collector.run(&pieces, &gate_opened));
    })?;
    spawn("read", move || {
        let _ = scan_sender.send(reader.run(&compressor, &order));
    })?;
    Ok(Pipeline { parts, scan, gate: FinishGate(gate), collected })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), PipelineError> {
    // What the thread logs belongs to the same database.
    let span = tracing::Span::current();
    let work = move || span.in_scope(work);
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(PipelineError::Thread)
}

#[cfg(test)]
mod tests;
