//! The control session: a `psql` child process that stays open during a run.
//!
//! Not a driver, because only libpq reads a connection string as `pg_dump` does. Queries go to its stdin; a marker ends each
//! answer. [`Session::connect`] opens it. A run of several databases opens the next with the `psql` of one that has ended.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Split};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use super::keepalives::with_keepalives;
use super::messages::Messages;
use super::place::Place;
use super::psql::{self, MARKER, OPENING, Running};
use super::{Conninfo, PostgresError, PostgresSettings, Tools, refusal};

/// Answers take milliseconds, but longer on an overloaded server.
const QUERY_DEADLINE: Duration = Duration::from_secs(30);
/// How long `psql` may take to exit after its input has ended.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// An open session, in a transaction that holds no snapshot and is rolled back at its end.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    lines: Split<BufReader<ChildStdout>>,
    stderr: OwnedFd,
    /// `None` once they were read.
    messages: Option<JoinHandle<Messages>>,
    /// Whether messages are logged above DEBUG.
    is_logged: Arc<AtomicBool>,
    /// The number of the last question.
    asked: u64,
    opened: Instant,
    pub(super) place: Place,
}

impl Session {
    /// Opens a session with a single try.
    pub(super) async fn open(
        tools: &Tools,
        settings: &PostgresSettings,
        source: &Conninfo,
    ) -> Result<Self, PostgresError> {
        let opened = Instant::now();
        let conninfo = with_keepalives(source, &settings.environment, tools);
        let Running { child, stdin, stdout, stderr } = tools.psql.start(&settings.environment, &conninfo).await?;
        let stderr = stderr.into_owned_fd().map_err(|error| tools.psql.unusable(&error))?;
        let lines = BufReader::new(stdout).split(b'\n');
        let (is_logged, place) = (Arc::default(), Place::default());
        let mut session = Self { child, stdin, lines, stderr, messages: None, is_logged, asked: 0, opened, place };
        session.gather_messages();
        match session.opening("").await {
            Some(Ok(())) => Ok(session),
            Some(Err(Ended)) => Err(session.refused(target(source), settings.variable).await),
            None => Err(PostgresError::Silent { deadline: QUERY_DEADLINE }),
        }
    }

    /// Releases the lock, and keeps `psql` for [`Self::open_next`].
    ///
    /// # Errors
    /// If the session is lost.
    pub(super) async fn end(mut self) -> Result<Self, PostgresError> {
        self.rollback().await?;
        self.is_logged.store(false, Ordering::Relaxed);
        Ok(self)
    }

    /// Opens a session with another database, and otherwise the same connection settings; `None` if that fails. It saves the time
    /// to start a process.
    pub(super) async fn open_next(mut self, database: &str) -> Option<Self> {
        let connect = psql::connect(database)?;
        if let Some(messages) = self.messages.take() {
            messages.abort();
            // Only one may read.
            drop(messages.await);
        }
        (self.opened, self.place, self.is_logged) = (Instant::now(), Place::default(), Arc::default());
        self.gather_messages();
        self.opening(&format!("{connect}{OPENING}")).await?.ok()?;
        let connected = self.answer("\\echo :DBNAME\n").await.ok()?;
        (connected.last().map(String::as_str) == Some(database)).then_some(self)
    }

    /// Waits for the end of the opening; `None` after the deadline. While psql connects, its messages are the error.
    async fn opening(&mut self, text: &str) -> Option<Result<(), Ended>> {
        let opened = timeout(QUERY_DEADLINE, self.exchange(text)).await.ok()?.map(drop);
        self.is_logged.store(opened.is_ok(), Ordering::Relaxed);
        Some(opened)
    }

    /// Reads the messages of the session that begins.
    fn gather_messages(&mut self) {
        let stderr = self.stderr.try_clone().and_then(Receiver::from_owned_fd);
        let is_logged = Arc::clone(&self.is_logged);
        self.messages = stderr.ok().map(|stderr| {
            let gathering = Messages::gather(stderr, "psql", is_logged).in_current_span();
            tokio::spawn(gathering)
        });
    }

    /// The settings by which another session gets to the same host and address.
    #[must_use]
    pub fn pinned(&self, settings: &PostgresSettings) -> PostgresSettings {
        PostgresSettings { conninfo: settings.pinned(&self.place), ..settings.clone() }
    }

