//! Work on a disk that may hang: done on a thread of its own, and waited for no longer than a deadline.
//!
//! Below a network or a program (NFS, FUSE) a file system may hold a call for ever, and the kernel holds the thread that
//! made it. So whatever touches `BACKUP_SPOOL_DIR` or `METRICS_FILE` goes through here: no thread of the runtime ever waits
//! for a disk, and a signal ends the wait at once. Files are closed here, too, as that can hang like anything else.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long a disk may take for anything, beside the time that bytes need. A failover of a file server takes about as long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long for what exists nowhere else and is lost without: an entire outage of a file server.
const LONG_PATIENCE: Duration = Duration::from_mins(5);
/// The slowest disk that is still one, in bytes a second.
const LEAST_BYTES_PER_SECOND: u64 = 1 << 20;

/// The calls that did not end in time, each with its disk: dead once it has ended all the same. A property of the kernel's
/// file systems, so there is one list for the process.
static LATE: Mutex<Vec<(PathBuf, Weak<()>)>> = Mutex::new(Vec::new());

/// Why some work on a disk came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The disk holds a call.
    #[error(
        "the file system of {} hangs: no answer within {}: look at its server, or set another path",
        path.display(),
        humantime::format_duration(*.limit)
    )]
    Stuck {
        /// Where.
        path: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// The system gives no thread, or the work panicked.
    #[error("work on the disk in a thread")]
    Thread(#[source] io::Error),
}

/// A directory or a file on a disk; cheap to clone.
#[derive(Clone, Debug)]
pub struct Disk {
    path: PathBuf,
    patience: Duration,
    long_patience: Duration,
}

impl Disk {
    /// The one on which a path is.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), patience: PATIENCE, long_patience: LONG_PATIENCE }
    }

    /// The same with so much time for anything.
    #[must_use]
    pub fn within(self, patience: Duration) -> Self {
        Self { patience, long_patience: patience, ..self }
    }

    /// Does some work that moves so many bytes. While an earlier call hangs, it fails at once: threads that hang are not to
    /// become more and more. Where this future is dropped, the work goes on by itself.
    ///
    /// # Errors
    /// Where the work does not end in time; it goes on by itself, and nobody learns what comes of it.
    pub async fn call<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        if self.hangs() {
            return Err(self.stuck(self.patience));
        }
        self.wait(time_for(self.patience, bytes), work).await
    }

    /// As [`Self::call`], with more patience, and whatever else hangs: for what is lost without.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn insist<T: Send + 'static>(
        &self,
        bytes: u64,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        self.wait(time_for(self.long_patience, bytes), work).await
    }

    /// As [`Self::call`], for callers that cannot wait otherwise. It blocks them, for as long as it was given.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_here<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, DiskError> {
        if self.hangs() {
            return Err(self.stuck(self.patience));
        }
        let (sender, receiver) = mpsc::channel();
        let call = start(work, move |done| _ = sender.send(done))?;
        receiver.recv_timeout(self.patience).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => self.late(call, self.patience),
            mpsc::RecvTimeoutError::Disconnected => died(),
        })
    }

    async fn wait<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DiskError> {
        let (sender, receiver) = oneshot::channel();
        // What nobody waits for any more is dropped there, not here.
        let call = start(work, move |done| drop(sender.send(done)))?;
        match timeout(limit, receiver).await {
            Ok(done) => done.map_err(|_| died()),
            Err(_) => Err(self.late(call, limit)),
        }
    }

    /// Whether a call that was given up has still not ended.
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

/// An open file, closed by a thread that nobody waits for.
#[derive(Debug)]
pub struct HeldFile(Option<File>);

impl HeldFile {
    /// Takes an open file, or none.
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
        // Without a thread it is closed here.
        drop(thread::Builder::new().name("close".to_owned()).spawn(move || drop(file)));
    }
}

/// Starts a thread; what is given back is alive as long as it has not ended.
fn start<T>(
    work: impl FnOnce() -> T + Send + 'static,
    deliver: impl FnOnce(T) + Send + 'static,
) -> Result<Weak<()>, DiskError> {
    let running = Arc::new(());
    let call = Arc::downgrade(&running);
    let body = move || {
        deliver(work());
        drop(running);
    };
    thread::Builder::new().name("disk".to_owned()).spawn(body).map_err(DiskError::Thread)?;
    Ok(call)
}

fn time_for(patience: Duration, bytes: u64) -> Duration {
    patience + Duration::from_secs(bytes / LEAST_BYTES_PER_SECOND)
}

fn died() -> DiskError {
    DiskError::Thread(io::Error::other("it broke off"))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_call_that_hangs_is_given_up_and_no_other_begun_until_it_has_ended() {
        let disk = Disk::of(Path::new("/a disk that hangs")).within(SOON);
        let (let_go, held) = channel::<()>();
        let (ended, over) = channel::<()>();
        let hangs = disk.call(0, move || {
            _ = held.recv();
            ended
        });
        assert!(matches!(hangs.await, Err(DiskError::Stuck { .. })));
        assert!(matches!(disk.call(0, || -> u8 { panic!("not begun") }).await, Err(DiskError::Stuck { .. })));
        assert!(matches!(disk.call_here(|| -> u8 { panic!("not begun") }), Err(DiskError::Stuck { .. })));
        assert_eq!(disk.insist(0, || 7).await.ok(), Some(7), "what is lost without is tried all the same");
        let other = Disk::of(Path::new("/another disk"));
        assert_eq!((other.call(0, || 7).await.ok(), other.call_here(|| 7).ok()), (Some(7), Some(7)));
        drop(let_go);
        // Its end is that of what it gave back.
        assert!(over.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Disconnected));
        while disk.hangs() {
            thread::yield_now();
        }
        assert_eq!(disk.call(0, || 7).await.ok(), Some(7), "it answers again");
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error() {
        let disk = Disk::of(Path::new("/a third disk"));
        assert!(matches!(disk.call(0, || -> u8 { panic!("expected here") }).await, Err(DiskError::Thread(_))));
    }

    #[test]
    fn large_parts_have_more_time() {
        let seconds = |bytes| time_for(PATIENCE, bytes).as_secs();
        assert_eq!((seconds(0), seconds(12 << 20), seconds(5 << 30)), (30, 42, 5150));
    }
}
