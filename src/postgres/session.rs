//! The control session: one `psql`, kept open as a child for the length of a run.
//!
//! `psql` and not a driver, because only libpq means by a connection string what `pg_dump` means (FACTS §3). Queries go to
//! its stdin, answers come back up to a marker. `backup` opens it; it never sees the dump.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Split};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::keepalives::with_keepalives;
use super::messages::{Loudness, Messages};
use super::place::{Place, without_statement_timeout};
use super::pooler::{self, Backend, Pooling};
use super::psql::{MARKER, OPENING, Running};
use super::{Conninfo, PostgresError, PostgresSettings, Tools, refusal};

/// SPEC §4.2: three tries in 30 s, where another can help.
const TRIES: u32 = 3;
const TRIES_DEADLINE: Duration = Duration::from_secs(30);
/// Pauses between the tries: a server that restarts is back within seconds.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// The questions asked here take milliseconds; on a server that is drowning they may take longer.
const QUERY_DEADLINE: Duration = Duration::from_secs(30);
/// How long `psql` may take to end after its input did.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// An open session, in a transaction that holds no snapshot and is rolled back at its end.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    lines: Split<BufReader<ChildStdout>>,
    /// `None` once it was asked for its last words.
    messages: Option<JoinHandle<Messages>>,
    loudness: Loudness,
    /// How many questions were asked.
    asked: u64,
    opened: Instant,
    place: Place,
    pooling: Pooling,
}

impl Session {
    /// Connects, three times at most, and looks whether there is a pooler between.
    ///
    /// # Errors
    /// Where the last try failed: [`PostgresError::Connect`] with the server's or libpq's words. And
    /// [`PostgresError::TransactionPooler`], unless one is allowed.
    pub async fn connect(tools: &Tools, settings: &PostgresSettings) -> Result<Self, PostgresError> {
        let deadline = Instant::now() + TRIES_DEADLINE;
        let mut source = settings.conninfo.clone();
        let mut tried = 0;
        loop {
            tried += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match timeout(left, Self::connect_once(tools, settings, &source)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) => error,
                Err(_) => PostgresError::Silent { deadline: TRIES_DEADLINE },
            };
            let pause = PAUSES.get(tried as usize - 1).copied().unwrap_or_default();
            if tried == TRIES || Instant::now() + pause >= deadline || !error.may_pass() {
                return Err(error.after(tried));
            }
            if error.to_string().contains("statement timeout") {
                without_statement_timeout(&mut source, &settings.environment);
            }
            tracing::warn!(error = %crate::error_chain::Chain(&error), "cannot connect to PostgreSQL yet");
            sleep(pause).await;
        }
    }

    async fn connect_once(
        tools: &Tools,
        settings: &PostgresSettings,
        source: &Conninfo,
    ) -> Result<Self, PostgresError> {
        let mut session = Self::open(tools, settings, source).await?;
        let conninfo = session.answer("\\conninfo\n").await?;
        let first = Backend::ask(&mut session).await?;
        let (host, port) = (first.host.clone(), first.host_port.clone());
        session.place = Place::new(host, port, &conninfo, &first.statement_timeout);
        session.pooling = pooler::find(&mut session, &first, tools, settings).await?;
        if session.pooling == Pooling::Transaction && !settings.allows_pooler {
            let Place { host, port, .. } = session.place.clone();
            session.close().await;
            return Err(PostgresError::TransactionPooler { host, port });
        }
        Ok(session)
    }

    /// Opens a session, once, and asks nothing of it.
    pub(super) async fn open(
        tools: &Tools,
        settings: &PostgresSettings,
        source: &Conninfo,
    ) -> Result<Self, PostgresError> {
        let opened = Instant::now();
        let conninfo = with_keepalives(source, &settings.environment, tools);
        let Running { child, stdin, stdout, stderr } = tools.psql.start(&settings.environment, &conninfo).await?;
        let loudness = Loudness::quiet();
        let messages = Some(tokio::spawn(Messages::gather(stderr, "psql", loudness.clone())));
        let lines = BufReader::new(stdout).split(b'\n');
        let (place, pooling) = (Place::default(), Pooling::default());
        let mut session = Self { child, stdin, lines, messages, loudness, asked: 0, opened, place, pooling };
        match timeout(QUERY_DEADLINE, session.exchange("")).await {
            Ok(Ok(_)) => {
                session.loudness.raise();
                Ok(session)
            }
            Ok(Err(Ended)) => Err(session.refused(target(source)).await),
            Err(_) => Err(PostgresError::Silent { deadline: QUERY_DEADLINE }),
        }
    }

    /// What is between this program and the server.
    #[must_use]
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// The settings by which another session gets to the same host and address.
    #[must_use]
    pub fn pinned(&self, settings: &PostgresSettings) -> PostgresSettings {
        PostgresSettings { conninfo: settings.pinned(&self.place), ..settings.clone() }
    }

    /// Where it is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// How long ago its connection was begun, at most.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Begins the next transaction as the first.
    pub(super) async fn begin_anew(&mut self) -> Result<(), PostgresError> {
        self.answer(&format!("ROLLBACK;\n{OPENING}")).await.map(drop)
    }

    /// Leaves the transaction for good: each statement is one of its own from now on. What the opening has set stays, and what
    /// role or database set against writing does not. Messages are for debugging: whoever sends a statement reads its outcome.
    pub(super) async fn autocommit(&mut self) -> Result<(), PostgresError> {
        self.loudness.lower();
        let kept = "SET statement_timeout = 0; SET default_transaction_read_only = off; COMMIT;";
        // An error's details may quote the statement, and that may hold a password's verifier.
        self.answer(&format!("{kept}\n\\set VERBOSITY terse\n\\set SHOW_CONTEXT never\n")).await.map(drop)
    }

    /// Ends the transaction. Nothing may be asked before [`Self::begin_anew`].
    pub(super) async fn rest(&mut self) -> Result<(), PostgresError> {
        self.query("ROLLBACK").await.map(drop)
    }

    /// Runs one or more statements and gives the lines of their answers.
    ///
    /// # Errors
    /// [`PostgresError::SessionLost`] where `psql` ended: the statement failed, or the connection.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<String>, PostgresError> {
        self.answer(&format!("{sql}\n;\n")).await
    }

    /// As [`Self::query`], as the role that logged in: the one that `SET ROLE` leads to (a role's or database's setting) may
    /// see nothing of this program's own sessions and may not end them.
    pub(super) async fn query_as_login(&mut self, sql: &str) -> Result<Vec<String>, PostgresError> {
        self.query(&format!("SAVEPOINT as_login; SET LOCAL ROLE NONE;\n{sql};\nROLLBACK TO as_login; RELEASE as_login"))
            .await
    }

    /// What psql answers to complete commands, each with its end.
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

    /// As [`Self::query`] for a question that the server may refuse; then there is no answer.
    ///
    /// # Errors
    /// As [`Self::query`], but for a statement that failed.
    pub async fn query_if_allowed(&mut self, sql: &str) -> Result<Vec<String>, PostgresError> {
        // With a savepoint, or the transaction would end, and the lock with it.
        let (before, after) =
            ("\\set ON_ERROR_STOP 0\n\\set ON_ERROR_ROLLBACK on", "\\set ON_ERROR_ROLLBACK off\n\\set ON_ERROR_STOP 1");
        self.answer(&format!("{before}\n{sql}\n;\n{after}\n")).await
    }

    /// Ends the session in order; what it held (the lock) and what it had set is undone.
    pub async fn close(mut self) {
        if let Err(error) = self.stdin.write_all(b"ROLLBACK;\n").await {
            tracing::trace!(%error, "psql has ended already");
        }
        drop(self.stdin);
        if timeout(CLOSE_DEADLINE, self.child.wait()).await.is_err() {
            // Killed by `kill_on_drop`.
            tracing::debug!("psql did not end by itself");
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
            // A name or a query may hold bytes that are no UTF-8: that must not cost the session.
            let line = String::from_utf8_lossy(&line).into_owned();
            if line == own {
                return Ok(answer);
            }
            if line.starts_with(MARKER) {
                // The answer to a question before, for which nobody waited any longer.
                answer.clear();
            } else {
                answer.push(line);
            }
        }
    }

    async fn lost(&mut self) -> PostgresError {
        let reason = self.last_messages().await.cause();
        PostgresError::SessionLost { reason: reason.unwrap_or_else(without_a_word) }
    }

    /// Why there is no session.
    async fn refused(&mut self, target: String) -> PostgresError {
        let said = self.last_messages().await;
        let hint = refusal::hint(&said);
        PostgresError::Connect { target, reason: said.cause().unwrap_or_else(without_a_word), hint, tried: 1 }
    }

    /// What it said to its end; asked again, nothing.
    async fn last_messages(&mut self) -> Messages {
        let Some(mut messages) = self.messages.take() else { return Messages::default() };
        timeout(CLOSE_DEADLINE, &mut messages).await.ok().and_then(Result::ok).unwrap_or_default()
    }
}

