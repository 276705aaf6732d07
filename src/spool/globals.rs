//! The globals of a dump in the spool: created during the dump, and sent after its object.
//!
//! Called by `backup::sidecars`. The journal does not name them; the manifest in it does, with their sha256.

use std::fs;
use std::sync::Arc;

use super::{Spool, SpoolError};

const GLOBALS: &str = "globals.sql.gz";

impl Spool {
    /// Stores the globals.
    ///
    /// # Errors
    /// If the disk fails. The spool stays usable: the dump matters more.
    pub async fn store_globals(self: &Arc<Self>, script: Vec<u8>) -> Result<(), SpoolError> {
        if self.is_given_up() {
            return Err(SpoolError::GivenUp);
        }
        let spool = Arc::clone(self);
        self.disk().call(script.len() as u64, move || spool.store_globals_now(&script)).await?
    }

    /// Reads the globals; `None` if they are missing, have another length, or cannot be read.
    pub async fn read_globals(self: &Arc<Self>, bytes: u64) -> Option<Vec<u8>> {
        let spool = Arc::clone(self);
        self.disk().call(bytes, move || spool.read_globals_now(bytes)).await.ok().flatten()
    }

    fn store_globals_now(&self, script: &[u8]) -> Result<(), SpoolError> {
        let unfinished = self.path().join(format!("{GLOBALS}.unfinished"));
        self.write_file(script, &unfinished, &self.path().join(GLOBALS)).inspect_err(|_| {
            // Frees the space of the partial file.
            let _ = fs::remove_file(&unfinished);
        })
    }

    fn read_globals_now(&self, bytes: u64) -> Option<Vec<u8>> {
        let path = self.path().join(GLOBALS);
        let has_length = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes);
        has_length.then(|| fs::read(path).ok()).flatten()
    }
}
