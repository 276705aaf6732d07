//! Splits a kept dump into parts of another size, if the settings or the limits of S3 have changed since it was made.
//!
//! Called by `backup::resume`. Reads the parts on disk as one stream, checks each against the checksum in the journal,
//! and makes new parts with their own checksums. The new parts are in memory only, in the same budget as those of a
//! running dump. [`VerifiedDump::resplit`](crate::verified_dump::VerifiedDump::resplit) verifies that the result is the same
//! dump.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum_combine};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::pipeline::{PartBuffer, PartChecksum, PartDigest, PartMemory, SealedPart};
use crate::verified_dump::ResplitTotals;

use super::{Kept, QueuedPart, Spool, SpoolError, SpooledPart};

/// A kept dump that is being split into other parts.
pub struct Resplit {
    stream: Stream,
    memory: PartMemory,
    checksum: PartChecksum,
}

/// The bytes of all parts on disk, one after the other.
struct Stream {
    spool: Arc<Spool>,
    parts: VecDeque<SpooledPart>,
    /// Bytes that were read of the first of them.
    offset: u64,
    /// Of the first part's bytes so far.
    crc64: crc_fast::Digest,
    sha256: Sha256,
}

impl Resplit {
    /// Prepares splitting by the plan of this memory, with these checksums.
    #[must_use]
    pub fn new(kept: &Kept, memory: PartMemory, checksum: PartChecksum) -> Self {
        let parts = kept.journal.parts.values().cloned().collect();
        let crc64 = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
        let stream = Stream { spool: Arc::clone(&kept.spool), parts, offset: 0, crc64, sha256: Sha256::new() };
        Self { stream, memory, checksum }
    }

    /// Sends the parts to the queue, each as soon as memory for it is free.
    ///
    /// # Errors
    /// If a part on disk cannot be read, or has changed.
    pub async fn run(self, queue: mpsc::UnboundedSender<QueuedPart>) -> Result<ResplitTotals, SpoolError> {
        let Self { mut stream, memory, checksum } = self;
        let mut totals = ResplitTotals { bytes: 0, sha256: [0; 32], crc64: None, parts: 0 };
        while !stream.parts.is_empty() {
            let (number, disk) = (totals.parts + 1, stream.spool.disk().clone());
            let size = memory.plan().size_of(number);
            let buffer = memory.take(size).await;
            let (rest, part) = disk
                .insist(size, move || {
                    let bytes = stream.next(size, buffer);
                    (stream, bytes.map(|bytes| (checksum.of(&bytes), bytes)))
                })
                .await?;
            stream = rest;
            let (digest, bytes) = part?;
            totals.add(&digest, bytes.len() as u64);
            // The receiver has ended, and reports why.
            queue.send(QueuedPart::Sealed(SealedPart { number, bytes, digest })).map_err(|_| SpoolError::GivenUp)?;
        }
        Ok(ResplitTotals { sha256: stream.sha256.finalize().into(), ..totals })
    }
}

impl ResplitTotals {
    fn add(&mut self, digest: &PartDigest, bytes: u64) {
        if let PartDigest::Crc64Nvme(crc64) = digest {
            let before = self.crc64.unwrap_or_default();
            self.crc64 = Some(checksum_combine(CrcAlgorithm::Crc64Nvme, before, *crc64, bytes));
        }
        self.bytes += bytes;
        self.parts += 1;
    }
}

impl Stream {
    /// The next bytes, at most this many; fewer at the end.
    fn next(&mut self, most: u64, mut buffer: PartBuffer) -> Result<Bytes, SpoolError> {
        let bytes = buffer.bytes();
        while let Some(part) = self.parts.front()
            && (bytes.len() as u64) < most
        {
            let (number, before) = (part.number, bytes.len());
            let wanted = (part.bytes - self.offset).min(most - before as u64);
            let read = self.spool.read_piece(number, (self.offset, wanted), bytes);
            read.map_err(|source| SpoolError::Read { number, source })?;
            let piece = &bytes[before..];
            self.crc64.update(piece);
            self.sha256.update(piece);
            self.offset += wanted;
            if piece.len() as u64 != wanted {
                return Err(SpoolError::Damaged { number });
            }
            if self.offset == part.bytes {
                if self.crc64.finalize_reset() != part.crc64 {
                    return Err(SpoolError::Damaged { number });
                }
                self.offset = 0;
                self.parts.pop_front();
            }
        }
        Ok(buffer.seal())
    }
}

#[cfg(test)]
mod tests {
    use super::super::run::tests::kept;
    use super::*;
    use crate::pipeline::{PartPlan, PartSettings};

    const PARTS: [&[u8]; 3] = [b"first..", b"second.", b"end"];

    /// Splits parts of seven bytes into parts of this size.
    async fn resplit(
        kept: &Kept,
        base: u64,
        checksum: PartChecksum,
    ) -> Result<(Vec<(u32, Bytes)>, ResplitTotals), SpoolError> {
        let settings = PartSettings { base: Some(base), max_parts: 100, equal: true, concurrency: 2 };
        let (queue, mut waiting) = mpsc::unbounded_channel();
        let running = Resplit::new(kept, PartMemory::new(&PartPlan::new(&settings, 0)), checksum).run(queue);
        let taking = async {
            let mut parts = Vec::new();
            while let Some(QueuedPart::Sealed(SealedPart { number, bytes, digest })) = waiting.recv().await {
                assert_eq!(digest, checksum.of(&bytes));
                parts.push((number, Bytes::copy_from_slice(&bytes)));
            }
            parts
        };
        let (totals, parts) = tokio::join!(running, taking);
        Ok((parts, totals?))
    }

    #[tokio::test]
    async fn resplit_keeps_every_byte_for_any_part_size() {
        let dir = tempfile::tempdir().expect("a directory");
        let kept = kept(dir.path(), &PARTS).await;
        let all = PARTS.concat();
        for base in [1, 3, 7, 10, 17, 100] {
            for checksum in [PartChecksum::Md5, PartChecksum::Crc64Nvme, PartChecksum::None] {
                let (parts, totals) = resplit(&kept, base, checksum).await.expect("split");
                assert_eq!(parts.iter().map(|(_, bytes)| bytes.to_vec()).collect::<Vec<_>>().concat(), all);
                assert!(parts.iter().rev().skip(1).all(|(_, bytes)| bytes.len() as u64 == base), "{base}: {parts:?}");
                assert!(parts.iter().map(|(number, _)| *number).eq(1..=totals.parts), "{base}: {parts:?}");
                assert_eq!((totals.bytes, totals.sha256), (all.len() as u64, Sha256::digest(&all).into()));
                let crc64 = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &all);
                assert_eq!(totals.crc64, (checksum == PartChecksum::Crc64Nvme).then_some(crc64));
            }
        }
    }

    #[tokio::test]
    async fn resplit_rejects_a_part_that_the_disk_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        let kept = kept(dir.path(), &PARTS).await;
        for content in [&b"second!"[..], b"secon", b""] {
            std::fs::write(kept.spool.path().join("part-00002"), content).expect("written");
            let totals = resplit(&kept, 10, PartChecksum::Md5).await;
            assert!(matches!(totals, Err(SpoolError::Damaged { number: 2 })), "{content:?}: {totals:?}");
        }
    }
}
