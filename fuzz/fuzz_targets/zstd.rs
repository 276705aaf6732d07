//! zstd: blocks of any bytes and lengths, each at its own level, are a stream of exactly these bytes, for this program's
//! decoder and for zstd's own; what is cut is an error, or lacks the last frame.
//!
//! Input: a byte for the first level, two for the length of a block, one for how often the rest is repeated, then the bytes.
#![no_main]

use flate2::Crc;
use libfuzzer_sys::fuzz_target;
use pg_s3_backup::codec::zstd::PlainEnd;
use pg_s3_backup::codec::{Codec, Compression, Decoder, Encoder};
use zstd_safe::{DCtx, InBuffer, OutBuffer};

fuzz_target!(|input: &[u8]| {
    let [level, low, high, repeat, bytes @ ..] = input else { return };
    let plain = bytes.repeat(usize::from(*repeat) + 1);
    // A frame for each byte of a megabyte would take minutes.
    let block = (usize::from(u16::from_le_bytes([*low, *high])) + 1).max(plain.len() / 64);
    let stream = encode(&plain, block, u32::from(*level));
    let mut crc = Crc::new();
    crc.update(&plain);
    let end = Some(PlainEnd { bytes: plain.len() as u64, crc32: crc.sum() });
    // The stream comes in pieces of any size, as from a network.
    let (read, ended) = decode(&stream, block);
    assert!(read == plain && ended == Ok(end), "other bytes came out, or the end is not as written");
    assert!(reference(&stream, block) == plain, "zstd reads other bytes");
    let (read, ended) = decode(&stream[..usize::from(*high) * 251 % stream.len()], block);
    assert!(plain.starts_with(&read) && ended != Ok(end), "a truncation is neither an error nor seen at the end");
});

/// One stream. Two blocks have the same level, so that a state is used again, and then the next ones have another.
fn encode(plain: &[u8], block: usize, first: u32) -> Vec<u8> {
    let (mut stream, mut crc) = (Codec::Zstd.header().to_vec(), Crc::new());
    let mut encoder: Option<Encoder> = None;
    for (number, block) in plain.chunks(block).enumerate() {
        let level = (first + number as u32 / 2) % 19 + 1;
        let compression = Compression { codec: Codec::Zstd, level };
        let kept = encoder.take().filter(|encoder| encoder.is_for(compression));
        let mut kept = kept.unwrap_or_else(|| Encoder::new(compression).expect("memory"));
        let mut piece = Vec::new();
        kept.block(&[], block, &mut piece).expect("compressed");
        encoder = Some(kept);
        stream.extend(piece);
        crc.update(block);
    }
    stream.extend(Codec::Zstd.end(&crc, plain.len() as u64));
    stream
}

/// What this program's decoder reads, and how the stream ends for it.
fn decode(stream: &[u8], piece: usize) -> (Vec<u8>, Result<Option<PlainEnd>, String>) {
    let mut decoder = Decoder::new(Codec::Zstd, Vec::new());
    let unpacked = stream.chunks(piece).try_for_each(|piece| decoder.unpack(piece));
    let ended = unpacked.and_then(|()| decoder.finish());
    (std::mem::take(decoder.sink()), ended)
}

/// What zstd's own streaming reads, with little memory for its output.
fn reference(stream: &[u8], space: usize) -> Vec<u8> {
    let (mut context, mut read) = (DCtx::create(), Vec::new());
    let mut input = InBuffer::around(stream);
    let mut output = vec![0; space];
    loop {
        let mut output = OutBuffer::around(&mut output[..]);
        let left = context.decompress_stream(&mut output, &mut input).expect("zstd");
        let count = output.pos();
        read.extend_from_slice(output.as_slice());
        if input.pos() == stream.len() && count < space {
            assert!(left == 0, "the last frame has not ended");
            return read;
        }
    }
}
