//! Reads a stored backup: downloads it on the runtime, and unpacks it on a thread.
//!
//! Memory is that of a [`Download`] (4 ranges of 2 MiB) and of [`PIECES`] pieces.

use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytesize::ByteSize;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};

use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::storage::{Destination, Download, StorageError};

use super::contents::{Contents, Unpacker};

const LOG_EVERY: Duration = Duration::from_secs(30);
/// The queue between download and unpacking. A piece has some hundred KiB.
const PIECES: usize = 8;

/// An open backup.
#[derive(Debug)]
pub struct Reader {
    download: Download,
}

impl Reader {
    /// Opens a backup; `None` if it does not exist.
    ///
    /// # Errors
    /// If S3 refuses it or is unavailable for the outage budget.
    pub async fn open(destination: &Destination, file_name: &str) -> Result<Option<Self>, StorageError> {
        Ok(destination.download(file_name).await?.map(|download| Self { download }))
    }

    /// Reads it completely and returns its content. Dropping it stops the download.
    ///
    /// # Errors
    /// If the object was replaced or deleted, S3 refuses it, or S3 is unavailable for the outage budget.
    pub async fn read(mut self) -> Result<Contents, StorageError> {
        let (pieces, received) = mpsc::channel(PIECES);
        let unpacking = spawn_blocking(|| unpack(received));
        let mut progress = Progress { bytes: 0, logged: Instant::now() };
        while let Some(piece) = self.download.next().await? {
            progress.add(piece.len(), self.download.bytes());
            // The thread ends early only if it panics; joining it returns the panic.
            if pieces.send(piece).await.is_err() {
                break;
            }
        }
        drop(pieces);
        // It is never aborted.
        Ok(unpacking.await.unwrap_or_else(|error: JoinError| resume_unwind(error.into_panic())))
    }
}

fn unpack(mut pieces: mpsc::Receiver<Bytes>) -> Contents {
    let mut unpacker = Unpacker::default();
    while let Some(piece) = pieces.blocking_recv() {
        unpacker.take(&piece);
    }
    unpacker.finish()
}

/// The progress for the log.
struct Progress {
    bytes: u64,
    logged: Instant,
}

impl Progress {
    fn add(&mut self, piece: usize, of: u64) {
        self.bytes += piece as u64;
        if self.logged.elapsed() > LOG_EVERY {
            self.logged = Instant::now();
            tracing::info!(target: FOR_MACHINES, read_bytes = self.bytes, bytes = of, "reading the backup");
            let [read, total] = [self.bytes, of].map(|bytes| ByteSize(bytes).display().iec());
            tracing::info!(target: FOR_PEOPLE, "{read} of {total} read");
        }
    }
}
