//! Reads stderr of `psql` and `pg_dump`: logs each line, and keeps errors, warnings and the last lines in bounded memory. A
//! child blocks if its stderr is not read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Lines kept for the error.
const KEPT_LINES: usize = 20;
/// Longer lines are cut: an error quotes the statement, which may have megabytes.
const MAX_LINE: usize = 2_000;

/// Warnings kept for the manifest, and how much of each.
const KEPT_WARNINGS: usize = 50;
const MAX_WARNING: usize = 500;

/// DETAIL and HINT lines that are kept.
const KEPT_EXPLANATIONS: usize = 4;

/// `pg_dump` puts this before the server's or libpq's message, on a line after its own error.
const SERVER_MESSAGE: &str = "Error message from server: ";

/// In each of libpq's lines about a failed connection attempt: one line per address.
const ATTEMPT: &str = "connection to server ";
const KEPT_ATTEMPTS: usize = 8;
/// The server refuses a connection.
const FATAL: &str = "FATAL:";
/// Messages that the server sends only if `client_min_messages` asks for them, which a database may set for all clients.
const DEBUG: [&str; 2] = ["DEBUG:", "LOG:"];
/// libpq's warnings, such as about a password file that it does not read.
const WARNING: &str = "WARNING:";

/// The first error of a child, its warnings, and its last lines.
#[derive(Debug, Default)]
pub struct Messages {
    first_error: Option<String>,
    server_message: Option<String>,
    /// The failed connection attempts.
    attempts: Vec<String>,
    warning: Option<String>,
    /// DETAIL and HINT of the first error.
    explanations: Vec<String>,
    /// The message that an explanation belongs to.
    explained: Explained,
    /// The previous line belongs to a refused connection, and the message may continue: a name may contain line breaks.
    may_continue: bool,
    warnings: Vec<String>,
    further_warnings: usize,
    last: VecDeque<String>,
    line: Vec<u8>,
    /// Lines are not logged, because they may name what is in the database.
    is_unlogged: bool,
}

/// The kind of the previous message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Explained {
    /// A notice.
    #[default]
    Notice,
    /// A debug message.
    Debug,
    /// A warning, or a later error.
    Alarm,
    FirstError,
}

