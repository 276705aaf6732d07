//! Where an upload's parts are kept until its object is committed: in memory, or in the spool.

use std::sync::Arc;

use crate::error_chain::Chain;
use crate::spool::{Spool, StartedUpload};

/// The place of an upload's parts.
#[derive(Clone, Debug)]
pub enum PartStore {
    /// Nowhere but in memory, until S3 has taken them.
    Memory,
    /// On disk.
    Spool(Arc<Spool>),
}

impl PartStore {
    /// Whether the parts outlive this process, so that the upload must, too.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Spool(spool) if spool.is_complete())
    }

    /// Records the upload. Where that fails the backup goes on and cannot be resumed.
    pub(super) async fn started(&self, upload: StartedUpload) {
        if let Self::Spool(spool) = self
            && let Err(error) = spool.started(upload).await
        {
            tracing::debug!(error = %Chain(&error), "the upload is not noted in the spool");
        }
    }
}
