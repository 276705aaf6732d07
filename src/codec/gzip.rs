//! One gzip member out of blocks that are deflated on their own, as pigz does.
//!
//! Each block is raw deflate with the 32 KiB before it as dictionary and ends with a sync flush, so the pieces can be
//! joined. Independent members would be simpler, but flate2's `GzDecoder` and others stop after the first without an
//! error, and a file cut between members decompresses cleanly.
//!
//! With the feature `isal` the fast levels are ISA-L's, which takes a third of zlib's time or less for the same size.

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

mod inflate;
mod inflater;

pub(super) use inflater::Inflater;

/// Deflate's window (RFC 1951): how far back a block may refer.
pub const WINDOW_BYTES: usize = 32 << 10;

/// The first ten bytes of a gzip member (RFC 1952): deflate, no name, no time, from Unix.
pub const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// The most bytes that an encoder's state has: zlib's; ISA-L's have 283 KB and 348 KB.
pub(super) const MEMORY: u64 = 512 << 10;

/// The compressor refused. Cannot happen while memory for its state is there.
#[derive(Debug, thiserror::Error)]
pub enum DeflateError {
    /// zlib's own error.
    #[error("compress a block")]
    Zlib(#[from] flate2::CompressError),
    /// ISA-L's own error.
    #[cfg(feature = "isal")]
    #[error("compress a block")]
    Isal(#[from] isal_deflate::Error),
    /// The output did not grow, though capacity was left.
    #[error("compress a block: no progress")]
    NoProgress,
}

/// One thread's deflater.
pub struct Encoder(Backend);

enum Backend {
    #[cfg(feature = "isal")]
    Isal(isal_deflate::Deflater),
    Zlib(Compress),
}

impl Encoder {
    /// An encoder of this level, 1 (fast) to 9 (small). With ISA-L, 1 and 2 are its level 1, 3 is its level 3; without it,
    /// and from 4 on, the levels are zlib's.
    #[must_use]
    pub fn new(level: u32) -> Self {
        Self(match level {
            #[cfg(feature = "isal")]
            0..=2 => Backend::Isal(isal_deflate::Deflater::new(isal_deflate::Level::Fast)),
            #[cfg(feature = "isal")]
            3 => Backend::Isal(isal_deflate::Deflater::new(isal_deflate::Level::Small)),
            level => Backend::Zlib(Compress::new(Compression::new(level), false)),
        })
    }

    /// Appends a block to `deflated`, with the window before it, of at most [`WINDOW_BYTES`].
    ///
    /// # Errors
    /// Where the backend refuses; `deflated` is then of no use.
    pub fn block(&mut self, window: &[u8], plain: &[u8], deflated: &mut Vec<u8>) -> Result<(), DeflateError> {
        match &mut self.0 {
            #[cfg(feature = "isal")]
            Backend::Isal(isal) => Ok(isal.block(window, plain, deflated)?),
            Backend::Zlib(compress) => deflate(compress, window, plain, deflated),
        }
    }
}

fn deflate(compress: &mut Compress, window: &[u8], plain: &[u8], deflated: &mut Vec<u8>) -> Result<(), DeflateError> {
    compress.reset();
    if !window.is_empty() {
        compress.set_dictionary(window)?;
    }
    loop {
        let used = usize::try_from(compress.total_in()).unwrap_or(usize::MAX);
        let before = deflated.len();
        let status = compress.compress_vec(&plain[used..], deflated, FlushCompress::Sync)?;
        let consumed = usize::try_from(compress.total_in()).unwrap_or(usize::MAX) == plain.len();
        // zlib: the flush is complete when the call leaves space in the output.
        if consumed && deflated.len() < deflated.capacity() {
            return Ok(());
        }
        if status == Status::BufError && deflated.len() == before && deflated.len() < deflated.capacity() {
            return Err(DeflateError::NoProgress);
        }
        deflated.reserve(plain.len() / 16 + 64);
    }
}

/// The end of a gzip member: an empty last block, CRC-32 and length of the plain bytes (RFC 1952).
#[must_use]
pub fn trailer(crc: &Crc, plain_bytes: u64) -> [u8; 10] {
    let mut trailer = [0; 10];
    // An empty block with fixed codes, marked as the last.
    trailer[0] = 0x03;
    trailer[2..6].copy_from_slice(&crc.sum().to_le_bytes());
    // RFC 1952: the length modulo 2^32.
    trailer[6..].copy_from_slice(&plain_bytes.to_le_bytes()[..4]);
    trailer
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::super::tests::dump_lines;
    use super::*;

    /// Lines that compress as a dump does, and bytes that do not.
    fn plain() -> Vec<u8> {
        let mut plain = dump_lines();
        plain.extend((0..200_000).map(|_| fastrand::u8(..)));
        plain
    }

    #[test]
    fn blocks_of_any_level_are_one_member() {
        let plain = plain();
        for level in 1..=9 {
            let mut encoder = Encoder::new(level);
            let mut member = HEADER.to_vec();
            for begin in (0..plain.len()).step_by(100_000) {
                let window = &plain[begin.saturating_sub(WINDOW_BYTES)..begin];
                encoder.block(window, &plain[begin..plain.len().min(begin + 100_000)], &mut member).expect("deflated");
            }
            let mut crc = Crc::new();
            crc.update(&plain);
            member.extend(trailer(&crc, plain.len() as u64));
            let mut read = Vec::new();
            GzDecoder::new(&member[..]).read_to_end(&mut read).expect("gzip");
            assert!(read == plain, "level {level}");
        }
    }
}
