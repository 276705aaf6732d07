//! Turns pieces of the data into statements that stand alone: rows in the middle of a table get their COPY statement before them, and
//! the line that ends rows after them. Counts the rows.

use std::collections::VecDeque;
use std::io::{self, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use memchr::memchr_iter;

use crate::archive::Span;
use crate::index::Index;
use crate::restore::filter::{Copied, Filter};
use crate::restore::plan::{Load, Piece};

const END_OF_ROWS: &[u8] = b"\\.\n";

/// Between the download and the filter.
#[derive(Debug)]
pub(super) struct Cutter<W> {
    pub filter: Filter<W>,
    pieces: VecDeque<Cut>,
    /// Offset in the dump of the next byte.
    at: u64,
    /// What the pieces were.
    pub loaded: Vec<Loaded>,
    /// Whether a piece has other COPY statements than the index says.
    pub is_other: bool,
}

/// A piece to come.
#[derive(Debug)]
struct Cut {
    span: Span,
    opening: Vec<u8>,
    /// Whether it is the last, and lacks the end of its rows.
    ends_in_rows: bool,
    /// Where its rows are.
    rows: Span,
    /// The table that they are of, as the index has it.
    table: Option<String>,
    loaded: Loaded,
}

/// A piece that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loaded {
    /// The entry's number in the index.
    pub entry: usize,
    /// The number of its COPY statement in the dump; `None` without one.
    pub copy: Option<usize>,
    /// Its rows.
    pub rows: u64,
    /// Whether these are all rows of the entry.
    pub is_complete: bool,
    /// The sha256 of its COPY statement. All pieces of an entry have the same.
    pub statement: Option<[u8; 32]>,
}

/// The sections of a load.
pub(super) fn sections(load: &Load) -> Vec<Span> {
    load.pieces.iter().map(|piece| piece.span.clone()).collect()
}

impl<W: Write> Cutter<W> {
    /// For these pieces. `copies` has the number of the COPY statement of each entry. [`Self::finish`] ends the last piece.
    pub fn new(filter: Filter<W>, load: &Load, (index, copies): (&Index, &[Option<usize>])) -> Self {
        let pieces: VecDeque<_> = load.pieces.iter().map(|piece| Cut::of(piece, index, copies)).collect();
        let at = pieces.front().map_or(0, |piece| piece.span.start);
        let mut cutter = Self { filter, pieces, at, loaded: Vec::new(), is_other: false };
        if let Some(copy) = cutter.pieces.front().and_then(|piece| piece.loaded.copy) {
            cutter.filter.expect_copy(copy);
        }
        cutter
    }

    /// Goes on with pieces of which the first are rows of the last piece's table: they become rows of the same COPY statement.
    pub fn go_on(&mut self, load: &Load, (index, copies): (&Index, &[Option<usize>])) {
        let mut pieces: VecDeque<_> = load.pieces.iter().map(|piece| Cut::of(piece, index, copies)).collect();
        if let (Some(last), Some(first)) = (self.pieces.pop_front(), pieces.front_mut()) {
            first.opening.clear();
            first.loaded = last.loaded;
        }
        self.at = pieces.front().map_or(0, |piece| piece.span.start);
        self.pieces = pieces;
    }

    /// Ends the last piece, and passes on everything.
    ///
    /// # Errors
    /// Those of the filter.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Some(piece) = self.pieces.pop_front() {
            self.filter.write_all(END_OF_ROWS)?;
            self.ended(piece);
        }
        self.filter.output().flush()
    }

    /// A piece, or the last of several with one COPY statement, is complete.
    fn ended(&mut self, mut piece: Cut) {
        match (self.filter.take_copied().as_slice(), &piece.table) {
            ([], None) => {}
            ([Copied { table, sha256 }], Some(expected)) if table == expected => {
                piece.loaded.statement = Some(*sha256);
            }
            _ => self.is_other = true,
        }
        self.loaded.push(piece.loaded);
        if let Some(next) = self.pieces.front() {
            self.at = next.span.start;
            if let Some(copy) = next.loaded.copy {
                self.filter.expect_copy(copy);
            }
        }
    }
}

