//! The journal of one run: which parts are on disk, which of them S3 has, and last the verification of the dump.
//!
//! Written by [`super::Spool`], read by the next run, verified by `verified_dump`. Append-only, one record per line: the CRC-32
//! of the record's JSON in eight hexadecimal digits, a space, the JSON. A last line without its line break is truncated (the
//! process or the machine died while it was written) and counts as not written. Any other wrong line is damage, and only its
//! own record is lost. Pure: it does no I/O, and trusts no byte that it reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pipeline::{PartChecksum, PartDigest, ScanReport, Totals};
use crate::verified_dump::{self, IncompleteDump, VerifiedDump};

/// The version of this format. Version 1 has the same records under the names that [`Record`] reads as aliases.
const VERSION: u32 = 2;
/// The oldest version that is read and resumed.
const OLDEST_VERSION: u32 = 1;
/// Digits of the CRC-32 and the space after them.
const CRC_BYTES: usize = 9;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    Start(Start),
    #[serde(alias = "begun")]
    Started(StartedUpload),
    Part(SpooledPart),
    #[serde(alias = "taken")]
    Uploaded {
        part: u32,
        etag: String,
    },
    #[serde(alias = "whole")]
    Verified(Box<Verification>),
}

/// The run: the first record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    version: u32,
    /// Endpoint, bucket and path in one text.
    pub destination: String,
    /// `s3://bucket/path`, for people.
    pub location: String,
    /// 128 random bits of the run, also in the object's metadata.
    pub run_id: String,
    /// The backup's file name, after its start time.
    pub file_name: String,
    /// The checksum of its parts.
    pub checksum: PartChecksum,
}

impl Start {
    /// The start of a new run.
    #[must_use]
    pub fn new(destination: String, location: String, run_id: &str, file_name: String, checksum: PartChecksum) -> Self {
        Self { version: VERSION, destination, location, run_id: run_id.to_owned(), file_name, checksum }
    }
}

/// An upload was started. Parts that were uploaded before belong to an earlier, aborted upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedUpload {
    /// The object's key.
    pub key: String,
    /// S3's id of the upload.
    pub upload_id: String,
}

/// A part on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpooledPart {
    /// From 1.
    pub number: u32,
    /// Its size.
    pub bytes: u64,
    /// Its checksum for S3.
    pub digest: PartDigest,
    /// CRC-64/NVME of its bytes, to detect a disk that returns other bytes.
    pub crc64: u64,
}

/// The facts that `verified_dump` verified, and the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Size and checksums of the object.
    pub totals: Totals,
    /// The scanner's report.
    pub scan: ScanReport,
    /// The manifest, as of the end of the dump.
    pub manifest: serde_json::Value,
}

/// The state after all records.
#[derive(Clone, Debug, PartialEq)]
pub struct Journal {
    /// The run.
    pub start: Start,
    /// Its upload.
    pub started: Option<StartedUpload>,
    /// Parts on disk, without a gap.
    pub parts: BTreeMap<u32, SpooledPart>,
    /// ETags of the parts that the upload has.
    pub uploaded: BTreeMap<u32, String>,
    /// The verification; `None` if the dump is incomplete.
    pub verification: Option<Verification>,
}

impl Journal {
    /// Verifies a kept dump.
    ///
    /// # Errors
    /// Why it is not complete.
    pub fn verified(&self) -> Result<VerifiedDump, IncompleteDump> {
        let recorded = self.verification.as_ref().map(|recorded| (&recorded.totals, &recorded.scan));
        verified_dump::verify_kept(recorded, self.parts.iter().map(|(number, part)| (*number, part.bytes)))
    }
}

/// The first invalid line of a journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} {what}")]
pub struct Damage {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// The content of a journal.
#[derive(Debug)]
pub struct Reading {
    /// The state after its valid lines; `None` without a valid start.
    pub journal: Option<Journal>,
    /// Length in bytes of its complete lines; a truncated line may follow.
    pub line_bytes: u64,
    /// What is wrong with them.
    pub damage: Option<Damage>,
    /// A line says that the dump is complete, even if no other line is valid.
    pub has_verification: bool,
    /// Its lines are intact, but of an unknown version.
    pub is_of_another_version: bool,
}

/// What is wrong with a line.
enum Flaw {
    Damaged(&'static str),
    OfAnotherVersion,
}

/// Reads a journal to its end. A damaged line loses only its own record; [`Journal::verified`] decides whether the rest is
/// enough.
#[must_use]
pub fn read(bytes: &[u8]) -> Reading {
    let mut reading =
        Reading { journal: None, line_bytes: 0, damage: None, has_verification: false, is_of_another_version: false };
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    for (index, line) in lines.enumerate() {
        reading.line_bytes += line.len() as u64 + 1;
        let read = decode(line).and_then(|record| {
            reading.has_verification |= matches!(record, Record::Verified(_));
            apply(&mut reading.journal, record)
        });
        match read {
            Ok(()) => {}
            Err(Flaw::Damaged(what)) => _ = reading.damage.get_or_insert(Damage { line: index + 1, what }),
            Err(Flaw::OfAnotherVersion) => reading.is_of_another_version = true,
        }
    }
    reading
}

/// Encodes a record as a line.
pub(super) fn encode(record: &Record) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(record)?;
    let mut line = format!("{:08x} ", crc32(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(line)
}

fn decode(line: &[u8]) -> Result<Record, Flaw> {
    let (head, json) = line.split_at_checked(CRC_BYTES).ok_or(Flaw::Damaged("is too short"))?;
    if head != format!("{:08x} ", crc32(json)).as_bytes() {
        return Err(Flaw::Damaged("is not what was written: its checksum differs"));
    }
    // The checksum is right, so a newer version has written it.
    serde_json::from_slice(json).map_err(|_| Flaw::OfAnotherVersion)
}

fn crc32(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes)
}

fn apply(journal: &mut Option<Journal>, record: Record) -> Result<(), Flaw> {
    let Some(journal) = journal else {
        let Record::Start(start) = record else { return Err(Flaw::Damaged("is not the start of a run")) };
        if !(OLDEST_VERSION..=VERSION).contains(&start.version) {
            return Err(Flaw::OfAnotherVersion);
        }
        let (parts, uploaded) = (BTreeMap::new(), BTreeMap::new());
        *journal = Some(Journal { start, started: None, parts, uploaded, verification: None });
        return Ok(());
    };
    let next = journal.parts.len() + 1;
    let flaw = match &record {
        Record::Start(_) => Some("starts a second run"),
        Record::Part(_) | Record::Verified(_) if journal.verification.is_some() => Some("comes after the end"),
        Record::Part(part) if part.number as usize != next => Some("leaves a part out"),
        Record::Uploaded { part, .. } if journal.started.is_none() || !journal.parts.contains_key(part) => {
            Some("names a part that was never sent")
        }
        _ => None,
    };
    match (flaw, record) {
        (Some(what), _) => return Err(Flaw::Damaged(what)),
        (None, Record::Start(_)) => {}
        (None, Record::Started(upload)) => {
            journal.started = Some(upload);
            journal.uploaded.clear();
        }
        (None, Record::Part(part)) => _ = journal.parts.insert(part.number, part),
        (None, Record::Uploaded { part, etag }) => _ = journal.uploaded.insert(part, etag),
        (None, Record::Verified(verification)) => journal.verification = Some(*verification),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