/// The kind of a line.
#[derive(Debug, PartialEq, Eq)]
enum Kind<'a> {
    Error,
    /// The server's or libpq's message for the previous error.
    ServerMessage(&'a str),
    Warning(&'a str),
    Notice,
    /// A `DEBUG:  …` of the server.
    Debug,
    /// `HINT:  …` of the server; `pg_dump: hint: …`
    Explanation(&'a str),
    /// A part of the previous message that is not used in errors: the query.
    Aside,
    Other,
}

impl<'a> Kind<'a> {
    fn of(line: &'a str, program: &str) -> Self {
        // `pg_dump-18: …` if the file has that name.
        let own = line.split_once(": ").filter(|(name, _)| name.starts_with(program) && !name.contains(' '));
        let own = own.map(|(_, own)| own);
        if DEBUG.iter().any(|word| own.unwrap_or(line).starts_with(word)) {
            return Self::Debug;
        }
        if let Some(words) = line.split_once(SERVER_MESSAGE).map(|(_, words)| words).filter(|words| !words.is_empty()) {
            return Self::ServerMessage(words);
        }
        if let Some(text) = own.and_then(|own| own.strip_prefix("warning:")) {
            return Self::Warning(text.trim());
        }
        if own.is_some_and(|own| own.starts_with("detail:")) {
            return Self::Aside;
        }
        let hint = own.filter(|own| own.starts_with("hint:"));
        if let Some(text) = hint.or(Some(line).filter(|line| line.starts_with("DETAIL:") || line.starts_with("HINT:")))
        {
            return Self::Explanation(text);
        }
        let has = |words: &[&str]| words.iter().any(|word| line.contains(word));
        match () {
            () if has(&["error:", "ERROR:", FATAL]) => Self::Error,
            () if has(&["warning:", "WARNING:", "NOTICE:"]) => Self::Notice,
            () => Self::Other,
        }
    }
}

impl Messages {
    /// Reads to the end, and logs each line under the program's name. Before `is_logged` is true, it logs for debugging only.
    pub async fn gather(stderr: impl AsyncRead + Unpin, program: &'static str, is_logged: Arc<AtomicBool>) -> Self {
        Self::default().read(stderr, program, &is_logged).await
    }

    /// The cause in one line: the first error with the server's message, DETAIL, HINT, other connection attempts and libpq's
    /// warning; without an error, the last line.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        let error = self.first_error.as_deref().map(|error| match &self.server_message {
            Some(message) => format!("{}: {message}", error.trim_end_matches('.')),
            None => error.to_owned(),
        });
        let explained =
            error.map(|error| self.explanations.iter().fold(error, |text, explanation| text + "; " + explanation));
        let further = || self.attempts.iter().skip(1).chain(&self.warning);
        let cause = explained.map(|error| {
            // Several addresses usually have the same error.
            further().fold(error, |text, line| if text.contains(line) { text } else { format!("{text}; {line}") })
        });
        cause.or_else(|| self.last.back().cloned())
    }

    /// The warnings, one line each: usually about something that the dump lacks.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let more = (self.further_warnings > 0).then(|| format!("{} more warnings", self.further_warnings));
        self.warnings.iter().cloned().chain(more).collect()
    }

    /// The message of each failed connection attempt; without any, the first error.
    pub fn refusals(&self) -> impl Iterator<Item = &str> {
        let first = self.first_error.iter().filter(|_| self.attempts.is_empty());
        self.attempts.iter().chain(first).map(String::as_str)
    }

    /// As [`Self::gather`], but logs only how many warnings there were. The cause of a failure is in its error.
    pub async fn gather_unlogged(stderr: impl AsyncRead + Unpin, program: &'static str) -> Self {
        let messages = Self { is_unlogged: true, ..Self::default() };
        let messages = messages.read(stderr, program, &AtomicBool::default()).await;
        let warnings = messages.warnings.len() + messages.further_warnings;
        if warnings > 0 {
            tracing::warn!(program, warnings, "warnings that are not shown, because the backup is encrypted");
        }
        messages
    }

    async fn read(mut self, mut stderr: impl AsyncRead + Unpin, program: &'static str, is_logged: &AtomicBool) -> Self {
        let mut buffer = vec![0; 8 << 10];
        loop {
            match stderr.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => self.take(&buffer[..count], program, is_logged),
            }
        }
        self.end_of_line(program, is_logged);
        self
    }

    fn take(&mut self, bytes: &[u8], program: &str, is_logged: &AtomicBool) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_of_line(program, is_logged);
            } else if self.line.len() < MAX_LINE {
                self.line.push(*byte);
            }
        }
    }

    fn end_of_line(&mut self, program: &str, is_logged: &AtomicBool) {
        let is_logged = is_logged.load(Ordering::Relaxed);
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes).trim().to_owned();
        if line.is_empty() {
            return;
        }
        let kind = Kind::of(&line, program);
        // libpq's advice is indented.
        if self.may_continue && kind == Kind::Other && !bytes.starts_with(b"\t") {
            self.continue_refusal(&line);
        }
        let is_explanation = matches!(kind, Kind::Explanation(_) | Kind::Aside);
        let belongs = is_explanation && matches!(self.explained, Explained::Alarm | Explained::FirstError);
        let is_debug = kind == Kind::Debug
            || self.explained == Explained::Debug
                && (is_explanation || kind == Kind::Other && !line.starts_with(program));
        let is_alarm = matches!(kind, Kind::Error | Kind::ServerMessage(_) | Kind::Warning(_));
        let is_warning = belongs || is_alarm || line.contains("warning:");
        if !self.is_unlogged {
            log(program, &line, (is_logged && !is_debug).then_some(is_warning));
        }
        self.note(&line, &kind);
        if kind == Kind::Debug {
            return;
        }
        let is_refusal = !is_logged && (line.contains(ATTEMPT) || line.contains(FATAL));
        self.may_continue = is_refusal || self.may_continue && kind == Kind::Other;
        if line.contains(ATTEMPT) && self.attempts.len() < KEPT_ATTEMPTS {
            self.attempts.push(line.clone());
        }
        if line.starts_with(WARNING) && self.warning.is_none() {
            self.warning = Some(line.clone());
        }
        if self.last.len() == KEPT_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn note(&mut self, line: &str, kind: &Kind<'_>) {
        match kind {
            Kind::ServerMessage(words) if self.server_message.is_none() => {
                self.server_message = Some((*words).to_owned());
            }
            Kind::Explanation(text)
                if self.explained == Explained::FirstError && self.explanations.len() < KEPT_EXPLANATIONS =>
            {
                self.explanations.push((*text).to_owned());
            }
            Kind::Warning(_) if self.warnings.len() == KEPT_WARNINGS => self.further_warnings += 1,
            Kind::Warning(text) => self.warnings.push(text.chars().take(MAX_WARNING).collect()),
            _ => {}
        }
        match kind {
            Kind::Error | Kind::ServerMessage(_) if self.first_error.is_none() => {
                self.first_error = Some(line.to_owned());
                self.explained = Explained::FirstError;
            }
            Kind::Error | Kind::Warning(_) => self.explained = Explained::Alarm,
            Kind::Notice => self.explained = Explained::Notice,
            Kind::Debug => self.explained = Explained::Debug,
            _ => {}
        }
    }

    /// Appends a line to the refusal before it.
    fn continue_refusal(&mut self, line: &str) {
        let is_first = self.attempts.len() <= 1;
        let first = self.first_error.iter_mut().filter(|_| is_first);
        for message in first.chain(self.attempts.last_mut()) {
            if message.len() + line.len() < MAX_LINE {
                *message = format!("{message} {line}");
            }
        }
    }
}

