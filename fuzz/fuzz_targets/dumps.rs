//! The dump's end: however the bytes come, the result is the same; a complete dump is incomplete once it is cut, or
//! once something follows; and a complete dump ends as `pg_dump` ends. Its index is the same, too, and tiles it.
//!
//! Input: a byte that says how to cut, then the dump. Where that byte is odd, the dump stands between a good beginning
//! and a good end, so that mutations are tried as statements and rows.
#![no_main]

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use libfuzzer_sys::fuzz_target;
use pg_s3_backup::codec::Codec;
use pg_s3_backup::index::{Builder, Index, Point, Stream};
use pg_s3_backup::pipeline::scanner::Scanner;
use pg_s3_backup::pipeline::{ScanReport, Totals};
use pg_s3_backup::postgres::DumpEnd;
use pg_s3_backup::verified_dump::judge_end;

const HEAD: &[u8] =
    b"--\n-- PostgreSQL database dump\n--\n\n\\restrict KEY\n\nSET standard_conforming_strings = on;\n\n";
const TAIL: &[u8] = b"--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict KEY\n\n";
const CLOSING: &[u8] = b"-- PostgreSQL database dump complete\n--\n\n";

fuzz_target!(|input: &[u8]| {
    let Some((how, middle)) = input.split_first() else { return };
    let dump = if how & 1 == 1 { [HEAD, middle, TAIL].concat() } else { middle.to_vec() };
    let report = scan(dump.chunks(dump.len().max(1)));
    let index = index(dump.chunks(dump.len().max(1)));
    let step = usize::from(how >> 1) + 1;
    assert_eq!(scan(dump.chunks(step)), report, "in blocks of {step} bytes");
    assert_eq!(scan(dump.chunks(1)), report, "byte by byte");
    assert_eq!(self::index(dump.chunks(step)), index, "the index of blocks of {step} bytes");
    assert_eq!(report.bytes, dump.len() as u64);
    assert_eq!(report.rows, report.tables.iter().map(|table| table.rows).sum::<u64>());
    let is_complete = is_complete(&report, 0);
    assert_eq!(is_complete, report.flaw.is_none());
    if is_complete {
        ends_as_pg_dump_does(&dump);
        incomplete_when_changed(&dump, step);
        assert!(!self::is_complete(&report, 256), "exit code 1 is no success");
    }
});

fn scan<'a>(blocks: impl Iterator<Item = &'a [u8]>) -> ScanReport {
    let mut scanner = Scanner::default();
    blocks.for_each(|block| scanner.scan(block));
    scanner.finish()
}

/// The index, which tiles the dump; `None` without one.
fn index<'a>(blocks: impl Iterator<Item = &'a [u8]>) -> Option<Index> {
    let mut scanner = Scanner::indexing(Builder::default());
    blocks.for_each(|block| scanner.scan(block));
    let (report, entries) = scanner.finish_indexing();
    let points = vec![Point::from((0, 10, 0))];
    let stream = Stream { codec: Codec::Gzip, codec_bytes: 11, points };
    let packed = entries.filter(|_| report.bytes > 0)?.complete(stream, "", None, None);
    let index = Index::unpacked(&packed).expect("consistent");
    assert_eq!(index.plain_bytes, report.bytes);
    Some(index)
}

/// The verdict of the checks: the dump's end, and that all of it is in the object.
fn is_complete(report: &ScanReport, wait_status: i32) -> bool {
    let judge = || {
        let end = DumpEnd { status: ExitStatus::from_raw(wait_status), cause: None, warnings: Vec::new() };
        judge_end(&end, report.clone())
    };
    let totals = |plain_bytes| Totals {
        plain_bytes,
        plain_crc32: 0,
        object_bytes: 1,
        object_sha256: [0; 32],
        object_crc64: None,
        parts: 1,
    };
    if let Ok(ended) = judge() {
        assert!(ended.became(totals(report.bytes + 1)).is_err(), "a byte is missing in the object");
    }
    judge().is_ok_and(|ended| ended.became(totals(report.bytes)).is_ok())
}

fn ends_as_pg_dump_does(dump: &[u8]) {
    assert!(dump.windows(27).any(|window| window == &HEAD[3..30]), "no opening line");
    if dump.ends_with(CLOSING) {
        return;
    }
    let at = dump.windows(12).rposition(|window| window == b"\\unrestrict ").expect("another end");
    let (before, end) = dump.split_at(at);
    assert!(before.ends_with(CLOSING) && end.ends_with(b"\n\n"), "another end");
    let restrict = [b"\\restrict ", &end[12..end.len() - 1]].concat();
    assert!(before.windows(restrict.len()).any(|window| window == restrict), "another key");
}

fn incomplete_when_changed(dump: &[u8], step: usize) {
    // All cuts close to the end, some before.
    let near = dump.len().saturating_sub(48)..dump.len();
    for length in near.chain((step..dump.len()).step_by(dump.len() / 8)) {
        assert!(scan([&dump[..length]].into_iter()).flaw.is_some(), "complete, although cut to {length} bytes");
    }
    for more in [b"\n".as_slice(), b" ", TAIL, dump] {
        assert!(scan([dump, more].into_iter()).flaw.is_some(), "complete, although something follows");
    }
}
