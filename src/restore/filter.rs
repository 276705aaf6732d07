//! Filters a dump before psql runs it: drops statements that the user excludes or the target does not support, and refuses
//! statements that `pg_dump` never writes.
//!
//! Between [`crate::archive::Reader`] and psql's input. This program's transaction protects the target, so no
//! statement of the dump may end it: the `BEGIN;` and `COMMIT;` around large objects are dropped, any other transaction statement and any
//! psql command is refused. [`Filter`] and psql must agree where a statement ends, although code of the dump may have changed settings:
//! if the parsing of a statement depends on a setting, the filter sends that setting before it. Memory is one statement, 256 KiB at
//! most; COPY data passes through unbuffered.

use std::io::{self, Write};

use memchr::{memchr, memchr_iter};

use crate::sql::{Lexer, Piece, SpanKind, TwoWays, is_plain_copy};

use super::exclusion::{Exclusion, Fate};
use super::left_out::LeftOut;
use super::rules::{Rules, Verdict};
use super::statement::{Head, is_transaction_statement};
use super::subject::{Name, Subject};
use super::timescaledb;
use reading::Reading;

mod reading;
mod refusal;
mod resumed;

use refusal::shown;
pub use refusal::{FilterError, Refusal};
use resumed::is_data;
pub use resumed::{Copied, FilterState};

/// The longest statement that is buffered until its end, as long as the longest COPY statement of the lexer.
const MOST_HELD: usize = 256 << 10;

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
    exclusion: Exclusion,
    left_out: LeftOut,
    /// The buffered part of the statement.
    statement: Vec<u8>,
    rows: Rows,
    /// COPY statements so far.
    copies: usize,
    /// Those of the data, where only data pass.
    copied: Option<Vec<Copied>>,
    head: Option<String>,
    /// The table that the entry's comment names. Its rows may go to another one: `--load-via-partition-root`.
    data_of: Option<Name>,
    /// The rows of the entry are those of a partition, and go through the root of its tree (`--load-via-partition-root`).
    is_via_root: bool,
    reading: Reading,
    has_timescaledb: bool,
    failure: Option<FilterError>,
}

/// Where rows, or the pieces of a statement that is too long to buffer, go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    Pass,
    Drop,
    /// The statement is longer than [`MOST_HELD`]: its buffered part was sent.
    Statement,
    /// The statement is longer than [`MOST_HELD`], and is left out.
    NoStatement,
}

impl<W: Write> Filter<W> {
    /// Sends on to `out`, by these rules.
    pub fn new(out: W, rules: Rules) -> Self {
        let passage = Passage {
            out,
            exclusion: Exclusion::new(&rules.leave_out),
            rules,
            left_out: LeftOut::default(),
            statement: Vec::new(),
            rows: Rows::Pass,
            copies: 0,
            copied: None,
            head: None,
            data_of: None,
            is_via_root: false,
            reading: Reading::default(),
            has_timescaledb: false,
            failure: None,
        };
        Self { lexer: Lexer::default(), passage }
    }

    /// Why nothing more is sent; `None` as long as all is well.
    pub fn take_failure(&mut self) -> Option<FilterError> {
        self.passage.failure.take()
    }

    /// What was left out so far.
    #[must_use]
    pub fn left_out(&self) -> &LeftOut {
        &self.passage.left_out
    }