    /// Where the session is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The largest possible age of its connection.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Rolls back, and begins a transaction with the same settings.
    pub(super) async fn restart_transaction(&mut self) -> Result<(), PostgresError> {
        self.answer(&format!("ROLLBACK;\n{OPENING}")).await.map(drop)
    }

    /// Leaves the transaction: from now on each statement is its own transaction. The settings of the opening stay; read-only
    /// settings of the role or database do not apply. Messages are for debugging: whoever sends a statement reads its outcome.
    pub(super) async fn autocommit(&mut self) -> Result<(), PostgresError> {
        self.is_logged.store(false, Ordering::Relaxed);
        let kept = "SET default_transaction_read_only = off; COMMIT;";
        // An error's details may quote the statement, and that may hold a password's verifier.
        self.answer(&format!("{kept}\n\\set VERBOSITY terse\n\\set SHOW_CONTEXT never\n")).await.map(drop)
    }

    /// Ends the transaction. [`Self::restart_transaction`] must follow before any query.
    pub(super) async fn rollback(&mut self) -> Result<(), PostgresError> {
        self.query("ROLLBACK").await.map(drop)
    }

    /// Runs statements and returns the lines of their results.
    ///
    /// # Errors
    /// [`PostgresError::SessionLost`] if a statement or the connection failed: `psql` exits.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<String>, PostgresError> {
        self.answer(&format!("{sql}\n;\n")).await
    }

    /// Runs a query on the current `pg_stat_activity`, which a transaction otherwise sees as of its first look. Runs it as the
    /// login role: a role or database setting may `SET ROLE` to one that cannot see or end this program's sessions. One round
    /// trip gives the result and another restores the role, because psql before 15 prints only the last result of a message.
    pub(super) async fn query_activity(&mut self, sql: &str) -> Result<Vec<String>, PostgresError> {
        self.answer(&format!(
            "SELECT 1 WHERE pg_catalog.pg_stat_clear_snapshot() IS NULL \\; SAVEPOINT as_login \\; SET LOCAL ROLE NONE \\;\n\
             {sql}\n;\nROLLBACK TO as_login \\; RELEASE as_login;\n"
        ))
        .await
    }

    /// The output of `\conninfo`.
    pub(super) async fn conninfo(&mut self) -> Result<Vec<String>, PostgresError> {
        self.answer("\\conninfo\n").await
    }

    /// Sends complete statements or psql commands, and returns their output.
    async fn answer(&mut self, text: &str) -> Result<Vec<String>, PostgresError> {
        self.answer_within(QUERY_DEADLINE, text).await
    }

    /// The same with another deadline.
    pub(super) async fn answer_within(&mut self, deadline: Duration, text: &str) -> Result<Vec<String>, PostgresError> {
        match timeout(deadline, self.exchange(text)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Ended)) => Err(self.lost().await),
            Err(_) => Err(PostgresError::Silent { deadline }),
        }
    }

    /// Runs a query that the server may refuse; then the result is empty.
    ///
    /// # Errors
    /// [`PostgresError::SessionLost`] if the connection failed.
    pub async fn query_if_allowed(&mut self, sql: &str) -> Result<Vec<String>, PostgresError> {
        // A savepoint keeps the transaction, and with it the lock.
        let (before, after) =
            ("\\set ON_ERROR_STOP 0\n\\set ON_ERROR_ROLLBACK on", "\\set ON_ERROR_ROLLBACK off\n\\set ON_ERROR_STOP 1");
        self.answer(&format!("{before}\n{sql}\n;\n{after}\n")).await
    }

    /// The same, with the refusal logged for debugging only.
    pub(super) async fn query_if_allowed_quietly(&mut self, sql: &str) -> Result<Vec<String>, PostgresError> {
        self.is_logged.store(false, Ordering::Relaxed);
        let answer = self.query_if_allowed(sql).await;
        self.is_logged.store(true, Ordering::Relaxed);
        answer
    }

    /// Rolls back, which releases the lock and undoes all settings, and ends `psql`.
    pub async fn close(mut self) {
        if let Err(error) = self.stdin.write_all(b"ROLLBACK;\n").await {
            tracing::trace!(%error, "psql has ended already");
        }
        drop(self.stdin);
        if timeout(CLOSE_DEADLINE, self.child.wait()).await.is_err() {
            tracing::debug!("psql does not exit: it is killed");
        }
    }

    async fn exchange(&mut self, text: &str) -> Result<Vec<String>, Ended> {
        self.asked += 1;
        let own = format!("{MARKER} {}", self.asked);
        let text = format!("{text}\\echo '{own}'\n");
        if self.stdin.write_all(text.as_bytes()).await.is_err() || self.stdin.flush().await.is_err() {
            return Err(Ended);
        }
        let mut answer = Vec::new();
        loop {
            let Ok(Some(line)) = self.lines.next_segment().await else { return Err(Ended) };
            // A name or a query may contain bytes that are not UTF-8.
            let line = String::from_utf8_lossy(&line).into_owned();
            if line == own {
                return Ok(answer);
            }
            if line.starts_with(MARKER) {
                // The end of an earlier answer that timed out.
                answer.clear();
            } else {
                answer.push(line);
            }
        }
    }

    async fn lost(&mut self) -> PostgresError {
        let reason = self.last_messages().await.cause();
        PostgresError::SessionLost { reason: reason.unwrap_or_else(no_message) }
    }

    /// Why the server refused the connection.
    async fn refused(&mut self, target: String, variable: &str) -> PostgresError {
        let messages = self.last_messages().await;
        let hint = refusal::hint(&messages, variable);
        PostgresError::Connect { target, reason: messages.cause().unwrap_or_else(no_message), hint, tried: 1 }
    }

    /// The messages until its end; empty if they were read before.
    async fn last_messages(&mut self) -> Messages {
        let Some(mut messages) = self.messages.take() else { return Messages::default() };
        timeout(CLOSE_DEADLINE, &mut messages).await.ok().and_then(Result::ok).unwrap_or_default()
    }
}

