//! Reads a stored backup: downloads it on the runtime, and unpacks it on a thread. Used by `restore` and `check --deep`.
//!
//! Memory is that of a [`Download`] (4 ranges of 2 MiB) and of [`PIECES`] pieces.

use std::io::{self, Write};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::sleep;

use crate::codec::Codec;
use crate::codec::age::Identities;
use crate::index::Index;
use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::storage::{Destination, Download, StorageError};

use super::contents::{Contents, Damage, Form, Seal, Unpacker};
use super::name::BackupName;

const LOG_EVERY: Duration = Duration::from_secs(30);
/// Capacity of the queue between download and unpacking. A piece has some hundred KiB.
pub(super) const PIECES: usize = 8;

/// An open backup.
#[derive(Debug)]
pub struct Reader {
    codec: Codec,
    /// Whether the object is encrypted, and what opens it.
    is_encrypted: bool,
    identities: Option<Identities>,
    download: Download,
    progress: Arc<ReadProgress>,
    index: Option<Arc<Index>>,
}

/// The progress of a read, shared with the display.
#[derive(Debug)]
pub struct ReadProgress {
    read: AtomicU64,
    bytes: u64,
}

impl ReadProgress {
    /// Nothing of so many bytes was read.
    pub(super) fn of(bytes: u64) -> Arc<Self> {
        Arc::new(Self { read: AtomicU64::new(0), bytes })
    }

    pub(super) fn add(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Stored bytes read so far.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// All stored bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Why a backup was not read to its end.
#[derive(Debug)]
pub enum ReadError<W> {
    /// The object was replaced or deleted meanwhile, S3 refuses it, or nothing comes within the outage budget.
    Storage(StorageError),
    /// A write to the sink failed.
    Sink {
        /// Why.
        error: io::Error,
        /// The sink.
        sink: W,
    },
}

/// The result of the unpacking thread.
#[derive(Debug)]
struct Unpacked<W> {
    sink: W,
    ended: io::Result<Contents>,
}

impl Reader {
    /// Opens a backup; `None` if it does not exist. Without identities only the stored bytes of an encrypted one are read.
    ///
    /// # Errors
    /// If S3 refuses it or is unavailable for the outage budget.
    pub async fn open(
        destination: &Destination,
        file_name: &str,
        identities: Option<&Identities>,
    ) -> Result<Option<Self>, StorageError> {
        let download = destination.download(file_name).await?;
        Ok(download.map(|download| {
            let progress = ReadProgress::of(download.bytes());
            // Only a backup's name is opened; codec and encryption are in it.
            let name = BackupName::parse(file_name);
            let codec = name.map_or_else(Codec::default, |name| name.codec());
            let is_encrypted = name.is_some_and(|name| name.is_encrypted());
            Self { codec, is_encrypted, identities: identities.cloned(), download, progress, index: None }
        }))
    }

    /// Compares an index with the object, too.
    #[must_use]
    pub fn with_index(self, index: Option<Index>) -> Self {
        Self { index: index.map(Arc::new), ..self }
    }

    /// The object's `LastModified`.
    #[must_use]
    pub fn last_modified(&self) -> Option<DateTime<Utc>> {
        self.download.last_modified()
    }

    /// Returns the progress, which stays current until the end.
    #[must_use]
    pub fn progress(&self) -> Arc<ReadProgress> {
        Arc::clone(&self.progress)
    }

    /// Reads the complete object, even if it is damaged, and logs the progress. Dropping the future stops reading.
    ///
    /// # Errors
    /// If the object was replaced or deleted meanwhile, or S3 refuses it or is unavailable for the outage budget.
    pub async fn read(self) -> Result<Contents, StorageError> {
        let progress = self.progress();
        let log = async move {
            loop {
                sleep(LOG_EVERY).await;
                let (read, total) = (progress.read(), progress.bytes());
                tracing::info!(target: FOR_MACHINES, read_bytes = read, bytes = total, "reading the backup");
                let [read, total] = [read, total].map(|bytes| ByteSize(bytes).display().iec());
                tracing::info!(target: FOR_PEOPLE, "{read} of {total} read");
            }
        };
        tokio::select! {
            read = self.run(io::sink(), (Form::Plain, Damage::ReadOn)) => match read {
                Ok((contents, _)) => Ok(contents),
                Err(ReadError::Storage(error)) => Err(error),
                Err(ReadError::Sink { .. }) => unreachable!("a sink takes everything"),
            },
            () = log => unreachable!("it is an endless loop"),
        }
    }

    /// Reads the object, and writes the plain dump to the sink on a thread. A slow sink slows the download. At the first
    /// damage of the compressed stream, reading ends. The sink may have got bytes of a damaged backup: only [`Contents::verify`] verifies them.
    ///
    /// Dropping the future stops reading, and drops the sink after the current write.
    ///
    /// # Errors
    /// If reading, or a write to the sink, fails.
    pub async fn read_into<W: Write + Send + 'static>(self, sink: W) -> Result<(Contents, W), ReadError<W>> {
        self.run(sink, (Form::Plain, Damage::End)).await
    }

    /// Like [`Self::read_into`], but writes the stored bytes. Reading also ends at the first damage of the compressed stream.
    ///
    /// # Errors
    /// As [`Self::read_into`].
    pub async fn read_stored_into<W: Write + Send + 'static>(self, sink: W) -> Result<(Contents, W), ReadError<W>> {
        self.run(sink, (Form::Stored, Damage::End)).await
    }

    async fn run<W: Write + Send + 'static>(
        mut self,
        sink: W,
        (form, damage): (Form, Damage),
    ) -> Result<(Contents, W), ReadError<W>> {
        let (pieces, received) = mpsc::channel(PIECES);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Stop(Arc::clone(&stop));
        let seal = if self.is_encrypted { Seal::encrypted(self.identities.as_ref()) } else { Seal::None };
        let unpacker = Unpacker::new(sink, (self.codec, seal), (form, damage)).with_index(self.index);
        let unpacking = spawn_blocking(move || unpack(unpacker, received, &stop));
        loop {
            let piece = match self.download.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => return Err(ReadError::Storage(error)),
            };
            self.progress.add(piece.len());
            // The thread may end first; its result says why.
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        stopped.defuse();
        let Unpacked { sink, ended } = joined(unpacking.await);
        match ended {
            Ok(contents) => Ok((contents, sink)),
            Err(error) => Err(ReadError::Sink { error, sink }),
        }
    }
}

/// Stops the thread before its next piece when the reading is dropped.
pub(super) struct Stop(pub Arc<AtomicBool>);

impl Stop {
    /// Lets the thread continue to its end.
    pub fn defuse(self) {
        std::mem::forget(self);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The thread is never aborted, so it fails only by a panic.
pub(super) fn joined<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}

fn unpack<W: Write>(mut unpacker: Unpacker<W>, mut pieces: mpsc::Receiver<Bytes>, stop: &AtomicBool) -> Unpacked<W> {
    while let Some(piece) = pieces.blocking_recv() {
        if stop.load(Ordering::Relaxed) || unpacker.take(&piece).is_break() {
            break;
        }
    }
    // Ends the download before the rest of the work.
    drop(pieces);
    if stop.load(Ordering::Relaxed) {
        return Unpacked { sink: unpacker.into_sink(), ended: Err(io::ErrorKind::Interrupted.into()) };
    }
    let (sink, ended) = unpacker.finish();
    Unpacked { sink, ended }
}
