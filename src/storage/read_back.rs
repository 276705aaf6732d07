//! Reads a committed object back, if the store's data differ from what was sent.
//!
//! Called by `commit`, which deletes an object with other bytes. A proxy may answer in the store's place, so it takes
//! two equal answers that are provably of this object.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::verified_dump::VerifiedDump;

use super::StorageError;
use super::complete::PAUSE;
use super::download::Download;
use super::failure::Failure;
use super::head::Head;
use super::range::READ;
use super::upload::Upload;

/// Most readings that differ from what was sent.
const READINGS: u32 = 3;

/// The result of reading the object back.
pub(super) enum ReadBack {
    /// It holds what was sent.
    Same,
    /// It holds other bytes.
    Other,
    /// The answers hold other bytes, but are not provably of this object.
    Unproven,
    /// The credentials lack the permission to read.
    Denied(Failure),
}

/// The result of one reading.
enum Reading {
    Same,
    /// The object has this sha256.
    Other([u8; 32]),
    Unproven,
    Denied(Failure),
}

impl Upload {
    /// Reads the object of this HEAD from its first to its last byte.
    ///
    /// # Errors
    /// If the object cannot be read within the outage budget.
    pub(super) async fn read_back(
        &self,
        verified: &VerifiedDump,
        head: &Head,
        why: &str,
    ) -> Result<ReadBack, StorageError> {
        tracing::warn!(
            key = self.key,
            difference = why,
            "the store's data differ from what was sent: reading the backup back"
        );
        let mut before = None;
        for nth in 1..=READINGS {
            match self.read_once(verified, head).await? {
                Reading::Same => {
                    tracing::warn!(key = self.key, "the backup was read back and is what was sent");
                    return Ok(ReadBack::Same);
                }
                Reading::Denied(failure) => return Ok(ReadBack::Denied(failure)),
                Reading::Other(sha256) if before == Some(sha256) => return Ok(ReadBack::Other),
                Reading::Other(sha256) => before = Some(sha256),
                Reading::Unproven => {}
            }
            if nth < READINGS {
                sleep(PAUSE).await;
            }
        }
        Ok(ReadBack::Unproven)
    }

    async fn read_once(&self, verified: &VerifiedDump, head: &Head) -> Result<Reading, StorageError> {
        match self.read_object(verified, head).await {
            Err(StorageError::Refused { failure, .. }) => Ok(Reading::Denied(failure)),
            Err(StorageError::Replaced { .. }) => Ok(Reading::Unproven),
            other => other,
        }
    }

    async fn read_object(&self, verified: &VerifiedDump, head: &Head) -> Result<Reading, StorageError> {
        let mut download = self.open().await?;
        let is_proven = download.is_of(head);
        if !is_proven && download.bytes() != verified.totals().object_bytes {
            return Ok(Reading::Unproven);
        }
        let mut sha256 = Sha256::new();
        while let Some(piece) = download.next().await? {
            sha256.update(&piece);
        }
        let sha256: [u8; 32] = sha256.finalize().into();
        Ok(match sha256 == verified.totals().object_sha256 {
            true => Reading::Same,
            false if is_proven => Reading::Other(sha256),
            false => Reading::Unproven,
        })
    }

    /// GET of an object that HEAD has found: some stores show an object late.
    async fn open(&self) -> Result<Download, StorageError> {
        let outage = self.outage.separate();
        loop {
            let began = Instant::now();
            let opened = Download::open(self.bucket.clone(), Arc::clone(&self.outage), self.key.clone()).await?;
            if let Some(download) = opened {
                return Ok(download);
            }
            outage.wait(READ, began, Failure::damaged("HEAD finds the object, but GET does not"), PAUSE).await?;
        }
    }
}
