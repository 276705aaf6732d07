//! The middle of a backup with a spool: `pg_dump` into the pipeline onto the disk, and from there into the upload.
//!
//! Called by [`super::run`]. The dump never waits for S3: not for an upload to be begun, where S3 does not answer, nor
//! for a part to be taken. What S3 refuses meanwhile is told once the dump is complete, for then nothing is lost. On every
//! way out without a complete dump, `pg_dump` has been stopped, the upload aborted and the spool emptied when this returns.

use std::fs::File;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error_chain::Chain;
use crate::pipeline::{PartMemory, Pipeline, PipelineError, SealedPart};
use crate::postgres::{Dump, Session};
use crate::proof::VerifiedDump;
use crate::spool::Spool;
use crate::storage::{Aborted, Destination, Outage, Outgoing, Upload};

use super::limits::Limits;
use super::stream::Job;
use super::watch::Watch;
use super::{BackupError, DumpError};

/// An upload that is begun, or is being begun while S3 does not answer.
pub(super) enum Opening {
    Done(Box<Upload>),
    Going(JoinHandle<Result<Upload, BackupError>>),
}

/// Where a dump goes that is kept on disk.
pub(super) struct Spooled {
    pub destination: Destination,
    pub spool: Arc<Spool>,
    /// The key of the upload, where nothing stands there already.
    pub key: String,
    pub opening: Opening,
}

impl Spooled {
    /// The key of the upload, or the one that it is to have.
    pub fn key(&self) -> &str {
        match &self.opening {
            Opening::Done(upload) => upload.key(),
            Opening::Going(_) => &self.key,
        }
    }
}

impl Job<'_> {
    /// Dumps onto the disk and into the upload, and proves the dump. `describe` makes the manifest for the journal.
    pub async fn stream_spooled(
        &self,
        mut target: Spooled,
        session: &mut Session,
        describe: impl AsyncFnOnce(&VerifiedDump) -> serde_json::Value,
    ) -> Result<(Upload, VerifiedDump), BackupError> {
        let (mut dump, stdout) = match Dump::start(self.tools, self.postgres, self.source) {
            Ok(started) => started,
            Err(error) => {
                target.give_up(self.limits).await;
                return Err(error.into());
            }
        };
        let cancel = CancellationToken::new();
        let watch = Watch::new(self, session);
        target.destination.outage().suspend();
        let outcome = tokio::select! {
            outcome = self.flow_spooled(&mut dump, stdout, &mut target, (cancel.clone(), describe)) => outcome,
            reason = self.limits.reached() => Err(reason),
            reason = watch.run() => Err(reason.into()),
        };
        target.destination.outage().resume();
        match (outcome, target.opening) {
            (Ok(verified), Opening::Done(upload)) => Ok((*upload, verified)),
            (Ok(_), Opening::Going(_)) => Err(BackupError::Internal(anyhow::anyhow!("sent without an upload"))),
            (Err(cause), opening) => {
                cancel.cancel();
                let target = Spooled { opening, ..target };
                let (cause, ()) = tokio::join!(watch.conclude(dump, cause), target.give_up(self.limits));
                Err(cause)
            }
        }
    }

    async fn flow_spooled(
        &self,
        dump: &mut Dump,
        stdout: File,
        target: &mut Spooled,
        (cancel, describe): (CancellationToken, impl AsyncFnOnce(&VerifiedDump) -> serde_json::Value),
    ) -> Result<VerifiedDump, BackupError> {
        let Spooled { destination, spool, opening, .. } = target;
        let outage = destination.outage();
        let memory = PartMemory::new(&self.plan);
        let Pipeline { parts, scan, gate, totals } = self.start(stdout, memory.clone(), cancel)?;
        let (queue, waiting) = mpsc::unbounded_channel();
        let made = async {
            let stored = store(spool, parts, queue, outage);
            let (verified, ()) = tokio::try_join!(self.judge(dump, scan, gate, totals), stored)?;
            let manifest = describe(&verified).await;
            prove(spool, &verified, manifest).await;
            outage.resume();
            Ok(verified)
        };
        let sent = async {
            let upload = opening.wait().await?;
            Ok::<_, BackupError>(upload.send_parts(waiting, &memory, self.progress).await?)
        };
        tokio::pin!(made, sent);
        let (verified, sent) = tokio::select! {
            verified = &mut made => (Ok(verified?), sent.await),
            sent = &mut sent => (made.await, sent),
        };
        match (verified, sent) {
            // The parts had nowhere to go any more: the upload knows why.
            (Err(BackupError::Dump(DumpError::Pipeline(PipelineError::GivenUp))) | Ok(_), Err(cause)) => Err(cause),
            (verified, _) => verified,
        }
    }
}

