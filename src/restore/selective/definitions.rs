//! Reads the definitions of a dump: the preamble, the text of each entry without COPY data, and the trailer.
//!
//! They are in few ranges, before and after the data. Memory is their size, [`MOST_TEXTS`] at most. Of a longer entry [`MOST_TEXT`]
//! are kept, and the rest is read again when it is sent. Of entries with COPY data the index says which table they are of: reading
//! their beginnings would take a range for each large table. When chosen ones are sent, [`super::assembly`] compares them with it.

use std::io::{self, Write};
use std::iter;

use crate::archive::{Mismatch, RangeDamage, Ranges, Span, VerifiedRanges};
use crate::index::{Entry, Index, Settings};
use crate::restore::subject::Name;
use crate::restore::{Request, RestoreError};
use crate::sql::parts;

use super::definition::Definition;

/// The most bytes of an entry that are kept, as of a statement in [`crate::restore::filter`].
const MOST_TEXT: u64 = 256 << 10;

/// The most bytes that are kept.
const MOST_TEXTS: u64 = 256 << 20;

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
        let bytes: u64 = sections.iter().map(|section| section.end - section.start).sum();
        if bytes > MOST_TEXTS {
            let problem = format!(
                "the backup has {bytes} bytes of definitions, which is too much to choose from: restore all of it with --create-db into \
                 a scratch database, and copy what you need from there with pg_dump"
            );
            return Err(RestoreError::Target { problems: vec![problem] });
        }
        let gathering = Gathering { lengths: lengths(&sections), texts: vec![Vec::new()], left: 0, at: 0 };
        let read = ranges.read(&sections, gathering.begun()).await;
        let (verified, gathering) = read.map_err(|error| match request.sink_error(error) {
            Ok((error, _)) => unreachable!("memory takes everything: {error}"),
            Err(error) => error,
        })?;
        let mut texts = gathering.texts.into_iter();
        let preamble = texts.next().unwrap_or_default();
        let (mut all, mut sets) = (Vec::with_capacity(index.entries.len()), Settings::default());
        for (number, (entry, end)) in index.entries().enumerate() {
            let text = texts.next().unwrap_or_default();
            let mut definition = match table(entry) {
                _ if is_of_large_objects(entry) => Definition::of_large_objects(number),
                Some(table) => Definition::of_rows(number, table.clone(), partition(entry, &table)),
                None => {
                    let definition = Definition::of(number, text, &preamble);
                    let is_complete = kept(entry, end).end == end;
                    if let Some(why) = definition.flaw(entry, is_complete) {
                        return Err(misleading(request, entry.at..end, why));
                    }
                    definition
                }
            };
            definition.follow(&sets);
            sets.clone_from(&definition.sets);
            all.push(definition);
        }
        let trailer = texts.next().unwrap_or_default();
        if [&preamble, &trailer].into_iter().any(|text| Definition::has_entries(text)) {
            return Err(misleading(
                request,
                0..index.plain_bytes,
                "the index says that entries are before the first or after the last",
            ));
        }
        Ok(Self { preamble, all, trailer, verified })
    }
}

/// The error of an index that is not that of the dump.
fn misleading(request: &Request<'_>, plain: Span, why: &str) -> RestoreError {
    request.mismatch(Mismatch::Range(RangeDamage { plain, why: why.to_owned() }))
}

/// The text of an entry that is kept.
pub(super) fn kept(entry: &Entry, end: u64) -> Span {
    let before_rows = entry.copy.as_ref().map_or(end, |copy| copy.data_at);
    let is_skipped = is_of_large_objects(entry) || table(entry).is_some();
    if is_skipped { entry.at..entry.at } else { entry.at..before_rows.min(entry.at.saturating_add(MOST_TEXT)) }
}

/// The data of all large objects are one entry, as long as they are. Its head has no name of anybody's choice.
fn is_of_large_objects(entry: &Entry) -> bool {
    entry.kind == "BLOBS" && !entry.ambiguous && entry.copy.is_none()
}

/// The table of an entry with COPY data, as far as the index can name it: bytes that are no UTF-8 are lost in it.
fn table(entry: &Entry) -> Option<Name> {
    let table = entry.copy.as_ref().map(|copy| copy.table.as_str())?;
    // Heads have a space for the end of a line, so they do not say whether rows go through a root.
    let is_lost = table.contains([char::REPLACEMENT_CHARACTER, '\n', '\r']);
    let (schema, name) = parts(table).filter(|_| !is_lost)?;
    Some(Name { schema, name })
}

/// The partition of which the rows are, if they go through the root of its tree (`--load-via-partition-root`): its head names it.
fn partition(entry: &Entry, table: &Name) -> Option<Name> {
    let own = Name { schema: entry.schema.clone(), name: entry.name.clone() };
    (!entry.ambiguous && own != *table).then_some(own)
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
