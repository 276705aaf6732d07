//! Runs the built binary as a user would, but in an empty environment, and watches it: exit, output, time, memory, children.
//! Used by every test that runs a command.
//!
//! Memory is the kernel's high-water mark (`VmHWM`), read every 20 ms: growth in the last 20 ms is missed. `getrusage` has only
//! one number for all children of the test process together.

mod running;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

pub use running::{Outcome, Running};

/// Longer than any run on a busy machine takes.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(2);

/// A command line, which can run several times.
#[derive(Clone, Debug)]
pub struct Program {
    executable: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    stdin: Vec<u8>,
    stdin_file: Option<Arc<File>>,
    timeout: Duration,
    home: Arc<TempDir>,
}

impl Program {
    /// The program under test. Its environment has only `PATH` and `HOME` (a new temporary directory), and
    /// `LLVM_PROFILE_FILE` in a coverage run.
    pub fn new() -> Self {
        Self::at(Path::new(env!("CARGO_BIN_EXE_pg-s3-backup")))
    }

    /// Another program under the same conditions.
    pub fn at(executable: &Path) -> Self {
        let home = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let inherited = ["PATH", "LLVM_PROFILE_FILE"];
        let mut env: BTreeMap<OsString, OsString> =
            inherited.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?))).collect();
        env.insert("HOME".into(), home.path().into());
        let executable = executable.to_owned();
        Self { executable, args: Vec::new(), env, stdin: Vec::new(), stdin_file: None, timeout: DEFAULT_TIMEOUT, home }
    }

    /// Another executable with the same environment, and without arguments.
    #[must_use]
    pub fn executed_by(mut self, executable: &Path) -> Self {
        executable.clone_into(&mut self.executable);
        self.args.clear();
        self
    }

    /// With what SIGHUP does: `default` or `ignore`. Without, it is what it does to the tests, which may run under `nohup`.
    #[must_use]
    pub fn with_hang_up(mut self, what: &str) -> Self {
        let executable = std::mem::replace(&mut self.executable, "/usr/bin/env".into());
        self.args.splice(..0, [format!("--{what}-signal=HUP").into(), executable.into()]);
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = I>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(name.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Removes an environment variable, also `PATH` and `HOME`.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.remove(name.as_ref());
        self
    }

    /// Sets the bytes on stdin; by default stdin is `/dev/null`.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets the file that is stdin.
    #[must_use]
    pub fn stdin_file(mut self, file: Arc<File>) -> Self {
        self.stdin_file = Some(file);
        self
    }

    /// Sets the time after which the run is killed and the test panics; by default 120 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Its working directory and `HOME`.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started, or does not end in time (with the output so far).
    pub fn run(&self) -> Outcome {
        self.spawn().wait()
    }

    /// Starts it in a new process group.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn spawn(&self) -> Running {
        let mut command = Command::new(&self.executable);
        command.args(&self.args).env_clear().envs(&self.env).current_dir(self.home());
        command.stdin(match &self.stdin_file {
            Some(file) => file.try_clone().expect("the same file once more").into(),
            None if self.stdin.is_empty() => Stdio::null(),
            None => Stdio::piped(),
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Running::start(command, &self.stdin, self.timeout, Arc::clone(&self.home))
    }
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}
