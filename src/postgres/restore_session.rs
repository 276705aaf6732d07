//! The psql through which a dump is restored: reads it on its stdin, within a transaction that this program ends.
//!
//! `restore` opens one, hands its input to the thread that unpacks the dump, and commits or kills it. psql ends with the first
//! error. It must never see the end of its input before its transaction has ended: then it runs what it holds and leaves, and
//! with `psql -1` it would even commit. So the input stays open here until psql is dead.
//!
//! Neither the dump nor what it prints can pretend to be this program: what is asked here is answered with random words.

mod jobs;
mod outcome;
mod workers;

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

pub use jobs::JobApplied;
pub use outcome::Outcome;
use outcome::{outcome, wait_for_outcome};

use super::backend::Backend;
use super::keepalives::with_keepalives;
use super::messages::Messages;
use super::psql::{Running, Transactions};
use super::{NameLock, PostgresError, PostgresSettings, Session, Tools};
use crate::random::random_hex;

/// The first answers take milliseconds; on a server that is drowning they may take longer.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// How long psql's last words are waited for, and its end after SIGKILL.
const END_DEADLINE: Duration = Duration::from_secs(2);
/// Longer than any answer: a random word, and times, numbers and versions.
const LONGEST_ANSWER: usize = 256;

/// The first minor version of each major that knows `\restrict` (the releases of August 2025, CVE-2025-8714).
const RESTRICTS: [(u32, u32); 5] = [(13, 22), (14, 19), (15, 14), (16, 10), (17, 6)];

/// A psql that restores.
#[derive(Debug)]
pub struct RestoreSession {
    child: Child,
    group: Option<Pid>,
    /// Holds psql's input open; dropped last.
    input: File,
    transactions: Transactions,
    answers: mpsc::UnboundedReceiver<String>,
    applied: Arc<Mutex<Applied>>,
    messages: Option<JoinHandle<Messages>>,
    /// What every answer to this program begins with.
    word: String,
    is_restricted: bool,
    /// Whether the server may use its parallel workers.
    has_parallel_workers: bool,
    /// The server's session, once it is known.
    backend: Option<Backend>,
    /// The transaction's id; `None` without one.
    transaction: Option<String>,
}

/// What the server said that it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Rows of each COPY, in order.
    pub copied: Vec<u64>,
    /// The last command tag.
    last_tag: String,
}

/// Why a COMMIT failed: psql's message.
#[derive(Debug)]
pub enum NotCommitted {
    /// Nothing of the transaction is there.
    RolledBack(PostgresError),
    /// The server could not be asked.
    Unknown(PostgresError),
    /// It was given up, and nothing of the transaction is there.
    Stopped,
}

impl RestoreSession {
    /// Opens it.
    ///
    /// # Errors
    /// As [`Session::connect`], of one try.
    pub async fn open(
        tools: &Tools,
        settings: &PostgresSettings,
        transactions: Transactions,
    ) -> Result<Self, PostgresError> {
        let lost = |error: std::io::Error| PostgresError::SessionLost { reason: error.to_string() };
        let word = random_hex().map_err(lost)?;
        let conninfo = with_keepalives(&settings.conninfo, &settings.environment, tools);
        let opening = format!("{}\\echo '{word}' :VERSION_NUM\n", transactions.opening());
        // Not quiet: the server's command tags are wanted.
        let running = tools.psql.start_with(&settings.environment, &conninfo, "-XAtw", &opening).await?;
        let Running { child, stdin, stdout, stderr } = running;
        let input = File::from(stdin.into_owned_fd().map_err(lost)?);
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (sender, answers) = mpsc::unbounded_channel();
        let applied = Arc::new(Mutex::new(Applied::default()));
        tokio::spawn(listen(stdout, word.clone(), sender, Arc::clone(&applied)));
        let messages = Some(tokio::spawn(Messages::gather(stderr, "psql", Arc::new(AtomicBool::new(true)))));
        let mut session = Self {
            child,
            group,
            input,
            transactions,
            answers,
            applied,
            messages,
            word,
            is_restricted: false,
            has_parallel_workers: true,
            backend: None,
            transaction: None,
        };
        match timeout(OPEN_DEADLINE, session.begin()).await {
            Ok(began) => began.map(|()| session),
            Err(_) => Err(PostgresError::Silent { deadline: OPEN_DEADLINE }),
        }
    }

