//! COPY data: rows, and the line `\.` that ends them.
//!
//! Used by the lexer. Rows are most of a dump, so they are searched for their end and otherwise not looked at.

use memchr::memmem;

/// How much of the current line was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Nothing.
    Start,
    /// `\`
    Backslash,
    /// `\.`
    Dot,
    /// `\.` and a carriage return.
    Return,
    /// What cannot be the end of the data.
    Row,
}

/// What [`CopyData::advance`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// `rows` bytes belong to rows. `used - rows` bytes after them were read, and may begin the end of the data.
    Rows { rows: usize, used: usize },
    /// The held bytes belong to a row; none was read.
    HeldRows(&'static [u8]),
    /// The held bytes and one byte more are the end of the data.
    End(&'static [u8]),
}

/// COPY data that is being read.
#[derive(Debug)]
pub(super) struct CopyData {
    line: Line,
    end: memmem::Finder<'static>,
}

impl Default for CopyData {
    fn default() -> Self {
        Self { line: Line::Start, end: memmem::Finder::new(b"\n\\.") }
    }
}

impl CopyData {
    /// The bytes that were read but not handed on: a row, or the end of the data.
    pub fn held(&self) -> &'static [u8] {
        match self.line {
            Line::Start | Line::Row => b"",
            Line::Backslash => b"\\",
            Line::Dot => b"\\.",
            Line::Return => b"\\.\r",
        }
    }

    /// Reads on in `rest`, which is not empty.
    pub fn advance(&mut self, rest: &[u8]) -> Found {
        let next = match (self.line, rest[0]) {
            (Line::Row, _) => return self.rows(rest),
            (Line::Start, b'\\') => Line::Backslash,
            (Line::Start, _) => {
                self.line = Line::Row;
                return self.rows(rest);
            }
            (Line::Backslash, b'.') => Line::Dot,
            // psql takes this for the end as well.
            (Line::Dot, b'\r') => Line::Return,
            (Line::Dot | Line::Return, b'\n') => {
                let held = self.held();
                self.line = Line::Start;
                return Found::End(held);
            }
            (Line::Backslash | Line::Dot | Line::Return, _) => {
                let held = self.held();
                self.line = Line::Row;
                return Found::HeldRows(held);
            }
        };
        self.line = next;
        Found::Rows { rows: 0, used: 1 }
    }

    /// The fast way through rows, up to a line that may be their end.
    fn rows(&mut self, rest: &[u8]) -> Found {
        if let Some(at) = self.end.find(rest) {
            self.line = Line::Dot;
            return Found::Rows { rows: at + 1, used: at + 3 };
        }
        self.line = match rest {
            [.., b'\n'] => Line::Start,
            [.., b'\n', b'\\'] => Line::Backslash,
            _ => Line::Row,
        };
        Found::Rows { rows: rest.len() - self.held().len(), used: rest.len() }
    }
}
