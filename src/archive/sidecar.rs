//! Reads a sidecar that the manifest records: the index, or the globals.
//!
//! Nothing authenticates the manifest: who can write to the bucket can name any file in it. So the backup's own name says whether its
//! sidecars are encrypted, and nothing else is read for them.

use sha2::{Digest as _, Sha256};

use crate::codec::age::{self, DecryptError, Identities};
use crate::storage::{Destination, StorageError};

use super::manifest::{GlobalsFile, IndexFile};
use super::name::BackupName;

/// Where sidecars are, and what decrypts them.
pub type Stored<'a> = (&'a Destination, Option<&'a Identities>);

/// A sidecar, as the manifest records it.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    file_name: &'a str,
    bytes: u64,
    sha256: &'a str,
}

impl<'a> From<&'a IndexFile> for Recorded<'a> {
    fn from(IndexFile { file_name, bytes, sha256 }: &'a IndexFile) -> Self {
        Self { file_name, bytes: *bytes, sha256 }
    }
}

impl<'a> From<&'a GlobalsFile> for Recorded<'a> {
    fn from(GlobalsFile { file_name, bytes, sha256, .. }: &'a GlobalsFile) -> Self {
        Self { file_name, bytes: *bytes, sha256 }
    }
}

/// Why a sidecar is of no use.
#[derive(Debug, thiserror::Error)]
pub enum SidecarFlaw {
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
    /// It is plain, and belongs to an encrypted backup.
    #[error("it is not encrypted, but its backup is: find out who can write to the bucket")]
    NotEncrypted,
    /// It is encrypted, and there is no identity.
    #[error("it is encrypted, and BACKUP_AGE_IDENTITY is not set")]
    Closed,
    /// It is encrypted for others, or damaged.
    #[error("age: {0}")]
    Encryption(#[from] DecryptError),
}

/// Downloads, verifies and decrypts a sidecar of this backup; an inner error says why it is of no use.
///
/// # Errors
/// If S3 refuses it, or is unavailable for the outage budget.
pub async fn read(
    (destination, identities): Stored<'_>,
    backup: &str,
    file: Recorded<'_>,
    most_bytes: u64,
) -> Result<Result<Vec<u8>, SidecarFlaw>, StorageError> {
    if let Err(flaw) = judge_name(backup, file.file_name) {
        return Ok(Err(flaw));
    }
    let Some(mut download) = destination.download(file.file_name).await? else { return Ok(Err(SidecarFlaw::Missing)) };
    if file.bytes != download.bytes() || file.bytes > most_bytes {
        return Ok(Err(SidecarFlaw::Size));
    }
    let mut stored = Vec::new();
    while let Some(piece) = download.next().await? {
        stored.extend_from_slice(&piece);
    }
    if hex::encode(Sha256::digest(&stored)) != file.sha256.to_ascii_lowercase() {
        return Ok(Err(SidecarFlaw::Sha256));
    }
    Ok(if is_encrypted(backup) { opened(&stored, identities) } else { Ok(stored) })
}

fn is_encrypted(backup: &str) -> bool {
    BackupName::parse(backup).is_some_and(|name| name.is_encrypted())
}

fn judge_name(backup: &str, file_name: &str) -> Result<(), SidecarFlaw> {
    let is_named_encrypted = file_name.rsplit_once('.').is_some_and(|(_, extension)| extension == age::EXTENSION);
    match (is_encrypted(backup), is_named_encrypted) {
        _ if file_name.contains('/') => Err(SidecarFlaw::Elsewhere),
        (false, true) => Err(SidecarFlaw::Elsewhere),
        (true, false) => Err(SidecarFlaw::NotEncrypted),
        _ => Ok(()),
    }
}

fn opened(stored: &[u8], identities: Option<&Identities>) -> Result<Vec<u8>, SidecarFlaw> {
    if !age::is_encrypted(stored) {
        return Err(SidecarFlaw::NotEncrypted);
    }
    let identities = identities.ok_or(SidecarFlaw::Closed)?;
    Ok(age::decrypt(identities, stored)?)
}
