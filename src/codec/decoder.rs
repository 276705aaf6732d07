//! Unpacks a stream of any codec into a sink, piece by piece.

use std::io::Write;

use flate2::write::GzDecoder;

use super::Codec;
use super::zstd::{self, PlainEnd};

/// Unpacks what it is given, in order. An error of the sink would count as damage, so the sink must not fail.
pub struct Decoder<W: Write> {
    state: State<W>,
    /// Stored bytes that were given.
    bytes: u64,
}

enum State<W: Write> {
    Gzip(Box<GzDecoder<W>>),
    Zstd(zstd::Decoder<W>),
}

impl<W: Write> Decoder<W> {
    /// Starts before the first byte.
    #[must_use]
    pub fn new(codec: Codec, sink: W) -> Self {
        let state = match codec {
            Codec::Gzip => State::Gzip(Box::new(GzDecoder::new(sink))),
            Codec::Zstd => State::Zstd(zstd::Decoder::new(sink)),
        };
        Self { state, bytes: 0 }
    }

    /// The sink.
    pub fn sink(&mut self) -> &mut W {
        match &mut self.state {
            State::Gzip(decoder) => decoder.get_mut(),
            State::Zstd(decoder) => &mut decoder.sink,
        }
    }

    /// Unpacks the next bytes.
    ///
    /// # Errors
    /// The damage. Nothing may be unpacked after it.
    pub fn unpack(&mut self, piece: &[u8]) -> Result<(), String> {
        let before = self.bytes;
        self.bytes += piece.len() as u64;
        match &mut self.state {
            State::Gzip(decoder) => gunzip(decoder, before, piece),
            State::Zstd(decoder) => {
                decoder.unpack(piece).map_err(|why| format!("zstd is damaged before byte {}: {why}", self.bytes))
            }
        }
    }

    /// Ends the stream, after its last byte or after damage. Returns what the plain bytes must be, if the codec has not
    /// compared them itself.
    ///
    /// # Errors
    /// If the stream has not ended, or gzip's checksum or length differs.
    pub fn finish(&mut self) -> Result<Option<PlainEnd>, String> {
        let bytes = self.bytes;
        match &mut self.state {
            State::Gzip(decoder) => decoder
                .try_finish()
                .map(|()| None)
                .map_err(|_| format!("after {bytes} bytes gzip has not ended, or its checksum or length differs")),
            State::Zstd(decoder) if decoder.is_complete() => Ok(decoder.end()),
            State::Zstd(_) => Err(format!("after {bytes} bytes zstd has not ended")),
        }
    }
}

fn gunzip<W: Write>(decoder: &mut GzDecoder<W>, before: u64, piece: &[u8]) -> Result<(), String> {
    let mut rest = piece;
    while !rest.is_empty() {
        let at = before + (piece.len() - rest.len()) as u64;
        match decoder.write(rest) {
            Ok(0) => return Err(format!("the gzip member ends at byte {at}, but something follows it")),
            Ok(count) => rest = &rest[count..],
            Err(error) => return Err(format!("gzip is damaged before byte {at}: {error}")),
        }
    }
    Ok(())
}
