//! The lexer: emits each piece of a dump with its kind, independent of block borders.
//!
//! Its memory is the kept part of one span. It emits a byte at most three bytes after it reads it.

use memchr::memchr;

use super::comment::Comment;
use super::copy_data::{CopyData, Found};
use super::statement::{Conforming, Statement, Stop};
use super::{Piece, SpanKind};

/// An entry's head is as long as the arguments of its function.
const MOST_LINE: usize = 64 << 10;
/// A COPY statement names at most 1,600 columns of 63 bytes, each perhaps quoted and doubled: under 256 KiB.
const MOST_COPY: usize = 256 << 10;
/// Enough to recognise a COPY statement, and the settings that change the lexer.
const MOST_STATEMENT: usize = 64;
/// A setting's value is at most a name of 63 bytes, quoted and doubled.
const MOST_SET: usize = 512;
const ENTRY_HEADS: [&[u8]; 3] = [b"-- Name: ", b"-- Data for Name: ", b"-- Statistics for Name: "];

#[derive(Debug)]
enum State {
    /// Between spans.
    Between,
    /// Between spans, after a `-` or `/` that begins a comment or a statement.
    First(u8),
    Comment(Comment),
    Statement,
    /// After `COPY … FROM stdin;`, before the end of its line.
    CopyBegin,
    PsqlCommand,
    Copy,
}

/// Cuts a dump into spans; see the module.
#[derive(Debug)]
pub struct Lexer {
    state: State,
    statement: Statement,
    /// The kept part of the statement. Empty outside statements.
    text: Vec<u8>,
    /// The kept part of a comment or psql command.
    line: Vec<u8>,
    copy: CopyData,
}

impl Default for Lexer {
    fn default() -> Self {
        Self {
            state: State::Between,
            statement: Statement::default(),
            text: Vec::new(),
            line: Vec::new(),
            copy: CopyData::default(),
        }
    }
}

