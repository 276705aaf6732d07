//! The content of a stored backup: its sha256, its gzip stream, and the dump in it.
//!
//! [`super::Reader`] feeds the bytes in order. Without a manifest there are no checksums to compare, but gzip and the end of the
//! dump are still verified. Memory is that of one unpacked piece.

use std::io::Write;

use flate2::Crc;
use flate2::write::GzDecoder;
use sha2::{Digest, Sha256};

use crate::pipeline::scanner::{ScanReport, Scanner};

/// A backup that was read completely.
#[derive(Debug)]
pub struct Contents {
    /// Stored bytes.
    pub bytes: u64,
    /// Their sha256, in hexadecimal.
    pub sha256: String,
    /// The dump, or the flaw of the gzip stream.
    pub dump: Result<Dump, String>,
}

/// The dump of a backup.
#[derive(Debug)]
pub struct Dump {
    /// CRC-32 of the plain dump.
    pub crc32: u32,
    /// Rows, and whether the dump is complete.
    pub scan: ScanReport,
}

/// A backup that is being read.
pub(super) struct Unpacker {
    bytes: u64,
    sha256: Sha256,
    gzip: GzDecoder<Plain>,
    flaw: Option<String>,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self { bytes: 0, sha256: Sha256::new(), gzip: GzDecoder::new(Plain::default()), flaw: None }
    }
}

impl Unpacker {
    /// Adds the next bytes of the object. After a flaw of gzip they are only counted and hashed.
    pub fn take(&mut self, piece: &[u8]) {
        if self.flaw.is_none() {
            self.flaw = self.unpack(piece).err();
        }
        self.sha256.update(piece);
        self.bytes += piece.len() as u64;
    }

    fn unpack(&mut self, piece: &[u8]) -> Result<(), String> {
        let mut rest = piece;
        while !rest.is_empty() {
            let at = self.bytes + (piece.len() - rest.len()) as u64;
            match self.gzip.write(rest) {
                Ok(0) => return Err(format!("the gzip member ends at byte {at}, but something follows it")),
                Ok(count) => rest = &rest[count..],
                Err(error) => return Err(format!("gzip is damaged before byte {at}: {error}")),
            }
        }
        Ok(())
    }

    /// The result, after the last byte.
    pub fn finish(mut self) -> Contents {
        let ended = self
            .gzip
            .try_finish()
            .map_err(|_| format!("after {} bytes gzip has not ended, or its checksum or length differs", self.bytes));
        let plain = std::mem::take(self.gzip.get_mut());
        let dump = match self.flaw {
            Some(flaw) => Err(flaw),
            None => ended.map(|()| Dump { crc32: plain.crc.sum(), scan: plain.scanner.finish() }),
        };
        Contents { bytes: self.bytes, sha256: hex::encode(self.sha256.finalize()), dump }
    }
}

/// Scans the dump without storing it.
#[derive(Default)]
struct Plain {
    crc: Crc,
    scanner: Scanner,
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.crc.update(bytes);
        self.scanner.scan(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const DUMP: &[u8] = b"--\n-- PostgreSQL database dump\n--\n\n--\n-- PostgreSQL database dump complete\n--\n\n";

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(plain).expect("to memory");
        encoder.finish().expect("to memory")
    }

    /// Reads it in pieces of several sizes, which must not matter.
    fn read(object: &[u8]) -> Result<Option<String>, String> {
        let outcomes = [1, 7, 18, object.len()].map(|size| {
            let mut unpacker = Unpacker::default();
            object.chunks(size).for_each(|piece| unpacker.take(piece));
            let contents = unpacker.finish();
            assert_eq!(contents.sha256, hex::encode(Sha256::digest(object)));
            contents.dump.map(|dump| dump.scan.flaw.map(|flaw| flaw.to_string()))
        });
        let first = outcomes[0].clone();
        assert!(outcomes.iter().all(|outcome| outcome.is_ok() == first.is_ok()), "{outcomes:?}");
        first
    }

    #[test]
    fn a_whole_dump_in_one_member_is_sound() {
        assert_eq!(read(&packed(DUMP)), Ok(None));
    }

    #[test]
    fn a_cut_dump_in_a_whole_member_is_told() {
        assert!(read(&packed(&DUMP[..40])).expect("gzip is complete").is_some());
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_found() {
        let object = packed(DUMP);
        for length in 1..object.len() {
            assert!(read(&object[..length]).is_err(), "cut to {length}");
        }
        // Flags, time, level and system in the header (bytes 3 to 9) say nothing about the content.
        for at in (0..3).chain(10..object.len()) {
            let mut damaged = object.clone();
            damaged[at] ^= 1;
            assert!(read(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn nothing_may_follow_the_member() {
        let object = packed(DUMP);
        for behind in [vec![0], object.clone(), vec![b'x'; 100]] {
            let why = read(&[object.clone(), behind].concat()).expect_err("something follows");
            assert!(why.contains("something follows"), "{why}");
        }
    }
}
