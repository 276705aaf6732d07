//! Reads the definitions of a dump: the preamble, the text of each entry up to its rows, and the trailer.
//!
//! They are in few ranges, before and after the data. Memory is their size: an index has entries for so many objects only that this
//! is some tens of MiB at most. Of a longer entry [`MOST_TEXT`] are kept, and the rest is read again when it is sent.

use std::io::{self, Write};
use std::iter;

use crate::archive::{Ranges, Span, VerifiedRanges};
use crate::index::{Entry, Index};
use crate::restore::{Request, RestoreError};

use super::definition::Definition;

/// The most bytes of an entry that are kept, as of a statement in [`crate::restore::filter`].
const MOST_TEXT: u64 = 256 << 10;

/// The definitions of a dump.
#[derive(Debug)]
pub(super) struct Definitions {
    pub preamble: Vec<u8>,
    pub all: Vec<Definition>,
    pub trailer: Vec<u8>,
    pub verified: VerifiedRanges,
}

impl Definitions {
    /// Reads them.
    ///
    /// # Errors
    /// If a range cannot be read, or is damaged.
    pub async fn read(request: &Request<'_>, ranges: &Ranges) -> Result<Self, RestoreError> {
        let index = ranges.index();
        let sections: Vec<Span> = sections(index).collect();
        let gathering = Gathering { lengths: lengths(&sections), texts: vec![Vec::new()], left: 0, at: 0 };
        let read = ranges.read(&sections, gathering.begun()).await;
        let (verified, gathering) = read.map_err(|error| match request.sink_error(error) {
            Ok((error, _)) => unreachable!("memory takes everything: {error}"),
            Err(error) => error,
        })?;
        let mut texts = gathering.texts.into_iter();
        let preamble = texts.next().unwrap_or_default();
        let mut all = Vec::with_capacity(index.entries.len());
        for (number, entry) in index.entries.iter().enumerate() {
            all.push(match texts.next() {
                Some(text) if !is_skipped(entry) => Definition::of(number, text, &preamble),
                _ => Definition::of_large_objects(number),
            });
        }
        Ok(Self { preamble, all, trailer: texts.next().unwrap_or_default(), verified })
    }
}

/// The text of an entry that is kept.
pub(super) fn kept(entry: &Entry, end: u64) -> Span {
    let before_rows = entry.copy.as_ref().map_or(end, |copy| copy.data_at);
    if is_skipped(entry) { entry.at..entry.at } else { entry.at..before_rows.min(entry.at + MOST_TEXT) }
}

/// The data of all large objects are one entry, as long as they are. Its head has no name of anybody's choice.
fn is_skipped(entry: &Entry) -> bool {
    entry.kind == "BLOBS" && !entry.ambiguous && entry.copy.is_none()
}

fn sections(index: &Index) -> impl Iterator<Item = Span> + '_ {
    let entries = index.entries().map(|(entry, end)| kept(entry, end));
    let (preamble, trailer) = (0..index.preamble_bytes, index.trailer_at..index.plain_bytes);
    iter::once(preamble).chain(entries).chain(iter::once(trailer))
}

fn lengths(sections: &[Span]) -> Vec<usize> {
    sections.iter().map(|span| usize::try_from(span.end - span.start).unwrap_or(usize::MAX)).collect()
}

/// Takes the sections apart again.
#[derive(Debug)]
struct Gathering {
    lengths: Vec<usize>,
    texts: Vec<Vec<u8>>,
    /// Bytes that the current section lacks.
    left: usize,
    at: usize,
}

impl Gathering {
    fn begun(mut self) -> Self {
        self.left = self.lengths.first().copied().unwrap_or_default();
        self.advance();
        self
    }

    /// Goes to the next section that is not empty.
    fn advance(&mut self) {
        while self.left == 0 && self.at + 1 < self.lengths.len() {
            self.at += 1;
            self.left = self.lengths[self.at];
            self.texts.push(Vec::with_capacity(self.left));
        }
    }
}

impl Write for Gathering {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.left);
        if let Some(text) = self.texts.last_mut() {
            text.extend_from_slice(&bytes[..count]);
        }
        self.left -= count;
        self.advance();
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
    fn texts_come_back_as_they_were_also_empty_ones() {
        for lengths in [vec![3, 0, 0, 2, 1, 0], vec![0, 6], vec![6]] {
            for size in 1..7 {
                let mut gathering =
                    Gathering { lengths: lengths.clone(), texts: vec![Vec::new()], left: 0, at: 0 }.begun();
                b"abcdef".chunks(size).for_each(|piece| gathering.write_all(piece).expect("memory"));
                assert_eq!(gathering.texts.iter().map(Vec::len).collect::<Vec<_>>(), lengths);
                assert_eq!(gathering.texts.concat(), b"abcdef");
            }
        }
    }
}
