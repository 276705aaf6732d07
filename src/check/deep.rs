//! Compares the complete content of a backup with its manifest.
//!
//! Called by [`super::newest`] for `--deep`. `archive` reads the backup; this judges sha256, compressed stream and dump.

use crate::archive::manifest::Manifest;
use crate::archive::name::BackupName;
use crate::archive::{Contents, Dump, Mismatch, Reader};
use crate::codec::Codec;
use crate::codec::age::{DecryptError, Identities};
use crate::pipeline::ScanReport;
use crate::printable::counted;
use crate::storage::{Destination, StorageError};

use super::name::CheckName;
use super::request::RequestError;
use super::result::{CheckResults, Outcome, Status};

const TAKE_ONE: &str = "this backup is damaged: keep earlier ones, take a new one, and check the store";

const CLOSED: &str = "it is encrypted, and BACKUP_AGE_IDENTITY is not set: the compressed stream, the end of the dump and its rows \
     were not looked at";
const USE_ANOTHER: &str = "give an identity of one of its recipients; `list NAME` shows them";

/// Reads the backup and adds the results.
pub(super) async fn read(
    (destination, name): (&Destination, BackupName),
    manifest: Option<&Manifest>,
    identities: Option<&Identities>,
    results: &mut CheckResults<'_>,
) {
    let contents = match contents(destination, name, identities).await {
        Ok(Some(contents)) => contents,
        Ok(None) => {
            return results.add(CheckName::Checksum, Outcome::fail(format!("{name} is not there"), TAKE_ONE));
        }
        Err(error) => return results.add(CheckName::Checksum, RequestError::from(error).verdict(Status::Fail)),
    };
    results.add(CheckName::Checksum, outcome(judge_object(&contents, manifest)));
    let (codec, stream) = match contents.codec() {
        Codec::Gzip => (CheckName::Gzip, "one complete gzip stream"),
        Codec::Zstd => (CheckName::Zstd, "complete zstd frames"),
    };
    let verified = contents.verify_stream();
    match &verified {
        Err(Mismatch::NoIdentity) => return results.add(CheckName::Decryption, Outcome::skip(CLOSED)),
        Err(Mismatch::Encryption(error @ DecryptError::WrongIdentity)) => {
            return results.add(CheckName::Decryption, Outcome::fail(error.to_string(), USE_ANOTHER));
        }
        Err(mismatch @ Mismatch::Encryption(_)) => {
            return results.add(CheckName::Decryption, outcome(Err(mismatch.clone())));
        }
        _ if name.is_encrypted() => results.add(CheckName::Decryption, Outcome::ok("every chunk is authentic")),
        _ => {}
    }
    match verified {
        Ok(dump) => {
            results.add(codec, Outcome::ok(stream));
            results.add(CheckName::DumpIntegrity, outcome(judge_dump(dump, manifest)));
        }
        Err(mismatch) => results.add(codec, outcome(Err(mismatch))),
    }
}

async fn contents(
    destination: &Destination,
    name: BackupName,
    identities: Option<&Identities>,
) -> Result<Option<Contents>, StorageError> {
    match Reader::open(destination, &name.to_string(), identities).await? {
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
        Some(_) => format!("{bytes} bytes with the uploaded sha256"),
        None => format!("{bytes} bytes read; without a manifest there is no checksum to compare with"),
    })
}

fn judge_dump(dump: &Dump, manifest: Option<&Manifest>) -> Result<String, Mismatch> {
    let ScanReport { bytes, rows, tables, .. } = dump.verify(manifest)?;
    let (rows, tables) = (counted(*rows, "row"), counted(tables.len(), "table"));
    Ok(format!("complete to its last line: {bytes} bytes, {rows} in {tables}"))
}
