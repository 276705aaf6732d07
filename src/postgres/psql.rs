//! `psql`: the only program by which a server is asked anything, and how each of its sessions begins.
//!
//! [`super::Tools`] has it, [`super::Session`] runs it. Only this file can start it, and what it reads first is [`OPENING`]:
//! no later code can ask on a session that has not begun so.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

use super::{ClientEnvironment, Conninfo, PostgresError};

/// Stands before the number of the question whose answer ends there. Cannot occur in an answer: answers are JSON on one
/// line, or single words.
pub(super) const MARKER: &str = "--- pg-s3-backup: end of answer";

/// How each session begins.
///
/// Nothing of the user's is run: with an empty `search_path` a function, an operator or a type that its owner has planted
/// in a schema of the role's or the database's path is not found, however much better than `pg_catalog`'s own it fits.
/// Nothing ends the session but this program, whatever time-outs the role and the database set: that of a statement is
/// turned off before the others, since it may be too short for their question. And what changes the meaning of a question or an answer is as usual.
/// The server's DEBUG messages do not reach the log, whatever the role and the database set.
/// What an older server does not have is passed over.
///
/// A database without an encoding may hold any bytes: the server refuses to give those as UTF-8 that are none, and with the
/// refused answer the session would be lost.
///
/// All this is in a transaction that never commits, at whose end it is undone: behind a pooler the server's session is
/// another's next, and must be left as it was found. It goes out as one message (hence `\;`), so that a pooler gives it to
/// one session, and that it takes one round trip. (`BEGIN` and `SET` look nothing up.)
pub(super) const OPENING: &str = "\
BEGIN ISOLATION LEVEL READ COMMITTED \\;
SELECT pg_catalog.set_config('search_path', '', false) \\;
SET LOCAL statement_timeout = 0 \\;
SELECT pg_catalog.count(pg_catalog.set_config(s.name, w.value, false)) FROM pg_catalog.pg_settings s JOIN (VALUES \
('lock_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0'), \
('idle_session_timeout', '0'), ('client_min_messages', 'notice'), ('standard_conforming_strings', 'on'), \
('quote_all_identifiers', 'off'), ('DateStyle', 'ISO'), ('IntervalStyle', 'postgres'), ('extra_float_digits', '1')) AS w (name, value) USING (name) \\;
SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false) \
WHERE pg_catalog.current_setting('server_encoding') = 'SQL_ASCII';
";

/// How the session of a restore begins: as every other, but for what is to stay.
///
/// A transaction that writes, whatever role and database set; or none, and then nothing waits for a disk that is not to outlive
/// a failure anyway: the rename at the end does.
pub(super) fn opening_of_restore(transactions: Transactions) -> String {
    let rest = OPENING.split_once('\n').map_or("", |(_, rest)| rest).replace("SET LOCAL", "SET");
    match transactions {
        Transactions::One => format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE \\;\n{rest}"),
        Transactions::Each => {
            format!("SET default_transaction_read_only = off \\;\nSET synchronous_commit = off \\;\n{rest}")
        }
    }
}

/// How a restore commits what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transactions {
    /// All of it with one COMMIT, which is this program's.
    One,
    /// Each statement by itself, and large objects as the dump says: into a database that is dropped where anything fails.
    Each,
}

/// An installed `psql`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Psql(PathBuf);

/// A `psql` that runs; killed with this value.
pub(super) struct Running {
    pub child: Child,
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
}

impl Psql {
    /// The program at that place.
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Starts it. What it answers to [`OPENING`] ends with [`MARKER`] and 0.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(super) async fn start(
        &self,
        environment: &ClientEnvironment,
        source: &Conninfo,
    ) -> Result<Running, PostgresError> {
        let opening = format!("{OPENING}\\echo '{MARKER} 0'\n");
        self.start_with(environment, source, "-XAtqw", &opening).await
    }

    /// Starts it with these flags, and sends what it reads first.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub(super) async fn start_with(
        &self,
        environment: &ClientEnvironment,
        source: &Conninfo,
        flags: &str,
        opening: &str,
    ) -> Result<Running, PostgresError> {
        let unusable =
            |error: std::io::Error| PostgresError::UnusableTool { path: self.0.clone(), reason: error.to_string() };
        let mut conninfo = source.clone();
        // Answers are read as UTF-8, whatever the database's encoding, or the one that the user wants for the dump.
        conninfo.set("client_encoding", "UTF8");
        let mut command = environment.command(&self.0, source.password());
        command
            .args([flags, "-v", "ON_ERROR_STOP=1", "-d", &conninfo.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(unusable)?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(unusable(std::io::Error::other("its pipes are missing")));
        };
        if let Err(error) = stdin.write_all(opening.as_bytes()).await {
            // It has ended already; its own words say why.
            tracing::trace!(%error, "psql does not read");
        }
        Ok(Running { child, stdin, stdout, stderr })
    }
}
