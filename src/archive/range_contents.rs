//! The content of some ranges of a stored backup: each is unpacked from its restart point, and compared with its CRC-32.
//!
//! [`super::ranges`] feeds the bytes of one run of adjacent ranges after the other. Memory is that of one unpacked piece, however
//! long a range is. So the sink gets bytes before their range is verified: only [`VerifiedRanges`] says that they are.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::ControlFlow;

use flate2::Crc;

use crate::codec::{Codec, Decoder, Place};
use crate::index::{Index, Range};

/// A section of the plain dump: offset of its first byte, and of the first after it.
pub type Span = std::ops::Range<u64>;

/// Ranges that were read completely, each with the CRC-32 that the index has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifiedRanges {
    /// Stored bytes that were read.
    pub(super) stored_bytes: u64,
    /// Plain bytes of the spans.
    pub(super) plain_bytes: u64,
}

impl VerifiedRanges {
    /// These and others.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { stored_bytes: self.stored_bytes + other.stored_bytes, plain_bytes: self.plain_bytes + other.plain_bytes }
    }

    /// Stored bytes that were read.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Plain bytes that the sink got.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }
}

/// A range that is not what the index says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range from byte {} to byte {} of the dump is damaged: {why}", plain.start, plain.end)]
pub struct RangeDamage {
    /// The range, in the plain dump.
    pub plain: Span,
    /// What differs.
    pub why: String,
}

/// Adjacent ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub ranges: VecDeque<(Range, Place)>,
}

impl Run {
    /// The ranges that hold the spans, which are in order and apart: as few runs as possible.
    pub fn of(index: &Index, spans: &[Span]) -> VecDeque<Self> {
        let (mut runs, mut spans) = (VecDeque::<Self>::new(), spans.iter().filter(|span| !span.is_empty()).peekable());
        let mut last_end = None;
        let first = spans.peek().map_or(0, |span| span.start);
        for range in index.ranges_from(first) {
            while spans.next_if(|span| span.end <= range.point.plain_at).is_some() {}
            let Some(span) = spans.peek() else { break };
            if span.start >= range.plain_end {
                continue;
            }
            let place = if range.plain_end == index.plain_bytes { Place::Last } else { Place::Inside };
            match runs.back_mut().filter(|_| last_end == Some(range.point.plain_at)) {
                Some(run) => run.ranges.push_back((range, place)),
                None => runs.push_back(Self { ranges: VecDeque::from([(range, place)]) }),
            }
            last_end = Some(range.plain_end);
        }
        runs
    }

    /// Its section of the compressed stream.
    pub fn section(&self) -> Span {
        let (first, last) = (self.ranges.front(), self.ranges.back());
        first.zip(last).map_or(0..0, |((first, _), (last, _))| first.point.codec_at..last.codec_end)
    }
}

/// Ranges that are being read.
pub(super) struct RangeUnpacker<W: Write> {
    codec: Codec,
    /// The ranges of the runs, in order.
    ranges: VecDeque<(Range, Place)>,
    /// The first of them, if bytes of it came.
    current: Option<Current<W>>,
    /// Its part of the sink, while no range is read.
    output: Option<Output<W>>,
    read: VerifiedRanges,
    damage: Option<RangeDamage>,
}

struct Current<W: Write> {
    range: Range,
    place: Place,
    /// Compressed bytes that are missing.
    missing: u64,
    decoder: Decoder<Tap<W>>,
}

/// The sink, and what of the dump it gets.
struct Output<W> {
    spans: VecDeque<Span>,
    passed: u64,
    sink: W,
    failed: Option<io::Error>,
}

impl<W: Write> RangeUnpacker<W> {
    /// Starts before the first byte of the first run.
    pub fn new(sink: W, codec: Codec, runs: &VecDeque<Run>, spans: &[Span]) -> Self {
        let ranges = runs.iter().flat_map(|run| run.ranges.iter().copied()).collect();
        let output = Output { spans: spans.iter().cloned().collect(), passed: 0, sink, failed: None };
        Self { codec, ranges, current: None, output: Some(output), read: VerifiedRanges::default(), damage: None }
    }