/// `psql` has exited.
struct Ended;

fn no_message() -> String {
    "psql exited without a message".to_owned()
}

/// `host:port` of the connection string, for messages.
pub(super) fn target(conninfo: &Conninfo) -> String {
    match (conninfo.get("host").or(conninfo.get("hostaddr")), conninfo.get("port")) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => "its default address".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{DumpArguments, Psql, Tool, Version};
    use super::*;

    /// Answers each line with itself (`slow` once a file exists), and `\echo` as psql does.
    const PSQL: &str = r#"#!/bin/sh
while IFS= read -r line; do
    case $line in
        slow) until [ -e "$0.go" ]; do sleep 0.05; done; echo slow ;;
        latin) printf 'gr\366n\n' ;;
        \\echo*) line=${line#*\'}; echo "${line%\'}" ;;
        ';') ;;
        *) echo "$line" ;;
    esac
done
"#;

    /// A session with this script as `psql`.
    pub(in super::super) async fn session(directory: &std::path::Path, script: &str) -> Session {
        let psql = directory.join("psql");
        // A child writes it: a file that this process has open for writing cannot be run while another test forks.
        let mut shell = tokio::process::Command::new("/bin/sh");
        shell.args(["-c", "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(&psql).arg(script);
        assert!(shell.status().await.expect("a shell").success());
        let pg_dump = Tool { path: psql.clone(), version: Version::parse("15.18").expect("a version") };
        let tools = Tools { pg_dump, psql: Psql::at(psql), pg_dumpall: None };
        let settings = PostgresSettings {
            variable: "POSTGRES_CONNECTION_STRING",
            conninfo: Conninfo::default(),
            environment: super::super::ClientEnvironment::default(),
            pg_dump_path: None,
            arguments: DumpArguments::default(),
            lock_wait: Duration::ZERO,
            stall_timeout: Duration::ZERO,
            hides_names: false,
            allows_pooler: false,
        };
        Session::open(&tools, &settings, &settings.conninfo).await.expect("opened")
    }

    #[tokio::test]
    async fn discards_late_answer() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut session = session(directory.path(), PSQL).await;
        assert_eq!(session.query("one").await.expect("answered"), ["one"]);
        let timed_out = timeout(Duration::from_millis(50), session.query("slow")).await;
        assert!(timed_out.is_err(), "{timed_out:?}");
        std::fs::write(directory.path().join("psql.go"), "").expect("written");
        assert_eq!(session.query("two").await.expect("answered"), ["two"]);
    }

    #[tokio::test]
    async fn accepts_answer_that_is_not_utf8() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut session = session(directory.path(), PSQL).await;
        assert_eq!(session.query("latin").await.expect("answered"), ["gr\u{fffd}n"]);
    }
}
