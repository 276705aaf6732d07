//! Reads a stored backup: downloads it on the runtime, and unpacks it on a thread.
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

use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::storage::{Destination, Download, StorageError};

use super::contents::{Contents, Damage, Form, Unpacker};

const LOG_EVERY: Duration = Duration::from_secs(30);
/// The queue between download and unpacking. A piece has some hundred KiB.
const PIECES: usize = 8;

/// An open backup.
#[derive(Debug)]
pub struct Reader {
    download: Download,
    progress: Arc<ReadProgress>,
}

/// How far a backup is read; shared with whoever shows it.
#[derive(Debug)]
pub struct ReadProgress {
    read: AtomicU64,
    bytes: u64,
}

impl ReadProgress {
    /// Stored bytes that were read.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Stored bytes in all.
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
    /// The sink did not take the bytes.
    Sink {
        /// Why.
        error: io::Error,
        /// Where the bytes went.
        sink: W,
    },
}

/// What the unpacking thread leaves behind.
#[derive(Debug)]
struct Unpacked<W> {
    sink: W,
    ended: io::Result<Contents>,
}

impl Reader {
    /// Opens a backup; `None` if it does not exist.
    ///
    /// # Errors
    /// If S3 refuses it or is unavailable for the outage budget.
    pub async fn open(destination: &Destination, file_name: &str) -> Result<Option<Self>, StorageError> {
        let download = destination.download(file_name).await?;
        Ok(download.map(|download| {
            let progress = Arc::new(ReadProgress { read: AtomicU64::new(0), bytes: download.bytes() });
            Self { download, progress }
        }))
    }

    /// When the store says that the object was written.
    #[must_use]
    pub fn last_modified(&self) -> Option<DateTime<Utc>> {
        self.download.last_modified()
    }

    /// How far it is, from now to the end.
    #[must_use]
    pub fn progress(&self) -> Arc<ReadProgress> {
        Arc::clone(&self.progress)
    }

    /// Reads all of it, whatever is wrong with it, and says what it is; logs how far it is. Dropped, it stops reading.
    ///
    /// # Errors
    /// Where the object was replaced or deleted meanwhile, S3 refuses it, or nothing comes within the outage budget.
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
            () = log => unreachable!("it has no end"),
        }
    }

    /// Reads all of it, and writes the plain dump to the sink as it comes, in order, in a thread of its own: a sink that is
    /// slow slows the download. Where gzip is damaged nothing more reaches the sink, and the reading ends; what did reach it
    /// is proved by [`Contents::verify`] alone.
    ///
    /// Dropped, it stops reading; the sink is dropped as soon as no write holds it.
    ///
    /// # Errors
    /// Where it cannot be read, or the sink does not take it.
    pub async fn read_into<W: Write + Send + 'static>(self, sink: W) -> Result<(Contents, W), ReadError<W>> {
        self.run(sink, (Form::Plain, Damage::End)).await
    }

    /// As [`Self::read_into`], but writes the bytes as they are stored, and ends where gzip is damaged all the same.
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
        let unpacker = Unpacker::new(sink, form, damage);
        let unpacking = spawn_blocking(move || unpack(unpacker, received, &stop));
        loop {
            let piece = match self.download.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => return Err(ReadError::Storage(error)),
            };
            self.progress.read.fetch_add(piece.len() as u64, Ordering::Relaxed);
            // The thread ends first where there is nothing more to do, which it says at its end.
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

/// Stops the thread before its next piece, however the reading ends.
struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Has the thread come to its end.
    fn defuse(self) {
        std::mem::forget(self);
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The thread is never aborted, so it fails only where it panics.
fn joined<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}

fn unpack<W: Write>(mut unpacker: Unpacker<W>, mut pieces: mpsc::Receiver<Bytes>, stop: &AtomicBool) -> Unpacked<W> {
    while let Some(piece) = pieces.blocking_recv() {
        if stop.load(Ordering::Relaxed) || unpacker.take(&piece).is_break() {
            break;
        }
    }
    // The download must not wait for what follows.
    drop(pieces);
    if stop.load(Ordering::Relaxed) {
        return Unpacked { sink: unpacker.into_sink(), ended: Err(io::ErrorKind::Interrupted.into()) };
    }
    let (sink, ended) = unpacker.finish();
    Unpacked { sink, ended }
}
