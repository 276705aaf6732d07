//! Reads `pg_dump`'s output, passes every byte to the scanner, and cuts it into blocks for the workers.
//!
//! One thread. It reports since when it waits for bytes, and `backup::stall` may end the wait. It does
//! not report waiting for the next stage: a slow S3 must slow `pg_dump` down, and that is no stall.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio_util::sync::CancellationToken;

use super::deflate::{BLOCK_BYTES, Block, Compressor, PendingPiece};
use super::levels::{Levels, Waits};
use super::scanner::Scanner;
use super::{PipelineError, Progress, Scanned};
use crate::codec::gzip::WINDOW_BYTES;
use crate::index::Builder;

/// How often a waiting reader checks whether it is cancelled.
const TICK: Duration = Duration::from_millis(200);
/// The largest pipe of an unprivileged process by default (`/proc/sys/fs/pipe-max-size`).
const PIPE_BYTES: usize = 1 << 20;
/// `pg_dump` writes 4 KiB at a time. A reader that wakes up for each takes the processor from the dump on a busy machine, so
/// after a read of less than this it lets the pipe fill for a while, in which no dump fills it.
const SHORT_READ: usize = PIPE_BYTES / 4;
const NAP: Duration = Duration::from_millis(1);

pub(super) struct Reader {
    pub stdout: File,
    pub process: Option<u32>,
    pub cancel: CancellationToken,
    pub progress: Arc<Progress>,
    pub levels: Levels,
}

impl Reader {
    /// Reads to the end of the output.
    pub fn run(mut self, compressor: &Compressor, order: &Sender<PendingPiece>) -> Result<Scanned, PipelineError> {
        let may_nap = has_large_pipe(&self.stdout);
        let began = Instant::now();
        let mut scanner = Scanner::indexing(Builder::default());
        let mut window: Vec<u8> = Vec::with_capacity(WINDOW_BYTES);
        loop {
            let mut buffer = compressor.buffer();
            let window_bytes = window.len();
            buffer[..window_bytes].copy_from_slice(&window);
            let end = window_bytes + self.fill(&mut buffer[window_bytes..][..BLOCK_BYTES], may_nap)?;
            let plain = &buffer[window_bytes..end];
            if plain.is_empty() {
                self.progress.stall_times.end(began);
                let (report, entries) = scanner.finish_indexing();
                return Ok(Scanned { report, entries });
            }
            scanner.scan(plain);
            let restart = scanner.restart_point(plain);
            self.progress.add_dumped(plain.len() as u64);
            window.clear();
            // What comes after a restart point does not refer to what is before it.
            let window_begin = restart.map_or(0, |at| window_bytes + at).max(end.saturating_sub(WINDOW_BYTES));
            window.extend_from_slice(&buffer[window_begin..end]);
            let handed_on = Instant::now();
            let waits = || Waits { dump: wait_for_processor(self.process), parts: self.progress.stall_times.part() };
            let compression = self.levels.next(handed_on, compressor.work(), waits);
            self.progress.add_level(compression.level);
            let block = Block { buffer, window: window_bytes, end, restart, compression };
            let pending = compressor.submit(block).ok_or(PipelineError::GivenUp)?;
            order.send(pending).map_err(|_| PipelineError::GivenUp)?;
            self.progress.stall_times.add_blocked(handed_on);
        }
    }

    /// Fills a block and returns its length; less than a block only at the end of the output.
    fn fill(&mut self, block: &mut [u8], may_nap: bool) -> Result<usize, PipelineError> {
        let mut at = 0;
        while at < block.len() {
            self.wait()?;
            match self.stdout.read(&mut block[at..]) {
                Ok(0) => break,
                Ok(count) => {
                    at += count;
                    if may_nap && count < SHORT_READ && at < block.len() {
                        let since = Instant::now();
                        std::thread::sleep(NAP);
                        self.progress.stall_times.add_dump(since);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(PipelineError::Read(error)),
            }
        }
        Ok(at)
    }

    /// Waits for output, its end, or cancellation.
    fn wait(&self) -> Result<(), PipelineError> {
        let since = Instant::now();
        let waited = self.wait_since(since);
        self.progress.set_silent_since(None);
        waited
    }

    fn wait_since(&self, since: Instant) -> Result<(), PipelineError> {
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        loop {
            if self.cancel.is_cancelled() {
                return Err(PipelineError::GivenUp);
            }
            let mut fds = [PollFd::from_borrowed_fd(self.stdout.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => self.progress.set_silent_since(Some(since)),
                Ok(_) => {
                    self.progress.stall_times.add_dump(since);
                    return Ok(());
                }
                Err(error) => return Err(PipelineError::Read(error.into())),
            }
        }
    }
}

/// How long a process has waited for a processor so far; nothing where the system does not say. Linux counts it for each thread
/// (`/proc/PID/schedstat`, the second number, in nanoseconds), and `pg_dump` has one.
fn wait_for_processor(process: Option<u32>) -> Duration {
    let nanos = || {
        let counts = std::fs::read_to_string(format!("/proc/{}/schedstat", process?)).ok()?;
        counts.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    Duration::from_nanos(nanos().unwrap_or_default())
}

/// Makes the pipe as large as it may be. Whether it is.
fn has_large_pipe(pipe: &File) -> bool {
    #[cfg(target_os = "linux")]
    match rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES) {
        Ok(_) => return true,
        Err(error) => tracing::debug!(%error, "the pipe keeps its size"),
    }
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    /// Computes on one processor until it is killed.
    struct Busy(Child);

    impl Busy {
        fn on(processor: &str) -> Self {
            let command = ["--cpu-list", processor, "sh", "-c", "while :; do :; done"];
            Self(Command::new("taskset").args(command).spawn().expect("taskset of util-linux"))
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_waits_for_the_processor_that_another_takes() {
        let status = std::fs::read_to_string("/proc/self/status").expect("own status");
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("processors");
        let first = allowed.trim().split([',', '-']).next().expect("a processor");
        let (one, other) = (Busy::on(first), Busy::on(first));
        let began = Instant::now();
        let waited = || [&one, &other].map(|busy| wait_for_processor(Some(busy.0.id())));
        while waited().iter().any(|waited| *waited < Duration::from_millis(20)) {
            assert!(began.elapsed() < Duration::from_mins(1), "{:?}", waited());
            std::thread::sleep(NAP);
        }
        assert_eq!(wait_for_processor(None), Duration::ZERO);
    }
}
