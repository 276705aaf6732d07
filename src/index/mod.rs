//! The index of a dump: what stands where in it, and where reading can begin.
//!
//! `pipeline` makes it while the dump passes, `backup` stores it after the commit as the sidecar `.index.json.gz`. With it, `restore`
//! reads only the ranges that it needs, several at once, and `list --contents` shows the entries. A backup without an index, or with
//! one of an unknown version, is restored from its first byte to its last.
//!
//! Entries tile the dump: the preamble, each entry up to the next one, the trailer. Restart points tile it, too: each range
//! decompresses alone, and has its own CRC-32. An entry may span ranges, and a range may hold many entries.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use crate::codec::Codec;

mod builder;
mod details;
mod head;
mod picker;

pub use builder::{Builder, Draft, Stream};
pub use details::Details;

/// The version of the format that this program writes and reads.
pub const VERSION: u32 = 1;

/// The most bytes of JSON that are read: more than [`Builder`] makes, 16 MiB of entries and the points.
const MOST_JSON: u64 = 24 << 20;

/// The most restart points: more than [`picker`] picks of 1 PiB.
const MOST_POINTS: usize = 1 << 18;

/// The most bytes of a preamble and of a trailer: `pg_dump` writes less than 1 KiB of each.
const MOST_EDGE: u64 = 1 << 20;

/// What stands where in a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// [`VERSION`].
    pub index_version: u32,
    /// The run that made the backup, as in its manifest.
    pub run_id: String,
    /// The codec of the backup.
    pub codec: Codec,
    /// Length of the plain dump in bytes.
    pub plain_bytes: u64,
    /// Length of the compressed stream in bytes, before encryption.
    pub codec_bytes: u64,
    /// Length of the preamble in bytes; there the first entry begins.
    pub preamble_bytes: u64,
    /// Offset in the plain dump at which the trailer begins.
    pub trailer_at: u64,
    /// Partitioned indexes of the source that were invalid; `None` if the server did not say.
    #[serde(default)]
    pub invalid_indexes: Option<u64>,
    /// What the manifest leaves out; `None` if the backup is not encrypted, or they need too much space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// Where reading can begin, the beginning first.
    pub points: Vec<Point>,
    /// What the dump consists of, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Entry>,
}

/// A restart point, and the checksum of the range up to the next one: `[plain_at, codec_at, crc32]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u32)", into = "(u64, u64, u32)")]
pub struct Point {
    /// Offset in the plain dump.
    pub plain_at: u64,
    /// Offset in the compressed stream, before encryption.
    pub codec_at: u64,
    /// CRC-32 of the plain bytes of the range.
    pub crc32: u32,
}

impl From<(u64, u64, u32)> for Point {
    fn from((plain_at, codec_at, crc32): (u64, u64, u32)) -> Self {
        Self { plain_at, codec_at, crc32 }
    }
}

impl From<Point> for (u64, u64, u32) {
    fn from(point: Point) -> Self {
        (point.plain_at, point.codec_at, point.crc32)
    }
}

/// An entry of the dump, as its head names it. It ends where the next one begins.
///
/// Names in a head are not quoted, so a head may be forged or read in two ways. `restore` goes by an entry's first statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its type: `TABLE`, `TABLE DATA`, `INDEX`; `?` if its head is too long to be read.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its schema; `-` if it has none.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its owner; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Offset in the plain dump. What comes before the head but belongs to the entry is in it.
    pub at: u64,
    /// What its head begins with.
    #[serde(default, skip_serializing_if = "Prefix::is_name")]
    pub prefix: Prefix,
    /// Whether its head reads in two ways.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ambiguous: bool,
    /// The settings in force for it.
    #[serde(default, skip_serializing_if = "Settings::is_default")]
    pub sets: Settings,
    /// Its COPY data. Several entries may have data of one table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<Copy>,
}

impl Entry {
    /// Reads a head up to the end of its line: all but its offset, its settings and its rows.
    #[must_use]
    pub fn of_head(text: &[u8]) -> Self {
        head::read(text)
    }

    /// Whether another one has the same head.
    #[must_use]
    pub fn has_head_of(&self, other: &Self) -> bool {
        let Self { kind, schema, name, owner, prefix, ambiguous, .. } = self;
        (kind, schema, name, owner) == (&other.kind, &other.schema, &other.name, &other.owner)
            && (*prefix, *ambiguous) == (other.prefix, other.ambiguous)
    }
}

