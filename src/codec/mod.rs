//! How a dump is compressed: block by block, so that several threads work on one stream.
//!
//! Each codec has a header, blocks that one thread's [`Encoder`] makes and that are joined in order, and an end. [`Decoder`]
//! unpacks the stream again. Used by `pipeline` and `archive`; names and the manifest say which codec a backup has.

pub mod age;
mod decoder;
pub mod gzip;
pub mod zstd;

use std::fmt;
use std::ops::RangeInclusive;

use flate2::Crc;
use serde::{Deserialize, Serialize};

pub use decoder::Decoder;

/// The codec of a backup. Backups of one second are ordered as here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// One gzip member.
    #[default]
    Gzip,
    /// zstd frames.
    Zstd,
}

/// Which range of a stream is unpacked, from a restart point on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Another one follows it.
    Inside,
    /// It ends with the end of the stream.
    Last,
}

/// Why a block was not compressed.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// gzip's error.
    #[error(transparent)]
    Gzip(#[from] gzip::DeflateError),
    /// zstd's error.
    #[error(transparent)]
    Zstd(#[from] zstd::EncodeError),
}

impl Codec {
    /// All codecs, in their order.
    pub const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];
    /// All codecs, by their names.
    pub const WORDS: &[(&str, Self)] = &[("gzip", Self::Gzip), ("zstd", Self::Zstd)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The end of a file's name.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Gzip => "gz",
            Self::Zstd => "zst",
        }
    }

    /// The media type of a file.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/gzip",
            Self::Zstd => "application/zstd",
        }
    }

    /// Its levels, from fast to small.
    #[must_use]
    pub fn levels(self) -> RangeInclusive<u32> {
        match self {
            Self::Gzip => 1..=9,
            Self::Zstd => 1..=19,
        }
    }

    /// The first bytes of a stream.
    #[must_use]
    pub fn header(self) -> &'static [u8] {
        match self {
            Self::Gzip => &gzip::HEADER,
            Self::Zstd => &[],
        }
    }

    /// The last bytes of a stream.
    #[must_use]
    pub fn end(self, crc: &Crc, plain_bytes: u64) -> Vec<u8> {
        match self {
            Self::Gzip => gzip::trailer(crc, plain_bytes).to_vec(),
            Self::Zstd => zstd::end(crc, plain_bytes),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A codec with one of its levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// The codec.
    pub codec: Codec,
    /// The level.
    pub level: u32,
}

impl Compression {
    /// The most bytes that the state of one thread's encoder has.
    #[must_use]
    pub fn memory(self) -> u64 {
        match self.codec {
            Codec::Gzip => gzip::MEMORY,
            Codec::Zstd => zstd::memory(self.level),
        }
    }
}

/// One thread's encoder. It keeps its state while the compression stays the same.
pub struct Encoder {
    compression: Compression,
    state: State,
}

enum State {
    Gzip(gzip::Encoder),
    Zstd(zstd::Encoder),
}

impl Encoder {
    /// An encoder for this compression.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(compression: Compression) -> Result<Self, EncodeError> {
        let state = match compression.codec {
            Codec::Gzip => State::Gzip(gzip::Encoder::new(compression.level)),
            Codec::Zstd => State::Zstd(zstd::Encoder::new(compression.level)?),
        };
        Ok(Self { compression, state })
    }

    /// Whether it compresses like this.
    #[must_use]
    pub fn is_for(&self, compression: Compression) -> bool {
        self.compression == compression
    }

    /// Appends a compressed block to `piece`. `window` is what comes before the block; without it, reading can begin there.
    ///
    /// # Errors
    /// If the library refuses it; `piece` is then of no use.
    pub fn block(&mut self, window: &[u8], plain: &[u8], piece: &mut Vec<u8>) -> Result<(), EncodeError> {
        match &mut self.state {
            State::Gzip(encoder) => Ok(encoder.block(window, plain, piece)?),
            State::Zstd(encoder) => Ok(encoder.block(plain, piece)?),
        }
    }

    /// Bytes of its state; 0 if they are not known.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.state {
            State::Gzip(_) => 0,
            State::Zstd(encoder) => encoder.memory(),
        }
    }
}

#[cfg(test)]
mod tests {
    /// Lines that compress as a dump does.
    pub(super) fn dump_lines() -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        let line = |_| format!("{}\t{}\n", random.u64(..), "text ".repeat(random.usize(..9)));
        (0..20_000).map(line).collect::<String>().into_bytes()
    }
}
