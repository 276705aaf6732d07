//! zstd: one frame for each block, on its own, with its length and its checksum.
//!
//! `zstd -d` reads any number of frames as one file. One frame over all blocks would need zstd's internal calls, and its
//! contexts the memory of a large window. A file without some of its frames is complete for zstd. So the last frame is one
//! that decoders skip: it has length and CRC-32 of the plain bytes, as gzip has. Without it, the end of the dump and the
//! manifest show whether something is missing.

use std::io::{Cursor, Write};

use flate2::Crc;
use zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer, get_error_name};

/// Capacity for unpacked bytes: a block of zstd's, which is what it unpacks at once.
const UNPACKED_BYTES: usize = 128 << 10;

/// The beginning of the last frame (RFC 8878): the magic number of a frame that decoders skip, and the length of its content.
const END: [u8; 8] = [0x5b, 0x2a, 0x4d, 0x18, 12, 0, 0, 0];
/// All bytes of the last frame.
const END_BYTES: usize = END.len() + 12;

/// Length and CRC-32 of the plain bytes, as the last frame has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainEnd {
    /// Length in bytes.
    pub bytes: u64,
    /// CRC-32.
    pub crc32: u32,
}

impl PlainEnd {
    /// Reads the last frame; `None` if another program has written the stream.
    fn read(frame: &[u8]) -> Option<Self> {
        let (bytes, crc32) = frame.strip_prefix(&END)?.split_first_chunk::<8>()?;
        Some(Self { bytes: u64::from_le_bytes(*bytes), crc32: u32::from_le_bytes(crc32.try_into().ok()?) })
    }
}

/// The last frame.
pub(super) fn end(crc: &Crc, plain_bytes: u64) -> Vec<u8> {
    [&END[..], &plain_bytes.to_le_bytes(), &crc.sum().to_le_bytes()].concat()
}

/// zstd's own error. Cannot happen while memory for its state is there.
#[derive(Debug, thiserror::Error)]
#[error("compress a block: {0}")]
pub struct EncodeError(&'static str);

/// One thread's encoder.
pub struct Encoder(CCtx<'static>);

impl Encoder {
    /// An encoder of this level, 1 (fast) to 19 (small).
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(level: u32) -> Result<Self, EncodeError> {
        let mut context = CCtx::try_create().ok_or(EncodeError("no memory"))?;
        let level = i32::try_from(level).unwrap_or(i32::MAX);
        for parameter in [CParameter::CompressionLevel(level), CParameter::ChecksumFlag(true)] {
            context.set_parameter(parameter).map_err(named)?;
        }
        Ok(Self(context))
    }

    /// Appends a frame with this block to `piece`.
    ///
    /// # Errors
    /// If zstd has no memory; `piece` is then of no use.
    pub fn block(&mut self, plain: &[u8], piece: &mut Vec<u8>) -> Result<(), EncodeError> {
        piece.reserve(zstd_safe::compress_bound(plain.len()));
        let end = piece.len() as u64;
        let mut frame = Cursor::new(piece);
        frame.set_position(end);
        self.0.compress2(&mut frame, plain).map(drop).map_err(named)
    }

    /// Bytes of its state.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.0.sizeof()
    }
}

fn named(code: usize) -> EncodeError {
    EncodeError(get_error_name(code))
}

/// Unpacks frames into a sink.
pub(super) struct Decoder<W> {
    context: DCtx<'static>,
    unpacked: Vec<u8>,
    is_in_frame: bool,
    /// The last bytes, which may be the last frame.
    tail: Vec<u8>,
    pub sink: W,
}

impl<W: Write> Decoder<W> {
    pub fn new(sink: W) -> Self {
        let (unpacked, tail) = (Vec::with_capacity(UNPACKED_BYTES), Vec::new());
        Self { context: DCtx::create(), unpacked, is_in_frame: false, tail, sink }
    }

    /// Unpacks the next bytes.
    ///
    /// # Errors
    /// zstd's name of the damage, or the sink's error.
    pub fn unpack(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(END_BYTES)..]);
        self.tail.drain(..self.tail.len().saturating_sub(END_BYTES));
        let mut input = InBuffer::around(bytes);
        let mut has_more = false;
        while input.pos() < bytes.len() || has_more {
            self.unpacked.clear();
            let mut output = OutBuffer::around(&mut self.unpacked);
            let left = self.context.decompress_stream(&mut output, &mut input).map_err(get_error_name)?;
            // 0 at the end of a frame, when all of it is in the output.
            self.is_in_frame = left != 0;
            has_more = self.is_in_frame && self.unpacked.len() == self.unpacked.capacity();
            self.sink.write_all(&self.unpacked).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Whether the bytes so far end where a frame ends.
    pub fn is_complete(&self) -> bool {
        !self.is_in_frame
    }

    /// The content of the last frame, if it is this program's.
    pub fn end(&self) -> Option<PlainEnd> {
        PlainEnd::read(&self.tail)
    }
}

/// The most bytes that an encoder's state has for blocks of [`crate::pipeline::BLOCK_BYTES`]. They grow with the level, not
/// with the window: it is never larger than a block.
pub(super) fn memory(level: u32) -> u64 {
    let kib = match level {
        0..=1 => 576,
        2 => 768,
        3 => 1_280,
        4 => 2_560,
        5..=6 => 3_072,
        7..=12 => 5_632,
        13..=15 => 8_704,
        16..=17 => 8_960,
        _ => 9_728,
    };
    kib << 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;
    use crate::codec::tests::dump_lines;

    /// As long as the pipeline's blocks, and neither empty nor of one byte's repetition.
    fn plain() -> Vec<u8> {
        let mut plain = dump_lines();
        plain.truncate(crate::pipeline::BLOCK_BYTES);
        plain
    }

    #[test]
    fn each_level_unpacks_to_what_was_packed_in_no_more_memory_than_announced() {
        let plain = plain();
        for level in Codec::Zstd.levels() {
            let mut encoder = Encoder::new(level).expect("memory");
            let mut stream = Vec::new();
            for block in [&plain[..], b"", &plain[..1]] {
                let mut piece = Vec::new();
                encoder.block(block, &mut piece).expect("compressed");
                stream.extend(piece);
            }
            let (used, announced) = (encoder.memory() as u64, memory(level));
            assert!(used <= announced && announced < used + (256 << 10), "level {level}: {used}, not {announced}");
            let mut decoder = Decoder::new(Vec::new());
            stream.extend(end(&Crc::new(), 7));
            decoder.unpack(&stream).expect("unpacked");
            assert_eq!(decoder.end(), Some(PlainEnd { bytes: 7, crc32: 0 }));
            assert!(decoder.is_complete() && decoder.sink == [&plain[..], &plain[..1]].concat(), "level {level}");
        }
    }

    #[test]
    fn a_frame_carries_its_length_and_a_checksum() {
        let (mut encoder, mut frame) = (Encoder::new(1).expect("memory"), Vec::new());
        encoder.block(&plain(), &mut frame).expect("compressed");
        // RFC 8878: the magic number, then the descriptor: four bytes of length, a single segment, a checksum.
        assert_eq!(frame[..5], [0x28, 0xb5, 0x2f, 0xfd, 0b1010_0100]);
    }
}
