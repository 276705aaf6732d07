use flate2::{Decompress, FlushDecompress, Status};
use proptest::prelude::*;

use super::*;

/// A last, empty block.
const END: [u8; 2] = [0x03, 0x00];

/// Inflates pieces in order as zlib-rs reads them, after which a last block ends the stream.
fn inflate(pieces: &[Vec<u8>], plain_bytes: usize) -> Vec<u8> {
    let deflated = [&pieces.concat()[..], &END].concat();
    let (plain, after) = inflated_by_zlib(&deflated, plain_bytes).expect("deflate");
    assert_eq!(after, Some(0), "the stream ends with its last block");
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

/// Unpacks pieces of this size, with this capacity for what they unpack to. Also the bytes that follow the end.
fn inflated(deflated: &[u8], (piece, capacity): (usize, usize)) -> Result<(Vec<u8>, Option<usize>), Error> {
    let (mut inflater, mut plain, mut beyond) = (Inflater::new(), Vec::new(), 0);
    for mut rest in deflated.chunks(piece) {
        let mut is_full = false;
        while !inflater.has_ended() && (!rest.is_empty() || is_full) {
            let mut some = Vec::with_capacity(capacity);
            rest = &rest[inflater.inflate(rest, &mut some)?..];
            is_full = some.len() == some.capacity();
            plain.extend(some);
            beyond += inflater.read_beyond_end();
        }
        beyond += rest.len();
    }
    Ok((plain, inflater.has_ended().then_some(beyond)))
}

/// What zlib-rs unpacks, and the bytes that follow the end; nothing of damage.
fn inflated_by_zlib(deflated: &[u8], most: usize) -> Option<(Vec<u8>, Option<usize>)> {
    let (mut zlib, mut plain) = (Decompress::new(false), Vec::with_capacity(most + 1));
    let status = zlib.decompress_vec(deflated, &mut plain, FlushDecompress::None).ok()?;
    let read = usize::try_from(zlib.total_in()).expect("a number");
    Some((plain, (status == Status::StreamEnd).then(|| deflated.len() - read)))
}

/// Deflated bytes, of ISA-L's levels or zlib-rs's.
fn deflated() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (bytes(), 0..=9_u32, any::<bool>()).prop_map(|(plain, level, is_isal)| {
        let mut deflated = Vec::with_capacity(plain.len() * 2 + 1024);
        if is_isal {
            Deflater::new(Level::Small).block(&[], &plain, &mut deflated).expect("deflated");
            deflated.extend(END);
        } else {
            let mut zlib = flate2::Compress::new(flate2::Compression::new(level), false);
            let status = zlib.compress_vec(&plain, &mut deflated, flate2::FlushCompress::Finish).expect("deflated");
            assert_eq!(status, Status::StreamEnd);
        }
        (plain, deflated)
    })
}

proptest! {
    /// However it comes in pieces, and however little memory is free for the output.
    #[test]
    fn what_any_encoder_deflated_is_inflated(
        (plain, mut deflated) in deflated(),
        beyond in 0..20_usize,
        piece in prop_oneof![1..20_usize, 1..300_000_usize],
        capacity in prop_oneof![1..400_usize, 1..300_000_usize],
    ) {
        deflated.extend(vec![7; beyond]);
        let (inflated, found) = inflated(&deflated, (piece.max(deflated.len() / 5000), capacity.max(plain.len() / 5000))).expect("no damage");
        prop_assert!(inflated == plain);
        prop_assert_eq!(found, Some(beyond));
    }

    /// Of damaged bytes, both unpack the same, or one notices it.
    #[test]
    fn of_damage_no_bytes_are_made_up(
        (_, mut deflated) in deflated(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        piece in 1..300_000_usize,
    ) {
        for (at, byte) in damage {
            *at.get_mut(&mut deflated) = byte;
        }
        // Deflate's largest ratio is 1032.
        let zlib = inflated_by_zlib(&deflated, (1032 * deflated.len()).min(8 << 20));
        let isal = inflated(&deflated, (piece.max(deflated.len() / 5000), 64 << 10));
        if let (Some((zlib, Some(after))), Ok((isal, Some(found)))) = (zlib, isal) {
            prop_assert!(zlib == isal);
            prop_assert_eq!(after, found);
        }
    }
}

#[test]
fn after_damage_nothing_is_inflated() {
    let (mut inflater, mut plain) = (Inflater::new(), Vec::with_capacity(10));
    // A block of the type that does not exist.
    let damage = inflater.inflate(&[0x07], &mut plain).expect_err("damage");
    assert_eq!(inflater.inflate(&END, &mut plain), Err(damage));
    assert!(!inflater.has_ended() && plain.is_empty());
}