    /// Takes the next bytes. Breaks after damage, or if the sink has failed.
    pub fn take(&mut self, piece: &[u8]) -> ControlFlow<()> {
        let mut rest = piece;
        while !rest.is_empty() && self.damage.is_none() {
            let Some(mut current) = self.current.take().or_else(|| self.begin()) else { break };
            let length = rest.len().min(usize::try_from(current.missing).unwrap_or(usize::MAX));
            let (own, others) = rest.split_at(length);
            rest = others;
            current.missing -= length as u64;
            self.read.stored_bytes += length as u64;
            let unpacked = current.decoder.unpack(own);
            let has_failed = current.decoder.sink().output.as_ref().is_some_and(|output| output.failed.is_some());
            let is_over = current.missing == 0 || unpacked.is_err() || has_failed;
            if is_over {
                self.end(current, unpacked);
            } else {
                self.current = Some(current);
            }
            if has_failed {
                return ControlFlow::Break(());
            }
        }
        if self.damage.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Ends at the range that is being read: its bytes are damaged.
    pub fn damage(&mut self, why: String) {
        if let Some(current) = self.current.take().or_else(|| self.begin()) {
            self.end(current, Err(why));
        }
    }

    /// Returns the sink and what was read, after the last byte; or the sink's error.
    pub fn finish(mut self) -> (W, io::Result<Result<VerifiedRanges, RangeDamage>>) {
        if let Some(current) = self.current.take().or_else(|| self.damage.is_none().then(|| self.begin()).flatten()) {
            let missing = format!("{} bytes of it are missing", current.missing);
            self.end(current, Err(missing));
        }
        let output = self.output.unwrap_or_else(|| unreachable!("no range is being read"));
        let read = VerifiedRanges { plain_bytes: output.passed, ..self.read };
        let verified = self.damage.map_or(Ok(read), Err);
        (output.sink, output.failed.map_or(Ok(verified), Err))
    }

    /// Returns the sink; nothing more is written to it.
    pub fn into_sink(self) -> W {
        let output = self.output.or_else(|| self.current.map(Current::into_output));
        output.unwrap_or_else(|| unreachable!("the range being read has it")).sink
    }

    fn begin(&mut self) -> Option<Current<W>> {
        let (range, place) = self.ranges.pop_front()?;
        let output = Some(self.output.take()?);
        let tap = Tap { at: range.point.plain_at, end: range.plain_end, crc: Crc::new(), output };
        let decoder = Decoder::at_restart_point(self.codec, tap);
        Some(Current { range, place, missing: range.codec_end - range.point.codec_at, decoder })
    }

    fn end(&mut self, mut current: Current<W>, unpacked: Result<(), String>) {
        let Range { point, plain_end, .. } = current.range;
        let finished = unpacked.and_then(|()| current.decoder.finish_range(current.place));
        let (at, crc32) = (current.decoder.sink().at, current.decoder.sink().crc.sum());
        let why = match finished {
            Err(why) => Some(why),
            Ok(()) if at != plain_end => Some(format!("it unpacks to {} bytes", at - point.plain_at)),
            Ok(()) if crc32 != point.crc32 => {
                Some(format!("its CRC-32 is {crc32:08x}, but it was dumped with {:08x}", point.crc32))
            }
            Ok(()) => None,
        };
        self.damage = why.map(|why| RangeDamage { plain: point.plain_at..plain_end, why });
        self.output = Some(current.into_output());
    }
}

impl<W: Write> Current<W> {
    fn into_output(mut self) -> Output<W> {
        self.decoder.sink().output.take().unwrap_or_else(|| unreachable!("it is taken once"))
    }
}

/// Receives the plain bytes of a range, and passes on those that are in a span.
struct Tap<W> {
    /// Offset in the dump of the next byte.
    at: u64,
    /// Offset at which the range ends.
    end: u64,
    crc: Crc,
    /// `None` once it was taken.
    output: Option<Output<W>>,
}

impl<W: Write> Write for Tap<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.end - self.at {
            return Err(io::Error::other("it unpacks to more bytes than it should"));
        }
        self.crc.update(bytes);
        if let Some(output) = &mut self.output {
            output.put(self.at, bytes);
        }
        self.at += bytes.len() as u64;
        // An error of the sink is not damage of the range.
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Output<W> {
    /// Passes on the bytes at this offset that are in a span, until the sink fails.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        let within = |offset: u64| usize::try_from(offset.clamp(at, end) - at).unwrap_or(usize::MAX);
        while let Some(span) = self.spans.front().cloned().filter(|span| span.start < end && self.failed.is_none()) {
            let wanted = &bytes[within(span.start)..within(span.end)];
            self.passed += wanted.len() as u64;
            self.failed = self.sink.write_all(wanted).err();
            if span.end > end {
                break;
            }
            self.spans.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
