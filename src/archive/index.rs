//! Reads the index of a stored backup.
//!
//! Used by `restore`, `list` and `check`. A backup without an index, or with one of no use, is restored from its first byte to its
//! last: that is a warning, never an error.

use sha2::{Digest as _, Sha256};

use crate::codec::age::{self, DecryptError, Identities};
use crate::error_chain::Chain;
use crate::index::{Index, IndexError};
use crate::pipeline::scanner::TableRows;
use crate::storage::{Destination, StorageError};

use super::manifest::{IndexFile, Manifest};
use super::name::{BackupName, ENCRYPTED_INDEX_SUFFIX};

/// The largest index, packed. `backup` writes none of more than about 6 MiB.
const MOST_BYTES: u64 = 16 << 20;

/// Where an index is, and what decrypts it.
pub type Stored<'a> = (&'a Destination, Option<&'a Identities>);

/// Why an index is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IndexFlaw {
    /// The manifest names none that this program would write.
    #[error("the manifest puts it elsewhere")]
    Elsewhere,
    /// It is not there.
    #[error("it is not there")]
    Missing,
    /// It has another size.
    #[error("its size is not what the manifest says")]
    Size,
    /// It has another checksum.
    #[error("its sha256 is not what the manifest says")]
    Sha256,
    /// It is encrypted, and there is no identity.
    #[error("it is encrypted, and BACKUP_AGE_IDENTITY is not set")]
    Closed,
    /// It is encrypted for others, or damaged.
    #[error(transparent)]
    Encryption(#[from] DecryptError),
    /// It cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// It belongs to another backup.
    #[error("it is of another backup")]
    Foreign,
}

/// Downloads, decrypts and verifies the index of a backup; `None` if it has none, or one of no use, which is logged.
///
/// # Errors
/// If S3 refuses it, or is unavailable for the outage budget.
pub async fn read(from: Stored<'_>, manifest: &Manifest) -> Result<Option<Index>, StorageError> {
    let Some(file) = &manifest.index else { return Ok(None) };
    Ok(match verified(from, manifest, file).await? {
        Ok(index) => Some(index),
        Err(flaw) => {
            let file_name = &file.file_name;
            tracing::warn!(file_name, error = %Chain(&flaw), "the index cannot be used: the backup is read without it");
            None
        }
    })
}

/// The rows of each table: from the index, or from the manifest of an earlier version. Empty if neither has them.
///
/// # Errors
/// As [`read`].
pub async fn tables(from: Stored<'_>, manifest: &Manifest) -> Result<Vec<TableRows>, StorageError> {
    if !manifest.tables.is_empty() {
        return Ok(manifest.tables.clone());
    }
    let entries = read(from, manifest).await?.map(|index| index.entries).unwrap_or_default();
    let copies = entries.into_iter().filter_map(|entry| entry.copy);
    Ok(copies.map(|copy| TableRows { table: copy.table, rows: copy.rows }).collect())
}

/// As [`read`]; an inner error says why the index is of no use.
///
/// # Errors
/// As [`read`].
pub async fn verified(
    (destination, identities): Stored<'_>,
    manifest: &Manifest,
    file: &IndexFile,
) -> Result<Result<Index, IndexFlaw>, StorageError> {
    let is_encrypted = file.file_name.ends_with(ENCRYPTED_INDEX_SUFFIX);
    let seal = match identities {
        _ if !is_encrypted => Seal::None,
        Some(identities) => Seal::Age(identities),
        None => Seal::Closed,
    };
    let of_encrypted = BackupName::parse(&manifest.file_name).is_some_and(|name| name.is_encrypted());
    if file.file_name.contains('/') || is_encrypted != of_encrypted {
        return Ok(Err(IndexFlaw::Elsewhere));
    }
    let Some(mut download) = destination.download(&file.file_name).await? else { return Ok(Err(IndexFlaw::Missing)) };
    if file.bytes != download.bytes() || file.bytes > MOST_BYTES {
        return Ok(Err(IndexFlaw::Size));
    }
    let mut packed = Vec::new();
    while let Some(piece) = download.next().await? {
        packed.extend_from_slice(&piece);
    }
    Ok(opened(packed, seal, file).and_then(|packed| judge(&packed, manifest)))
}

/// How the file is stored.
#[derive(Clone, Copy)]
enum Seal<'a> {
    /// As it is.
    None,
    /// Encrypted, with identities to open it.
    Age(&'a Identities),
    /// Encrypted, and nothing opens it.
    Closed,
}

/// Verifies the stored bytes, and decrypts them if they are encrypted.
fn opened(stored: Vec<u8>, seal: Seal<'_>, file: &IndexFile) -> Result<Vec<u8>, IndexFlaw> {
    if hex::encode(Sha256::digest(&stored)) != file.sha256.to_ascii_lowercase() {
        return Err(IndexFlaw::Sha256);
    }
    match seal {
        Seal::None => Ok(stored),
        Seal::Closed => Err(IndexFlaw::Closed),
        Seal::Age(identities) => Ok(age::decrypt(identities, &stored)?),
    }
}

fn judge(packed: &[u8], manifest: &Manifest) -> Result<Index, IndexFlaw> {
    let index = Index::unpacked(packed)?;
    let is_of_backup = index.run_id == manifest.run_id
        && index.codec == manifest.compression
        && index.plain_bytes == manifest.dump_bytes;
    if is_of_backup { Ok(index) } else { Err(IndexFlaw::Foreign) }
}
