//! Reads the index of a stored backup.
//!
//! Used by `restore`, `list` and `check`. A backup without an index, or with one of no use, is restored from its first byte to its
//! last: that is a warning, never an error.

use crate::error_chain::Chain;
use crate::index::{Index, IndexError};
use crate::pipeline::scanner::TableRows;
use crate::storage::StorageError;

use super::manifest::{IndexFile, Manifest};
use super::sidecar::{self, SidecarFlaw, Stored};

/// The largest index, packed. `backup` writes none of more than about 6 MiB.
const MOST_BYTES: u64 = 16 << 20;

/// Why an index is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IndexFlaw {
    /// The file cannot be used.
    #[error(transparent)]
    Sidecar(#[from] SidecarFlaw),
    /// It cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// It belongs to another backup.
    #[error("it is of another backup")]
    Foreign,
}

/// A backup: its name, and its manifest.
pub type Described<'a> = (&'a str, &'a Manifest);

/// Downloads, decrypts and verifies the index of a backup; `None` if it has none, or one of no use, which is logged.
///
/// # Errors
/// If S3 refuses it, or is unavailable for the outage budget.
pub async fn read(from: Stored<'_>, of @ (_, manifest): Described<'_>) -> Result<Option<Index>, StorageError> {
    let Some(file) = &manifest.index else { return Ok(None) };
    Ok(match verified(from, of, file).await? {
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
pub async fn tables(from: Stored<'_>, of @ (_, manifest): Described<'_>) -> Result<Vec<TableRows>, StorageError> {
    if !manifest.tables.is_empty() {
        return Ok(manifest.tables.clone());
    }
    let entries = read(from, of).await?.map(|index| index.entries).unwrap_or_default();
    let copies = entries.into_iter().filter_map(|entry| entry.copy);
    Ok(copies.map(|copy| TableRows { table: copy.table, rows: copy.rows }).collect())
}

/// As [`read`]; an inner error says why the index is of no use.
///
/// # Errors
/// As [`read`].
pub async fn verified(
    from: Stored<'_>,
    (backup, manifest): Described<'_>,
    file: &IndexFile,
) -> Result<Result<Index, IndexFlaw>, StorageError> {
    let read = sidecar::read(from, backup, file.into(), MOST_BYTES).await?;
    Ok(read.map_err(IndexFlaw::from).and_then(|packed| judge(&packed, manifest)))
}

fn judge(packed: &[u8], manifest: &Manifest) -> Result<Index, IndexFlaw> {
    let index = Index::unpacked(packed)?;
    let is_of_backup = index.run_id == manifest.run_id
        && index.codec == manifest.compression
        && index.plain_bytes == manifest.dump_bytes;
    if is_of_backup { Ok(index) } else { Err(IndexFlaw::Foreign) }
}
