//! Makes the index of a dump from the lexer's pieces, in bounded memory.
//!
//! `pipeline::scanner` feeds it. Each finished entry is serialized and packed at once, so 30,000 tables need 1.5 MiB. Where
//! an index would need more there is none, and none where the dump is not as `pg_dump` writes it. Pure: it does no I/O.

use std::io::{self, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::picker::Picker;
use super::{Copy, Details, Entry, Index, Point, Settings, VERSION, head};
use crate::codec::Codec;
use crate::sql::{Piece, SpanKind, copied_table};

/// The most bytes of packed entries. The announced memory has them, and the packer's state.
const MOST_PACKED: usize = (3 << 20) / 2;
/// The most bytes of JSON. `restore` keeps the entries unpacked.
const MOST_JSON: usize = 16 << 20;
/// By how much the packed entries grow at a time.
const STEP: usize = 256 << 10;

/// The comment that ends a dump.
const CLOSING: &[u8] = b"-- PostgreSQL database dump complete\n";
/// Comments that may come before a head or before [`CLOSING`], and belong to what follows: `--verbose` writes all but the first.
const LEADS: [&[u8]; 4] = [b"--\n", b"-- TOC entry ", b"-- Dependencies: ", b"-- Completed on "];

/// Follows a dump; see the module.
#[derive(Debug)]
pub struct Builder {
    /// Offset behind the last piece.
    at: u64,
    /// Where the span began that is being read.
    span_at: Option<u64>,
    /// Where the next entry begins if its head follows.
    lead_at: Option<u64>,
    /// After a head, before the `--` that ends its comment.
    is_in_head: bool,
    settings: Settings,
    preamble_bytes: Option<u64>,
    trailer_at: Option<u64>,
    entry: Option<Entry>,
    /// The statement of the rows that are being read.
    statement: Vec<u8>,
    points: Picker,
    /// `None` if there will be no index.
    packed: Option<Packed>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::with(Picker::default())
    }
}

impl Builder {
    /// For a dump with these restart points, offsets in order, to compare its entries with those of an index.
    #[must_use]
    pub fn with_points(points: Vec<u64>) -> Self {
        Self::with(Picker::of(points))
    }

    fn with(points: Picker) -> Self {
        Self {
            at: 0,
            span_at: None,
            lead_at: None,
            is_in_head: false,
            settings: Settings::default(),
            preamble_bytes: None,
            trailer_at: None,
            entry: None,
            statement: Vec::new(),
            points,
            packed: Some(Packed::new()),
        }
    }

    /// Takes the next piece. `lines` is the number of its lines, if it has rows.
    pub fn take(&mut self, piece: &Piece<'_>, lines: u64) {
        let at = self.at;
        self.at += piece.bytes.len() as u64;
        if self.trailer_at.is_some() || self.packed.is_none() || piece.kind == SpanKind::Space {
            return;
        }
        if piece.kind == SpanKind::CopyRows {
            return self.rows(at, piece.bytes, lines);
        }
        let span_at = *self.span_at.get_or_insert(at);
        let Some(text) = piece.text else { return };
        self.span_at = None;
        self.span(piece.kind, span_at, text);
    }

    /// The restart point in the block that ends at this offset, if one is due. Must be called after each block, before it is handed
    /// on: no later point is in it.
    pub fn point(&mut self, block_end: u64) -> Option<u64> {
        let point = self.points.next(block_end);
        point.filter(|_| self.packed.is_some())
    }

    /// The entries, after the last piece; `None` if they are too many, or the dump is not as `pg_dump` writes it.
    #[must_use]
    pub fn finish(mut self) -> Option<Draft> {
        let trailer_at = self.trailer_at.unwrap_or(self.at);
        self.end_entry();
        let preamble_bytes = self.preamble_bytes.unwrap_or(trailer_at);
        let packed = self.packed?;
        Some(Draft { packed, plain_bytes: self.at, preamble_bytes, trailer_at })
    }

    /// Takes a span that has ended.
    fn span(&mut self, kind: SpanKind, span_at: u64, text: &[u8]) {
        let was_in_head = std::mem::take(&mut self.is_in_head);
        let lead_at = self.lead_at.take();
        let is_lead = match kind {
            SpanKind::EntryHead => {
                self.begin_entry(lead_at.unwrap_or(span_at), text);
                false
            }
            SpanKind::Comment if text == CLOSING => {
                self.trailer_at = Some(lead_at.unwrap_or(span_at));
                false
            }
            SpanKind::Comment => !was_in_head && LEADS.iter().any(|lead| text.starts_with(lead)),
            SpanKind::Statement => self.set(text),
            SpanKind::CopyBegin => {
                self.begin_copy(text);
                false
            }
            SpanKind::CopyEnd => {
                self.end_copy();
                false
            }
            SpanKind::Space | SpanKind::CopyRows | SpanKind::PsqlCommand => false,
        };
        if is_lead {
            self.lead_at = lead_at.or(Some(span_at));
        }
    }

    fn begin_entry(&mut self, at: u64, text: &[u8]) {
        self.end_entry();
        self.preamble_bytes.get_or_insert(at);
        self.points.entry(at);
        self.is_in_head = true;
        self.entry = Some(Entry { at, sets: self.settings.clone(), ..head::read(text) });
    }

    fn end_entry(&mut self) {
        let (Some(entry), Some(packed)) = (self.entry.take(), &mut self.packed) else { return };
        if !packed.push(&entry) {
            self.give_up("the index would need too much memory");
        }
    }

