//! What of a dump reaches psql: drops what the user or the target does not want, and refuses what no dump of `pg_dump` holds.
//!
//! Between [`crate::archive::Reader`] and psql's input. The tool's own transaction is what keeps a target as it was, so nothing
//! of the dump may end it: the `BEGIN;` and `COMMIT;` around large objects are dropped, any other transaction statement and any
//! psql command is refused. [`Filter`] and psql must agree where a statement ends, whatever code of the dump has run by then:
//! each statement whose reading depends on a setting is sent with that setting before it. Memory is one statement, 256 KiB at
//! most; COPY data pass as they come.

use std::io::{self, Write};

use memchr::{memchr, memchr_iter, memchr2};

use crate::sql::{Lexer, Piece, SpanKind, TwoWays, copied_table, is_plain_copy};

use super::left_out::LeftOut;
use super::rules::{Rules, Verdict};
use super::statement::{Head, is_transaction_statement};

/// A statement up to this length is held until its end. As long as the longest COPY statement that the lexer knows.
const MOST_HELD: usize = 256 << 10;
/// So much of an entry's head, or of a refused statement, is shown.
const SHOWN: usize = 120;

/// Why a dump is not restored.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A psql command other than `\restrict` and `\unrestrict`.
    #[error("the dump has the psql command {0}, which pg_dump does not write")]
    PsqlCommand(String),
    /// A statement that would end the restore's transaction.
    #[error("the dump has the transaction statement {0}, which pg_dump does not write")]
    Transaction(String),
    /// A COPY in another form than `pg_dump`'s: psql would take what follows for its rows.
    #[error("the dump has the statement {0}, which is no COPY as pg_dump writes it")]
    Copy(String),
    /// An encoding in which a byte of a character may look like a quote.
    #[error(
        "the dump is in the encoding {0}, which psql reads by rules of its own: write it to a file with --output, and restore it with psql"
    )]
    Encoding(String),
    /// A string that psql and the server read differently, and with it where the statement ends.
    #[error("the dump has a string that goes on after E'…' on another line, which pg_dump does not write")]
    SplitString,
    /// psql would put a value of its own there.
    #[error("the dump has what psql may read as a variable: {0}")]
    Variable(String),
    /// What psql sends as one statement may be several.
    #[error(
        "psql and the server read the end of this function differently: {0}: write the dump to a file with --output"
    )]
    Body(String),
    /// psql drops the rest of such a line.
    #[error("the dump holds a NUL byte, which pg_dump does not write")]
    Nul,
}

/// Why no more of the dump reaches psql.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The dump is refused.
    #[error("{refusal}{}", .entry.as_ref().map_or_else(String::new, |entry| format!(" (after {entry:?})")))]
    Refused {
        /// Why.
        refusal: Refusal,
        /// The head of the entry in which it stands.
        entry: Option<String>,
    },
    /// psql has ended.
    #[error("psql does not read any more")]
    Write(#[source] io::Error),
}

/// Sends a dump on to psql; see the module.
#[derive(Debug)]
pub struct Filter<W> {
    lexer: Lexer,
    passage: Passage<W>,
}

/// What is known between two pieces.
#[derive(Debug)]
struct Passage<W> {
    out: W,
    rules: Rules,
    left_out: LeftOut,
    /// What is held of the statement.
    statement: Vec<u8>,
    rows: Rows,
    head: Option<String>,
    reading: Reading,
    failure: Option<FilterError>,
    has_failed: bool,
}

/// Where the bytes of rows, or of a statement that is too long to be held, go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    Pass,
    Drop,
    /// The statement is longer than [`MOST_HELD`]: what was held was sent.
    Statement,
}

/// What psql must go by to read a statement as the lexer does.
#[derive(Debug)]
struct Reading {
    conforming: &'static str,
    encoding: String,
}

