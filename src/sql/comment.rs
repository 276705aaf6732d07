//! Comments: `-- …` up to the end of the line, and `/* … */`, which nest.
//!
//! Used by the lexer outside statements, and by [`super::statement`] inside them.

use memchr::memchr2;

/// An open comment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Comment {
    /// `-- …`
    Line,
    /// `/* … */`, nested `depth` times; `last` is the byte before, unless it belongs to a delimiter.
    Block { depth: u32, last: u8 },
}

impl Comment {
    /// The comment that two bytes outside quotes begin.
    pub fn opened_by(first: u8, second: u8) -> Option<Self> {
        match (first, second) {
            (b'-', b'-') => Some(Self::Line),
            (b'/', b'*') => Some(Self::Block { depth: 1, last: 0 }),
            _ => None,
        }
    }

    /// Reads on. Returns how many bytes belong to the comment, and whether it ends with them.
    pub fn advance(&mut self, rest: &[u8]) -> (usize, bool) {
        match self {
            // psql's and the server's lexers end it at either.
            Self::Line => memchr2(b'\n', b'\r', rest).map_or((rest.len(), false), |at| (at + 1, true)),
            Self::Block { depth, last } => {
                for (at, &byte) in rest.iter().enumerate() {
                    match (std::mem::replace(last, byte), byte) {
                        (b'/', b'*') => *depth += 1,
                        (b'*', b'/') => *depth -= 1,
                        _ => continue,
                    }
                    if *depth == 0 {
                        return (at + 1, true);
                    }
                    // `/*/` starts a comment and does not end it.
                    *last = 0;
                }
                (rest.len(), false)
            }
        }
    }
}
