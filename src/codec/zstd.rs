//! zstd: one frame for each block, on its own, with its length and its checksum.
//!
//! `zstd -d` reads any number of frames as one file. One frame over all blocks would need zstd's internal calls, and its
//! contexts the memory of a large window. A file that ends between two frames is complete for zstd: the end of the dump and
//! the manifest's length show that something is missing.

use std::io::Write;

use zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer, get_error_name};

/// Capacity for unpacked bytes: a block of zstd's, which is what it unpacks at once.
const UNPACKED_BYTES: usize = 128 << 10;

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

    /// Compresses a block into `piece`, which is empty.
    ///
    /// # Errors
    /// If zstd has no memory; `piece` is then of no use.
    pub fn block(&mut self, plain: &[u8], piece: &mut Vec<u8>) -> Result<(), EncodeError> {
        piece.reserve(zstd_safe::compress_bound(plain.len()));
        self.0.compress2(piece, plain).map(drop).map_err(named)
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
    pub sink: W,
}

impl<W: Write> Decoder<W> {
    pub fn new(sink: W) -> Self {
        Self { context: DCtx::create(), unpacked: Vec::with_capacity(UNPACKED_BYTES), is_in_frame: false, sink }
    }

    /// Unpacks the next bytes.
    ///
    /// # Errors
    /// zstd's name of the damage, or the sink's error.
    pub fn unpack(&mut self, bytes: &[u8]) -> Result<(), String> {
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

    /// As long as the pipeline's blocks, and neither empty nor of one byte's repetition.
    fn plain() -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut line = |_| format!("{}\t{}\n", random.u64(..), "text ".repeat(random.usize(..9)));
        let mut plain: Vec<u8> = (0..20_000).map(&mut line).collect::<String>().into_bytes();
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
            decoder.unpack(&stream).expect("unpacked");
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
