//! The upload that a dump goes into: started before the dump, completed after it, aborted if the dump fails.
//!
//! Called by [`super::run`]. Starting the upload is the write test: what S3 refuses here ends the run before `pg_dump` starts.
//! With a spool, a run does not wait for an unavailable S3: the upload is started while the dump is written to disk.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tracing::Instrument as _;

use crate::archive::name::BackupName;
use crate::error_chain::Chain;
use crate::pipeline::PartPlan;
use crate::spool::{Spool, SpoolDir, SpoolError, Start};
use crate::storage::{Aborted, Committed, Destination, NewUpload, Upload};
use crate::verified_dump::VerifiedDump;

use super::BackupError;
use super::free_name::begin_under_free_name;
use super::limits::{COMMIT_GRACE, Limits};
use super::settings::BackupSettings;
use super::shared::Shared;

/// The destination of one dump.
pub(super) struct Target {
    pub destination: Destination,
    /// The run's files on disk; `None` if parts are kept in memory alone.
    pub spool: Option<Arc<Spool>>,
    pub upload: UploadState,
    /// The key under the start time's own name.
    first_key: String,
}

/// An upload, or the task that starts it.
pub(super) enum UploadState {
    Started(Box<Upload>),
    Starting(JoinHandle<Result<Upload, BackupError>>),
    Failed,
}

/// What one run's upload is started with.
pub(super) struct UploadPlan<'a> {
    pub destination: &'a Destination,
    pub run_id: &'a str,
    /// The name of the start time.
    pub name: BackupName,
    pub plan: &'a PartPlan,
    /// The dump leaves a part of its database out.
    pub is_partial: bool,
    pub shared: &'a Shared,
}

impl UploadPlan<'_> {
    /// Starts the upload under the first free name; with a spool, creates the run's files first.
    pub async fn begin(
        &self,
        settings: &BackupSettings,
        limits: &Limits,
        spool_dir: Option<&SpoolDir>,
    ) -> Result<Target, BackupError> {
        let spool = match spool_dir {
            Some(spool_dir) => self.spool(settings, limits, spool_dir).await?,
            None => None,
        };
        let Some(spool) = spool else {
            let request = self.request();
            let upload = begin_under_free_name(self.destination, self.name, (&request, None), Some(limits)).await?;
            return Ok(self.target(None, UploadState::Started(Box::new(upload))));
        };
        let upload = self.begin_spooled(limits, &spool).await?;
        Ok(self.target(Some(spool), upload))
    }

    fn target(&self, spool: Option<Arc<Spool>>, upload: UploadState) -> Target {
        let first_key = self.destination.key(&self.name.to_string());
        Target { destination: self.destination.clone(), spool, upload, first_key }
    }

    /// Creates the run's files; if the disk fails, the run continues without them.
    async fn spool(
        &self,
        settings: &BackupSettings,
        limits: &Limits,
        spool_dir: &SpoolDir,
    ) -> Result<Option<Arc<Spool>>, BackupError> {
        let location = self.destination.url();
        let (identity, checksum) = (settings.s3.identity(), self.destination.checksum());
        let start = Start::new(identity, location, self.run_id, self.name.to_string(), checksum);
        let made = limits.within(async { Ok(spool_dir.create(start).await) }).await?;
        Ok(made.inspect_err(warn_of_no_spool).ok())
    }

    /// Waits for the upload until the first attempt fails; then a task retries while the dump runs.
    async fn begin_spooled(&self, limits: &Limits, spool: &Arc<Spool>) -> Result<UploadState, BackupError> {
        let request = self.request();
        let outage = self.destination.outage();
        // One attempt may take longer than the outage budget: that must not end a run that can dump meanwhile.
        outage.suspend();
        let next_failure = outage.next_failure();
        let (destination, name, files) = (self.destination.clone(), self.name, Arc::clone(spool));
        let starting = async move { begin_under_free_name(&destination, name, (&request, Some(&files)), None).await };
        let mut task = tokio::spawn(starting.in_current_span());
        tokio::select! {
            joined = &mut task => match flattened(joined) {
                Ok(upload) => Ok(UploadState::Started(Box::new(upload))),
                Err(error) => {
                    outage.resume();
                    limits.to_the_end(spool.delete()).await;
                    Err(error)
                }
            },
            () = next_failure => {
                tracing::warn!("S3 does not answer: the dump goes to the spool meanwhile");
                Ok(UploadState::Starting(task))
            }
            reason = limits.reached() => {
                self.target(Some(Arc::clone(spool)), UploadState::Starting(task)).abort(limits).await;
                Err(reason)
            }
        }
    }

    fn request(&self) -> NewUpload {
        let key = self.destination.key(&self.name.to_string());
        let (run_id, checksum) = (self.run_id.to_owned(), self.destination.checksum());
        NewUpload { key, run_id, is_partial: self.is_partial, checksum, content_type: self.name.content_type() }
    }
}

