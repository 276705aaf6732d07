//! Cuts a kept dump into other parts, where the store's limits have changed since it was made.
//!
//! Called by `backup::resume`. The parts on disk are read as one stream, each proved against the sum in the journal, and cut
//! again with checksums of their own; the cut parts live in memory alone, as many at a time as those of a dump that is being
//! made. Whether it still is the dump that was proved is for [`VerifiedDump::cut_anew`](crate::proof::VerifiedDump::cut_anew) to
//! judge.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum_combine};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::pipeline::{PartBuffer, PartChecksum, PartDigest, PartMemory, SealedPart};
use crate::proof::Cut;

use super::{Kept, Spool, SpoolError, SpooledPart};

/// A kept dump on its way into other parts.
pub struct CutAnew {
    stream: Stream,
    memory: PartMemory,
    checksum: PartChecksum,
}

/// The bytes of all parts on disk, one behind the other.
struct Stream {
    spool: Arc<Spool>,
    parts: VecDeque<SpooledPart>,
    /// Of the first of them, so many bytes were read.
    offset: u64,
    /// Of these.
    crc64: crc_fast::Digest,
    sha256: Sha256,
}

impl CutAnew {
    /// By the plan of this memory, into parts that live there and carry these checksums.
    #[must_use]
    pub fn new(kept: &Kept, memory: PartMemory, checksum: PartChecksum) -> Self {
        let parts = kept.journal.parts.values().cloned().collect();
        let crc64 = crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme);
        let stream = Stream { spool: Arc::clone(&kept.spool), parts, offset: 0, crc64, sha256: Sha256::new() };
        Self { stream, memory, checksum }
    }

    /// Hands the parts over, each as soon as there is a place for it.
    ///
    /// # Errors
    /// Where a part on disk cannot be read, or is not what was written.
    pub async fn run(self, queue: mpsc::UnboundedSender<SealedPart>) -> Result<Cut, SpoolError> {
        let Self { mut stream, memory, checksum } = self;
        let mut cut = Cut { bytes: 0, sha256: [0; 32], crc64: None, parts: 0 };
        while !stream.parts.is_empty() {
            let (number, disk) = (cut.parts + 1, stream.spool.disk().clone());
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
            cut.add(&digest, bytes.len() as u64);
            // Who takes them no more says why.
            queue.send(SealedPart { number, bytes, digest }).map_err(|_| SpoolError::GivenUp)?;
        }
        Ok(Cut { sha256: stream.sha256.finalize().into(), ..cut })
    }
}

impl Cut {
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
    /// The next bytes, so many at most; fewer where there are no more.
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

    /// What parts of seven bytes become where each is to have so many.
    async fn cut(kept: &Kept, base: u64, checksum: PartChecksum) -> Result<(Vec<(u32, Bytes)>, Cut), SpoolError> {
        let settings = PartSettings { base: Some(base), max_parts: 100, equal: true, concurrency: 2 };
        let (queue, mut waiting) = mpsc::unbounded_channel();
        let running = CutAnew::new(kept, PartMemory::new(&PartPlan::new(&settings, 0)), checksum).run(queue);
        let taking = async {
            let mut parts = Vec::new();
            while let Some(SealedPart { number, bytes, digest }) = waiting.recv().await {
                assert_eq!(digest, checksum.of(&bytes));
                parts.push((number, Bytes::copy_from_slice(&bytes)));
            }
            parts
        };
        let (cut, parts) = tokio::join!(running, taking);
        Ok((parts, cut?))
    }

    #[tokio::test]
    async fn the_bytes_are_the_same_however_they_are_cut() {
        let dir = tempfile::tempdir().expect("a directory");
        let kept = kept(dir.path(), &PARTS).await;
        let all = PARTS.concat();
        for base in [1, 3, 7, 10, 17, 100] {
            for checksum in [PartChecksum::Md5, PartChecksum::Crc64Nvme, PartChecksum::None] {
                let (parts, cut) = cut(&kept, base, checksum).await.expect("cut");
                assert_eq!(parts.iter().map(|(_, bytes)| bytes.to_vec()).collect::<Vec<_>>().concat(), all);
                assert!(parts.iter().rev().skip(1).all(|(_, bytes)| bytes.len() as u64 == base), "{base}: {parts:?}");
                assert!(parts.iter().map(|(number, _)| *number).eq(1..=cut.parts), "{base}: {parts:?}");
                assert_eq!((cut.bytes, cut.sha256), (all.len() as u64, Sha256::digest(&all).into()));
                let crc64 = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &all);
                assert_eq!(cut.crc64, (checksum == PartChecksum::Crc64Nvme).then_some(crc64));
            }
        }
    }

    #[tokio::test]
    async fn a_part_that_the_disk_changed_is_noticed_before_the_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let kept = kept(dir.path(), &PARTS).await;
        for content in [&b"second!"[..], b"secon", b""] {
            std::fs::write(kept.spool.path().join("part-00002"), content).expect("written");
            let cut = cut(&kept, 10, PartChecksum::Md5).await;
            assert!(matches!(cut, Err(SpoolError::Damaged { number: 2 })), "{content:?}: {cut:?}");
        }
    }
}
