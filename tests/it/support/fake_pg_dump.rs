//! A fake `pg_dump`: a shell script that writes a prepared dump and ends as requested, so that a test can cause any failure of
//! the real one. Used by the fault tests of `backup`.
//!
//! It answers `--version`. Each other call stores its arguments, environment and process id in the script's directory, so that
//! tests can search them for secrets. The directory has links to `psql`, `pg_dumpall` and `pg_restore` of the newest
//! `PostgreSQL`, because the program uses the tools of one directory.

pub mod body;
mod script;
#[cfg(test)]
mod tests;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Process, write_script};
use super::servers::installed_tools;
pub use body::Body;

/// The output of `--version`, by default.
const DEFAULT_VERSION: &str = "pg_dump (PostgreSQL) 15.18";

/// The place at which the output ends too early.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CutAt {
    /// After this fraction of it, 0.0 to 1.0.
    Fraction(f64),
    /// After this many bytes.
    Byte(u64),
    /// This many bytes before its end.
    FromEnd(u64),
}

/// The end of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit code, after its output.
    Exit(u8),
    /// Killed by this signal (9, 15, 11 …), after its output.
    Signal(u8),
    /// Never (ten minutes), and without any output.
    Hang,
    /// Never (ten minutes), after its output, with stdout open.
    HangAfterOutput,
}

/// Its reaction to SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnTerm {
    Die,
    Ignore,
}

/// Whether it leaves a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grandchild {
    None,
    HoldsStdout,
}

/// Describes a fake; [`Self::install`] creates it.
#[derive(Clone, Debug)]
pub struct FakeDump {
    pub(super) version: String,
    pub(super) body: Body,
    pub(super) cut: Option<CutAt>,
    pub(super) copies: usize,
    pub(super) stderr_bytes: usize,
    pub(super) stderr_lines: Vec<String>,
    pub(super) end: End,
    pub(super) pause: Option<Duration>,
    pub(super) on_term: OnTerm,
    pub(super) grandchild: Grandchild,
    pub(super) first: String,
}

impl FakeDump {
    /// A good dump of about 16 KiB, quiet, exit 0.
    pub fn new() -> Self {
        Self {
            version: DEFAULT_VERSION.to_owned(),
            body: Body::Random(16 * 1024),
            cut: None,
            copies: 1,
            stderr_bytes: 0,
            stderr_lines: Vec::new(),
            end: End::Exit(0),
            pause: None,
            on_term: OnTerm::Die,
            grandchild: Grandchild::None,
            first: ":".to_owned(),
        }
    }

    /// Sets the output of `--version`.
    #[must_use]
    pub fn version(mut self, text: &str) -> Self {
        text.clone_into(&mut self.version);
        self
    }

    /// Sets the dump that it writes.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Ends the output early; its end stays as it is (exit 0 by default).
    #[must_use]
    pub fn cut_at(mut self, cut: CutAt) -> Self {
        self.cut = Some(cut);
        self
    }

    /// Writes the same dump twice, one after the other, the same `\restrict` key in both.
    #[must_use]
    pub fn twice(mut self) -> Self {
        self.copies = 2;
        self
    }

    /// Writes so many bytes of warnings to stderr: half before the dump, half during it.
    #[must_use]
    pub fn stderr_bytes(mut self, count: usize) -> Self {
        self.stderr_bytes = count;
        self
    }

    /// Writes this line to stderr at the end, as the real one writes the cause. May be called again.
    #[must_use]
    pub fn stderr_line(mut self, text: &str) -> Self {
        self.stderr_lines.push(text.to_owned());
        self
    }