    /// Flushes the output. Drops a buffered incomplete statement: a complete dump ends with a comment.
    ///
    /// # Errors
    /// If psql has exited.
    pub fn finish(&mut self) -> Result<(), FilterError> {
        let passage = &mut self.passage;
        passage.release();
        if passage.has_timescaledb {
            passage.write(timescaledb::AFTER.as_bytes());
        }
        passage.left_out.unmatched = passage.exclusion.unmatched().collect();
        match passage.failure.take() {
            Some(failure) => Err(failure),
            None => passage.out.flush().map_err(FilterError::Write),
        }
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
                self.data_of = piece.text.and_then(Name::of_entry);
                self.is_via_root = false;
            }
            SpanKind::Comment => {
                self.is_via_root |= piece.text.is_some_and(|text| text.starts_with(b"-- load via partition root "));
            }
            SpanKind::Space => {}
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
        match self.rows {
            Rows::Statement => self.write(piece.bytes),
            Rows::NoStatement => {}
            Rows::Pass | Rows::Drop => {
                self.statement.extend_from_slice(piece.bytes);
                if self.statement.len() > MOST_HELD {
                    self.pass_beginning();
                }
            }
        }
        if piece.text.is_some() {
            self.end_statement();
        }
    }

    /// Sends the buffered part of a long statement.
    fn pass_beginning(&mut self) {
        let statement = std::mem::take(&mut self.statement);
        match self.fate(&statement) {
            Fate::Drop => {
                self.rows = Rows::NoStatement;
                return;
            }
            // It is too long to be held, and cannot go before the statement that creates its sequence.
            Fate::Hold => self.release(),
            Fate::Keep => {}
        }
        if let Err(refusal) = self.admit(&statement, &Head::of(&statement)) {
            return self.fail(refusal);
        }
        self.set_reading();
        self.write(&statement);
        self.rows = Rows::Statement;
    }

    fn end_statement(&mut self) {
        match std::mem::replace(&mut self.rows, Rows::Pass) {
            Rows::Statement => return self.write(b"\n"),
            Rows::NoStatement => return,
            Rows::Pass | Rows::Drop => {}
        }
        let statement = std::mem::take(&mut self.statement);
        if let Err(refusal) = self.judge(&statement) {
            self.fail(refusal);
        }
        self.reuse(statement);
    }

    fn judge(&mut self, statement: &[u8]) -> Result<(), Refusal> {
        let head = Head::of(statement);
        let fate = self.fate(statement);
        if fate == Fate::Drop {
            return Ok(());
        }
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
        self.reading.follow(statement)?;
        if fate == Fate::Hold {
            self.exclusion.hold(statement);
        } else {
            self.send(statement);
            self.write(b"\n");
        }
        if !self.has_timescaledb && timescaledb::is_created_by(statement, &head) {
            self.has_timescaledb = true;
            self.write(timescaledb::BEFORE.as_bytes());
        }
        Ok(())
    }

    /// Asks whether a statement is left out.
    fn fate(&mut self, statement: &[u8]) -> Fate {
        let (released, fate) = self.exclusion.judge(statement, &mut self.left_out);
        self.send_all(released);
        let is_data = statement.starts_with(b"INSERT ") || statement.starts_with(b"COPY ");
        if is_data && self.rules.leave_out.has_patterns() { self.fate_of_data(statement, fate) } else { fate }
    }

    /// Asks whether the rows of a statement are left out, by its table, of which this is the fate, or by the partition that they
    /// come from.
    fn fate_of_data(&mut self, statement: &[u8], of_table: Fate) -> Fate {
        let partition = self.data_of.clone().filter(|_| self.is_via_root);
        let gone = partition.as_ref().filter(|partition| self.exclusion.has(partition));
        if of_table == Fate::Drop {
            // A partition that stays would lose its rows.
            if self.is_via_root && gone.is_none() {
                self.fail(Refusal::PartitionRows(shown(statement)));
            }
            return Fate::Drop;
        }
        if let Some(gone) = gone {
            self.left_out.add_table_data(gone.to_string());
            return Fate::Drop;
        }
        let into = Subject::of(statement).relation().cloned();
        if !partition.iter().chain(&into).any(|table| self.rules.excludes_data(table)) {
            return Fate::Keep;
        }
        if let Some(table) = partition.or(into) {
            self.left_out.add_table_data(table.to_string());
        }
        Fate::Drop
    }

    /// Sends the statements that were held.
    fn release(&mut self) {
        let released = self.exclusion.release();
        self.send_all(released);
    }

    fn send_all(&mut self, statements: Vec<Vec<u8>>) {
        for statement in statements {
            self.send(&statement);
            self.write(b"\n");
        }
    }

    /// Refuses a statement that would end the transaction, or take the following lines as rows, or is no data among data.
    fn admit(&self, statement: &[u8], head: &Head) -> Result<(), Refusal> {
        if is_transaction_statement(head) && !self.rules.passes_transaction(statement) {
            return Err(Refusal::Transaction(shown(statement)));
        }
        if head.is("COPY") {
            return Err(Refusal::Copy(shown(statement)));
        }
        if self.copied.is_some() && !is_data(statement, head) { Err(Refusal::NoData(shown(statement))) } else { Ok(()) }
    }

    /// Sends a statement so that psql parses it as the lexer did.
    fn send(&mut self, statement: &[u8]) {
        if memchr(b'\\', statement).is_some() || !statement.is_ascii() {
            self.set_reading();
        }
        self.write(statement);
    }

    /// Sends the setting with which psql parses the next statement as the lexer does. Code of the dump may have changed it.
    fn set_reading(&mut self) {
        let text = self.reading.statement();
        self.write(text.as_bytes());
    }

    fn copy_begin(&mut self, end_of_line: &[u8]) {
        let mut statement = std::mem::take(&mut self.statement);
        statement.extend_from_slice(end_of_line);
        if !is_plain_copy(&statement) {
            return self.fail(Refusal::Copy(shown(&statement)));
        }
        if let Some(copied) = &mut self.copied {
            copied.push(Copied::of(&statement));
        }
        if self.fate(&statement) == Fate::Drop {
            self.left_out.copies.insert(self.copies);
            self.rows = Rows::Drop;
        } else {
            self.send(&statement);
        }
        self.copies += 1;
        self.reuse(statement);
    }

    fn rows(&mut self, bytes: &[u8]) {
        match self.rows {
            Rows::Drop => self.left_out.rows += memchr_iter(b'\n', bytes).count() as u64,
            Rows::Pass | Rows::Statement | Rows::NoStatement => self.write(bytes),
        }
    }

    fn psql_command(&mut self, piece: &Piece<'_>) {
        let Some(command) = piece.text else { return };
        let is_guard = command.starts_with(b"\\restrict ") || command.starts_with(b"\\unrestrict ");
        if !is_guard || !self.statement.is_empty() || self.rows != Rows::Pass {
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

#[cfg(test)]
mod tests;
