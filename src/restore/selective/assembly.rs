//! Puts texts that are in memory and sections that are read into one dump, in order.

use std::collections::VecDeque;
use std::io::{self, Write};

use memchr::memchr_iter;

use crate::archive::{RangeDamage, Span};
use crate::sql::{Lexer, SpanKind, copied_table};

/// A piece of the dump that is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::restore) enum Piece {
    /// Bytes in memory.
    Text(Vec<u8>),
    /// A section of the backup's dump.
    Section(Span),
}

/// Takes the sections, one after the other, and writes them with the texts between them. Follows what it writes, to find out whether the
/// index is that of the dump.
#[derive(Debug)]
pub(in crate::restore) struct Assembler<W> {
    pieces: VecDeque<Piece>,
    /// Bytes that the current section lacks.
    left: u64,
    /// The last section that began.
    section: Span,
    lexer: Lexer,
    /// The tables of the COPY statements that were written, and the rows after each.
    copied: Vec<(String, u64)>,
    /// The first section after which a statement or rows go on in the next text.
    torn: Option<Span>,
    inner: W,
}

impl<W: Write> Assembler<W> {
    pub fn new(pieces: Vec<Piece>, inner: W) -> Self {
        let (lexer, copied) = (Lexer::default(), Vec::new());
        Self { pieces: pieces.into(), left: 0, section: 0..0, lexer, copied, torn: None, inner }
    }

    /// Writes the texts up to the next section.
    fn advance(&mut self) -> io::Result<()> {
        while self.left == 0 {
            if self.is_torn() {
                self.torn.get_or_insert_with(|| self.section.clone());
            }
            match self.pieces.pop_front() {
                Some(Piece::Text(text)) => self.write_on(&text)?,
                Some(Piece::Section(span)) => {
                    self.left = span.end - span.start;
                    self.section = span;
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Whether an entry was written that has not ended.
    fn is_torn(&self) -> bool {
        let goes_on = self.left > 0 || matches!(self.pieces.front(), Some(Piece::Section(_)));
        !goes_on && !self.lexer.is_between_spans()
    }

    fn write_on(&mut self, bytes: &[u8]) -> io::Result<()> {
        let copied = &mut self.copied;
        self.lexer.read(bytes, |piece| match piece.kind {
            SpanKind::CopyBegin => copied.extend(piece.text.map(|statement| (copied_table(statement), 0))),
            SpanKind::CopyRows => {
                if let Some((_, rows)) = copied.last_mut() {
                    *rows += memchr_iter(b'\n', piece.bytes).count() as u64;
                }
            }
            _ => {}
        });
        self.inner.write_all(bytes)
    }

    /// Why what was written is not what the index says. It has these tables with so many rows each, in this order.
    pub fn flaw<'a>(&'a self, expected: impl Iterator<Item = (&'a str, u64)>) -> Option<RangeDamage> {
        if let Some(section) = self.torn.as_ref().or_else(|| self.is_torn().then_some(&self.section)) {
            let why = "the index says that an entry ends where none ends".to_owned();
            return Some(RangeDamage { plain: section.clone(), why });
        }
        let written = self.copied.iter().map(|(table, rows)| (table.as_str(), *rows));
        (!written.eq(expected)).then(|| {
            let why = "it has other tables or rows than the index says".to_owned();
            RangeDamage { plain: self.section.clone(), why }
        })
    }

    /// Writes the texts after the last section.
    pub fn finish(&mut self) -> io::Result<()> {
        self.advance()?;
        self.inner.flush()
    }

    pub fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: Write> Write for Assembler<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.advance()?;
        let count = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.write_on(&bytes[..count])?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_between_the_sections() {
        let text = |text: &str| Piece::Text(text.as_bytes().to_vec());
        let pieces =
            vec![text("<"), Piece::Section(5..7), Piece::Section(9..10), text("|"), Piece::Section(20..23), text(">")];
        for size in 1..7 {
            let mut assembler = Assembler::new(pieces.clone(), Vec::new());
            b"abcdef".chunks(size).for_each(|piece| assembler.write_all(piece).expect("memory"));
            assembler.finish().expect("memory");
            assert_eq!(assembler.into_inner(), b"<abc|def>");
        }
    }

    #[test]
    fn what_is_not_as_the_index_says_is_noticed() {
        let flaw = |sections: &[&str], expected: &[(&str, u64)]| {
            let text = |text: &str| Piece::Text(text.as_bytes().to_vec());
            let (mut pieces, mut at) = (vec![text("SET a = b;\n")], 0);
            for section in sections {
                pieces.extend([text(""), Piece::Section(at..at + section.len() as u64)]);
                at += section.len() as u64;
            }
            pieces.push(text("-- end\n"));
            let mut assembler = Assembler::new(pieces, Vec::new());
            for section in sections {
                assembler.write_all(section.as_bytes()).expect("memory");
            }
            let flaw = assembler.flaw(expected.iter().copied());
            assembler.finish().expect("memory");
            flaw.map(|damage| damage.plain)
        };
        let (one, two) = ("COPY s.a (b) FROM stdin;\n1\n2\n\\.\n\n", "COPY s.c (b) FROM stdin;\n\\.\n\n");
        assert_eq!(flaw(&[one, two], &[("s.a", 2), ("s.c", 0)]), None);
        assert!(flaw(&[one, two], &[("s.a", 3), ("s.c", 0)]).is_some());
        assert!(flaw(&[one, two], &[("s.a", 2)]).is_some());
        assert!(flaw(&[two, one], &[("s.a", 2), ("s.c", 0)]).is_some());
        // An entry that ends in the middle of its rows, or of a statement.
        assert_eq!(flaw(&[&one[..30], two], &[("s.a", 2), ("s.c", 0)]), Some(0..30));
        assert_eq!(flaw(&["SELECT ';", "DROP TABLE x; --';\n"], &[]), Some(0..9));
        assert_eq!(flaw(&[one, "SELECT '"], &[("s.a", 2)]).map(|section| section.end), Some(one.len() as u64 + 8));
    }
}
