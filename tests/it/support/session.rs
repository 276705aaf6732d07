//! [`Session`]: a `psql` that stays open, to keep the locks of a transaction. Used by the tests of locks.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::servers::database::Database;

const MARKER: &str = "--- done ---";

/// An open session; dropping it closes it and rolls back its transaction.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Session {
    /// Opens a session as a superuser.
    ///
    /// # Panics
    /// If `psql` cannot be started.
    pub fn open(database: &Database) -> Self {
        let mut psql = database.server().client("psql", &database.name);
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql");
        let (stdin, stdout) = (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        Self { child, stdin, stdout: BufReader::new(stdout) }
    }

    /// Runs SQL and waits for its end.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&mut self, sql: &str) {
        writeln!(self.stdin, "{sql};\n\\echo {MARKER}").expect("psql reads");
        let mut line = String::new();
        while line.trim() != MARKER {
            line.clear();
            assert!(self.stdout.read_line(&mut line).expect("psql writes") > 0, "psql ended at {sql:?}");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
