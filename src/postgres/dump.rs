//! The `pg_dump` child (or `pg_dumpall`): started in a group of its own, read to the end, stopped in order.
//!
//! `backup::stream` runs one, `globals` the other. This says how the child ended; whether the dump is complete is `backup::proof`'s to say.

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

use super::keepalives::with_keepalives;
use super::messages::Messages;
use super::{Conninfo, PostgresError, PostgresSettings, Tools};

/// How long `pg_dump` may take to end by itself after SIGTERM, before SIGKILL. SPEC §6 gives the entire clean-up 10 s.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// How long stderr may stay open after the child has ended, held by a grandchild.
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
    /// The cause it gave on stderr, in one line.
    pub cause: Option<String>,
    /// What it warned of on stderr: as a rule something that its output lacks.
    pub warnings: Vec<String>,
}

impl DumpEnd {
    /// What the status means, in words: `exit code 1`, `SIGKILL, probably out of memory`.
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
    /// Starts `pg_dump` and gives its output.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(tools: &Tools, settings: &PostgresSettings, source: &Conninfo) -> Result<(Self, File), PostgresError> {
        Self::launch(tools, settings, source, Self::arguments(settings))
    }

    /// Starts a `pg_dump` of everything but the data, for a rehearsal: never for a backup.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn schema_only(
        tools: &Tools,
        settings: &PostgresSettings,
        source: &Conninfo,
    ) -> Result<(Self, File), PostgresError> {
        let mut arguments = Self::arguments(settings);
        arguments.push("--schema-only".to_owned());
        Self::launch(tools, settings, source, arguments)
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

    /// Starts one of PostgreSQL's programs with the source's password in its environment, and gives its output.
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
            // The last resort, as is `drop`: whatever happens here, no child outlives this value.
            .kill_on_drop(true);
        let unusable =
            |error: std::io::Error| PostgresError::UnusableTool { path: path.to_owned(), reason: error.to_string() };
        let mut child = command.spawn().map_err(unusable)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(unusable(std::io::Error::other("its pipes are missing")));
        };
        let stdout = File::from(stdout.into_owned_fd().map_err(unusable)?);
        let messages = tokio::spawn(Messages::gather(stderr, program, Arc::new(true.into())));
        Ok((Self { child, program, group, messages }, stdout))
    }

    /// What `pg_dump` is given beside the connection; for the manifest too.
    #[must_use]
    pub fn arguments(settings: &PostgresSettings) -> Vec<String> {
        let lock_wait = format!("--lock-wait-timeout={}", settings.lock_wait.as_millis());
        let own = ["--format=plain".to_owned(), "--no-password".to_owned(), lock_wait];
        own.into_iter().chain(settings.arguments.words().iter().cloned()).collect()
    }

    /// Waits for the child to end.
    ///
    /// # Errors
    /// Where the system does not say how it ended.
    pub async fn wait(&mut self) -> std::io::Result<DumpEnd> {
        let status = self.child.wait().await?;
        let messages = timeout(MESSAGES_DEADLINE, &mut self.messages).await.ok().and_then(Result::ok);
        let messages = messages.unwrap_or_default();
        Ok(DumpEnd { status, cause: messages.cause(), warnings: messages.warnings() })
    }

    /// Ends the child and everything in its group: SIGTERM, then SIGKILL.
    pub async fn stop(mut self) {
        if self.child.id().is_some() {
            self.signal(Signal::TERM);
            // One that is stopped hears nothing until it goes on.
            self.signal(Signal::CONT);
            if timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
                tracing::warn!("{} does not end after SIGTERM: sending SIGKILL", self.program);
            }
        }
        // Also where the child has ended: what it left behind in its group must go too.
        self.signal(Signal::KILL);
        if timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
            tracing::warn!("{} does not end after SIGKILL", self.program);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group
            && let Err(error) = kill_process_group(group, signal)
        {
            // As a rule: no such process, because all of them have ended.
            tracing::trace!(%error, "no process to signal");
        }
    }
}

impl Drop for Dump {
    /// Where it is dropped instead of stopped, as at a second Ctrl-C: what a wrapper of `pg_dump` has started must end too.
    fn drop(&mut self) {
        // Its number is its own until it is waited for.
        if self.child.id().is_some() {
            self.signal(Signal::KILL);
        }
    }
}
