//! [`Session`]: a `psql` that stays open, to keep the locks of a transaction. Used by the tests of locks.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::servers::Postgres;
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
        Self::of(database.server(), &database.name)
    }

    /// Opens one to any database of a server.
    ///
    /// # Panics
    /// Where `psql` cannot be started.
    pub fn of(server: &Postgres, database: &str) -> Self {
        let mut psql = server.client("psql", database);
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql");
        let (stdin, stdout) = (child.stdin.take().expect("its input"), child.stdout.take().expect("its output"));
        Self { child, stdin, stdout: BufReader::new(stdout) }
    }

    /// Runs SQL and waits for its end.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&mut self, sql: &str) {
        self.ask(sql);
    }

    /// Runs SQL and gives the rows, unaligned, without a last line end.
    ///
    /// # Panics
    /// Where it fails.
    pub fn ask(&mut self, sql: &str) -> String {
        writeln!(self.stdin, "{sql};\n\\echo {MARKER}").expect("psql reads");
        let mut rows = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).expect("psql writes") > 0, "psql ended at {sql:?}");
            if line.trim() == MARKER {
                return rows.join("\n");
            }
            rows.push(line.trim_end_matches('\n').to_owned());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