impl Cut {
    fn of(piece: &Piece, index: &Index, copies: &[Option<usize>]) -> Self {
        let copy = index.entries[piece.entry].copy.as_ref();
        let is_complete = !piece.begins_in_rows && !piece.ends_in_rows;
        let loaded = Loaded { entry: piece.entry, copy: copies[piece.entry], rows: 0, is_complete, statement: None };
        let opening = copy.filter(|_| piece.begins_in_rows).map(|copy| match (&copy.statement, &copy.statement64) {
            (Some(statement), _) => statement.as_bytes().to_vec(),
            // If it is damaged, the rows are a wrong statement, which is no data.
            (None, encoded) => BASE64_STANDARD.decode(encoded.as_deref().unwrap_or_default()).unwrap_or_default(),
        });
        Self {
            span: piece.span.clone(),
            opening: opening.unwrap_or_default(),
            ends_in_rows: piece.ends_in_rows,
            rows: copy.map_or(0..0, |copy| copy.data_at..copy.data_at + copy.data_bytes),
            table: copy.map(|copy| copy.table.clone()),
            loaded,
        }
    }
}

impl<W: Write> Write for Cutter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(piece) = self.pieces.front_mut() else { return Err(io::Error::other("more than all pieces")) };
        if self.at == piece.span.start {
            self.filter.write_all(&piece.opening)?;
        }
        let missing = usize::try_from(piece.span.end - self.at).unwrap_or(usize::MAX);
        let own = &bytes[..bytes.len().min(missing)];
        let within = |offset: u64| {
            let end = self.at + own.len() as u64;
            usize::try_from(offset.clamp(self.at, end) - self.at).unwrap_or(usize::MAX)
        };
        let rows = &own[within(piece.rows.start)..within(piece.rows.end)];
        piece.loaded.rows += memchr_iter(b'\n', rows).count() as u64;
        self.filter.write_all(own)?;
        self.at += own.len() as u64;
        if self.at == piece.span.end && piece.ends_in_rows {
            // Rows of another piece may follow, which must not become the rest of this one's.
            self.is_other |= own.last().is_some_and(|last| *last != b'\n');
        } else if self.at == piece.span.end
            && let Some(piece) = self.pieces.pop_front()
        {
            self.ended(piece);
        }
        Ok(own.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::index::{Copy, Entry, VERSION};
    use crate::postgres::Transactions;
    use crate::restore::LeaveOut;
    use crate::restore::plan::Commit;
    use crate::restore::rules::Rules;

    /// An entry, its part of the dump, and whether it begins and ends in rows.
    type TestPiece = (usize, Span, bool, bool);

    const DUMP: &str = "-- a\nCOPY s.a (x) FROM stdin;\n1\n2\n3\n\\.\n\n\n-- b\nCOPY s.b (x) FROM stdin;\n4\n\\.\n\n\n";

    fn index() -> Index {
        let at = |text: &str| DUMP.find(text).expect("it is there") as u64;
        let entry = |begin, table: &str, data: &str, rows: u64| Entry {
            at: begin,
            copy: Some(Copy {
                table: table.to_owned(),
                data_at: at(data),
                data_bytes: 2 * rows,
                rows,
                statement: Some(format!("COPY {table} (x) FROM stdin;\n")),
                statement64: None,
            }),
            ..Entry::default()
        };
        Index {
            index_version: VERSION,
            run_id: String::new(),
            codec: Codec::Gzip,
            plain_bytes: DUMP.len() as u64,
            codec_bytes: 100,
            preamble_bytes: 0,
            trailer_at: DUMP.len() as u64,
            invalid_indexes: None,
            details: None,
            points: Vec::new(),
            entries: vec![entry(0, "s.a", "1\n2", 3), entry(at("-- b"), "s.b", "4\n", 1)],
        }
    }

    /// What psql gets of these pieces, in writes of a size.
    fn cut(pieces: &[TestPiece], size: usize) -> (String, Vec<(usize, u64)>) {
        outcome(cut_by(&index(), (pieces, &[]), size))
    }

    fn outcome(mut cutter: Cutter<Vec<u8>>) -> (String, Vec<(usize, u64)>) {
        assert!(cutter.filter.is_between_statements() && !cutter.is_other);
        let rows = cutter.loaded.iter().map(|loaded| (loaded.entry, loaded.rows)).collect();
        (String::from_utf8(std::mem::take(cutter.filter.output())).expect("UTF-8"), rows)
    }

    /// Of pieces, and those that it goes on with.
    fn cut_by(index: &Index, (pieces, rest): (&[TestPiece], &[TestPiece]), size: usize) -> Cutter<Vec<u8>> {
        let rules = Rules {
            transactions: Transactions::One,
            leave_out: LeaveOut::default(),
            known_settings: None,
            foreign_extensions: std::collections::BTreeSet::new(),
            search_path: None,
        };
        let load = |pieces: &[TestPiece]| Load {
            pieces: pieces
                .iter()
                .map(|(entry, span, begins_in_rows, ends_in_rows)| Piece {
                    entry: *entry,
                    span: span.clone(),
                    begins_in_rows: *begins_in_rows,
                    ends_in_rows: *ends_in_rows,
                })
                .collect(),
            commit: Commit::Once,
        };
        let write = |cutter: &mut Cutter<_>, load: &Load| {
            for section in sections(load) {
                let [from, to] = [section.start, section.end].map(|at| usize::try_from(at).expect("small"));
                DUMP.as_bytes()[from..to].chunks(size).for_each(|bytes| cutter.write_all(bytes).expect("to memory"));
            }
        };
        let (first, rest, indexed) = (load(pieces), load(rest), (index, [Some(0), Some(1)].as_slice()));
        let state = Filter::new(Vec::new(), rules).state();
        let filter = Filter::resumed(Vec::new(), &state, Transactions::One);
        let mut cutter = Cutter::new(filter, &first, indexed);
        write(&mut cutter, &first);
        if !rest.pieces.is_empty() {
            cutter.go_on(&rest, indexed);
            write(&mut cutter, &rest);
        }
        cutter.finish().expect("to memory");
        cutter
    }

    #[test]
    fn statements_other_than_those_of_the_index_are_noticed() {
        let (begin, end) = (DUMP.find("1\n2").expect("rows") as u64, DUMP.find("-- b").expect("an entry") as u64);
        let (first, rest) = ((0, 0..begin + 2, false, true), (0, begin + 2..end, true, false));
        let sha256 = |index: &Index, piece: &TestPiece| {
            let cutter = cut_by(index, (std::slice::from_ref(piece), &[]), 7);
            cutter.loaded.first().and_then(|loaded| loaded.statement)
        };
        assert_eq!(sha256(&index(), &first), sha256(&index(), &rest));
        let mut other = index();
        other.entries[0].copy.as_mut().expect("rows").statement = Some("COPY s.a (y) FROM stdin;\n".to_owned());
        assert_ne!(sha256(&other, &first), sha256(&other, &rest));
        other.entries[0].copy.as_mut().expect("rows").table = "s.b".to_owned();
        assert!(cut_by(&other, (&[first], &[]), 7).is_other && cut_by(&other, (&[rest], &[]), 7).is_other);
        let half = (0, 0..begin + 1, false, true);
        assert!(cut_by(&index(), (&[half], &[(0, begin + 2..end, true, false)]), 7).is_other, "a row of two halves");
        other.entries[1].copy = None;
        assert!(cut_by(&other, (&[(1, end..DUMP.len() as u64, false, false)], &[]), 7).is_other);
    }

    #[test]
    fn pieces_of_rows_are_statements_of_their_own() {
        let begin = DUMP.find("1\n2").expect("rows") as u64;
        let (middle, end) = (begin + 2, DUMP.find("-- b").expect("an entry") as u64);
        for size in [1, 7, 1000] {
            let (text, rows) = cut(&[(0, 0..middle, false, true)], size);
            assert_eq!((text.as_str(), rows), ("COPY s.a (x) FROM stdin;\n1\n\\.\n", vec![(0, 1)]));
            let (text, rows) = cut(&[(0, middle..middle + 2, true, true)], size);
            assert_eq!((text.as_str(), rows), ("COPY s.a (x) FROM stdin;\n2\n\\.\n", vec![(0, 1)]));
            let rest = [(0, middle..end, true, false), (1, end..DUMP.len() as u64, false, false)];
            let (text, rows) = cut(&rest, size);
            assert_eq!(rows, [(0, 2), (1, 1)]);
            assert_eq!(text, "COPY s.a (x) FROM stdin;\n2\n3\n\\.\nCOPY s.b (x) FROM stdin;\n4\n\\.\n");
        }
    }

    #[test]
    fn rows_that_a_session_goes_on_with_are_of_the_same_statement() {
        let begin = DUMP.find("1\n2").expect("rows") as u64;
        let end = DUMP.find("-- b").expect("an entry") as u64;
        let first = [(0, 0..begin + 2, false, true)];
        // Another session may load what is between.
        for (next, rows, count) in [(begin + 2, "1\n2\n3\n", 3), (begin + 4, "1\n3\n", 2)] {
            let rest = [(0, next..end, true, false), (1, end..DUMP.len() as u64, false, false)];
            for size in [1, 7, 1000] {
                let (text, rows_of) = outcome(cut_by(&index(), (&first, &rest), size));
                assert_eq!(rows_of, [(0, count), (1, 1)]);
                assert_eq!(text, format!("COPY s.a (x) FROM stdin;\n{rows}\\.\nCOPY s.b (x) FROM stdin;\n4\n\\.\n"));
            }
        }
    }
}
