//! Verifies that a dump is complete. Only this module creates a [`VerifiedDump`], without which nothing is committed.
//!
//! `backup::stream` passes the exit status of `pg_dump`, the scanner's report, and the object's totals. For a dump that an earlier
//! run verified and kept, the spool's journal has them ([`verify_kept`]); [`VerifiedDump::resplit`] verifies the same dump in
//! other parts. `storage` requires a [`VerifiedDump`]. Pure: it does no I/O.

use crate::pipeline::Totals;
use crate::pipeline::scanner::{Flaw, ScanReport};
use crate::postgres::DumpEnd;

/// Why a dump is not complete.
#[derive(Debug, thiserror::Error)]
pub enum IncompleteDump {
    /// `pg_dump` failed.
    #[error("pg_dump failed ({status}): {cause}")]
    Failed {
        /// `exit code 1`, `SIGKILL, probably out of memory`.
        status: String,
        /// Its error message.
        cause: String,
    },
    /// `pg_dump` succeeded, but its output is not complete.
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
    /// The dump in the spool is not the verified one.
    #[error("the spool does not hold a complete dump: {0}")]
    NotKept(&'static str),
}

/// A dump with a complete end; its object is not finished yet.
#[derive(Debug)]
pub struct EndedDump {
    scan: ScanReport,
}

/// A complete dump, and its object.
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
    /// Judges the object: it holds every byte that was read.
    ///
    /// # Errors
    /// If bytes were lost.
    pub fn became(self, totals: Totals) -> Result<VerifiedDump, IncompleteDump> {
        if self.scan.bytes == totals.plain_bytes {
            Ok(VerifiedDump { scan: self.scan, totals })
        } else {
            Err(IncompleteDump::Lost { read: self.scan.bytes, compressed: totals.plain_bytes })
        }
    }
}

/// Verifies a kept dump: an earlier run verified it, and its parts (number and bytes, in order) are the recorded ones.
///
/// # Errors
/// Why it is not complete.
pub fn verify_kept(
    recorded: Option<(&Totals, &ScanReport)>,
    parts: impl Iterator<Item = (u32, u64)> + Clone,
) -> Result<VerifiedDump, IncompleteDump> {
    let (totals, scan) = recorded.ok_or(IncompleteDump::NotKept("it was never verified"))?;
    let bytes = parts.clone().try_fold(0u64, |sum, (_, bytes)| sum.checked_add(bytes));
    if bytes != Some(totals.object_bytes) || !parts.map(|(number, _)| number).eq(1..=totals.parts) {
        return Err(IncompleteDump::NotKept("its parts are not those that were verified"));
    }
    EndedDump { scan: scan.clone() }.became(totals.clone())
}

/// The totals of a kept dump in other parts.
#[derive(Debug)]
pub struct ResplitTotals {
    /// Bytes in all.
    pub bytes: u64,
    /// Their sha256.
    pub sha256: [u8; 32],
    /// Their CRC-64/NVME, if the parts have one.
    pub crc64: Option<u64>,
    /// Number of parts.
    pub parts: u32,
}

impl VerifiedDump {
    /// Judges the same dump in other parts: no byte has changed.
    ///
    /// # Errors
    /// If its bytes are not those that were verified.
    pub fn resplit(self, new: &ResplitTotals) -> Result<Self, IncompleteDump> {
        if (new.bytes, new.sha256) != (self.totals.object_bytes, self.totals.object_sha256) {
            return Err(IncompleteDump::NotKept("its parts together are not the object that was verified"));
        }
        let totals = Totals { parts: new.parts, object_crc64: new.crc64, ..self.totals };
        Ok(Self { totals, ..self })
    }

    /// The object's totals.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The scanner's report.
    #[must_use]
    pub fn scan(&self) -> &ScanReport {
        &self.scan
    }
}
