//! Compares the complete content of a backup with its manifest.
//!
//! Called by [`super::newest`] for `--deep`. `archive` reads the backup; this judges sha256, compressed stream and dump.

use crate::archive::index::IndexFlaw;
use crate::archive::manifest::Manifest;
use crate::archive::name::BackupName;
use crate::archive::{self, Contents, Dump, IndexMismatch, Mismatch, Reader, SidecarFlaw, Stored, VerifiedIndex};
use crate::codec::Codec;
use crate::codec::age::{DecryptError, Identities};
use crate::error_chain::Chain;
use crate::index::Index;
use crate::pipeline::ScanReport;
use crate::printable::counted;
use crate::storage::{Destination, StorageError};

use super::name::CheckName;
use super::request::RequestError;
use super::result::{CheckResults, Outcome, Status};

const TAKE_ONE: &str = "this backup is damaged: keep earlier ones, take a new one, and check the store";

const CLOSED: &str = "it is encrypted, and BACKUP_AGE_IDENTITY is not set: the compressed stream, the end of the dump, its rows and its \
     index were not looked at";
const USE_ANOTHER: &str = "give an identity of one of its recipients; `list NAME` shows them";
const WITHOUT_INDEX: &str =
    "the backup can be restored, but only from its first byte to its last: take a new one, and check the store";

/// Reads the backup and adds the results.
pub(super) async fn read(
    (destination, name): (&Destination, BackupName),
    manifest: Option<&Manifest>,
    identities: Option<&Identities>,
    results: &mut CheckResults<'_>,
) {
    let index = match manifest {
        // The result of the decryption says that it was not looked at.
        Some(_) if name.is_encrypted() && identities.is_none() => None,
        Some(manifest) => index((destination, identities), (&name.to_string(), manifest), results).await,
        None => None,
    };
    let contents = match contents((destination, name), identities, index).await {
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
            let dump = judge_dump(dump, manifest);
            // The index of another dump says nothing.
            let index = contents.index().filter(|_| dump.is_ok()).map(judge_index);
            results.add(CheckName::DumpIntegrity, outcome(dump));
            if let Some(index) = index {
                results.add(CheckName::Index, index);
            }
        }
        Err(mismatch) => results.add(codec, outcome(Err(mismatch))),
    }
}

async fn contents(
    (destination, name): (&Destination, BackupName),
    identities: Option<&Identities>,
    index: Option<Index>,
) -> Result<Option<Contents>, StorageError> {
    match Reader::open(destination, &name.to_string(), identities).await? {
        Some(reader) => reader.with_index(index).read().await.map(Some),
        None => Ok(None),
    }
}

/// Downloads the index, if there is one. If it cannot be used, that is a warning: the backup is restored without it.
async fn index(from: Stored<'_>, (name, manifest): (&str, &Manifest), results: &mut CheckResults<'_>) -> Option<Index> {
    let file = manifest.index.as_ref()?;
    let outcome = match archive::index::verified(from, (name, manifest), file).await {
        Ok(Ok(index)) => return Some(index),
        Ok(Err(flaw @ IndexFlaw::Sidecar(SidecarFlaw::Encryption(DecryptError::WrongIdentity)))) => {
            Outcome::warn(format!("{}: {flaw}", file.file_name), USE_ANOTHER)
        }
        Ok(Err(flaw)) => Outcome::warn(format!("{}: {}", file.file_name, Chain(&flaw)), WITHOUT_INDEX),
        Err(error) => RequestError::from(error).verdict(Status::Warn),
    };
    results.add(CheckName::Index, outcome);
    None
}

fn judge_index(compared: &Result<VerifiedIndex, IndexMismatch>) -> Outcome {
    match compared {
        Ok(VerifiedIndex { entries, ranges }) => {
            let entries = if *entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
            Outcome::ok(format!("{entries}; each of {} unpacks alone", counted(*ranges, "range")))
        }
        Err(mismatch) => Outcome::fail(Chain(mismatch).to_string(), WITHOUT_INDEX),
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