impl Lexer {
    /// Reads the next bytes of the dump and emits their pieces.
    pub fn read(&mut self, block: &[u8], mut take: impl FnMut(Piece<'_>)) {
        let mut at = 0;
        while at < block.len() {
            at += self.step(&block[at..], &mut take);
        }
    }

    /// Emits the remaining bytes, after the last block.
    pub fn finish(self, mut take: impl FnMut(Piece<'_>)) {
        match self.state {
            State::Copy if !self.copy.held().is_empty() => take(piece(SpanKind::CopyRows, self.copy.held())),
            State::First(first) => take(piece(SpanKind::Statement, &[first])),
            _ => {}
        }
    }

    /// Reads until the state changes. Reads nothing if the next byte belongs to the new state.
    fn step(&mut self, rest: &[u8], take: &mut impl FnMut(Piece<'_>)) -> usize {
        match self.state {
            State::Between => self.between(rest, take),
            State::First(first) => self.second(first, rest[0], take),
            State::Comment(_) => self.comment(rest, take),
            State::Statement => self.statement(rest, take),
            State::CopyBegin => self.copy_begin(rest, take),
            State::PsqlCommand => self.psql_command(rest, take),
            State::Copy => self.copy(rest, take),
        }
    }

    fn between(&mut self, rest: &[u8], take: &mut impl FnMut(Piece<'_>)) -> usize {
        let space = rest.iter().take_while(|byte| is_space(**byte)).count();
        if space > 0 {
            take(piece(SpanKind::Space, &rest[..space]));
            return space;
        }
        self.line.clear();
        self.statement.begin();
        let first = rest[0];
        self.state = match first {
            b'-' | b'/' => State::First(first),
            b'\\' => State::PsqlCommand,
            _ => State::Statement,
        };
        usize::from(matches!(self.state, State::First(_)))
    }

    /// The second byte decides whether a comment begins.
    fn second(&mut self, first: u8, second: u8, take: &mut impl FnMut(Piece<'_>)) -> usize {
        let Some(comment) = Comment::opened_by(first, second) else {
            self.state = State::Statement;
            return self.statement(&[first], take) - 1;
        };
        self.line.extend_from_slice(&[first, second]);
        self.state = State::Comment(comment);
        take(piece(SpanKind::Comment, &[first, second]));
        1
    }

    fn comment(&mut self, rest: &[u8], take: &mut impl FnMut(Piece<'_>)) -> usize {
        let State::Comment(comment) = &mut self.state else { return 0 };
        let (used, ends) = comment.advance(rest);
        let bytes = &rest[..used];
        keep(&mut self.line, bytes, MOST_LINE);
        if !ends {
            take(piece(SpanKind::Comment, bytes));
            return used;
        }
        let is_head = ENTRY_HEADS.iter().any(|head| self.line.starts_with(head));
        let kind = if is_head { SpanKind::EntryHead } else { SpanKind::Comment };
        take(Piece { text: Some(&self.line), ..piece(kind, bytes) });
        self.state = State::Between;
        used
    }

    fn statement(&mut self, rest: &[u8], take: &mut impl FnMut(Piece<'_>)) -> usize {
        let (used, stop) = self.statement.advance(rest);
        let bytes = &rest[..used];
        let kept = keep(&mut self.text, bytes, MOST_STATEMENT);
        let more = [(b"COPY ".as_slice(), MOST_COPY), (b"SET ", MOST_SET)];
        if let Some((_, most)) = more.into_iter().find(|(beginning, _)| self.text.starts_with(beginning)) {
            keep(&mut self.text, &bytes[kept..], most);
        }
        match stop {
            Stop::End if self.copies_rows() => {
                take(self.piece(bytes));
                self.state = State::CopyBegin;
            }
            Stop::End => self.end_statement(bytes, take),
            Stop::NoMore => take(self.piece(bytes)),
            Stop::PsqlCommand => {
                if used > 0 {
                    take(self.piece(bytes));
                }
                self.line.clear();
                self.state = State::PsqlCommand;
            }
        }
        used
    }

    /// A piece of the statement.
    fn piece<'a>(&self, bytes: &'a [u8]) -> Piece<'a> {
        Piece { reads_two_ways: self.statement.reads_two_ways(), ..piece(SpanKind::Statement, bytes) }
    }

    /// Whether the statement is a COPY of `pg_dump` with rows after it.
    fn copies_rows(&self) -> bool {
        self.text.starts_with(b"COPY ") && self.text.ends_with(b" FROM stdin;") && self.text.len() < MOST_COPY
    }

    fn end_statement(&mut self, bytes: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        match self.text.as_slice() {
            b"SET standard_conforming_strings = off;" => self.statement.set_conforming(Conforming::Off),
            b"SET standard_conforming_strings = on;" => self.statement.set_conforming(Conforming::On),
            _ => {}
        }
        take(Piece { text: Some(&self.text), ..self.piece(bytes) });
        self.text.clear();
        self.state = State::Between;
    }

    /// `pg_dump` ends the line after `FROM stdin;`. Otherwise no rows follow.
    fn copy_begin(&mut self, rest: &[u8], take: &mut impl FnMut(Piece<'_>)) -> usize {
        if rest[0] != b'\n' {
            self.end_statement(&[], take);
            return 0;
        }
        self.text.push(b'\n');
        take(Piece { text: Some(&self.text), ..piece(SpanKind::CopyBegin, &rest[..1]) });
        self.text.clear();
        self.state = State::Copy;
        1
    }

    fn psql_command(&mut self, rest: &[u8], take: &mut impl FnMut(Piece<'_>)) -> usize {
        let end = memchr(b'\n', rest);
        let bytes = end.map_or(rest, |at| &rest[..=at]);
        keep(&mut self.line, bytes, MOST_LINE);
        take(Piece { text: end.map(|_| self.line.as_slice()), ..piece(SpanKind::PsqlCommand, bytes) });
        if end.is_some() {
            self.state = if self.text.is_empty() { State::Between } else { State::Statement };
        }
        bytes.len()
    }

    fn copy(&mut self, rest: &[u8], take: &mut impl FnMut(Piece<'_>)) -> usize {
        match self.copy.advance(rest) {
            Found::Rows { rows, used } => {
                if rows > 0 {
                    take(piece(SpanKind::CopyRows, &rest[..rows]));
                }
                used
            }
            Found::HeldRows(held) => {
                take(piece(SpanKind::CopyRows, held));
                0
            }
            Found::End(held) => {
                take(piece(SpanKind::CopyEnd, held));
                take(Piece { text: Some(held), ..piece(SpanKind::CopyEnd, &rest[..1]) });
                self.state = State::Between;
                1
            }
        }
    }
}

/// A piece that does not end its span.
fn piece(kind: SpanKind, bytes: &[u8]) -> Piece<'_> {
    Piece { kind, bytes, text: None, reads_two_ways: None }
}

/// Adds bytes as long as no more than `most` are kept, and returns how many it added.
fn keep(kept: &mut Vec<u8>, bytes: &[u8], most: usize) -> usize {
    let count = bytes.len().min(most.saturating_sub(kept.len()));
    kept.extend_from_slice(&bytes[..count]);
    count
}

/// White space in PostgreSQL's lexers.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c')
}