/// What the head of an entry begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prefix {
    /// `-- Name: `
    #[default]
    Name,
    /// `-- Data for Name: `
    Data,
    /// `-- Statistics for Name: `
    Statistics,
}

impl Prefix {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    fn is_name(&self) -> bool {
        *self == Self::Name
    }
}

/// The settings that `pg_dump` changes between entries, as the values are written in the dump.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `default_tablespace`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_tablespace: Option<String>,
    /// `default_table_access_method`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_table_access_method: Option<String>,
}

impl Settings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The COPY data of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Schema and table as the dump writes them, quoted if they must be.
    pub table: String,
    /// Offset in the plain dump of the first row.
    pub data_at: u64,
    /// Length of the rows in bytes, without the line `\.`.
    pub data_bytes: u64,
    /// Number of rows.
    pub rows: u64,
    /// The COPY statement with the end of its line, if a restart point is inside the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<String>,
    /// The same in base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement64: Option<String>,
}

/// Why an index is of no use. The backup is restored without it.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A later program wrote it.
    #[error("it has version {0}, and this program reads version {VERSION}")]
    Version(u32),
    /// It does not unpack, or is no JSON of an index.
    #[error("it cannot be read: {0}")]
    Damaged(String),
    /// Its parts do not fit together.
    #[error("it is inconsistent: {0}")]
    Inconsistent(&'static str),
}

impl Index {
    /// The sidecar's bytes.
    #[must_use]
    pub fn packed(&self) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
        let written = serde_json::to_writer(&mut packed, self).map_err(std::io::Error::from);
        let packed = written.and_then(|()| packed.flush().and_then(|()| packed.finish()));
        packed.unwrap_or_else(|error| unreachable!("JSON of plain fields to memory: {error}"))
    }

    /// Reads the sidecar's bytes.
    ///
    /// # Errors
    /// If it is damaged, of another version, or inconsistent.
    pub fn unpacked(packed: &[u8]) -> Result<Self, IndexError> {
        #[derive(Deserialize)]
        struct Versioned {
            index_version: u32,
        }
        let damaged = |error: &dyn std::fmt::Display| IndexError::Damaged(error.to_string());
        let mut json = Vec::new();
        MultiGzDecoder::new(packed).take(MOST_JSON).read_to_end(&mut json).map_err(|error| damaged(&error))?;
        let Versioned { index_version } = serde_json::from_slice(&json).map_err(|error| damaged(&error))?;
        if index_version != VERSION {
            return Err(IndexError::Version(index_version));
        }
        let index: Self = serde_json::from_slice(&json).map_err(|error| damaged(&error))?;
        index.verify()?;
        Ok(index)
    }

    /// The ranges of the dump: each restart point, and the offsets at which its range ends.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        self.ranges_from(0)
    }

    /// The same from the range with this byte of the dump on.
    pub fn ranges_from(&self, plain_at: u64) -> impl Iterator<Item = Range> + '_ {
        let first = self.points.partition_point(|point| point.plain_at <= plain_at).saturating_sub(1);
        let points = self.points.get(first..).unwrap_or_default();
        let ends = points.iter().skip(1).map(|next| (next.plain_at, next.codec_at));
        let ends = ends.chain([(self.plain_bytes, self.codec_bytes)]);
        points.iter().zip(ends).map(|(point, (plain_end, codec_end))| Range { point: *point, plain_end, codec_end })
    }

    /// The entries, each with the offset at which it ends.
    pub fn entries(&self) -> impl Iterator<Item = (&Entry, u64)> {
        let ends = self.entries.iter().skip(1).map(|next| next.at).chain([self.trailer_at]);
        self.entries.iter().zip(ends)
    }

    /// Whether its parts fit together.
    fn verify(&self) -> Result<(), IndexError> {
        let inconsistent = |is_wrong: bool, why| if is_wrong { Err(IndexError::Inconsistent(why)) } else { Ok(()) };
        let header = self.codec.header().len() as u64;
        let begins = self.points.first().map(|first| (first.plain_at, first.codec_at));
        inconsistent(begins != Some((0, header)), "the first restart point is not the beginning")?;
        inconsistent(self.points.len() > MOST_POINTS, "it has too many restart points")?;
        let is_sorted =
            self.ranges().all(|range| range.point.plain_at < range.plain_end && range.point.codec_at < range.codec_end);
        inconsistent(!is_sorted, "its restart points are not in order")?;
        let first = self.entries.first().map_or(self.trailer_at, |first| first.at);
        inconsistent(first != self.preamble_bytes, "its first entry does not follow the preamble")?;
        let is_tiled = self.entries().all(|(entry, end)| {
            let data = entry.copy.as_ref().map_or((entry.at, 0), |copy| (copy.data_at, copy.data_bytes));
            let data_end = data.0.checked_add(data.1);
            entry.at < end && entry.at <= data.0 && data_end.is_some_and(|data_end| data_end <= end)
        });
        inconsistent(!is_tiled, "its entries are not in order")?;
        let mut copies = self.entries.iter().filter_map(|entry| entry.copy.as_ref());
        inconsistent(copies.any(|copy| copy.rows > copy.data_bytes), "it has more rows than bytes of rows")?;
        inconsistent(self.trailer_at > self.plain_bytes, "its trailer begins after the end")?;
        let edges = [self.preamble_bytes, self.plain_bytes - self.trailer_at];
        inconsistent(edges.iter().any(|bytes| *bytes > MOST_EDGE), "its preamble or its trailer is too long")
    }
}