    async fn begin(&mut self) -> Result<(), PostgresError> {
        let version = self.answer().await?;
        // As the role that logged in: one that a setting leads to may not see when its own session began.
        let asked = match self.transactions {
            Transactions::One => "pg_catalog.pg_current_xact_id()",
            Transactions::Each => "''",
        };
        self.send(format!(
            "SET ROLE NONE;\nSELECT pg_catalog.concat('{} ', {asked}, '|', {}) \
             FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a;\nRESET ROLE;\n",
            self.word,
            Backend::COLUMNS
        ))
        .await;
        let answer = self.answer().await?;
        let (transaction, backend) = answer.split_once('|').ok_or_else(Backend::unknown)?;
        self.backend = Some(Backend::parse(backend).ok_or_else(Backend::unknown)?);
        self.transaction = Some(transaction.to_owned()).filter(|id| !id.is_empty());
        self.is_restricted = version.parse().is_ok_and(knows_restrict);
        if self.is_restricted {
            // Anyone can read the dump's own key in the dump. This one is random.
            self.send(format!("\\restrict {}\n", self.word)).await;
        }
        Ok(())
    }

    /// Waits until everything that was sent has been executed, and gives what the server did.
    ///
    /// # Errors
    /// [`PostgresError::SessionLost`] with psql's words if a statement failed, or if the transaction is not the one that
    /// was started.
    pub async fn settle(&mut self, control: &mut Session) -> Result<Applied, PostgresError> {
        let unrestrict = if self.is_restricted { format!("\\unrestrict {}\n", self.word) } else { String::new() };
        self.is_restricted = false;
        let asked = match self.transactions {
            Transactions::One => "pg_catalog.pg_current_xact_id_if_assigned()",
            Transactions::Each => "pg_catalog.now() OPERATOR(pg_catalog.<) pg_catalog.statement_timestamp()",
        };
        self.send(format!("{unrestrict}SELECT pg_catalog.concat('{} ', {asked});\n", self.word)).await;
        let backend = self.backend.clone().ok_or_else(Backend::unknown)?;
        let answer = tokio::select! {
            answer = self.answer() => answer?,
            error = backend.is_left_waiting(control) => return Err(error),
        };
        match &self.transaction {
            Some(started) if *started != answer => {
                return Err(PostgresError::SessionLost {
                    reason: format!("the transaction {started} was ended by something in the dump"),
                });
            }
            // Whatever the dump left open.
            None if answer == "t" => {
                self.send(format!("COMMIT;\n\\echo '{}'\n", self.word)).await;
                self.answer().await?;
            }
            _ => {}
        }
        Ok(self.applied.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Takes a lock until the end of the transaction. Returns `false` if another session has it.
    ///
    /// # Errors
    /// [`PostgresError::SessionLost`].
    pub async fn try_lock(&mut self, lock: NameLock) -> Result<bool, PostgresError> {
        self.send(format!("SELECT pg_catalog.concat('{} ', {});\n", self.word, lock.take_in_transaction())).await;
        Ok(self.answer().await? == "t")
    }

    /// Ends the transaction with COMMIT. If the answer is lost, another session queries the outcome. COMMIT may take long: when `stop`
    /// is ready, the server's session is terminated, which rolls back what is not committed yet.
    ///
    /// # Errors
    /// [`NotCommitted`].
    pub async fn commit(
        mut self,
        control: &mut Session,
        (tools, settings): (&Tools, &PostgresSettings),
        stop: impl Future<Output = ()>,
    ) -> Result<(), NotCommitted> {
        let Some(transaction) = self.transaction.clone() else {
            self.kill().await;
            return Ok(());
        };
        // The dump may have set that the answer does not wait for the disk.
        self.send("SET LOCAL synchronous_commit = on;\n".to_owned()).await;
        self.send(format!("COMMIT;\n\\echo '{}'\n", self.word)).await;
        let answer = tokio::select! {
            answer = self.answer() => answer,
            () = stop => return self.stop(control).await,
        };
        let is_rolled_back =
            self.applied.lock().unwrap_or_else(PoisonError::into_inner).last_tag.starts_with("ROLLBACK");
        self.kill().await;
        match answer {
            Ok(_) if !is_rolled_back => Ok(()),
            Ok(_) => {
                let reason = "the server answered ROLLBACK".to_owned();
                Err(NotCommitted::RolledBack(PostgresError::SessionLost { reason }))
            }
            Err(error) => match wait_for_outcome(tools, settings, &transaction).await {
                Some(Outcome::Committed) => {
                    tracing::warn!(%error, "the answer to COMMIT was lost, but the server says that it took effect");
                    Ok(())
                }
                Some(Outcome::RolledBack) => Err(NotCommitted::RolledBack(error)),
                None => Err(NotCommitted::Unknown(error)),
            },
        }
    }

    /// Gives up a COMMIT without an answer.
    async fn stop(mut self, control: &mut Session) -> Result<(), NotCommitted> {
        self.kill().await;
        match self.end_on_server(control).await {
            Ok(Outcome::Committed) => Ok(()),
            Ok(Outcome::RolledBack) => Err(NotCommitted::Stopped),
            Err(error) => Err(NotCommitted::Unknown(error)),
        }
    }

    /// Kills psql while its input is open, so that what it has not run is never run.
    pub async fn kill(&mut self) {
        self.signal();
        if timeout(END_DEADLINE, self.child.wait()).await.is_err() {
            tracing::warn!("psql does not end after SIGKILL");
        }
    }

    /// Terminates the server's session, waits until it is gone, and queries the outcome of its transaction.
    ///
    /// # Errors
    /// If that cannot be found out: the transaction rolls back when its session ends.
    pub async fn end_on_server(&self, control: &mut Session) -> Result<Outcome, PostgresError> {
        let (Some(backend), Some(transaction)) = (&self.backend, &self.transaction) else {
            return Ok(Outcome::RolledBack);
        };
        backend.end(control).await?;
        // Its session has ended, so it is not in progress.
        Ok(outcome(control, transaction).await?.unwrap_or(Outcome::RolledBack))
    }

    /// What psql said to its end, as the cause of a failure; asked again, nothing.
    pub async fn cause(&mut self) -> Option<String> {
        let mut messages = self.messages.take()?;
        timeout(END_DEADLINE, &mut messages).await.ok().and_then(Result::ok).unwrap_or_default().cause()
    }

    /// The next line that answers this program.
    async fn answer(&mut self) -> Result<String, PostgresError> {
        if let Some(answer) = self.answers.recv().await {
            return Ok(answer);
        }
        let reason = self.cause().await.unwrap_or_else(|| "psql ended without a word".to_owned());
        Err(PostgresError::SessionLost { reason })
    }

    /// Sends this program's own text. If psql has ended, waiting for the answer reports it.
    async fn send(&self, text: String) {
        let Ok(mut input) = self.input.try_clone() else { return };
        let sent = spawn_blocking(move || input.write_all(text.as_bytes())).await;
        match sent {
            Ok(Err(error)) if error.kind() != ErrorKind::BrokenPipe => {
                tracing::debug!(%error, "psql does not read");
            }
            _ => {}
        }
    }

    fn signal(&self) {
        if self.child.id().is_some()
            && let Some(group) = self.group
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::trace!(%error, "no process to signal");
        }
    }
}

impl Drop for RestoreSession {
    /// Before the fields, and with them the input, are dropped.
    fn drop(&mut self) {
        self.signal();
    }
}

/// Reads what psql prints: answers to this program, and the server's command tags.
async fn listen(
    mut stdout: impl AsyncRead + Unpin,
    word: String,
    answers: mpsc::UnboundedSender<String>,
    applied: Arc<Mutex<Applied>>,
) {
    let mut buffer = vec![0; 8 << 10];
    let mut line = Vec::new();
    while let Ok(count @ 1..) = stdout.read(&mut buffer).await {
        for byte in &buffer[..count] {
            if *byte != b'\n' {
                // What the dump selects may be of any length.
                if line.len() < LONGEST_ANSWER {
                    line.push(*byte);
                }
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            match text.strip_prefix(&word) {
                // It fails only if the caller no longer waits.
                Some(answer) => drop(answers.send(answer.trim().to_owned())),
                None => applied.lock().unwrap_or_else(PoisonError::into_inner).note(&text),
            }
            line.clear();
        }
    }
}

impl Applied {
    /// Notes a line that may be a command tag.
    fn note(&mut self, line: &str) {
        if let Some(rows) = line.strip_prefix("COPY ").and_then(|rows| rows.parse().ok()) {
            self.copied.push(rows);
        }
        if line == "COMMIT" || line == "ROLLBACK" {
            line.clone_into(&mut self.last_tag);
        }
    }
}

/// Whether a psql of this `VERSION_NUM` knows `\restrict`.
fn knows_restrict(version: u32) -> bool {
    let (major, minor) = (version / 10_000, version % 10_000);
    major > 17 || RESTRICTS.iter().any(|(known, first)| major == *known && minor >= *first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_which_psql_restricts() {
        for (version, expected) in [
            (130_021, false),
            (130_022, true),
            (150_014, true),
            (160_009, false),
            (170_006, true),
            (180_000, true),
            (120_030, false),
        ] {
            assert_eq!(knows_restrict(version), expected, "{version}");
        }
    }
}
