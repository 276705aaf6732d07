//! A run of the program: in progress ([`Running`]) or ended ([`Outcome`]). Created by [`super::Program`].

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::process::{self, Process};

/// The interval of reading memory and children.
const POLL: Duration = Duration::from_millis(20);
/// If output pipes stay open for this time after the program's end, another process has them open.
const PIPE_GRACE: Duration = Duration::from_secs(5);
/// The longest time that killed children take to end.
const CHILD_GRACE: Duration = Duration::from_secs(10);

/// A running program; dropping it kills it with all its children.
#[derive(Debug)]
pub struct Running {
    child: Child,
    started: Instant,
    timeout: Duration,
    stdout: Pipe,
    stderr: Pipe,
    watch: Arc<Watch>,
    watcher: Option<JoinHandle<()>>,
    home: Arc<TempDir>,
}

/// Output that a thread collects.
#[derive(Debug)]
struct Pipe {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

/// The observations of the watching thread.
#[derive(Debug, Default)]
struct Watch {
    over: AtomicBool,
    seen: Mutex<Sightings>,
}

#[derive(Clone, Debug, Default)]
struct Sightings {
    peak_rss_bytes: u64,
    descendants: BTreeSet<Process>,
}

impl Running {
    pub(super) fn start(mut command: Command, stdin: &[u8], timeout: Duration, home: Arc<TempDir>) -> Self {
        let started = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = Pipe::collect(child.stdout.take());
        let stderr = Pipe::collect(child.stderr.take());
        if let Some(mut pipe) = child.stdin.take() {
            let bytes = stdin.to_vec();
            // The program need not read its stdin to the end.
            std::thread::spawn(move || pipe.write_all(&bytes));
        }
        let watch = Arc::new(Watch::default());
        let (pid, shared) = (child.id(), Arc::clone(&watch));
        let watcher = Some(std::thread::spawn(move || shared.look_until_over(pid)));
        Self { child, started, timeout, stdout, stderr, watch, watcher, home }
    }

    /// Its process id, which is also its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it (not its children) a signal: `TERM`, `INT`, `KILL` …
    pub fn signal(&self, name: &str) {
        process::signal(&self.pid().to_string(), name);
    }

    /// Its running descendants.
    pub fn descendants(&self) -> BTreeSet<Process> {
        process::descendants(self.pid())
    }

    /// Its stdout so far.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.text()
    }

    /// Its stderr so far.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.text()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until stderr contains `pattern` (a plain substring).
    ///
    /// # Panics
    /// If `timeout` is over, or the program ends before that.
    pub fn wait_for_stderr(&mut self, pattern: &str, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        loop {
            // Read before the output, so that the last output of an ended program is not missed.
            let over = !self.is_running() && self.stderr.reader.is_finished();
            if self.stderr.text().contains(pattern) {
                return;
            }
            assert!(!over, "ended without {pattern:?} on stderr:\n{}", self.stderr.text());
            assert!(Instant::now() < deadline, "no {pattern:?} within {timeout:?} on stderr:\n{}", self.stderr.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end within the time limit of its [`super::Program`], counted from its start.
    pub fn wait(mut self) -> Outcome {
        let deadline = self.started + self.timeout;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child's status") {
                break status;
            }
            if Instant::now() > deadline {
                self.kill_all();
                let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
                panic!("still running after {:?}, killed\nstdout:\n{stdout}\nstderr:\n{stderr}", self.timeout);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.outcome(status)
    }

    fn outcome(&mut self, status: ExitStatus) -> Outcome {
        let elapsed = self.started.elapsed();
        let seen = self.stop_watching();
        let deadline = Instant::now() + PIPE_GRACE;
        let pipes_open = || !(self.stdout.reader.is_finished() && self.stderr.reader.is_finished());
        while pipes_open() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        Outcome {
            code: status.code(),
            signal: status.signal(),
            stdout: lock(&self.stdout.bytes).clone(),
            stderr: self.stderr.text(),
            elapsed,
            peak_rss_bytes: seen.peak_rss_bytes,
            output_held_open: pipes_open(),
            group: self.child.id(),
            descendants: seen.descendants,
            home: Arc::clone(&self.home),
        }
    }

    fn stop_watching(&mut self) -> Sightings {
        self.watch.over.store(true, Ordering::SeqCst);
        if let Some(watcher) = self.watcher.take() {
            watcher.thread().unpark();
            let _ = watcher.join();
        }
        lock(&self.watch.seen).clone()
    }

    fn kill_all(&mut self) {
        let mut processes = self.descendants();
        processes.append(&mut lock(&self.watch.seen).descendants);
        process::signal(&format!("-{}", self.pid()), "KILL");
        for process in processes {
            process.signal("KILL");
        }
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `wait`, the process id may have been reused, so nothing must be killed.
        if self.is_running() {
            self.kill_all();
        }
        self.stop_watching();
    }
}

impl Pipe {
    fn collect(from: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || {
            let Some(mut from) = from else { return };
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                lock(&shared).extend_from_slice(&buffer[..count]);
            }
        });
        Self { bytes, reader }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.bytes)).into_owned()
    }
}

impl Watch {
    fn look_until_over(&self, pid: u32) {
        let Some(root) = Process::of(pid) else { return };
        while !self.over.load(Ordering::SeqCst) {
            let mut descendants = process::descendants(pid);
            let peak = root.peak_rss_bytes().unwrap_or(0);
            let mut seen = lock(&self.seen);
            seen.peak_rss_bytes = seen.peak_rss_bytes.max(peak);
            seen.descendants.append(&mut descendants);
            drop(seen);
            std::thread::park_timeout(POLL);
        }
    }
}

/// An ended run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All of stdout.
    pub stdout: Vec<u8>,
    /// All of stderr.
    pub stderr: String,
    /// From start to end.
    pub elapsed: Duration,
    /// Its last known peak memory (see the module [`super`]); 0 if it ended before the first reading.
    pub peak_rss_bytes: u64,
    /// Another process (a child) still had stdout or stderr open five seconds after its end.
    pub output_held_open: bool,
    group: u32,
    descendants: BTreeSet<Process>,
    // Kept so that a test can read the files of the program.
    home: Arc<TempDir>,
}

impl Outcome {
    /// stdout as text.
    pub fn stdout_text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts the exit code.
    ///
    /// # Panics
    /// If it differs; prints all output.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert!(
            self.code == Some(code),
            "expected exit {code}, got code {:?} signal {:?} after {:?}\nstdout:\n{}\nstderr:\n{}",
            self.code,
            self.signal,
            self.elapsed,
            self.stdout_text(),
            self.stderr
        );
        self
    }

    /// Returns the processes that still run after ten seconds: descendants of the run (read every 20 ms), and processes of its
    /// group.
    pub fn leftover_children(&self) -> BTreeSet<Process> {
        let deadline = Instant::now() + CHILD_GRACE;
        loop {
            let mut alive: BTreeSet<Process> = self.descendants.iter().copied().filter(Process::is_alive).collect();
            alive.append(&mut process::group(self.group));
            if alive.is_empty() || Instant::now() > deadline {
                return alive;
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asserts that no child process is left.
    ///
    /// # Panics
    /// If a child still runs; prints its command line.
    #[track_caller]
    pub fn assert_no_children_left(&self) -> &Self {
        let left: Vec<String> = self.leftover_children().iter().map(Process::command_line).collect();
        assert!(left.is_empty(), "left behind: {left:#?}\nstderr:\n{}", self.stderr);
        self
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
