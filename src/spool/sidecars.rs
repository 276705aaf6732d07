//! The sidecars of a dump in the spool: the globals, created during the dump, and its index. They are sent after its object.
//!
//! Called by `backup::sidecars` and `backup::index`. The journal does not name them; the manifest in it does, with their sha256.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{Spool, SpoolError};

/// A sidecar in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptSidecar {
    /// The globals.
    Globals,
    /// The index.
    Index,
}

impl KeptSidecar {
    fn file_name(self) -> &'static str {
        match self {
            Self::Globals => "globals.sql.gz",
            Self::Index => "index.json.gz",
        }
    }
}

impl Spool {
    /// Stores a sidecar.
    ///
    /// # Errors
    /// If the disk fails. The spool stays usable: the dump matters more.
    pub async fn store_sidecar(self: &Arc<Self>, kept: KeptSidecar, content: Bytes) -> Result<(), SpoolError> {
        if self.is_given_up() {
            return Err(SpoolError::GivenUp);
        }
        let spool = Arc::clone(self);
        self.disk().call(content.len() as u64, move || spool.store_sidecar_now(kept, &content)).await?
    }

    /// Reads a sidecar of this length and sha256 (in hexadecimal); `None` if it is missing, another one, or cannot be read.
    pub async fn read_sidecar(self: &Arc<Self>, kept: KeptSidecar, (bytes, sha256): (u64, &str)) -> Option<Vec<u8>> {
        let spool = Arc::clone(self);
        let content = self.disk().call(bytes, move || spool.read_sidecar_now(kept, bytes)).await.ok().flatten();
        content.filter(|content| hex::encode(Sha256::digest(content)) == sha256)
    }

    fn store_sidecar_now(&self, kept: KeptSidecar, content: &[u8]) -> Result<(), SpoolError> {
        let file_name = kept.file_name();
        let unfinished = self.path().join(format!("{file_name}.unfinished"));
        self.write_file(content, &unfinished, &self.path().join(file_name)).inspect_err(|_| {
            // Frees the space of the partial file.
            let _ = fs::remove_file(&unfinished);
        })
    }

    fn read_sidecar_now(&self, kept: KeptSidecar, bytes: u64) -> Option<Vec<u8>> {
        let path = self.path().join(kept.file_name());
        let has_length = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes);
        has_length.then(|| fs::read(path).ok()).flatten()
    }
}
