//! [`HangingDisk`]: a file system in memory (FUSE) that blocks chosen calls, like a dead file server. Used by
//! the tests of the spool.
//!
//! It is mounted in the run's own mount namespace, so that it disappears with the run. A call without an answer keeps its
//! thread in state D, which not even SIGKILL ends: dropping the disk answers all calls. `protocol` implements the kernel's
//! protocol, `tree` the files. It needs root and `/dev/fuse`.

mod protocol;
mod tree;

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use super::client::eventually;
use super::process::Process;
use super::program::{Outcome, Program, Running};
pub use protocol::Call;
use protocol::Request;
use tree::Tree;

/// Runs in a new namespace: mounts the file system on stdin, and executes the program.
const SCRIPT: &str = r#"
mount -i -t fuse -o fd=0,rootmode=40000,user_id=0,group_id=0 hanging "$1" || exit 99
exec "$2" backup </dev/null
"#;

/// A file system that hangs at chosen calls.
pub struct HangingDisk {
    shared: Arc<Mutex<Shared>>,
    mount: TempDir,
}

/// A program on a file system that hangs.
pub struct HangingRun {
    // The first field, so that it answers all calls before the program is waited for, even if a test fails.
    disk: HangingDisk,
    running: Running,
}

struct Shared {
    tree: Tree,
    /// The call, and a piece of the name of its file.
    hangs_at: Option<(Call, &'static str)>,
    /// Requests without an answer, with the device for the answers.
    held: Vec<(u64, Arc<File>)>,
}

impl HangingDisk {
    /// Creates an empty one that blocks calls of this kind to files with this text in their name.
    ///
    /// # Panics
    /// If no directory can be created.
    pub fn new(call: Call, name: &'static str) -> Self {
        let shared = Shared { tree: Tree::new(), hangs_at: Some((call, name)), held: Vec::new() };
        Self { shared: Arc::new(Mutex::new(shared)), mount: tempfile::tempdir().expect("a directory") }
    }

    /// Its mount point.
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// Starts `backup` on it, with the settings of `backup`.
    ///
    /// # Panics
    /// Without `/dev/fuse` or root.
    pub fn spawn(self, backup: &Program) -> HangingRun {
        let device = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse, as root");
        let device = Arc::new(device);
        let (shared, ours) = (Arc::clone(&self.shared), Arc::clone(&device));
        std::thread::spawn(move || serve(&shared, &ours));
        let sh = backup.clone().executed_by(Path::new("/usr/bin/unshare")).args(["--mount", "sh", "-c", SCRIPT, "sh"]);
        let program = sh.arg(self.path()).arg(env!("CARGO_BIN_EXE_pg-s3-backup")).stdin_file(device);
        HangingRun { running: program.spawn(), disk: self }
    }

    /// Answers all blocked calls with an error, and blocks no more.
    fn let_go(&self) {
        let mut shared = self.shared();
        shared.hangs_at = None;
        for (request, device) in shared.held.drain(..) {
            protocol::answer(&device, request, Err(protocol::EIO));
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

impl HangingRun {
    /// Waits until a call is blocked.
    pub fn wait_until_it_hangs(&self) {
        let state = || format!("no call is held: {}", self.running.stderr_so_far());
        eventually(|| !self.disk.shared().held.is_empty(), state);
    }

    /// Sends the program a signal.
    pub fn signal(&self, name: &str) {
        self.running.signal(name);
    }

    /// Waits until the program has exited, even if threads are still blocked in the kernel; then answers all calls.
    pub fn wait_for_exit(self) -> Outcome {
        let process = Process::of(self.running.pid()).expect("it was not waited for");
        eventually(|| !process.is_alive(), || format!("it does not end: {}", self.running.stderr_so_far()));
        self.disk.let_go();
        self.running.wait()
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        self.let_go();
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers until the file system is unmounted.
fn serve(shared: &Mutex<Shared>, device: &Arc<File>) {
    let mut buffer = vec![0; protocol::BUFFER_BYTES];
    while let Some(request) = protocol::next(device, &mut buffer) {
        let mut shared = lock(shared);
        if shared.holds(&request) {
            shared.held.push((request.id, Arc::clone(device)));
            continue;
        }
        let answer = shared.tree.answer(&request);
        drop(shared);
        if request.wants_answer() {
            protocol::answer(device, request.id, answer);
        }
    }
}

impl Shared {
    fn holds(&self, request: &Request<'_>) -> bool {
        let Some((call, name)) = self.hangs_at else { return false };
        let own = request.name().map_or_else(|| self.tree.name(request.node).to_owned(), str::to_owned);
        request.call == Some(call) && own.contains(name)
    }
}