    /// The end of the script.
    #[must_use]
    pub fn end(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    /// Writes the dump in sixteen pieces and sleeps this long before each.
    #[must_use]
    pub fn pause_between(mut self, pause: Duration) -> Self {
        self.pause = Some(pause);
        self
    }

    /// Does not die of SIGTERM; only SIGKILL ends it.
    #[must_use]
    pub fn ignore_sigterm(mut self) -> Self {
        self.on_term = OnTerm::Ignore;
        self
    }

    /// Leaves a child in the background that holds stdout open for ten minutes.
    #[must_use]
    pub fn with_grandchild(mut self) -> Self {
        self.grandchild = Grandchild::HoldsStdout;
        self
    }

    /// Runs these lines of shell before its output. `$connection` is the connection string it was given, `$here/psql` is
    /// next to it, `$forever` a number of seconds.
    #[must_use]
    pub fn first(mut self, shell: &str) -> Self {
        shell.clone_into(&mut self.first);
        self
    }

    /// Waits for [`FakePgDump::let_go`], so that a test can act during the dump.
    #[must_use]
    pub fn held(self) -> Self {
        self.after("go")
    }

    /// Waits for a file of this name next to it.
    #[must_use]
    pub fn after(self, file_name: &str) -> Self {
        self.first(&format!("until [ -e \"$here/{file_name}\" ]; do sleep 0.05; done"))
    }

    /// Writes the script and the dump into a new directory.
    ///
    /// # Panics
    /// If the temporary directory cannot be written.
    pub fn install(self) -> FakePgDump {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Some tests run the program as another user.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("the directory's mode");
        let length = script::write_body(&self, &dir.path().join("body"));
        let forever = unique_seconds();
        script::write(&self, dir.path(), length, &forever);
        for tool in ["psql", "pg_dumpall", "pg_restore"] {
            if let Some(real) = installed_tools().map(|bin| bin.join(tool)).filter(|path| path.exists()) {
                std::os::unix::fs::symlink(real, dir.path().join(tool)).expect("a link");
            }
        }
        FakePgDump { dir, forever }
    }
}

impl Default for FakeDump {
    fn default() -> Self {
        Self::new()
    }
}

/// An installed fake; dropping it kills its processes and removes its directory.
#[derive(Debug)]
pub struct FakePgDump {
    dir: TempDir,
    /// The argument of its `sleep` if it hangs.
    forever: String,
}

impl FakePgDump {
    /// The executable, for `PG_DUMP_PATH`.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("pg_dump")
    }

    /// Lets its runs continue, for [`FakeDump::held`].
    ///
    /// # Panics
    /// If its directory cannot be written.
    pub fn let_go(&self) {
        fs::write(self.dir.path().join("go"), "").expect("written");
    }

    /// Its directory, as first entry of `PATH`.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its exact output on stdout (except with `End::Hang`).
    pub fn output(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("body")).expect("the prepared dump")
    }

    /// Replaces one of the real programs in its directory by a script.
    ///
    /// # Panics
    /// If the directory cannot be written.
    pub fn replace(&self, tool: &str, script: &str) {
        let path = self.dir.path().join(tool);
        fs::remove_file(&path).expect("the link");
        write_script(&path, script);
    }

    /// The arguments of its last call, except `--version`; empty before the first.
    pub fn args(&self) -> Vec<String> {
        self.read("args").lines().map(str::to_owned).collect()
    }

    /// The environment its last call was given, `NAME=value` each.
    pub fn environ(&self) -> Vec<String> {
        self.read("environ").split('\0').filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// The process ids of all its calls, except `--version`, in order.
    pub fn pids(&self) -> Vec<u32> {
        self.read("pids").lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The process id of the child that it left.
    pub fn grandchild(&self) -> Option<u32> {
        self.read("grandchild").trim().parse().ok()
    }

    /// Its running processes: the script, the program that replaced it, or the child that it left.
    pub fn alive(&self) -> Vec<Process> {
        let pids = self.pids().into_iter().chain(self.grandchild());
        // A process id alone may have been reused; only these processes have this directory or this sleep in their arguments.
        let script = self.path().to_string_lossy().into_owned();
        let is_ours = |arguments: String| arguments.contains(&script) || arguments.contains(&self.forever);
        let ours = |process: &Process| is_ours(process.command_line()) && process.is_alive();
        pids.filter_map(Process::of).filter(ours).collect()
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.dir.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for FakePgDump {
    fn drop(&mut self) {
        for process in self.alive() {
            process.signal("KILL");
        }
    }
}

/// About ten minutes, in a number of seconds that no other fake on this machine has.
fn unique_seconds() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    format!("600.0{}0{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}
