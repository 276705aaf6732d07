//! Compression: blocks of any bytes and lengths, at every level, are one gzip member of exactly these bytes, for zlib-rs and for the
//! decoder of ranges. That decoder makes nothing else of any bytes than zlib-rs.
//!
//! Input: a byte for the level, two for the length of a block, one for how often the rest is repeated, then the bytes.
#![no_main]

use std::io::Read as _;

use flate2::Crc;
use flate2::bufread::{DeflateDecoder, GzDecoder};
use libfuzzer_sys::fuzz_target;
use pg_s3_backup::codec::gzip::{self, Encoder, WINDOW_BYTES};
use pg_s3_backup::codec::{Codec, Decoder, Place};

fuzz_target!(|input: &[u8]| {
    let [level, low, high, repeat, bytes @ ..] = input else { return };
    let plain = bytes.repeat(usize::from(*repeat) + 1);
    let block = usize::from(u16::from_le_bytes([*low, *high])) + 1;
    let mut encoder = Encoder::new(u32::from(level % 9) + 1);
    let mut member = gzip::HEADER.to_vec();
    for begin in (0..plain.len()).step_by(block) {
        let window = &plain[begin.saturating_sub(WINDOW_BYTES)..begin];
        // No memory for the output beforehand: it is cut at every size.
        let mut piece = Vec::new();
        encoder.block(window, &plain[begin..plain.len().min(begin + block)], &mut piece).expect("deflated");
        member.extend(piece);
    }
    let mut crc = Crc::new();
    crc.update(&plain);
    member.extend(gzip::trailer(&crc, plain.len() as u64));
    let mut rest = member.as_slice();
    let mut read = Vec::with_capacity(plain.len() + 1);
    GzDecoder::new(&mut rest).read_to_end(&mut read).expect("gzip");
    assert!(read == plain && rest.is_empty(), "other bytes came out");
    let range = &member[gzip::HEADER.len()..];
    assert!(unpacked(range, block).is_some_and(|read| read == plain), "other bytes came out of the range");
    if let Some(read) = unpacked(bytes, block) {
        let mut expected = Vec::new();
        if DeflateDecoder::new(bytes).read_to_end(&mut expected).is_ok() {
            assert!(read == expected, "other bytes came out of the input");
        }
    }
    let cut = &member[..member.len() - 1 - usize::from(*low) % member.len()];
    assert!(GzDecoder::new(cut).read_to_end(&mut read).is_err(), "a truncation is no error");
});

/// What the last range of a backup unpacks to, in pieces of this size; nothing of damage.
fn unpacked(range: &[u8], piece: usize) -> Option<Vec<u8>> {
    let mut decoder = Decoder::at_restart_point(Codec::Gzip, Vec::new());
    range.chunks(piece).try_for_each(|piece| decoder.unpack(piece)).ok()?;
    decoder.finish_range(Place::Last).ok()?;
    Some(std::mem::take(decoder.sink()))
}
