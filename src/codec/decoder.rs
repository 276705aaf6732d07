//! Unpacks a stream of any codec into a sink, piece by piece.

use std::io::Write;

use flate2::write::GzDecoder;

use super::zstd::{self, PlainEnd};
use super::{Codec, Place, gzip};

/// Unpacks what it is given, in order. An error of the sink would count as damage, so the sink must not fail.
pub struct Decoder<W: Write> {
    state: State<W>,
    /// Stored bytes that were given.
    bytes: u64,
}

enum State<W: Write> {
    Gzip(Box<GzDecoder<W>>),
    /// From a restart point on.
    Deflate(gzip::Inflater<W>),
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

    /// Starts at a restart point: a block of gzip without dictionary, or a frame of zstd. It unpacks up to the next restart point,
    /// or to the end of the stream; [`Self::finish_range`] ends it.
    #[must_use]
    pub fn at_restart_point(codec: Codec, sink: W) -> Self {
        let state = match codec {
            Codec::Gzip => State::Deflate(gzip::Inflater::new(sink)),
            Codec::Zstd => State::Zstd(zstd::Decoder::new(sink)),
        };
        Self { state, bytes: 0 }
    }

    /// The sink.
    pub fn sink(&mut self) -> &mut W {
        match &mut self.state {
            State::Gzip(decoder) => decoder.get_mut(),
            State::Deflate(inflater) => &mut inflater.sink,
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
            State::Deflate(inflater) => inflater
                .unpack(piece)
                .map_err(|why| format!("gzip is damaged before byte {} after the restart point: {why}", self.bytes)),
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
            State::Deflate(_) => self.finish_range(Place::Last).map(|()| None),
            State::Zstd(decoder) if decoder.is_complete() => Ok(decoder.end()),
            State::Zstd(_) => Err(format!("after {bytes} bytes zstd has not ended")),
        }
    }

    /// Ends a range, after its last byte. Only the caller can compare its plain bytes.
    ///
    /// # Errors
    /// If it does not end where another range may begin, or the last one not with the stream.
    pub fn finish_range(&mut self, place: Place) -> Result<(), String> {
        let bytes = self.bytes;
        match &mut self.state {
            State::Gzip(_) => self.finish().map(drop),
            State::Deflate(inflater) => inflater.finish(place).map_err(|why| format!("after {bytes} bytes gzip {why}")),
            State::Zstd(decoder) if decoder.is_complete() => Ok(()),
            State::Zstd(_) => Err(format!("after {bytes} bytes zstd is inside a frame")),
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
