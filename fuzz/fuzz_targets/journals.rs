//! Journals: whatever stands in one, only parts without a gap count, a damaged line costs what it said, and only what was
//! verified is complete.
//!
//! Input: the journal's bytes; where its first byte is `#`, lines that are given their right checksums here, or no mutation
//! would ever pass them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_s3_backup::spool::Journal;
use pg_s3_backup::spool::journal::read;

fuzz_target!(|input: &[u8]| {
    let bytes = match input.strip_prefix(b"#") {
        Some(lines) => lines.split(|byte| *byte == b'\n').flat_map(summed).collect(),
        None => input.to_vec(),
    };
    let reading = read(&bytes);
    if let Some(journal) = &reading.journal {
        judge(journal);
    }
    let ended = usize::try_from(reading.line_bytes).expect("a length");
    assert_eq!(ended, bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    // Resuming cuts the journal there: it must mean the same then.
    let cut = read(&bytes[..ended]);
    assert_eq!((&cut.journal, &cut.damage, cut.line_bytes), (&reading.journal, &reading.damage, reading.line_bytes));
    if ended > 0 && reading.damage.is_none() && !reading.is_of_another_version {
        let torn = read(&bytes[..ended - 1]);
        assert!(torn.damage.is_none() && torn.line_bytes < ended as u64, "a torn line is not damage");
        let mut flipped = bytes[..ended].to_vec();
        let at = input.iter().map(|byte| usize::from(*byte)).sum::<usize>() % ended;
        flipped[at] ^= 1;
        // Where it made or took a line end, the two halves have wrong sums all the same.
        let flipped = read(&flipped);
        assert!(
            flipped.damage.is_some() || flipped.line_bytes < reading.line_bytes,
            "byte {at} is not what was written"
        );
    }
});

fn judge(journal: &Journal) {
    assert!(journal.parts.keys().copied().eq(1..=u32::try_from(journal.parts.len()).expect("a count")));
    assert!(journal.parts.iter().all(|(number, part)| *number == part.number));
    assert!(journal.uploaded.keys().all(|number| journal.parts.contains_key(number)));
    assert!(journal.uploaded.is_empty() || journal.started.is_some());
    let Ok(verified) = journal.verified() else { return };
    let verification = journal.verification.as_ref().expect("the journal has a verification");
    let bytes: u128 = journal.parts.values().map(|part| u128::from(part.bytes)).sum();
    assert_eq!(bytes, u128::from(verified.totals().object_bytes));
    assert_eq!(journal.parts.len(), verified.totals().parts as usize);
    assert_eq!((verified.totals(), verified.scan()), (&verification.totals, &verification.scan));
    assert_eq!(verified.scan().bytes, verified.totals().plain_bytes);
}

/// A line of a journal around this JSON.
fn summed(json: &[u8]) -> Vec<u8> {
    let crc = !json.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    [format!("{crc:08x} ").as_bytes(), json, b"\n"].concat()
}
