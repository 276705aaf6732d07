//! Unpacks raw deflate from a restart point on: a block without dictionary, after the sync flush of the one before.

use std::io::Write;

use super::inflate::Inflate;
use crate::codec::Place;

/// Capacity for unpacked bytes. ISA-L copies its window of 32 KiB once for each time it is filled.
const UNPACKED_BYTES: usize = 256 << 10;
/// CRC-32 and length of the plain bytes, after the last block (RFC 1952).
const TRAILER_BYTES: usize = 8;

/// Unpacks blocks into a sink.
pub(in crate::codec) struct Inflater<W> {
    inflate: Inflate,
    unpacked: Vec<u8>,
    /// Bytes after the last block.
    trailer: usize,
    pub sink: W,
}

impl<W: Write> Inflater<W> {
    pub fn new(sink: W) -> Self {
        Self { inflate: Inflate::default(), unpacked: Vec::with_capacity(UNPACKED_BYTES), trailer: 0, sink }
    }

    /// Unpacks the next bytes.
    ///
    /// # Errors
    /// The damage, or the sink's error.
    pub fn unpack(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut rest = bytes;
        let mut has_more = false;
        while !self.inflate.has_ended() && (!rest.is_empty() || has_more) {
            self.unpacked.clear();
            let used = self.inflate.inflate(rest, &mut self.unpacked).map_err(|error| error.to_string())?;
            rest = &rest[used..];
            // The output was too small for all that was read.
            has_more = self.unpacked.len() == self.unpacked.capacity();
            if self.inflate.has_ended() {
                self.trailer += self.inflate.read_beyond_end();
            } else if used == 0 && self.unpacked.is_empty() {
                if rest.is_empty() {
                    break;
                }
                return Err("no progress".to_owned());
            }
            self.sink.write_all(&self.unpacked).map_err(|error| error.to_string())?;
        }
        self.trailer += rest.len();
        if self.trailer > TRAILER_BYTES { Err("something follows the end of the member".to_owned()) } else { Ok(()) }
    }

    /// Ends the range.
    ///
    /// # Errors
    /// If it has ended before the stream should, or has not.
    pub fn finish(&self, place: Place) -> Result<(), &'static str> {
        match (place, self.inflate.has_ended()) {
            (Place::Inside, false) => Ok(()),
            (Place::Inside, true) => Err("has ended, but more should follow"),
            (Place::Last, true) if self.trailer == TRAILER_BYTES => Ok(()),
            (Place::Last, _) => Err("has not ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Crc;

    use super::*;
    use crate::codec::tests::dump_lines;
    use crate::codec::{Codec, Compression, Decoder, Encoder};

    /// Two ranges of a stream of this codec, the second with the stream's end.
    fn ranges(codec: Codec, level: u32, plain: &[u8]) -> [Vec<u8>; 2] {
        let mut encoder = Encoder::new(Compression { codec, level }).expect("memory");
        let mut ranges = [Vec::new(), Vec::new()];
        for (begin, block) in [(0, 0), (0, 100_000), (1, 200_000), (1, 300_000)] {
            let window = if block % 200_000 == 0 { &[][..] } else { &plain[block - 32_768..block] };
            let end = if block == 300_000 { plain.len() } else { block + 100_000 };
            let mut piece = Vec::new();
            encoder.block(window, &plain[block..end], &mut piece).expect("compressed");
            ranges[begin].extend(piece);
        }
        let mut crc = Crc::new();
        crc.update(plain);
        ranges[1].extend(codec.end(&crc, plain.len() as u64));
        ranges
    }

    fn unpacked(codec: Codec, (range, place): (&[u8], Place), piece: usize) -> Result<Vec<u8>, String> {
        let mut decoder = Decoder::at_restart_point(codec, Vec::new());
        range.chunks(piece).try_for_each(|piece| decoder.unpack(piece))?;
        decoder.finish_range(place)?;
        Ok(std::mem::take(decoder.sink()))
    }

    #[test]
    fn each_range_unpacks_alone() {
        let plain = dump_lines();
        for (codec, level) in [1, 3, 6].map(|level| (Codec::Gzip, level)).into_iter().chain([(Codec::Zstd, 3)]) {
            let [first, last] = ranges(codec, level, &plain);
            for piece in [1, 7, 4096, usize::MAX] {
                let read = unpacked(codec, (&first, Place::Inside), piece).expect("unpacked");
                assert!(read == plain[..200_000], "{codec} {level}");
                let read = unpacked(codec, (&last, Place::Last), piece).expect("unpacked");
                assert!(read == plain[200_000..], "{codec} {level}");
            }
        }
    }

    #[test]
    fn a_range_that_ends_elsewhere_is_refused() {
        let plain = dump_lines();
        for codec in Codec::ALL {
            let [_, last] = ranges(codec, 1, &plain);
            for cut in 1..(if codec == Codec::Gzip { 10 } else { 20 }) {
                let range = &last[..last.len() - cut];
                assert!(unpacked(codec, (range, Place::Last), 4096).is_err(), "{codec}: {cut} bytes less");
            }
            let longer = [&last[..], b"x"].concat();
            assert!(unpacked(codec, (&longer, Place::Last), 4096).is_err(), "{codec}: a byte more");
        }
        let [first, last] = ranges(Codec::Gzip, 1, &plain);
        assert!(unpacked(Codec::Gzip, (&first, Place::Last), 4096).is_err_and(|why| why.contains("not ended")));
        assert!(unpacked(Codec::Gzip, (&last, Place::Inside), 4096).is_err_and(|why| why.contains("more should")));
    }
}