    /// Whether the statement sets what belongs to the entries that follow.
    fn set(&mut self, text: &[u8]) -> bool {
        let Settings { default_tablespace, default_table_access_method } = &mut self.settings;
        let (setting, value) = if let Some(value) = text.strip_prefix(b"SET default_tablespace = ") {
            (default_tablespace, value)
        } else if let Some(value) = text.strip_prefix(b"SET default_table_access_method = ") {
            (default_table_access_method, value)
        } else {
            return false;
        };
        *setting = value.strip_suffix(b";").and_then(|value| str::from_utf8(value).ok()).map(str::to_owned);
        if setting.is_none() {
            self.give_up("a setting in the dump is not UTF-8");
        }
        true
    }

    fn begin_copy(&mut self, statement: &[u8]) {
        match &mut self.entry {
            Some(entry) if entry.copy.is_none() => {
                let table = copied_table(statement);
                entry.copy = Some(Copy { table, data_at: self.at, ..Copy::default() });
                self.statement.clear();
                self.statement.extend_from_slice(statement);
            }
            _ => self.give_up("rows are where pg_dump writes none"),
        }
    }

    fn rows(&mut self, at: u64, bytes: &[u8], lines: u64) {
        if let Some(copy) = self.entry.as_mut().and_then(|entry| entry.copy.as_mut()) {
            copy.data_bytes += bytes.len() as u64;
            copy.rows += lines;
        }
        self.points.rows(at, bytes);
    }

    fn end_copy(&mut self) {
        let statement = std::mem::take(&mut self.statement);
        let Some(copy) = self.entry.as_mut().and_then(|entry| entry.copy.as_mut()) else { return };
        if self.points.is_inside(copy.data_at, copy.data_at + copy.data_bytes) {
            match String::from_utf8(statement) {
                Ok(statement) => copy.statement = Some(statement),
                Err(error) => copy.statement64 = Some(BASE64_STANDARD.encode(error.as_bytes())),
            }
        }
    }

    fn give_up(&mut self, why: &str) {
        tracing::debug!("no index: {why}");
        self.packed = None;
    }
}

/// An index that lacks what only the compressed stream and the server know.
#[derive(Debug)]
pub struct Draft {
    packed: Packed,
    plain_bytes: u64,
    preamble_bytes: u64,
    trailer_at: u64,
}

/// The compressed stream of a dump.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its codec.
    pub codec: Codec,
    /// Its length in bytes, before encryption.
    pub codec_bytes: u64,
    /// Its restart points.
    pub points: Vec<Point>,
}

impl Draft {
    /// The sidecar's bytes. An encrypted backup has details.
    #[must_use]
    pub fn complete(
        self,
        stream: Stream,
        run_id: &str,
        invalid_indexes: Option<u64>,
        details: Option<Details>,
    ) -> Vec<u8> {
        let Self { packed, plain_bytes, preamble_bytes, trailer_at } = self;
        let Stream { codec, codec_bytes, points } = stream;
        packed.finish(&Index {
            index_version: VERSION,
            run_id: run_id.to_owned(),
            codec,
            plain_bytes,
            codec_bytes,
            preamble_bytes,
            trailer_at,
            invalid_indexes,
            details,
            points,
            entries: Vec::new(),
        })
    }
}

/// The entries as they come: the beginning of an index's JSON, packed.
#[derive(Debug)]
struct Packed {
    encoder: GzEncoder<Stepwise>,
    json_bytes: usize,
}

impl Packed {
    fn new() -> Self {
        Self { encoder: GzEncoder::new(Stepwise::default(), Compression::new(6)), json_bytes: 0 }
    }

    /// Adds an entry; `false` if the entries need too much memory.
    fn push(&mut self, entry: &Entry) -> bool {
        let before: &[u8] = if self.json_bytes == 0 { b"{\"entries\":[" } else { b"," };
        let entry = serde_json::to_vec(entry).unwrap_or_else(|error| unreachable!("JSON of plain fields: {error}"));
        self.json_bytes += before.len() + entry.len();
        let written = self.encoder.write_all(before).and_then(|()| self.encoder.write_all(&entry));
        written.is_ok() && self.json_bytes <= MOST_JSON && self.encoder.get_ref().0.len() <= MOST_PACKED
    }

    /// Adds the other fields.
    fn finish(mut self, index: &Index) -> Vec<u8> {
        let before: &[u8] = if self.json_bytes == 0 { b"{" } else { b"]," };
        let written = self.encoder.write_all(before).and_then(|()| {
            let fields = WithoutBrace { sink: &mut self.encoder, is_begun: false };
            serde_json::to_writer(fields, index).map_err(io::Error::from)
        });
        let packed = written.and_then(|()| self.encoder.finish());
        packed.unwrap_or_else(|error| unreachable!("JSON of plain fields to memory: {error}")).0
    }
}

/// Bytes in memory that grow by [`STEP`]: twice the memory for each growth would pass the bound.
#[derive(Debug, Default)]
struct Stepwise(Vec<u8>);

impl Write for Stepwise {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.capacity() - self.0.len() < bytes.len() {
            self.0.reserve_exact(bytes.len().max(STEP));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes all but the first byte.
struct WithoutBrace<W> {
    sink: W,
    is_begun: bool,
}

impl<W: Write> Write for WithoutBrace<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = usize::from(!std::mem::replace(&mut self.is_begun, true)).min(bytes.len());
        self.sink.write_all(&bytes[skipped..])?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