/// Encodings of clients alone: the second byte of a character may be `\` or a quote
/// (PostgreSQL's "Character Set Support", PG_ENCODING_BE_LAST in `pg_wchar.h`).
/// with their other names (`encnames.c`), as the server compares them: letters and digits alone.
const UNSAFE_ENCODINGS: [&str; 17] = [
    "SJIS",
    "SHIFTJIS2004",
    "SHIFTJIS",
    "MSKANJI",
    "WIN932",
    "WINDOWS932",
    "BIG5",
    "WIN950",
    "WINDOWS950",
    "GBK",
    "WIN936",
    "WINDOWS936",
    "UHC",
    "WIN949",
    "WINDOWS949",
    "GB18030",
    "JOHAB",
];

impl<W: Write> Filter<W> {
    /// Sends on to `out`, by these rules.
    pub fn new(out: W, rules: Rules) -> Self {
        let reading = Reading { conforming: "on", encoding: "UTF8".to_owned() };
        let passage = Passage {
            out,
            rules,
            left_out: LeftOut::default(),
            statement: Vec::new(),
            rows: Rows::Pass,
            head: None,
            reading,
            failure: None,
            has_failed: false,
        };
        Self { lexer: Lexer::default(), passage }
    }

    /// Takes the next bytes of the dump.
    ///
    /// # Errors
    /// The dump is refused, or psql has ended. After that nothing more is sent.
    pub fn take(&mut self, block: &[u8]) -> Result<(), FilterError> {
        if memchr(0, block).is_some() {
            self.passage.fail(Refusal::Nul);
        }
        self.lexer.read(block, |piece| self.passage.take(&piece));
        self.passage.failure.take().map_or(Ok(()), Err)
    }

    /// What was left out, and where it was sent. What of the dump was held is dropped: a complete one ends with a comment.
    pub fn finish(self) -> (LeftOut, W) {
        (self.passage.left_out, self.passage.out)
    }
}

impl<W: Write> Passage<W> {
    fn take(&mut self, piece: &Piece<'_>) {
        if self.has_failed {
            return;
        }
        match piece.kind {
            SpanKind::CopyRows => self.rows(piece.bytes),
            SpanKind::Statement => self.statement(piece),
            SpanKind::CopyBegin => self.copy_begin(piece.bytes),
            SpanKind::CopyEnd => {
                if self.rows == Rows::Pass {
                    self.write(piece.bytes);
                }
                if piece.text.is_some() {
                    self.rows = Rows::Pass;
                }
            }
            SpanKind::PsqlCommand => self.psql_command(piece),
            SpanKind::EntryHead => {
                self.head = piece.text.map(shown);
            }
            SpanKind::Space | SpanKind::Comment => {}
        }
    }

    fn statement(&mut self, piece: &Piece<'_>) {
        if let Some(why) = piece.reads_two_ways {
            self.statement.extend_from_slice(piece.bytes);
            let statement = shown(&self.statement);
            return self.fail(match why {
                TwoWays::String => Refusal::SplitString,
                TwoWays::Variable => Refusal::Variable(statement),
                TwoWays::Body => Refusal::Body(statement),
            });
        }
        if self.rows == Rows::Statement {
            self.write(piece.bytes);
        } else {
            self.statement.extend_from_slice(piece.bytes);
            if self.statement.len() > MOST_HELD {
                self.pass_beginning();
            }
        }
        if piece.text.is_some() {
            self.end_statement();
        }
    }

    /// Sends what is held of a long statement, without its end.
    fn pass_beginning(&mut self) {
        let statement = std::mem::take(&mut self.statement);
        let head = Head::of(&statement);
        if is_transaction_statement(&head) {
            return self.fail(Refusal::Transaction(shown(&statement)));
        }
        if head.is("COPY") {
            return self.fail(Refusal::Copy(shown(&statement)));
        }
        self.set_reading();
        self.write(&statement);
        self.rows = Rows::Statement;
    }

    fn end_statement(&mut self) {
        if self.rows == Rows::Statement {
            self.rows = Rows::Pass;
            return self.write(b"\n");
        }
        let statement = std::mem::take(&mut self.statement);
        if let Err(refusal) = self.judge(&statement) {
            self.fail(refusal);
        }
        self.reuse(statement);
    }

