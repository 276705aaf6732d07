//! File system calls with a deadline, each in a separate thread.
//!
//! A file system on NFS or FUSE may block a call, and its thread, forever. So every access to `BACKUP_SPOOL_DIR` and
//! `METRICS_FILE` goes through here: no thread of the runtime waits for a disk, and a signal ends the wait at once. Closing a
//! file may block, too.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// The time for a call, without the transfer of its bytes. A failover of a file server takes about as long.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The time for a call that would otherwise lose data. An outage of a file server takes about as long.
const LONG_TIMEOUT: Duration = Duration::from_mins(5);
/// The slowest accepted disk.
const MIN_BYTES_PER_SECOND: u64 = 1 << 20;

/// The paths of calls that missed their deadline; the `Weak` is dead once the call has ended. File systems belong to the kernel,
/// so the process has one list.
static LATE: Mutex<Vec<(PathBuf, Weak<()>)>> = Mutex::new(Vec::new());

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The file system blocks a call.
    #[error(
        "the file system of {} hangs: no answer within {}: look at its server, or set another path",
        path.display(),
        humantime::format_duration(*.limit)
    )]
    Stuck {
        /// The path.
        path: PathBuf,
        /// The deadline.
        limit: Duration,
    },
    /// The thread could not be started, or panicked.
    #[error("work on the disk in a thread")]
    Thread(#[source] io::Error),
}

/// A directory or a file on a disk; cheap to clone.
#[derive(Clone, Debug)]
pub struct Disk {
    path: PathBuf,
    timeout: Duration,
    long_timeout: Duration,
}

impl Disk {
    /// The disk of a path.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), timeout: TIMEOUT, long_timeout: LONG_TIMEOUT }
    }

    /// The same with another timeout.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, long_timeout: timeout, ..self }
    }

    /// Runs a call that transfers this many bytes. Fails at once while an earlier call hangs, so that hanging threads do not
    /// accumulate. If this future is dropped, the call continues.
    ///
    /// # Errors
    /// If the call misses its deadline. It continues, and its result is lost.
    pub async fn call<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        if self.hangs() {
            return Err(self.stuck(self.timeout));
        }
        self.wait(time_for(self.timeout, bytes), work).await
    }

    /// [`Self::call`] with a longer deadline, even while an earlier call hangs: for calls that would otherwise lose data.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn insist<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        self.wait(time_for(self.long_timeout, bytes), work).await
    }

    /// [`Self::call`] for synchronous callers. It blocks up to its deadline.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_here<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, DiskError> {
        if self.hangs() {
            return Err(self.stuck(self.timeout));
        }
        let (sender, receiver) = mpsc::channel();
        let call = start(work, move |done| _ = sender.send(done))?;
        receiver.recv_timeout(self.timeout).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => self.late(call, self.timeout),
            mpsc::RecvTimeoutError::Disconnected => panicked(),
        })
    }

    async fn wait<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        let (sender, receiver) = oneshot::channel();
        // A late result is dropped in that thread.
        let call = start(work, move |done| drop(sender.send(done)))?;
        match timeout(limit, receiver).await {
            Ok(done) => done.map_err(|_| panicked()),
            Err(_) => Err(self.late(call, limit)),
        }
    }

    /// Whether a call that missed its deadline has not ended yet.
    fn hangs(&self) -> bool {
        let mut late = LATE.lock().unwrap_or_else(PoisonError::into_inner);
        late.retain(|(_, call)| call.strong_count() > 0);
        late.iter().any(|(path, _)| *path == self.path)
    }

    fn late(&self, call: Weak<()>, limit: Duration) -> DiskError {
        LATE.lock().unwrap_or_else(PoisonError::into_inner).push((self.path.clone(), call));
        self.stuck(limit)
    }

    fn stuck(&self, limit: Duration) -> DiskError {
        DiskError::Stuck { path: self.path.clone(), limit }
    }
}

/// An open file. A separate thread closes it.
#[derive(Debug)]
pub struct HeldFile(Option<File>);

impl HeldFile {
    /// An open file, or none.
    #[must_use]
    pub fn new(file: Option<File>) -> Self {
        Self(file)
    }
}

impl Deref for HeldFile {
    type Target = Option<File>;

    fn deref(&self) -> &Option<File> {
        &self.0
    }
}

impl DerefMut for HeldFile {
    fn deref_mut(&mut self) -> &mut Option<File> {
        &mut self.0
    }
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        let Some(file) = self.0.take() else { return };
        // If the thread cannot be started, the file is closed here.
        drop(thread::Builder::new().name("close".to_owned()).spawn(move || drop(file)));
    }
}

/// Starts a thread. The returned `Weak` is alive until it ends.
fn start<T>(
    work: impl FnOnce() -> T + Send + 'static,
    deliver: impl FnOnce(T) + Send + 'static,
) -> Result<Weak<()>, DiskError> {
    let running = Arc::new(());
    let call = Arc::downgrade(&running);
    let span = tracing::Span::current();
    let body = move || {
        deliver(span.in_scope(work));
        drop(running);
    };
    thread::Builder::new().name("disk".to_owned()).spawn(body).map_err(DiskError::Thread)?;
    Ok(call)
}

fn time_for(limit: Duration, bytes: u64) -> Duration {
    limit + Duration::from_secs(bytes / MIN_BYTES_PER_SECOND)
}

fn panicked() -> DiskError {
    DiskError::Thread(io::Error::other("it panicked"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn rejects_calls_until_hanging_call_has_ended() {
        let disk = Disk::of(Path::new("/a disk that hangs")).within(SOON);
        let (let_go, held) = channel::<()>();
        let (ended, over) = channel::<()>();
        let hangs = disk.call(0, move || {
            _ = held.recv();
            ended
        });
        assert!(matches!(hangs.await, Err(DiskError::Stuck { .. })));
        assert!(matches!(disk.call(0, || -> u8 { panic!("not started") }).await, Err(DiskError::Stuck { .. })));
        assert!(matches!(disk.call_here(|| -> u8 { panic!("not started") }), Err(DiskError::Stuck { .. })));
        assert_eq!(disk.insist(0, || 7).await.ok(), Some(7), "a call that would lose data is tried");
        let other = Disk::of(Path::new("/another disk"));
        assert_eq!((other.call(0, || 7).await.ok(), other.call_here(|| 7).ok()), (Some(7), Some(7)));
        drop(let_go);
        // Dropping its result is the last thing it does.
        assert!(over.recv_timeout(TIMEOUT) == Err(mpsc::RecvTimeoutError::Disconnected));
        while disk.hangs() {
            thread::yield_now();
        }
        assert_eq!(disk.call(0, || 7).await.ok(), Some(7), "it answers again");
    }

    #[tokio::test]
    async fn panic_is_an_error() {
        let disk = Disk::of(Path::new("/a third disk"));
        assert!(matches!(disk.call(0, || -> u8 { panic!("expected here") }).await, Err(DiskError::Thread(_))));
    }

    #[test]
    fn large_transfers_have_more_time() {
        let seconds = |bytes| time_for(TIMEOUT, bytes).as_secs();
        assert_eq!((seconds(0), seconds(12 << 20), seconds(5 << 30)), (30, 42, 5150));
    }
}
