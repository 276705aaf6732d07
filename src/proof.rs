//! The proof that a dump is complete: the only maker of [`VerifiedDump`], without which nothing can be committed.
//!
//! `backup::stream` brings the evidence: how `pg_dump` ended, what the scanner saw, what the collector produced. Of a
//! dump that an earlier run verified and kept, the journal of the spool brings it to [`verify_kept`], and
//! [`VerifiedDump::cut_anew`] judges the same dump in other parts. `storage` takes the proof. Nothing here does any work: it
//! only judges.

use crate::pipeline::Totals;
use crate::pipeline::scanner::{Flaw, ScanReport};
use crate::postgres::DumpEnd;

/// Why a dump is not taken for complete.
#[derive(Debug, thiserror::Error)]
pub enum IncompleteDump {
    /// `pg_dump` says so itself.
    #[error("pg_dump failed ({status}): {cause}")]
    Failed {
        /// `exit code 1`, `SIGKILL, probably out of memory`.
        status: String,
        /// The cause it gave.
        cause: String,
    },
    /// `pg_dump` ended well, but its output does not.
    #[error("pg_dump ended with success, but its dump is not complete: {0}")]
    Flawed(Flaw),
    /// Bytes were lost between the reader and the object.
    #[error("{read} bytes were read from pg_dump, but {compressed} were compressed")]
    Lost {
        /// Bytes that the scanner saw.
        read: u64,
        /// Bytes that the object holds.
        compressed: u64,
    },
    /// A spool's journal does not prove it.
    #[error("the spool does not hold a complete dump: {0}")]
    NotKept(&'static str),
}

/// A dump that ended as a complete dump does; its object is not finished yet.
#[derive(Debug)]
pub struct EndedDump {
    scan: ScanReport,
}

/// A dump that is complete, and the object that it became.
#[derive(Debug)]
pub struct VerifiedDump {
    scan: ScanReport,
    totals: Totals,
}

/// Judges the dump's end: exit status, closing line, and the key at both ends.
///
/// # Errors
/// Why it is not complete.
pub fn judge_end(end: &DumpEnd, scan: ScanReport) -> Result<EndedDump, IncompleteDump> {
    if !end.status.success() {
        let cause = end.cause.clone().unwrap_or_else(|| "it gave no reason".to_owned());
        return Err(IncompleteDump::Failed { status: end.words(), cause });
    }
    match scan.flaw.clone() {
        Some(flaw) => Err(IncompleteDump::Flawed(flaw)),
        None => Ok(EndedDump { scan }),
    }
}

impl EndedDump {
    /// Judges the object: all that was read is in it.
    ///
    /// # Errors
    /// Where bytes were lost.
    pub fn became(self, totals: Totals) -> Result<VerifiedDump, IncompleteDump> {
        if self.scan.bytes == totals.plain_bytes {
            Ok(VerifiedDump { scan: self.scan, totals })
        } else {
            Err(IncompleteDump::Lost { read: self.scan.bytes, compressed: totals.plain_bytes })
        }
    }
}

/// Verifies what an earlier run kept: it was verified then, and the parts (number and bytes, in order) are those of the proof.
///
/// # Errors
/// Why it is not complete.
pub fn verify_kept(
    proof: Option<(&Totals, &ScanReport)>,
    parts: impl Iterator<Item = (u32, u64)> + Clone,
) -> Result<VerifiedDump, IncompleteDump> {
    let (totals, scan) = proof.ok_or(IncompleteDump::NotKept("it was never proved"))?;
    let bytes = parts.clone().try_fold(0u64, |sum, (_, bytes)| sum.checked_add(bytes));
    if bytes != Some(totals.object_bytes) || !parts.map(|(number, _)| number).eq(1..=totals.parts) {
        return Err(IncompleteDump::NotKept("its parts are not those that were proved"));
    }
    if scan.bytes != totals.plain_bytes {
        return Err(IncompleteDump::Lost { read: scan.bytes, compressed: totals.plain_bytes });
    }
    Ok(VerifiedDump { scan: scan.clone(), totals: totals.clone() })
}

/// A kept dump in other parts.
#[derive(Debug)]
pub struct Cut {
    /// Bytes in all.
    pub bytes: u64,
    /// Their sha256.
    pub sha256: [u8; 32],
    /// Their CRC-64/NVME, where the parts carry it.
    pub crc64: Option<u64>,
    /// Number of parts.
    pub parts: u32,
}

impl VerifiedDump {
    /// Judges the same dump in other parts: not a byte of it has changed.
    ///
    /// # Errors
    /// Where it is not what was proved.
    pub fn cut_anew(self, cut: &Cut) -> Result<Self, IncompleteDump> {
        if (cut.bytes, cut.sha256) != (self.totals.object_bytes, self.totals.object_sha256) {
            return Err(IncompleteDump::NotKept("its parts together are not the object that was proved"));
        }
        let totals = Totals { parts: cut.parts, object_crc64: cut.crc64, ..self.totals };
        Ok(Self { totals, ..self })
    }

    /// What the object is.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What the scanner saw.
    #[must_use]
    pub fn scan(&self) -> &ScanReport {
        &self.scan
    }
}