    fn judge(&mut self, statement: &[u8]) -> Result<(), Refusal> {
        let head = Head::of(statement);
        match self.rules.verdict(statement, &head, &mut self.left_out) {
            Verdict::Drop => return Ok(()),
            Verdict::Replace(other) => {
                self.write(other.as_bytes());
                self.write(b"\n");
                return Ok(());
            }
            Verdict::Keep => {}
        }
        if is_transaction_statement(&head) && !self.rules.passes_transaction(statement) {
            return Err(Refusal::Transaction(shown(statement)));
        }
        if head.is("COPY") {
            return Err(Refusal::Copy(shown(statement)));
        }
        self.follow(statement)?;
        if memchr(b'\\', statement).is_some() || !statement.is_ascii() {
            self.set_reading();
        }
        self.write(statement);
        self.write(b"\n");
        Ok(())
    }

    /// Notes what the dump itself sets.
    fn follow(&mut self, statement: &[u8]) -> Result<(), Refusal> {
        match statement {
            b"SET standard_conforming_strings = on;" => self.reading.conforming = "on",
            b"SET standard_conforming_strings = off;" => self.reading.conforming = "off",
            _ => {
                let encoding =
                    statement.strip_prefix(b"SET client_encoding = '").and_then(|rest| rest.strip_suffix(b"';"));
                let Some(encoding) = encoding else { return Ok(()) };
                let encoding = shown(encoding).to_ascii_uppercase();
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
                let plain: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
                if UNSAFE_ENCODINGS.contains(&plain.as_str()) || !encoding.bytes().all(is_name) {
                    return Err(Refusal::Encoding(encoding));
                }
                self.reading.encoding = encoding;
            }
        }
        Ok(())
    }

    /// Has psql read what follows as the lexer does: code of the dump may have set it otherwise meanwhile.
    fn set_reading(&mut self) {
        let Reading { conforming, encoding } = &self.reading;
        let text = format!(
            "SELECT pg_catalog.set_config('standard_conforming_strings', '{conforming}', false), \
             pg_catalog.set_config('client_encoding', '{encoding}', false);\n"
        );
        self.write(text.as_bytes());
    }

    fn copy_begin(&mut self, end_of_line: &[u8]) {
        let mut statement = std::mem::take(&mut self.statement);
        statement.extend_from_slice(end_of_line);
        if !is_plain_copy(&statement) {
            return self.fail(Refusal::Copy(shown(&statement)));
        }
        let table = copied_table(&statement);
        if self.rules.excludes_data(&table) {
            self.left_out.add_table_data(table);
            self.rows = Rows::Drop;
        } else {
            if memchr(b'\\', &statement).is_some() || !statement.is_ascii() {
                self.set_reading();
            }
            self.write(&statement);
        }
        self.reuse(statement);
    }

    fn rows(&mut self, bytes: &[u8]) {
        match self.rows {
            Rows::Drop => self.left_out.rows += memchr_iter(b'\n', bytes).count() as u64,
            Rows::Pass | Rows::Statement => self.write(bytes),
        }
    }

    fn psql_command(&mut self, piece: &Piece<'_>) {
        let Some(command) = piece.text else { return };
        let is_guard = command.starts_with(b"\\restrict ") || command.starts_with(b"\\unrestrict ");
        if !is_guard || !self.statement.is_empty() || self.rows == Rows::Statement {
            self.fail(Refusal::PsqlCommand(shown(command)));
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if !self.has_failed
            && let Err(error) = self.out.write_all(bytes)
        {
            self.has_failed = true;
            self.failure = Some(FilterError::Write(error));
        }
    }

    fn fail(&mut self, refusal: Refusal) {
        if !self.has_failed {
            self.has_failed = true;
            self.failure = Some(FilterError::Refused { refusal, entry: self.head.clone() });
        }
    }

    /// Keeps the buffer for the next statement.
    fn reuse(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.statement = buffer;
    }
}

/// The first line of a text, as far as a message shows it.
fn shown(text: &[u8]) -> String {
    let line = memchr2(b'\n', b'\r', text).map_or(text, |end| &text[..end]);
    let text = String::from_utf8_lossy(line);
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
