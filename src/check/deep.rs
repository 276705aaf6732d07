//! Compares a backup, read to its last byte, with what its manifest says.
//!
//! Called by [`super::newest`] for `--deep`. `archive` reads the backup and judges its sha256, its gzip member, and the dump in
//! it; this shows what came of each.

use crate::archive::manifest::Manifest;
use crate::archive::{Contents, Dump, Mismatch, Reader};
use crate::pipeline::ScanReport;
use crate::storage::{Destination, StorageError};

use super::request::RequestError;
use super::result::{CheckName, CheckResults, Outcome, Status};

const TAKE_ONE: &str = "do not count on this backup: keep those before it, take a new one, and look at the store";

/// Reads the backup and tells what it is.
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
    results.add(CheckName::Checksum, outcome(judge_object(&contents, manifest)));
    match contents.verify_gzip() {
        Ok(dump) => {
            results.add(CheckName::Gzip, Outcome::ok("one complete gzip member, and nothing after it"));
            results.add(CheckName::DumpIntegrity, outcome(judge_dump(dump, manifest)));
        }
        Err(mismatch) => results.add(CheckName::Gzip, outcome(Err(mismatch))),
    }
}

async fn contents(destination: &Destination, file_name: &str) -> Result<Option<Contents>, StorageError> {
    match Reader::open(destination, file_name).await? {
        Some(reader) => reader.read().await.map(Some),
        None => Ok(None),
    }
}

fn outcome(judged: Result<String, Mismatch>) -> Outcome {
    match judged {
        Ok(detail) => Outcome::ok(detail),
        Err(mismatch) => Outcome::fail(mismatch.to_string(), TAKE_ONE),
    }
}

fn judge_object(contents: &Contents, manifest: Option<&Manifest>) -> Result<String, Mismatch> {
    let bytes = contents.verify_object(manifest)?;
    Ok(match manifest {
        Some(_) => format!("{bytes} bytes with the sha256 of what was uploaded"),
        None => format!("{bytes} bytes were read; without a manifest there is no checksum to compare with"),
    })
}

fn judge_dump(dump: &Dump, manifest: Option<&Manifest>) -> Result<String, Mismatch> {
    let ScanReport { bytes, rows, tables, .. } = dump.verify(manifest)?;
    Ok(format!("complete to its closing line: {bytes} bytes, {rows} rows in {} tables", tables.len()))
}