/// Logs a line as a warning, as information, or (`None`) for debugging. `pg_dumpall` shares the field of `pg_dump`.
fn log(program: &str, line: &str, is_warning: Option<bool>) {
    let of_pg_dump = program.starts_with("pg_dump");
    let (pg_dump_stderr, psql_stderr) = (of_pg_dump.then_some(line), (!of_pg_dump).then_some(line));
    match is_warning {
        Some(true) => tracing::warn!(program, pg_dump_stderr, psql_stderr, "message"),
        Some(false) => tracing::info!(program, pg_dump_stderr, psql_stderr, "message"),
        None => tracing::debug!(program, pg_dump_stderr, psql_stderr, "message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn cause(text: &[u8]) -> Option<String> {
        Messages::gather(text, "pg_dump", Arc::new(AtomicBool::new(true))).await.cause()
    }

    #[tokio::test]
    async fn first_error_is_the_cause() {
        let text = b"pg_dump: reading\npg_dump: error: no permission\npg_dump: detail: query\n";
        assert_eq!(cause(text).await.as_deref(), Some("pg_dump: error: no permission"));
        assert_eq!(cause(b"one\ntwo").await.as_deref(), Some("two"));
        assert_eq!(cause(b"\n\n").await, None);
    }

    #[tokio::test]
    async fn server_message_belongs_to_previous_error() {
        let failed = "pg_dump: error: Dumping the contents of table \"t\" failed: PQgetCopyData() failed";
        let wanted = format!("{failed}: FATAL:  terminating connection");
        // Since PostgreSQL 14, and earlier.
        for kind in ["detail", "error"] {
            let server = format!("pg_dump: {kind}: Error message from server: FATAL:  terminating connection");
            let text = format!("{failed}.\n{server}\nserver closed\npg_dump: {kind}: Command was: COPY\n");
            assert_eq!(cause(text.as_bytes()).await.as_deref(), Some(&*wanted), "{kind}");
        }
        let text = format!("{failed}.\npg_dump: detail: Error message from server: \n");
        assert_eq!(cause(text.as_bytes()).await.as_deref(), Some(&*format!("{failed}.")));
    }

    #[tokio::test]
    async fn cause_has_each_address_and_libpq_warning() {
        let refused = "psql: error: connection to server at \"a\", port 1 failed: Connection refused";
        let no_password = "connection to server at \"b\", port 2 failed: fe_sendauth: no password supplied";
        let warning = "WARNING: password file \"/p\" has group or world access";
        let text = format!("{warning}\n{refused}\n\tIs the server running?\n{no_password}\n{no_password}\n");
        assert_eq!(cause(text.as_bytes()).await, Some(format!("{refused}; {no_password}; {warning}")));
    }

    #[tokio::test]
    async fn detail_and_hint_belong_to_the_error() {
        let server = "ERROR:  out of shared memory\nLINE 1: LOCK t\n             ^\nDETAIL:  no space\nHINT:  raise it";
        let wanted = "out of shared memory; DETAIL:  no space; HINT:  raise it";
        let query = "pg_dump: detail: Query was: LOCK t\n";
        let failed = format!("NOTICE:  x\nHINT:  of x\npg_dump: error: query failed: {server}\n{query}");
        let later = "pg_dump: error: another\nHINT:  of another\n";
        assert_eq!(
            cause(format!("{failed}{later}").as_bytes()).await,
            Some(format!("pg_dump: error: query failed: ERROR:  {wanted}"))
        );
        let copy = format!("pg_dump: error: COPY failed.\npg_dump: detail: Error message from server: {server}\n");
        assert_eq!(cause(copy.as_bytes()).await, Some(format!("pg_dump: error: COPY failed: ERROR:  {wanted}")));
        let own = b"pg_dump: error: no match\npg_dump: hint: Try more\n";
        assert_eq!(cause(own).await.as_deref(), Some("pg_dump: error: no match; hint: Try more"));
    }

    #[tokio::test]
    async fn warnings_are_kept_but_are_no_cause() {
        let text = b"pg_dump: warning: subscriptions not dumped: ERROR: x\npg_dump: error: the cause\n";
        let messages = Messages::gather(&text[..], "pg_dump", Arc::new(AtomicBool::new(true))).await;
        assert_eq!(messages.warnings(), ["subscriptions not dumped: ERROR: x"]);
        assert_eq!(messages.cause().as_deref(), Some("pg_dump: error: the cause"));
        let many = "pg_dump: warning: one\n".repeat(KEPT_WARNINGS + 3);
        let warnings = Messages::gather(many.as_bytes(), "pg_dump", Arc::new(AtomicBool::new(true))).await.warnings();
        assert_eq!((warnings.len(), warnings.last().map(String::as_str)), (KEPT_WARNINGS + 1, Some("3 more warnings")));
    }

    #[tokio::test]
    async fn debug_messages_are_no_cause() {
        let text = b"DEBUG:  ERROR: in a query\nDETAIL:  x\nLOG:  statement: FATAL:\n\
            pg_dump: error: the cause\nDEBUG:  last\n";
        assert_eq!(cause(text).await.as_deref(), Some("pg_dump: error: the cause"));
        assert_eq!(cause(b"killed\nDEBUG:  last\n").await.as_deref(), Some("killed"));
        assert_eq!(Kind::of("psql:<stdin>:1: DEBUG:  ERROR: y", "psql"), Kind::Debug);
    }

    #[tokio::test]
    async fn long_line_is_cut() {
        let text = vec![b'x'; 100_000];
        assert_eq!(cause(&text).await.map(|line| line.len()), Some(MAX_LINE));
    }
}
