//! What a child writes to stderr: read all the time, logged line by line, its tail kept for the error.
//!
//! Used for `psql` and `pg_dump`. A child whose stderr is not read stops when the pipe is full; one that writes
//! megabytes must not fill memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Lines kept for the error.
const KEPT_LINES: usize = 20;
/// Longer lines are cut: an error quotes the statement, which may hold megabytes.
const LONGEST_LINE: usize = 2_000;

/// What `pg_dump` puts before the server's (or libpq's) own words, in a line behind its complaint.
const SERVERS_WORDS: &str = "Error message from server: ";

/// In each of libpq's lines about an attempt to connect that failed: one for each address of each host.
const ATTEMPT: &str = "connection to server ";
const KEPT_ATTEMPTS: usize = 8;
/// How libpq begins what it warns of: a password file that it does not read.
const WARNING: &str = "WARNING:";

/// Whether what a child says is logged as it comes: not while it connects, since that is the error itself then.
#[derive(Clone, Debug)]
pub struct Loudness(Arc<AtomicBool>);

impl Loudness {
    /// Logged from the beginning.
    #[must_use]
    pub fn loud() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Logged from [`Self::raise`] on.
    #[must_use]
    pub fn quiet() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    /// Has it logged from now on.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_loud(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The end of what a child wrote, and its first complaint.
#[derive(Debug, Default)]
pub struct Messages {
    first_error: Option<String>,
    servers_words: Option<String>,
    /// The attempts to connect that failed.
    attempts: Vec<String>,
    warning: Option<String>,
    last: VecDeque<String>,
    line: Vec<u8>,
}

impl Messages {
    /// Reads to the end, logging each line as the program's.
    pub async fn gather(mut stderr: impl AsyncRead + Unpin, program: &'static str, loudness: Loudness) -> Self {
        let mut messages = Self::default();
        let mut buffer = vec![0; 8 << 10];
        loop {
            match stderr.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => messages.take(&buffer[..count], program, &loudness),
            }
        }
        messages.end_of_line(program, &loudness);
        messages
    }

    /// The cause in one line: the first complaint, with the server's words where they follow, with the other attempts to
    /// connect, and with what libpq warned of; else the last line.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        let complaint = self.first_error.as_deref().map(|complaint| match &self.servers_words {
            Some(words) => format!("{}: {words}", complaint.trim_end_matches('.')),
            None => complaint.to_owned(),
        });
        let further = || self.attempts.iter().skip(1).chain(&self.warning);
        let complaint = complaint.map(|complaint| {
            // With several addresses, as a rule the same of each.
            further().fold(complaint, |text, line| if text.contains(line) { text } else { format!("{text}; {line}") })
        });
        complaint.or_else(|| self.last.back().cloned())
    }

    /// Each attempt to connect that failed; or the first complaint, where it does not say of what.
    pub fn refusals(&self) -> impl Iterator<Item = &str> {
        let first = self.first_error.iter().filter(|_| self.attempts.is_empty());
        self.attempts.iter().chain(first).map(String::as_str)
    }

    fn take(&mut self, bytes: &[u8], program: &str, loudness: &Loudness) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_of_line(program, loudness);
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(*byte);
            }
        }
    }

    fn end_of_line(&mut self, program: &str, loudness: &Loudness) {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes).trim().to_owned();
        if line.is_empty() {
            return;
        }
        let is_error = ["error:", "ERROR:", "FATAL:"].iter().any(|word| line.contains(word));
        if !loudness.is_loud() {
            tracing::debug!(program, line, "message");
        } else if is_error || line.contains("warning:") {
            tracing::warn!(program, line, "message");
        } else {
            tracing::info!(program, line, "message");
        }
        let words = line.split_once(SERVERS_WORDS).map(|(_, words)| words);
        if let Some(words) = words.filter(|words| !words.is_empty() && self.servers_words.is_none()) {
            self.servers_words = Some(words.to_owned());
        }
        if line.contains(ATTEMPT) && self.attempts.len() < KEPT_ATTEMPTS {
            self.attempts.push(line.clone());
        }
        if line.starts_with(WARNING) && self.warning.is_none() {
            self.warning = Some(line.clone());
        }
        if is_error && self.first_error.is_none() {
            self.first_error = Some(line.clone());
        }
        if self.last.len() == KEPT_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn cause(text: &[u8]) -> Option<String> {
        Messages::gather(text, "pg_dump", Loudness::loud()).await.cause()
    }

    #[tokio::test]
    async fn the_first_error_is_the_cause() {
        let text = b"pg_dump: reading\npg_dump: error: no permission\npg_dump: detail: query\n";
        assert_eq!(cause(text).await.as_deref(), Some("pg_dump: error: no permission"));
        assert_eq!(cause(b"one\ntwo").await.as_deref(), Some("two"));
        assert_eq!(cause(b"\n\n").await, None);
    }

    #[tokio::test]
    async fn the_servers_words_belong_to_the_complaint_before_them() {
        let failed = "pg_dump: error: Dumping the contents of table \"t\" failed: PQgetCopyData() failed";
        let wanted = format!("{failed}: FATAL:  terminating connection");
        // Since PostgreSQL 14, and before.
        for kind in ["detail", "error"] {
            let server = format!("pg_dump: {kind}: Error message from server: FATAL:  terminating connection");
            let text = format!("{failed}.\n{server}\nserver closed\npg_dump: {kind}: Command was: COPY\n");
            assert_eq!(cause(text.as_bytes()).await.as_deref(), Some(&*wanted), "{kind}");
        }
        let text = format!("{failed}.\npg_dump: detail: Error message from server: \n");
        assert_eq!(cause(text.as_bytes()).await.as_deref(), Some(&*format!("{failed}.")));
    }

    #[tokio::test]
    async fn the_failure_of_each_address_is_told_and_what_libpq_warned_of() {
        let refused = "psql: error: connection to server at \"a\", port 1 failed: Connection refused";
        let no_password = "connection to server at \"b\", port 2 failed: fe_sendauth: no password supplied";
        let warning = "WARNING: password file \"/p\" has group or world access";
        let text = format!("{warning}\n{refused}\n\tIs the server running?\n{no_password}\n{no_password}\n");
        assert_eq!(cause(text.as_bytes()).await, Some(format!("{refused}; {no_password}; {warning}")));
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let text = vec![b'x'; 100_000];
        assert_eq!(cause(&text).await.map(|line| line.len()), Some(LONGEST_LINE));
    }
}