/// `psql` has ended, and so the session.
struct Ended;

fn without_a_word() -> String {
    "psql ended without a word".to_owned()
}

/// `host:port` for messages, as far as the connection string has it.
fn target(conninfo: &Conninfo) -> String {
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

    /// Answers each line with itself, once there is a file where it is told so, and `\echo` as psql does.
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

    /// A session with this script for `psql`, in this directory.
    pub(in super::super) async fn session(directory: &std::path::Path, script: &str) -> Session {
        let psql = directory.join("psql");
        // By a child: what another test starts while this process writes it would keep it from being run for a moment.
        let mut shell = tokio::process::Command::new("/bin/sh");
        shell.args(["-c", "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(&psql).arg(script);
        assert!(shell.status().await.expect("a shell").success());
        let pg_dump = Tool { path: psql.clone(), version: Version::parse("15.18").expect("a version") };
        let tools = Tools { pg_dump, psql: Psql::at(psql), pg_dumpall: None };
        let settings = PostgresSettings {
            conninfo: Conninfo::default(),
            environment: super::super::ClientEnvironment::default(),
            pg_dump_path: None,
            arguments: DumpArguments::default(),
            lock_wait: Duration::ZERO,
            stall_timeout: Duration::ZERO,
            allows_pooler: false,
        };
        Session::open(&tools, &settings, &settings.conninfo).await.expect("opened")
    }

    #[tokio::test]
    async fn the_answer_to_a_question_that_was_given_up_is_nobody_elses() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut session = session(directory.path(), PSQL).await;
        assert_eq!(session.query("one").await.expect("answered"), ["one"]);
        let given_up = timeout(Duration::from_millis(50), session.query("slow")).await;
        assert!(given_up.is_err(), "{given_up:?}");
        std::fs::write(directory.path().join("psql.go"), "").expect("written");
        assert_eq!(session.query("two").await.expect("answered"), ["two"]);
    }

    #[tokio::test]
    async fn an_answer_that_is_no_utf8_is_an_answer() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut session = session(directory.path(), PSQL).await;
        assert_eq!(session.query("latin").await.expect("answered"), ["gr\u{fffd}n"]);
    }
}
