use flate2::{Decompress, FlushDecompress, Status};
use proptest::prelude::*;

use super::*;

/// Inflates pieces in order as zlib-rs reads them, after which a last, empty block ends the stream.
fn inflate(pieces: &[Vec<u8>], plain_bytes: usize) -> Vec<u8> {
    let mut deflated = pieces.concat();
    deflated.extend([0x03, 0x00]);
    let mut plain = Vec::with_capacity(plain_bytes + 1);
    let status = Decompress::new(false).decompress_vec(&deflated, &mut plain, FlushDecompress::Finish);
    assert_eq!(status.expect("deflate"), Status::StreamEnd);
    plain
}

/// Bytes of several kinds in one: words, a run, noise.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec("[a-f ]{1,9}", 0..20_000).prop_map(|words| words.concat().into_bytes());
    let run = (any::<u8>(), 0..200_000_usize).prop_map(|(byte, length)| vec![byte; length]);
    let noise = prop::collection::vec(any::<u8>(), 0..100_000);
    prop::collection::vec(prop_oneof![words, run, noise], 0..4).prop_map(|parts| parts.concat())
}

proptest! {
    /// Whatever is in the blocks, where they are cut, and how little memory is free for the output.
    #[test]
    fn zlib_reads_what_was_deflated(
        plain in bytes(),
        block in 1..300_000_usize,
        capacity in 0..70_000_usize,
        level in prop_oneof![Just(Level::Fast), Just(Level::Small)],
    ) {
        let mut deflater = Deflater::new(level);
        let mut pieces = Vec::new();
        for begin in (0..plain.len()).step_by(block) {
            let window = &plain[begin.saturating_sub(32 << 10)..begin];
            let mut piece = Vec::with_capacity(capacity);
            deflater.block(window, &plain[begin..plain.len().min(begin + block)], &mut piece).expect("deflated");
            pieces.push(piece);
        }
        prop_assert!(inflate(&pieces, plain.len()) == plain);
    }
}

#[test]
fn a_window_saves_what_it_holds() {
    let plain: Vec<u8> =
        (0..30_000_u32).flat_map(|number| (number.wrapping_mul(2_654_435_761) >> 8).to_le_bytes()).collect();
    let plain = &plain[..30_000];
    let mut deflater = Deflater::new(Level::Fast);
    let [mut alone, mut after] = [Vec::new(), Vec::new()];
    deflater.block(&[], plain, &mut alone).expect("deflated");
    deflater.block(plain, plain, &mut after).expect("deflated");
    assert!(after.len() < alone.len() / 4, "{} after the same bytes, {} alone", after.len(), alone.len());
}

#[test]
fn nothing_becomes_nothing_or_an_empty_block() {
    let mut piece = Vec::new();
    Deflater::new(Level::Small).block(b"window", &[], &mut piece).expect("deflated");
    assert!(inflate(&[piece], 0).is_empty());
}