impl Opening {
    /// Waits until the upload is begun.
    async fn wait(&mut self) -> Result<&mut Upload, BackupError> {
        if let Self::Going(begun) = self {
            let upload = begun.await.map_err(|error| BackupError::Internal(error.into()))??;
            *self = Self::Done(Box::new(upload));
        }
        match self {
            Self::Done(upload) => Ok(upload),
            Self::Going(_) => {
                Err(BackupError::Internal(anyhow::anyhow!("an upload that is begun is still being begun")))
            }
        }
    }
}

impl Spooled {
    /// Ends the run without a commit: a complete dump is kept for the next run, anything else goes.
    pub async fn give_up(self, limits: &Limits) {
        if let Opening::Going(begun) = &self.opening {
            begun.abort();
        }
        if self.spool.is_complete() {
            return keep(&self.spool);
        }
        let upload = match self.opening {
            Opening::Done(upload) => Some(*upload),
            // S3 may have begun it all the same, without parts: its id is not known.
            Opening::Going(begun) => begun.await.ok().and_then(Result::ok),
        };
        let aborted = match upload {
            Some(upload) => upload.abort().await,
            None => Aborted::AsFarAsPossible,
        };
        discard(&self.spool, aborted, limits).await;
    }
}

/// Says once that nothing is lost.
pub(super) fn keep(spool: &Spool) {
    tracing::warn!(
        spool = %spool.path().display(),
        "the dump is complete and kept in the spool: the next backup to this destination delivers it"
    );
}

/// Empties a run's spool. Of an upload that could not be aborted yet, the journal stays for the next run to try.
pub(super) async fn discard(spool: &Arc<Spool>, aborted: Aborted, limits: &Limits) {
    match aborted {
        Aborted::AsFarAsPossible => limits.to_the_end(spool.delete()).await,
        Aborted::NotYet => limits.to_the_end(spool.delete_parts()).await,
    }
}

/// Puts parts on disk as they are sealed. Once the disk takes no more they go on from memory, as without a spool.
async fn store(
    spool: &Arc<Spool>,
    mut parts: mpsc::UnboundedReceiver<SealedPart>,
    queue: mpsc::UnboundedSender<Outgoing>,
    outage: &Outage,
) -> Result<(), BackupError> {
    while let Some(part) = parts.recv().await {
        if let Ok(stored) = spool.store(&part).await {
            // Where nobody takes it any more it is still on disk: the next run can send it.
            let _ = queue.send(Outgoing::Spooled(stored));
        } else {
            outage.resume();
            let given_up = |_| DumpError::Pipeline(PipelineError::GivenUp);
            queue.send(Outgoing::Sealed(part)).map_err(given_up)?;
        }
    }
    Ok(())
}

/// Notes the proof. Where the spool was given up, or is now, the backup cannot be resumed, and goes on.
async fn prove(spool: &Arc<Spool>, verified: &VerifiedDump, manifest: serde_json::Value) {
    match spool.prove(verified, manifest).await {
        Ok(()) => {
            let bytes = verified.totals().object_bytes;
            tracing::info!(bytes, "the dump is complete and on disk: S3 may take its time");
        }
        Err(error) => tracing::debug!(error = %Chain(&error), "the proof is not kept"),
    }
}
