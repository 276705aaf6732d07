//! Starts `psql` and prepares its session.
//!
//! Only this file can start `psql`, and [`OPENING`] is always its first input: no query runs on an unprepared session.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

use super::{ClientEnvironment, Conninfo, PostgresError};

/// Ends an answer, followed by the question's number. It cannot occur in answers, which are single words or one line of JSON.
pub(super) const MARKER: &str = "--- pg-s3-backup: end of answer";

/// The settings that every session begins with; see [`OPENING`].
macro_rules! settings {
    () => {
        "\
SELECT pg_catalog.set_config('search_path', '', false) \\;
SET statement_timeout = 0 \\;
SELECT pg_catalog.count(pg_catalog.set_config(name, value, false)) FROM (VALUES \
('lock_timeout', '0'), ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0'), \
('idle_session_timeout', '0'), ('client_min_messages', 'notice'), ('standard_conforming_strings', 'on'), \
('quote_all_identifiers', 'off'), ('DateStyle', 'ISO'), ('IntervalStyle', 'postgres'), ('extra_float_digits', '1'), \
('array_nulls', 'on'), ('transform_null_equals', 'off')) AS w (name, value) \
WHERE pg_catalog.current_setting(name, true) IS NOT NULL \\;
SELECT pg_catalog.set_config('client_encoding', 'SQL_ASCII', false) \
WHERE pg_catalog.current_setting('server_encoding') = 'SQL_ASCII';
"
    };
}

/// Lets an autovacuum worker give up a table 10 ms after a statement of this session began to wait for it, instead of the second
/// that is PostgreSQL's default of `deadlock_timeout`: loading a table calls the worker, and the next statement is CREATE INDEX.
/// Any wait is then checked for a deadlock after 10 ms, once, which takes microseconds (`src/backend/storage/lmgr/proc.c`). Only
/// superusers may set it everywhere; others gain nothing.
macro_rules! autovacuum_yields {
    () => {
        "\
SELECT pg_catalog.set_config('deadlock_timeout', '10ms', false) WHERE pg_catalog.current_setting('is_superuser') = 'on'"
    };
}

/// The statement that makes autovacuum yield to a session.
pub(super) const AUTOVACUUM_YIELDS: &str = autovacuum_yields!();

/// The first input of each session. It overrides role and database settings:
///
/// - An empty `search_path`: no function, operator or type in a user's schema can replace one of `pg_catalog`.
/// - No timeouts. `statement_timeout` comes first, because it may be too short for the next query.
/// - Default values of settings that change the meaning of queries, answers and the rows of a dump, and no DEBUG messages.
/// - `SQL_ASCII` as client encoding of such a database: it may contain any bytes, which the server cannot send as UTF-8.
///
/// The transaction never commits, so its end undoes everything: behind a pooler, another client gets the server session next.
/// `\;` makes it one message, which a pooler sends to one server session in one round trip.
pub(super) const OPENING: &str = concat!("BEGIN ISOLATION LEVEL READ COMMITTED \\;\n", settings!());

/// The first input of a restore in one transaction, which writes whatever role and database set.
const OPENING_OF_ONE: &str = concat!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE \\;\n", settings!());

/// The first input of a restore without one. No statement waits for the disk (the rename at the end does), or for autovacuum.
const OPENING_OF_EACH: &str = concat!(
    "SET default_transaction_read_only = off \\;\nSET synchronous_commit = off \\;\n",
    settings!(),
    autovacuum_yields!(),
    ";\n"
);

impl Transactions {
    /// The first input of a restore.
    pub(super) fn opening(self) -> &'static str {
        match self {
            Self::One => OPENING_OF_ONE,
            Self::Each => OPENING_OF_EACH,
        }
    }
}

/// How a restore commits what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transactions {
    /// All of it with one COMMIT, which is this program's.
    One,
    /// Each statement by itself, and large objects as the dump says: into a database that is dropped if anything fails.
    Each,
}

/// The psql command that connects to another database with the parameters of the connection before; if that fails, psql exits.
/// `None` for a name with characters that mean something to psql or libpq.
pub(super) fn connect(database: &str) -> Option<String> {
    let is_special = |character: char| character.is_control() || matches!(character, '"' | '\'' | '\\');
    let command = || format!("\\connect -reuse-previous=on 'dbname=''{database}'''\n");
    (!database.contains(is_special)).then(command)
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
    /// The program with this path.
    pub(super) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Why it cannot be used.
    pub(super) fn unusable(&self, error: &std::io::Error) -> PostgresError {
        PostgresError::UnusableTool { path: self.0.clone(), reason: error.to_string() }
    }

    /// Starts it. The output of [`OPENING`] ends with [`MARKER`] and 0.
    ///
    /// # Errors
    /// If it cannot be started.
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
    /// If it cannot be started.
    pub(super) async fn start_with(
        &self,
        environment: &ClientEnvironment,
        source: &Conninfo,
        flags: &str,
        opening: &str,
    ) -> Result<Running, PostgresError> {
        let mut conninfo = source.clone();
        // For the answers. It does not affect the encoding of the dump.
        conninfo.set("client_encoding", "UTF8");
        let mut command = environment.command(&self.0, source.password());
        command
            .args([flags, "-v", "ON_ERROR_STOP=1", "-d", &conninfo.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| self.unusable(&error))?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(self.unusable(&std::io::Error::other("its pipes are missing")));
        };
        if let Err(error) = stdin.write_all(opening.as_bytes()).await {
            // It has exited, and its messages say why.
            tracing::trace!(%error, "psql does not read");
        }
        Ok(Running { child, stdin, stdout, stderr })
    }
}
