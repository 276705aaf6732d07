//! Reads a backup whole, as it passes: its sha256, its one gzip member, and the dump in it to its closing line.
//!
//! Called by [`super::newest`] for `--deep`. Without a manifest there are no sums to compare with, but gzip and the dump's end
//! still prove themselves. Memory is what one piece of the body unpacks to.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Crc;
use flate2::write::GzDecoder;
use sha2::{Digest, Sha256};

use crate::archive::manifest::Manifest;
use crate::pipeline::scanner::{ScanReport, Scanner};
use crate::storage::{Destination, Download, StorageError};

use super::request::RequestError;
use super::result::{CheckName, CheckResults, Outcome, Status};

const LOG_EVERY: Duration = Duration::from_secs(30);
const TAKE_ONE: &str = "do not count on this backup: keep those before it, take a new one, and look at the store";

/// Reads the backup and tells what it is.
pub(super) async fn read(
    destination: &Destination,
    file_name: &str,
    manifest: Option<&Manifest>,
    results: &mut CheckResults<'_>,
) {
    let download = match destination.download(file_name).await {
        Ok(Some(download)) => download,
        Ok(None) => {
            return results.add(CheckName::Checksum, Outcome::fail(format!("{file_name} is not there"), TAKE_ONE));
        }
        Err(error) => return results.add(CheckName::Checksum, RequestError::from(error).verdict(Status::Fail)),
    };
    let whole = match drain(download, Reading::default()).await {
        Ok(reading) => reading.finish(),
        Err(error) => return results.add(CheckName::Checksum, RequestError::from(error).verdict(Status::Fail)),
    };
    results.add(CheckName::Checksum, whole.judge_content(manifest));
    match &whole.unpacked {
        Ok(dump) => {
            results.add(CheckName::Gzip, Outcome::ok("one whole gzip member, and nothing behind it"));
            results.add(CheckName::DumpIntegrity, dump.judge(manifest));
        }
        Err(flaw) => results.add(CheckName::Gzip, Outcome::fail(flaw.clone(), TAKE_ONE)),
    }
}

async fn drain(mut download: Download, mut reading: Reading) -> Result<Reading, StorageError> {
    let mut logged = Instant::now();
    while let Some(piece) = download.next().await? {
        reading.take(&piece);
        if logged.elapsed() > LOG_EVERY {
            logged = Instant::now();
            tracing::info!(read_bytes = reading.bytes, bytes = download.bytes(), "reading the backup goes on");
        }
    }
    Ok(reading)
}

/// A backup being read.
struct Reading {
    bytes: u64,
    sha256: Sha256,
    gzip: GzDecoder<Plain>,
    flaw: Option<String>,
}

impl Default for Reading {
    fn default() -> Self {
        Self { bytes: 0, sha256: Sha256::new(), gzip: GzDecoder::new(Plain::default()), flaw: None }
    }
}

impl Reading {
    /// Takes the next bytes of the object. Behind a flaw of gzip they are only summed.
    fn take(&mut self, piece: &[u8]) {
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

    fn finish(mut self) -> Whole {
        let ended = self.gzip.try_finish().map_err(|_| {
            format!("after {} bytes gzip has not ended, or its sum or length is not that of what it holds", self.bytes)
        });
        let plain = std::mem::take(self.gzip.get_mut());
        let unpacked = match self.flaw {
            Some(flaw) => Err(flaw),
            None => ended.map(|()| Dump { crc32: plain.crc.sum(), scan: plain.scanner.finish() }),
        };
        Whole { bytes: self.bytes, sha256: hex::encode(self.sha256.finalize()), unpacked }
    }
}

/// Where the plain dump goes: nowhere, but every byte is looked at.
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

/// A backup that was read to its end.
struct Whole {
    bytes: u64,
    sha256: String,
    unpacked: Result<Dump, String>,
}

impl Whole {
    fn judge_content(&self, manifest: Option<&Manifest>) -> Outcome {
        let Self { bytes, sha256, .. } = self;
        match manifest {
            Some(manifest) if *bytes != manifest.object_bytes => {
                Outcome::fail(format!("{bytes} bytes were read, but {} were uploaded", manifest.object_bytes), TAKE_ONE)
            }
            Some(manifest) if *sha256 != manifest.object_sha256 => Outcome::fail(
                format!("its sha256 is {sha256}, but what was uploaded has {}", manifest.object_sha256),
                TAKE_ONE,
            ),
            Some(_) => Outcome::ok(format!("{bytes} bytes with the sha256 of what was uploaded")),
            None => Outcome::ok(format!("{bytes} bytes were read; without a manifest there is no sum to compare with")),
        }
    }
}

/// What was unpacked.
struct Dump {
    crc32: u32,
    scan: ScanReport,
}

impl Dump {
    fn judge(&self, manifest: Option<&Manifest>) -> Outcome {
        if let Some(flaw) = &self.scan.flaw {
            return Outcome::fail(format!("the dump is not whole: {flaw}"), TAKE_ONE);
        }
        if let Some(difference) = manifest.and_then(|manifest| self.difference(manifest)) {
            return Outcome::fail(difference, TAKE_ONE);
        }
        let ScanReport { bytes, rows, tables, .. } = &self.scan;
        Outcome::ok(format!("whole to its closing line: {bytes} bytes, {rows} rows in {} tables", tables.len()))
    }

    fn difference(&self, manifest: &Manifest) -> Option<String> {
        let (scan, crc32) = (&self.scan, format!("{:08x}", self.crc32));
        if scan.bytes != manifest.dump_bytes {
            return Some(format!("it unpacks to {} bytes, but {} were dumped", scan.bytes, manifest.dump_bytes));
        }
        if crc32 != manifest.dump_crc32 {
            return Some(format!("what it unpacks to has CRC-32 {crc32}, but the dump had {}", manifest.dump_crc32));
        }
        if scan.tables == manifest.tables && scan.rows == manifest.rows {
            return None;
        }
        let pairs = scan.tables.iter().zip(&manifest.tables);
        let other = pairs.filter(|(found, told)| found != told).map(|(found, _)| found.table.as_str()).next();
        let place = other.unwrap_or("the list of tables");
        Some(format!("it holds {} rows, the manifest says {}: {place} differs", scan.rows, manifest.rows))
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

    /// Read in pieces of every size: where one ends must not matter.
    fn read(object: &[u8]) -> Result<Option<String>, String> {
        let outcomes = [1, 7, 18, object.len()].map(|size| {
            let mut reading = Reading::default();
            object.chunks(size).for_each(|piece| reading.take(piece));
            let whole = reading.finish();
            assert_eq!(whole.sha256, hex::encode(Sha256::digest(object)));
            whole.unpacked.map(|dump| dump.scan.flaw.map(|flaw| flaw.to_string()))
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
        assert!(read(&packed(&DUMP[..40])).expect("gzip is whole").is_some());
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
