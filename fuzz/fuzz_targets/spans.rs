//! The lexer of dumps: whatever the bytes and the blocks in which they come, its pieces are those bytes, and the spans are
//! the same.
//!
//! Input: a byte that says how to cut, then the dump.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_s3_backup::sql::{Lexer, Piece, SpanKind};

/// Kind, end in bytes, and the text that was kept where the span ends.
type Span = (SpanKind, usize, Option<Vec<u8>>);

fuzz_target!(|input: &[u8]| {
    let Some((how, dump)) = input.split_first() else { return };
    let expected = spans(dump, dump.len().max(1));
    assert_eq!(spans(dump, usize::from(*how) + 1), expected, "in blocks of {} bytes", usize::from(*how) + 1);
    assert_eq!(spans(dump, 1), expected, "byte by byte");
});

fn spans(dump: &[u8], block: usize) -> Vec<Span> {
    let (mut lexer, mut at) = (Lexer::default(), 0);
    let mut spans: Vec<Span> = Vec::new();
    let mut take = |Piece { kind, bytes, text, .. }: Piece<'_>| {
        assert_eq!(Some(bytes), dump.get(at..at + bytes.len()), "at {at}");
        at += bytes.len();
        let text = text.map(<[u8]>::to_vec);
        match spans.last_mut() {
            Some(last) if last.2.is_none() && undecided(last.0) == undecided(kind) => *last = (kind, at, text),
            _ => spans.push((kind, at, text)),
        }
    };
    dump.chunks(block).for_each(|block| lexer.read(block, &mut take));
    lexer.finish(&mut take);
    assert_eq!(at, dump.len(), "all of it");
    spans
}

/// The kind that a span has before its last piece.
fn undecided(kind: SpanKind) -> SpanKind {
    match kind {
        SpanKind::CopyBegin => SpanKind::Statement,
        SpanKind::EntryHead => SpanKind::Comment,
        other => other,
    }
}