impl Target {
    /// The object's key; before the upload has started, the one that it asks for first.
    pub fn key(&self) -> &str {
        match &self.upload {
            UploadState::Started(upload) => upload.key(),
            UploadState::Starting(_) | UploadState::Failed => &self.first_key,
        }
    }

    /// Ends the run without a commit: a complete dump stays for the next run; else the upload and the files are removed.
    pub async fn abort(self, limits: &Limits) {
        if let UploadState::Starting(task) = &self.upload {
            task.abort();
        }
        if let Some(spool) = self.spool.as_ref().filter(|spool| spool.is_complete()) {
            return report_kept(spool);
        }
        let upload = match self.upload {
            UploadState::Started(upload) => Some(*upload),
            // S3 may have started it all the same; its id is not known, and it has no parts.
            UploadState::Starting(task) => task.await.ok().and_then(Result::ok),
            UploadState::Failed => None,
        };
        let aborted = match upload {
            Some(upload) => upload.abort().await,
            None => Aborted::AsFarAsPossible,
        };
        if let Some(spool) = &self.spool {
            discard(spool, aborted, limits).await;
        }
    }
}

impl UploadState {
    /// Waits until the upload has started.
    pub async fn started(&mut self) -> Result<&mut Upload, BackupError> {
        if let Self::Starting(task) = self {
            let joined = task.await;
            // A task gives its result once.
            *self = Self::Failed;
            *self = Self::Started(Box::new(flattened(joined)?));
        }
        match self {
            Self::Started(upload) => Ok(upload),
            Self::Starting(_) | Self::Failed => Err(BackupError::Internal(anyhow::anyhow!("the upload did not start"))),
        }
    }
}

fn flattened(joined: Result<Result<Upload, BackupError>, tokio::task::JoinError>) -> Result<Upload, BackupError> {
    joined.unwrap_or_else(|error| Err(BackupError::Internal(error.into())))
}

/// Commits an upload. Once a limit is reached, the commit may go on for [`COMMIT_GRACE`]; then the upload is aborted.
pub(super) async fn commit(limits: &Limits, upload: Upload, verified: VerifiedDump) -> Result<Committed, BackupError> {
    tracing::debug!(bytes = verified.totals().object_bytes, "the dump is complete: committing");
    let same_upload = upload.clone();
    let committed = limits.within_grace(COMMIT_GRACE, async { Ok(upload.commit(verified).await?) }).await;
    if matches!(committed, Err(BackupError::Interrupted(_) | BackupError::TooLong { .. })) {
        same_upload.abort_unless_kept(limits.time_left().await).await;
    }
    committed
}

/// Deletes a run's files. The journal stays while its upload could not be aborted, so that the next run tries again.
pub(super) async fn discard(spool: &Arc<Spool>, aborted: Aborted, limits: &Limits) {
    match aborted {
        Aborted::AsFarAsPossible => limits.to_the_end(spool.delete()).await,
        Aborted::NotYet => limits.to_the_end(spool.delete_parts()).await,
    }
}

/// Logs that a run failed, but not its dump.
pub(super) fn report_kept(spool: &Spool) {
    tracing::warn!(
        spool = %spool.path().display(),
        "the dump is complete and kept in the spool: the next backup to this destination delivers it"
    );
}

/// Logs that the disk takes no spool, which is no reason to have no backup.
pub(super) fn warn_of_no_spool(error: &SpoolError) {
    tracing::warn!(error = %Chain(error), "the backup continues without the spool, and cannot be resumed if it is stopped");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::{HangUp, Interrupts};
    use crate::storage::{S3Settings, StorageError};

    #[tokio::test]
    async fn upload_that_could_not_start_is_aborted_once() {
        let destination = Destination::open(&S3Settings::of_test_server("http://localhost")).await.expect("a client");
        let refused = async { Err(StorageError::NoFreeName { key: "k".to_owned(), tried: 1 }.into()) };
        let upload = UploadState::Starting(tokio::spawn(refused));
        let mut target = Target { destination, spool: None, upload, first_key: "k".to_owned() };
        assert!(matches!(target.upload.started().await, Err(BackupError::Storage(StorageError::NoFreeName { .. }))));
        assert_eq!(target.key(), "k");
        target.abort(&Limits::new(Interrupts::listen(HangUp::Unhandled).expect("handlers"), None)).await;
    }
}
