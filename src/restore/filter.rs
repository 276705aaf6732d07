//! Filters a dump before psql runs it: drops statements that the user excludes or the target does not support, and refuses
//! statements that `pg_dump` never writes.
//!
//! Between [`crate::archive::Reader`] and psql's input. This program's transaction protects the target, so no
//! statement of the dump may end it: the `BEGIN;` and `COMMIT;` around large objects are dropped, any other transaction statement and any
//! psql command is refused. [`Filter`] and psql must agree where a statement ends, although code of the dump may have changed settings:
//! if the parsing of a statement depends on a setting, the filter sends that setting before it. Memory is one statement, 256 KiB at
//! most; COPY data passes through unbuffered.

use std::io::{self, Write};

use memchr::{memchr, memchr_iter, memchr2};

use crate::sql::{Lexer, Piece, SpanKind, TwoWays, copied_table, is_plain_copy};

use super::left_out::LeftOut;
use super::rules::{Rules, Verdict};
use super::statement::{Head, is_transaction_statement};

/// The longest statement that is buffered until its end, as long as the longest COPY statement of the lexer.
const MOST_HELD: usize = 256 << 10;
/// How much of an entry's comment, or of a refused statement, a message shows.
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
    /// A COPY in another form than `pg_dump` writes: psql would read the following lines as rows.
    #[error("the dump has the statement {0}, which is no COPY as pg_dump writes it")]
    Copy(String),
    /// An encoding with multi-byte characters that contain the byte of a quote or `\`.
    #[error(
        "the dump is in the encoding {0}, which psql does not parse as this program does: write it to a file with --output, and restore it with psql"
    )]
    Encoding(String),
    /// A string that psql and the server parse differently, so they disagree where the statement ends.
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
    /// A NUL byte: psql ignores the rest of its line.
    #[error("the dump holds a NUL byte, which pg_dump does not write")]
    Nul,
}

/// Why the filter stopped.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The dump is refused.
    #[error("{refusal}{}", .entry.as_ref().map_or_else(String::new, |entry| format!(" (after {entry:?})")))]
    Refused {
        /// Why.
        refusal: Refusal,
        /// The comment of the entry (`-- Name: …`) that contains it.
        entry: Option<String>,
    },
    /// psql has ended.
    #[error("psql has closed its input")]
    Write(#[source] io::Error),
}

/// Sends a dump on to psql; see the module.
#[derive(Debug)]
pub struct Filter<W> {
    lexer: Lexer,
    passage: Passage<W>,
}

/// The state between two pieces.
#[derive(Debug)]
struct Passage<W> {
    out: W,
    rules: Rules,
    left_out: LeftOut,
    /// The buffered part of the statement.
    statement: Vec<u8>,
    rows: Rows,
    head: Option<String>,
    reading: Reading,
    failure: Option<FilterError>,
}

/// Where rows, or the pieces of a statement that is too long to buffer, go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    Pass,
    Drop,
    /// The statement is longer than [`MOST_HELD`]: its buffered part was sent.
    Statement,
}

/// The settings with which psql parses a statement as the lexer does.
#[derive(Debug)]
struct Reading {
    conforming: &'static str,
    encoding: String,
}

/// Client-only encodings: the second byte of a character may be `\` or a quote
/// (PostgreSQL's "Character Set Support", PG_ENCODING_BE_LAST in `pg_wchar.h`),
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
        };
        Self { lexer: Lexer::default(), passage }
    }

    /// Why nothing more is sent; `None` as long as all is well.
    pub fn into_failure(self) -> Option<FilterError> {
        self.passage.failure
    }

    /// Flushes the output, and returns what was left out. Drops a buffered incomplete statement: a complete dump ends with a
    /// comment.
    ///
    /// # Errors
    /// If psql has exited.
    pub fn finish(self) -> Result<(LeftOut, W), FilterError> {
        let Passage { mut out, left_out, .. } = self.passage;
        out.flush().map_err(FilterError::Write)?;
        Ok((left_out, out))
    }
}

/// Takes the plain dump. After the first failure nothing more is taken.
impl<W: Write> Write for Filter<W> {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        if memchr(0, block).is_some() {
            self.passage.fail(Refusal::Nul);
        }
        self.lexer.read(block, |piece| self.passage.take(&piece));
        if self.passage.failure.is_some() { Err(io::ErrorKind::Other.into()) } else { Ok(block.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Passage<W> {
    fn take(&mut self, piece: &Piece<'_>) {
        if self.failure.is_some() {
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

    /// Sends the buffered part of a long statement.
    fn pass_beginning(&mut self) {
        let statement = std::mem::take(&mut self.statement);
        if let Err(refusal) = self.admit(&statement, &Head::of(&statement)) {
            return self.fail(refusal);
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
        self.admit(statement, &head)?;
        self.follow(statement)?;
        self.send(statement);
        self.write(b"\n");
        Ok(())
    }

    /// Refuses a statement that would end the transaction, or take the following lines as rows.
    fn admit(&self, statement: &[u8], head: &Head) -> Result<(), Refusal> {
        if is_transaction_statement(head) && !self.rules.passes_transaction(statement) {
            return Err(Refusal::Transaction(shown(statement)));
        }
        if head.is("COPY") { Err(Refusal::Copy(shown(statement))) } else { Ok(()) }
    }

    /// Sends a statement so that psql parses it as the lexer did.
    fn send(&mut self, statement: &[u8]) {
        if memchr(b'\\', statement).is_some() || !statement.is_ascii() {
            self.set_reading();
        }
        self.write(statement);
    }

    /// Records a setting that the dump changes.
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

    /// Sends the setting with which psql parses the next statement as the lexer does. Code of the dump may have changed it.
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
            self.send(&statement);
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
        if self.failure.is_none()
            && let Err(error) = self.out.write_all(bytes)
        {
            self.failure = Some(FilterError::Write(error));
        }
    }

    fn fail(&mut self, refusal: Refusal) {
        if self.failure.is_none() {
            self.failure = Some(FilterError::Refused { refusal, entry: self.head.clone() });
        }
    }

    /// Keeps the buffer for the next statement.
    fn reuse(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.statement = buffer;
    }
}

/// The first line of a text, shortened for a message.
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
