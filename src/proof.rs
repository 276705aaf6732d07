//! The proof that a dump is whole: the only maker of [`VerifiedDump`], without which nothing can be committed.
//!
//! `backup::stream` brings the evidence: how `pg_dump` ended, what the scanner saw, what the collector produced. Of a
//! dump that an earlier run proved and kept, [`Journal::verified`] is the judge, and [`VerifiedDump::cut_anew`] where it is sent in
//! other parts. `storage` takes the proof. Nothing here does any work: it only judges.

use crate::pipeline::Totals;
use crate::pipeline::scanner::{Flaw, ScanReport};
use crate::postgres::DumpEnd;
use crate::spool::{Cut, Journal};

/// Why a dump is not taken for whole.
#[derive(Debug, thiserror::Error)]
pub enum NotWhole {
    /// `pg_dump` says so itself.
    #[error("pg_dump failed ({status}): {cause}")]
    Failed {
        /// `exit code 1`, `SIGKILL, probably out of memory`.
        status: String,
        /// The cause it gave.
        cause: String,
    },
    /// `pg_dump` ended well, but its output does not.
    #[error("pg_dump ended with success, but its dump is not whole: {0}")]
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
    #[error("the spool does not hold a whole dump: {0}")]
    NotKept(&'static str),
}

/// A dump that ended as a whole dump does; its object is not finished yet.
#[derive(Debug)]
pub struct EndedDump {
    scan: ScanReport,
}

/// A dump that is whole, and the object that it became.
#[derive(Debug)]
pub struct VerifiedDump {
    scan: ScanReport,
    totals: Totals,
}

/// Judges the dump's end: exit status, closing line, and the key at both ends.
///
/// # Errors
/// Why it is not whole.
pub fn judge_end(end: &DumpEnd, scan: ScanReport) -> Result<EndedDump, NotWhole> {
    if !end.status.success() {
        let cause = end.cause.clone().unwrap_or_else(|| "it gave no reason".to_owned());
        return Err(NotWhole::Failed { status: end.words(), cause });
    }
    match scan.flaw.clone() {
        Some(flaw) => Err(NotWhole::Flawed(flaw)),
        None => Ok(EndedDump { scan }),
    }
}

impl EndedDump {
    /// Judges the object: all that was read is in it.
    ///
    /// # Errors
    /// Where bytes were lost.
    pub fn became(self, totals: Totals) -> Result<VerifiedDump, NotWhole> {
        if self.scan.bytes == totals.plain_bytes {
            Ok(VerifiedDump { scan: self.scan, totals })
        } else {
            Err(NotWhole::Lost { read: self.scan.bytes, compressed: totals.plain_bytes })
        }
    }
}

impl Journal {
    /// Judges what an earlier run kept: it was proved then, and the parts are those of the proof.
    ///
    /// # Errors
    /// Why it is not whole.
    pub fn verified(&self) -> Result<VerifiedDump, NotWhole> {
        let proof = self.proof.as_ref().ok_or(NotWhole::NotKept("it was never proved"))?;
        let (totals, scan) = (&proof.totals, &proof.scan);
        let bytes = self.parts.values().try_fold(0u64, |sum, part| sum.checked_add(part.bytes));
        if bytes != Some(totals.object_bytes) || !self.parts.keys().copied().eq(1..=totals.parts) {
            return Err(NotWhole::NotKept("its parts are not those that were proved"));
        }
        if scan.bytes != totals.plain_bytes {
            return Err(NotWhole::Lost { read: scan.bytes, compressed: totals.plain_bytes });
        }
        Ok(VerifiedDump { scan: scan.clone(), totals: totals.clone() })
    }
}

impl VerifiedDump {
    /// Judges the same dump in other parts: not a byte of it has changed.
    ///
    /// # Errors
    /// Where it is not what was proved.
    pub fn cut_anew(self, cut: &Cut) -> Result<Self, NotWhole> {
        if (cut.bytes, cut.sha256) != (self.totals.object_bytes, self.totals.object_sha256) {
            return Err(NotWhole::NotKept("its parts together are not the object that was proved"));
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
