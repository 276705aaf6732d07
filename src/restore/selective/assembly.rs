//! Puts texts that are in memory and sections that are read into one dump, in order.

use std::collections::VecDeque;
use std::io::{self, Write};

use crate::archive::Span;

/// A piece of the dump that is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::restore) enum Piece {
    /// Bytes in memory.
    Text(Vec<u8>),
    /// A section of the backup's dump.
    Section(Span),
}

/// Takes the sections, one after the other, and writes them with the texts between them.
#[derive(Debug)]
pub(in crate::restore) struct Assembler<W> {
    pieces: VecDeque<Piece>,
    /// Bytes that the current section lacks.
    left: u64,
    inner: W,
}

impl<W: Write> Assembler<W> {
    pub fn new(pieces: Vec<Piece>, inner: W) -> Self {
        Self { pieces: pieces.into(), left: 0, inner }
    }

    /// Writes the texts up to the next section.
    fn advance(&mut self) -> io::Result<()> {
        while self.left == 0 {
            match self.pieces.pop_front() {
                Some(Piece::Text(text)) => self.inner.write_all(&text)?,
                Some(Piece::Section(span)) => self.left = span.end - span.start,
                None => break,
            }
        }
        Ok(())
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
        self.inner.write_all(&bytes[..count])?;
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
}
