//! The control session: one `psql`, kept open as a child for the length of a run.
//!
//! `psql` and not a driver, because only libpq means by a connection string what `pg_dump` means (FACTS §3). Queries go to
//! its stdin, answers come back up to a marker. `backup` opens it; it never sees the dump.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Split};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::keepalives::with_keepalives;
use super::messages::Messages;
use super::{Conninfo, PostgresError, PostgresSettings, Tools};

/// SPEC §3: three tries in 30 s.
const TRIES: u32 = 3;
const TRIES_DEADLINE: Duration = Duration::from_secs(30);
/// Pauses between the tries: a server that restarts is back within seconds.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// The questions asked here take milliseconds; on a server that is drowning they may take longer.
const QUERY_DEADLINE: Duration = Duration::from_secs(30);
/// How long `psql` may take to end after its input did.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Stands before the number of the question whose answer ends there. Cannot occur in an answer: answers are JSON on one
/// line, or single words.
const MARKER: &str = "--- pg-s3-backup: end of answer";
/// A database without an encoding may hold any bytes. The server refuses to give those as UTF-8 that are none, and with the
/// refused question the session would be lost. The first question: it is also whether there is a session at all.
const NO_CONVERSION: &str = "SELECT set_config('client_encoding', 'SQL_ASCII', false) \
WHERE current_setting('server_encoding') = 'SQL_ASCII'";

/// An open session.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    lines: Split<BufReader<ChildStdout>>,
    messages: JoinHandle<Messages>,
    /// How many questions were asked.
    asked: u64,
}

impl Session {
    /// Connects, three times at most.
    ///
    /// # Errors
    /// Where the last try failed: [`PostgresError::Connect`] with the server's or libpq's words.
    pub async fn connect(tools: &Tools, settings: &PostgresSettings) -> Result<Self, PostgresError> {
        let deadline = Instant::now() + TRIES_DEADLINE;
        let mut tried = 0;
        loop {
            tried += 1;
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match timeout(left, Self::open(tools, settings)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(error)) => error,
                Err(_) => PostgresError::Silent { deadline: TRIES_DEADLINE },
            };
            let pause = PAUSES.get(tried as usize - 1).copied().unwrap_or_default();
            if tried == TRIES || Instant::now() + pause >= deadline || !error.may_pass() {
                return Err(error.after(tried));
            }
            tracing::warn!(error = %crate::error::Chain(&error), "cannot connect to PostgreSQL yet");
            sleep(pause).await;
        }
    }

    async fn open(tools: &Tools, settings: &PostgresSettings) -> Result<Self, PostgresError> {
        let mut command = settings.environment.command(&tools.psql, settings.conninfo.password());
        let mut conninfo = with_keepalives(&settings.conninfo, &settings.environment, tools);
        // Answers are read as UTF-8, whatever the database's encoding, or the one that the user wants for the dump.
        conninfo.set("client_encoding", "UTF8");
        command
            // A question that is refused must not end the transaction, and the lock with it: hence the savepoints.
            .args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-v", "ON_ERROR_ROLLBACK=on", "-d", &conninfo.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let spawn_error = |reason: String| PostgresError::UnusableTool { path: tools.psql.clone(), reason };
        let mut child = command.spawn().map_err(|error| spawn_error(error.to_string()))?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(spawn_error("its pipes are missing".to_owned()));
        };
        let lines = BufReader::new(stdout).split(b'\n');
        let messages = tokio::spawn(Messages::gather(stderr, "psql"));
        let mut session = Self { child, stdin, lines, messages, asked: 0 };
        match session.query(NO_CONVERSION).await {
            Ok(_) => Ok(session),
            Err(PostgresError::SessionLost { reason }) => {
                Err(PostgresError::Connect { target: target(&settings.conninfo), reason, tried: 1 })
            }
            Err(error) => Err(error),
        }
    }

    /// Runs one or more statements and gives the lines of their answers.
    ///
    /// # Errors
    /// [`PostgresError::SessionLost`] where `psql` ended: the statement failed, or the connection.
    pub async fn query(&mut self, sql: &str) -> Result<Vec<String>, PostgresError> {
        match timeout(QUERY_DEADLINE, self.exchange(sql)).await {
            Ok(answer) => answer,
            Err(_) => Err(PostgresError::Silent { deadline: QUERY_DEADLINE }),
        }
    }

    /// As [`Self::query`] for a question that the server may refuse; then there is no answer.
    ///
    /// # Errors
    /// As [`Self::query`], but for a statement that failed.
    pub async fn query_if_allowed(&mut self, sql: &str) -> Result<Vec<String>, PostgresError> {
        self.query(&format!("\\set ON_ERROR_STOP 0\n{sql};\n\\set ON_ERROR_STOP 1")).await
    }

    /// Ends the session in order; what it held (the lock) is free afterwards.
    pub async fn close(mut self) {
        drop(self.stdin);
        if timeout(CLOSE_DEADLINE, self.child.wait()).await.is_err() {
            // Killed by `kill_on_drop`.
            tracing::debug!("psql did not end by itself");
        }
    }

    async fn exchange(&mut self, sql: &str) -> Result<Vec<String>, PostgresError> {
        self.asked += 1;
        let own = format!("{MARKER} {}", self.asked);
        let text = format!("{sql}\n;\n\\echo '{own}'\n");
        if self.stdin.write_all(text.as_bytes()).await.is_err() || self.stdin.flush().await.is_err() {
            return Err(self.lost().await);
        }
        let mut answer = Vec::new();
        loop {
            let Ok(Some(line)) = self.lines.next_segment().await else { return Err(self.lost().await) };
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
        let said = timeout(CLOSE_DEADLINE, &mut self.messages).await;
        let reason = said.ok().and_then(Result::ok).and_then(|messages| messages.cause());
        PostgresError::SessionLost { reason: reason.unwrap_or_else(|| "psql ended without a word".to_owned()) }
    }
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
    use super::super::{DumpArguments, Tool, Version};
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
        let tools = Tools { pg_dump, psql, pg_dumpall: None };
        let settings = PostgresSettings {
            conninfo: Conninfo::default(),
            environment: super::super::ClientEnvironment::default(),
            pg_dump_path: None,
            arguments: DumpArguments::default(),
            lock_wait: Duration::ZERO,
            stall_timeout: Duration::ZERO,
        };
        Session::connect(&tools, &settings).await.expect("connected")
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
