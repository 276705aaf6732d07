//! The `pg_dump` or `pg_dumpall` child process: starts it in its own process group, reads its stderr, and stops it.
//!
//! Called by `backup::stream` and `globals`. Reports how the child ended; `verified_dump` decides whether the dump is complete.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::keepalives::with_keepalives;
use super::messages::Messages;
use super::{Conninfo, PostgresError, PostgresSettings, Tools};

/// How long `pg_dump` may take to exit after SIGTERM. The program has 10 s to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long a grandchild may keep stderr open after the child has exited.
const MESSAGES_DEADLINE: Duration = Duration::from_secs(2);

/// A running `pg_dump`.
pub struct Dump {
    child: Child,
    program: &'static str,
    group: Option<Pid>,
    messages: JoinHandle<Messages>,
}

/// How `pg_dump` ended.
#[derive(Debug)]
pub struct DumpEnd {
    /// Its exit status.
    pub status: ExitStatus,
    /// The error on stderr, in one line.
    pub cause: Option<String>,
    /// The warnings on stderr: usually about something that the output lacks.
    pub warnings: Vec<String>,
}

impl DumpEnd {
    /// The status in words: `exit code 1`, `SIGKILL, probably out of memory`.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(9)) => "SIGKILL, probably out of memory".to_owned(),
            // std prints `signal: 11 (SIGSEGV) (core dumped)`.
            (None, _) => self.status.to_string(),
        }
    }
}

impl Dump {
    /// Starts `pg_dump` and returns its stdout.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(tools: &Tools, settings: &PostgresSettings, source: &Conninfo) -> Result<(Self, File), PostgresError> {
        Self::launch(tools, settings, source, Self::arguments(settings))
    }

    /// Starts a `pg_dump` of the schema alone: for `check`, never for a backup.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn schema_only(
        tools: &Tools,
        settings: &PostgresSettings,
        source: &Conninfo,
    ) -> Result<(Self, File), PostgresError> {
        // `check` says what it finds.
        let settings = PostgresSettings { hides_names: false, ..settings.clone() };
        let mut arguments = Self::arguments(&settings);
        arguments.push("--schema-only".to_owned());
        Self::launch(tools, &settings, source, arguments)
    }

    fn launch(
        tools: &Tools,
        settings: &PostgresSettings,
        source: &Conninfo,
        mut words: Vec<String>,
    ) -> Result<(Self, File), PostgresError> {
        words.push(format!("--dbname={}", with_keepalives(source, &settings.environment, tools)));
        Self::spawn(&tools.pg_dump.path, "pg_dump", &words, settings)
    }

    /// Starts a program with the password in its environment, and returns its stdout.
    pub(super) fn spawn(
        path: &Path,
        program: &'static str,
        words: &[String],
        settings: &PostgresSettings,
    ) -> Result<(Self, File), PostgresError> {
        let mut command = settings.environment.command(path, settings.conninfo.password());
        command
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // No child outlives this value.
            .kill_on_drop(true);
        let unusable =
            |error: std::io::Error| PostgresError::UnusableTool { path: path.to_owned(), reason: error.to_string() };
        let mut child = command.spawn().map_err(unusable)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(unusable(std::io::Error::other("its pipes are missing")));
        };
        let stdout = File::from(stdout.into_owned_fd().map_err(unusable)?);
        let messages = if settings.hides_names {
            tokio::spawn(Messages::gather_unlogged(stderr, program).in_current_span())
        } else {
            tokio::spawn(Messages::gather(stderr, program, Arc::new(true.into())).in_current_span())
        };
        Ok((Self { child, program, group, messages }, stdout))
    }

    /// Its process, until its end was waited for.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// The arguments of `pg_dump`, without the connection, as the manifest may show them.
    #[must_use]
    pub fn shown_arguments(settings: &PostgresSettings) -> Vec<String> {
        Self::own_arguments(settings).into_iter().chain(settings.shown_arguments()).collect()
    }

    /// The arguments of `pg_dump`, without the connection.
    #[must_use]
    pub fn arguments(settings: &PostgresSettings) -> Vec<String> {
        Self::own_arguments(settings).into_iter().chain(settings.arguments.words().iter().cloned()).collect()
    }

    fn own_arguments(settings: &PostgresSettings) -> [String; 3] {
        let lock_wait = format!("--lock-wait-timeout={}", settings.lock_wait.as_millis());
        ["--format=plain".to_owned(), "--no-password".to_owned(), lock_wait]
    }

    /// Waits for the child to exit.
    ///
    /// # Errors
    /// If the system does not report its status.
    pub async fn wait(&mut self) -> std::io::Result<DumpEnd> {
        let status = self.child.wait().await?;
        let messages = timeout(MESSAGES_DEADLINE, &mut self.messages).await.ok().and_then(Result::ok);
        let messages = messages.unwrap_or_default();
        Ok(DumpEnd { status, cause: messages.cause(), warnings: messages.warnings() })
    }

    /// Ends the child and its process group: SIGTERM, then SIGKILL.
    pub async fn stop(mut self) {
        if self.child.id().is_some() {
            self.signal(Signal::TERM);
            // A stopped process receives SIGTERM when it continues.
            self.signal(Signal::CONT);
            if timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
                tracing::warn!("{} does not exit after SIGTERM: sending SIGKILL", self.program);
            }
        }
        // Its group may have more processes, even if the child has exited.
        self.signal(Signal::KILL);
        if timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
            tracing::warn!("{} does not exit after SIGKILL", self.program);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group
            && let Err(error) = kill_process_group(group, signal)
        {
            tracing::trace!(%error, "no process to signal");
        }
    }
}

impl Drop for Dump {
    /// Kills the process group at a second Ctrl-C: a wrapper of `pg_dump` may have started more processes.
    fn drop(&mut self) {
        // After `wait`, another process may have its id.
        if self.child.id().is_some() {
            self.signal(Signal::KILL);
        }
    }
}
