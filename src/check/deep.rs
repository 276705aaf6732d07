//! Compares the complete content of a backup with its manifest.
//!
//! Called by [`super::newest`] for `--deep`. `archive` reads the backup; this judges sha256, gzip stream and dump.

use crate::archive::manifest::Manifest;
use crate::archive::{Contents, Dump, Reader};
use crate::pipeline::ScanReport;
use crate::printable::counted;
use crate::storage::{Destination, StorageError};

use super::request::RequestError;
use super::result::{CheckName, CheckResults, Outcome, Status};

const TAKE_ONE: &str = "this backup is damaged: keep earlier ones, take a new one, and check the store";

/// Reads the backup and adds the results.
pub(super) async fn read(
    destination: &Destination,
    file_name: &str,
    manifest: Option<&Manifest>,
    results: &mut CheckResults<'_>,
) {
    let contents = match contents(destination, file_name).await {
        Ok(Some(contents)) => contents,
        Ok(None) => {
            return results.add(CheckName::Checksum, Outcome::fail(format!("{file_name} is not there"), TAKE_ONE));
        }
        Err(error) => return results.add(CheckName::Checksum, RequestError::from(error).verdict(Status::Fail)),
    };
    results.add(CheckName::Checksum, judge_checksum(&contents, manifest));
    match &contents.dump {
        Ok(dump) => {
            results.add(CheckName::Gzip, Outcome::ok("one complete gzip stream"));
            results.add(CheckName::DumpIntegrity, judge_dump(dump, manifest));
        }
        Err(flaw) => results.add(CheckName::Gzip, Outcome::fail(flaw.clone(), TAKE_ONE)),
    }
}

async fn contents(destination: &Destination, file_name: &str) -> Result<Option<Contents>, StorageError> {
    match Reader::open(destination, file_name).await? {
        Some(reader) => reader.read().await.map(Some),
        None => Ok(None),
    }
}

fn judge_checksum(contents: &Contents, manifest: Option<&Manifest>) -> Outcome {
    let Contents { bytes, sha256, .. } = contents;
    match manifest {
        Some(manifest) if *bytes != manifest.object_bytes => {
            Outcome::fail(format!("{bytes} bytes were read, but {} were uploaded", manifest.object_bytes), TAKE_ONE)
        }
        Some(manifest) if *sha256 != manifest.object_sha256 => {
            Outcome::fail(format!("its sha256 is {sha256}, but {} was uploaded", manifest.object_sha256), TAKE_ONE)
        }
        Some(_) => Outcome::ok(format!("{bytes} bytes with the uploaded sha256")),
        None => Outcome::ok(format!("{bytes} bytes; no manifest, so no checksum to compare with")),
    }
}

fn judge_dump(dump: &Dump, manifest: Option<&Manifest>) -> Outcome {
    if let Some(flaw) = &dump.scan.flaw {
        return Outcome::fail(format!("the dump is not complete: {flaw}"), TAKE_ONE);
    }
    if let Some(difference) = manifest.and_then(|manifest| difference(dump, manifest)) {
        return Outcome::fail(difference, TAKE_ONE);
    }
    let ScanReport { bytes, rows, tables, .. } = &dump.scan;
    Outcome::ok(format!(
        "complete to its last line: {bytes} bytes, {} in {}",
        counted(*rows, "row"),
        counted(tables.len(), "table")
    ))
}

fn difference(dump: &Dump, manifest: &Manifest) -> Option<String> {
    let (scan, crc32) = (&dump.scan, format!("{:08x}", dump.crc32));
    if scan.bytes != manifest.dump_bytes {
        return Some(format!(
            "the unpacked dump has {} bytes, but the manifest says {}",
            scan.bytes, manifest.dump_bytes
        ));
    }
    if crc32 != manifest.dump_crc32 {
        return Some(format!("the unpacked dump has CRC-32 {crc32}, but the manifest says {}", manifest.dump_crc32));
    }
    if scan.tables == manifest.tables && scan.rows == manifest.rows {
        return None;
    }
    let pairs = scan.tables.iter().zip(&manifest.tables);
    let other = pairs.filter(|(found, told)| found != told).map(|(found, _)| found.table.as_str()).next();
    let place = other.unwrap_or("the list of tables");
    Some(format!("it holds {} rows, the manifest says {}: {place} differs", scan.rows, manifest.rows))
}
