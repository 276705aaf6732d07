//! Judges a plain dump as it passes, and knows at its end whether it is complete.
//!
//! The reader thread calls it with every block, in order; `check` judges downloads with it. `gzip -t` and `pg_restore
//! --list` accept a truncated dump, and a line that looks like the closing line may stand in a row, a function body or
//! a string. So the lexer of [`crate::sql`] reads the dump first. This also counts rows. It keeps no data and changes
//! nothing.

use memchr::memchr_iter;

use crate::index::{Builder, Draft};
use crate::sql::{Lexer, Piece, SpanKind, copied_table};

mod created;
mod report;

pub use created::Created;
pub use report::{Flaw, ScanReport, TableRows};

const OPENING: &[u8] = b"-- PostgreSQL database dump\n";
const CLOSING: &[u8] = b"-- PostgreSQL database dump complete\n";
/// What `pg_dump` 9.6 to 18 writes after the closing line, before `\unrestrict`.
const AFTER_CLOSING: &[u8] = b"--\n\n";
/// The first so many tables are counted one by one, to bound memory; the others only in the total.
const MOST_TABLES: usize = 20_000;

/// Follows a plain dump; see the module's documentation.
#[derive(Default)]
pub struct Scanner {
    lexer: Lexer,
    judge: Judge,
    index: Option<Builder>,
}

impl Scanner {
    /// A scanner that makes the index, too.
    #[must_use]
    pub fn indexing(index: Builder) -> Self {
        Self { index: Some(index), ..Self::default() }
    }

    /// Takes the next bytes of the dump.
    pub fn scan(&mut self, block: &[u8]) {
        self.judge.bytes += block.len() as u64;
        let Self { lexer, judge, index } = self;
        lexer.read(block, |piece| take(&piece, judge, index));
    }

    /// The restart point in the last block, as an offset in it. Must be called after each block that is handed on.
    pub fn restart_point(&mut self, block: &[u8]) -> Option<usize> {
        let point = self.index.as_mut()?.point(self.judge.bytes)?;
        let after = usize::try_from(self.judge.bytes - point).ok()?;
        block.len().checked_sub(after)
    }

    /// The report, after the last byte.
    #[must_use]
    pub fn finish(self) -> ScanReport {
        self.finish_indexing().0
    }

    /// The report and the index, after the last byte.
    #[must_use]
    pub fn finish_indexing(self) -> (ScanReport, Option<Draft>) {
        let Self { lexer, mut judge, mut index } = self;
        lexer.finish(|piece| take(&piece, &mut judge, &mut index));
        let flaw = judge.flaw();
        let Judge { bytes, rows, tables, created, .. } = judge;
        (ScanReport { bytes, rows, tables, created: Some(created), flaw }, index.and_then(Builder::finish))
    }
}

/// Passes a piece to both, and counts its rows once.
fn take(piece: &Piece<'_>, judge: &mut Judge, index: &mut Option<Builder>) {
    let is_rows = piece.kind == SpanKind::CopyRows;
    let lines = if is_rows { memchr_iter(b'\n', piece.bytes).count() as u64 } else { 0 };
    judge.take(piece, lines);
    if let Some(index) = index {
        index.take(piece, lines);
    }
}

#[derive(Default)]
struct Judge {
    bytes: u64,
    opened: bool,
    restrict: Option<Vec<u8>>,
    tail: Option<Tail>,
    rows: u64,
    tables: Vec<TableRows>,
    created: Created,
    /// The table that rows are being read of.
    table: Option<TableRows>,
}

impl Judge {
    fn take(&mut self, piece: &Piece<'_>, lines: u64) {
        if let Some(tail) = &mut self.tail {
            return tail.take(piece.bytes);
        }
        match (piece.kind, piece.text) {
            (SpanKind::CopyRows, _) => {
                if let Some(table) = &mut self.table {
                    table.rows += lines;
                }
            }
            (SpanKind::CopyBegin, Some(statement)) => {
                self.table = Some(TableRows { table: copied_table(statement), rows: 0 });
            }
            (SpanKind::EntryHead, Some(comment)) => self.created.entry(comment),
            (SpanKind::Statement, Some(text)) => self.created.statement(text),
            (SpanKind::CopyEnd, Some(_)) => self.end_of_rows(),
            (SpanKind::Comment, Some(OPENING)) => self.opened = true,
            (SpanKind::Comment, Some(CLOSING)) if self.opened => self.tail = Some(Tail::new(self.restrict.as_deref())),
            (SpanKind::PsqlCommand, Some(command)) if self.restrict.is_none() => {
                self.restrict = command.strip_prefix(b"\\restrict ").map(<[u8]>::to_vec);
            }
            _ => {}
        }
    }

    fn end_of_rows(&mut self) {
        let Some(table) = self.table.take() else { return };
        self.rows += table.rows;
        if self.tables.len() < MOST_TABLES {
            self.tables.push(table);
        }
    }

    fn flaw(&self) -> Option<Flaw> {
        match (&self.tail, &self.table) {
            _ if self.bytes == 0 => Some(Flaw::Empty),
            _ if !self.opened => Some(Flaw::NotADump),
            (Some(tail), _) => tail.flaw(),
            (None, Some(TableRows { table, rows })) => {
                Some(Flaw::InTheMiddleOfData { table: table.clone(), rows: *rows })
            }
            (None, None) => Some(Flaw::NoClosingLine),
        }
    }
}

/// The bytes that must follow the closing line, and how many came.
struct Tail {
    expected: Vec<u8>,
    matched: usize,
    is_followed: bool,
}

impl Tail {
    /// `key` is what follows `\restrict`, with the end of its line.
    fn new(key: Option<&[u8]>) -> Self {
        let unrestrict = key.map(|key| [b"\\unrestrict ", key, b"\n"].concat());
        let expected = [AFTER_CLOSING, &unrestrict.unwrap_or_default()].concat();
        Self { expected, matched: 0, is_followed: false }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.expected[self.matched..].starts_with(bytes) {
            self.matched += bytes.len();
        } else {
            self.is_followed = true;
        }
    }

    fn flaw(&self) -> Option<Flaw> {
        match self.expected.len() - self.matched {
            _ if self.is_followed => Some(Flaw::SomethingFollows),
            0 => None,
            missing => Some(Flaw::TailCut { missing }),
        }
    }
}

#[cfg(test)]
mod tests;
