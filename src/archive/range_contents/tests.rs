//! Ranges of a stream that is made by hand, in both codecs.

#![expect(clippy::single_range_in_vec_init, reason = "a single section is meant")]

use super::*;
use crate::codec::{Compression, Encoder};
use crate::index::{Point, VERSION};

/// A dump's bytes, their stream, and the index of ranges of 10,000 bytes, each of two blocks.
fn stored(codec: Codec) -> (Vec<u8>, Vec<u8>, Index) {
    let plain: Vec<u8> = (0..45_000_u32).flat_map(|number| format!("{number}\n").into_bytes()).take(50_123).collect();
    let mut encoder = Encoder::new(Compression { codec, level: 1 }).expect("memory");
    let (mut object, mut points, mut all) = (codec.header().to_vec(), Vec::new(), Crc::new());
    for (nth, range) in plain.chunks(10_000).enumerate() {
        let mut crc = Crc::new();
        crc.update(range);
        points.push(Point { plain_at: nth as u64 * 10_000, codec_at: object.len() as u64, crc32: crc.sum() });
        let (first, second) = range.split_at(range.len() / 2);
        for (window, block) in [(&[][..], first), (first, second)] {
            let mut piece = Vec::new();
            encoder.block(window, block, &mut piece).expect("compressed");
            object.extend(piece);
        }
    }
    all.update(&plain);
    object.extend(codec.end(&all, plain.len() as u64));
    let index = Index {
        index_version: VERSION,
        run_id: String::new(),
        codec,
        plain_bytes: plain.len() as u64,
        codec_bytes: object.len() as u64,
        preamble_bytes: 0,
        trailer_at: plain.len() as u64,
        invalid_indexes: None,
        details: None,
        points,
        entries: Vec::new(),
    };
    (plain, object, index)
}

/// Reads sections in pieces of this size.
fn read(
    (object, index): (&[u8], &Index),
    sections: &[Span],
    piece: usize,
) -> Result<(Vec<u8>, VerifiedRanges), RangeDamage> {
    let runs = Run::of(index, sections);
    let mut unpacker = RangeUnpacker::new(Vec::new(), index.codec, &runs, sections);
    let at = |offset: u64| usize::try_from(offset).expect("small").min(object.len());
    'all: for section in runs.iter().map(Run::section) {
        for piece in object[at(section.start)..at(section.end)].chunks(piece) {
            if unpacker.take(piece).is_break() {
                break 'all;
            }
        }
    }
    let (sink, verified) = unpacker.finish();
    verified.expect("memory takes everything").map(|verified| (sink, verified))
}

#[test]
fn exactly_the_sections_come_out_and_only_their_ranges_are_read() {
    for codec in Codec::ALL {
        let (plain, object, index) = stored(codec);
        let size =
            |at: usize| index.ranges().map(|range| range.codec_end - range.point.codec_at).nth(at).expect("a range");
        for (sections, ranges) in [
            (vec![0..50_123], vec![0, 1, 2, 3, 4, 5]),
            (vec![0..10_000], vec![0]),
            (vec![9_999..10_001], vec![0, 1]),
            (vec![5..7, 7..8, 9..9, 100..9_000], vec![0]),
            (vec![0..3, 20_000..30_001], vec![0, 2, 3]),
            (vec![10_000..20_000, 50_000..50_123], vec![1, 5]),
            (vec![15_000..15_001, 15_002..35_000, 49_999..50_000], vec![1, 2, 3, 4]),
            (vec![], vec![]),
        ] {
            let wanted: Vec<u8> = sections.iter().flat_map(|span| plain[span.clone()].to_vec()).collect();
            let spans: Vec<Span> = sections.iter().map(|span| span.start as u64..span.end as u64).collect();
            for piece in [1, 100, usize::MAX] {
                let (bytes, verified) = read((&object, &index), &spans, piece).expect("intact");
                assert!(bytes == wanted, "{codec} {spans:?}");
                assert_eq!(verified.plain_bytes(), wanted.len() as u64);
                assert_eq!(verified.stored_bytes(), ranges.iter().map(|at| size(*at)).sum::<u64>(), "{spans:?}");
            }
        }
    }
}

#[test]
fn adjacent_ranges_are_one_download() {
    let (_, _, index) = stored(Codec::Gzip);
    let runs = |spans: &[Span]| Run::of(&index, spans).iter().map(|run| run.ranges.len()).collect::<Vec<_>>();
    assert_eq!(runs(&[0..1, 10_000..10_001, 30_000..40_001]), [2, 2]);
    assert_eq!(runs(&[0..50_123]), [6]);
}

#[test]
fn a_flipped_byte_of_a_range_is_found_unless_it_says_nothing_and_the_range_is_named() {
    for codec in Codec::ALL {
        let (plain, object, index) = stored(codec);
        let range = index.ranges().nth(1).expect("a range");
        let mut harmless = 0;
        for at in codec_bytes(&range).step_by(7) {
            let mut damaged = object.clone();
            damaged[at] ^= 0x10;
            match read((&damaged, &index), &[10_000..20_000], 4096) {
                Err(damage) => assert_eq!(damage.plain, 10_000..20_000, "{codec} byte {at}"),
                // Before a sync flush are bits that deflate does not read.
                Ok((bytes, _)) => {
                    assert!(bytes == plain[10_000..20_000], "{codec} byte {at}");
                    harmless += 1;
                }
            }
        }
        assert!(harmless < 3, "{codec}: {harmless}");
    }
}

#[test]
fn a_cut_object_is_found_and_the_range_is_named() {
    for codec in Codec::ALL {
        let (_, object, index) = stored(codec);
        let last = index.ranges().last().expect("a range");
        for length in codec_bytes(&last).step_by(13) {
            let damage = read((&object[..length], &index), &[50_000..50_123], 4096).expect_err("a cut object");
            assert!(damage.plain == (50_000..50_123) && damage.why.contains("missing"), "{codec} {length}: {damage}");
        }
    }
}

fn codec_bytes(range: &Range) -> std::ops::Range<usize> {
    let small = |offset: u64| usize::try_from(offset).expect("small");
    small(range.point.codec_at)..small(range.codec_end)
}

#[test]
fn an_index_of_another_object_is_found() {
    for codec in Codec::ALL {
        let (_, object, index) = stored(codec);
        let changes: [fn(&mut Index); 3] = [
            |index| index.points[2].codec_at += 1,
            |index| index.points[2].plain_at += 1,
            |index| index.points[2].crc32 ^= 1,
        ];
        for change in changes {
            let mut index = index.clone();
            change(&mut index);
            let damage = read((&object, &index), &[0..50_123], 4096).expect_err("another object's");
            assert!(damage.to_string().starts_with("the range from byte "), "{damage}");
        }
    }
}
