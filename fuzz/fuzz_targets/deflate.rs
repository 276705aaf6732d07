//! Compression: blocks of any bytes and lengths, at every level, are one gzip member of exactly these bytes.
//!
//! Input: a byte for the level, two for the length of a block, one for how often the rest is repeated, then the bytes.
#![no_main]

use std::io::Read as _;

use flate2::Crc;
use flate2::bufread::GzDecoder;
use libfuzzer_sys::fuzz_target;
use pg_s3_backup::codec::gzip::{self, Encoder, WINDOW_BYTES};

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
    let cut = &member[..member.len() - 1 - usize::from(*low) % member.len()];
    assert!(GzDecoder::new(cut).read_to_end(&mut read).is_err(), "a truncation is no error");
});