/// A range of the dump, which decompresses alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Its beginning, and the CRC-32 of its plain bytes.
    pub point: Point,
    /// Offset in the plain dump of its end.
    pub plain_end: u64,
    /// Offset in the compressed stream of its end. The last range ends with the stream's end.
    pub codec_end: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> Index {
        let entry = |kind: &str, at| Entry { kind: kind.to_owned(), name: "t".to_owned(), at, ..Entry::default() };
        let copy = Copy { table: "public.t".to_owned(), data_at: 150, data_bytes: 20, rows: 2, ..Copy::default() };
        Index {
            index_version: VERSION,
            run_id: "a1".to_owned(),
            codec: Codec::Gzip,
            plain_bytes: 300,
            codec_bytes: 100,
            preamble_bytes: 50,
            trailer_at: 250,
            invalid_indexes: Some(0),
            details: None,
            points: vec![Point::from((0, 10, 7)), Point::from((140, 60, 8))],
            entries: vec![entry("TABLE", 50), Entry { copy: Some(copy), ..entry("TABLE DATA", 140) }],
        }
    }

    #[test]
    fn it_comes_back_from_its_sidecar() {
        let index = index();
        assert_eq!(Index::unpacked(&index.packed()).expect("read"), index);
        let ends: Vec<_> = index.ranges().map(|range| (range.plain_end, range.codec_end)).collect();
        assert_eq!(ends, [(140, 60), (300, 100)]);
        for (at, ranges) in [(0, 2), (139, 2), (140, 1), (299, 1), (u64::MAX, 1)] {
            assert_eq!(index.ranges_from(at).count(), ranges, "{at}");
        }
        assert_eq!(index.entries().map(|(_, end)| end).collect::<Vec<_>>(), [140, 250]);
    }

    #[test]
    fn one_that_is_damaged_or_does_not_fit_together_is_refused() {
        let mut cut = index().packed();
        cut.pop();
        assert!(matches!(Index::unpacked(&cut), Err(IndexError::Damaged(_))));
        let later = Index { index_version: 2, ..index() };
        assert!(matches!(Index::unpacked(&later.packed()), Err(IndexError::Version(2))));
        let wrong: [fn(&mut Index); 10] = [
            |index| index.points.clear(),
            |index| index.entries[1].copy.as_mut().expect("data").rows = u64::MAX,
            |index| {
                (index.plain_bytes, index.codec_bytes) = (1 << 40, 1 << 40);
                index.points.extend((300..300_300).map(|at| Point::from((at, at, 0))));
            },
            |index| index.points.swap(0, 1),
            |index| index.plain_bytes = 140,
            |index| index.preamble_bytes = 51,
            |index| index.entries[1].copy.as_mut().expect("data").data_bytes = u64::MAX,
            |index| index.entries.swap(0, 1),
            |index| index.plain_bytes = 2 << 20,
            |index| {
                index.entries.clear();
                (index.preamble_bytes, index.trailer_at, index.plain_bytes) = (2 << 20, 2 << 20, (2 << 20) + 1);
            },
        ];
        for change in wrong {
            let mut index = index();
            change(&mut index);
            assert!(matches!(Index::unpacked(&index.packed()), Err(IndexError::Inconsistent(_))), "{index:?}");
        }
    }
}
