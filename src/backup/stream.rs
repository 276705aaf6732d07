//! Streams a dump: from `pg_dump` through the pipeline and the spool, if there is one, into the upload.
//!
//! Called by [`super::fill`]. With a spool the dump never waits for S3: parts go to disk first, and a refusal by S3 is
//! reported once the dump is complete and kept. On every way out but success, `pg_dump` has been stopped and the target
//! aborted when this returns, and the error is the first cause.

use std::fs::File;
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error_chain::Chain;
use crate::pipeline::{
    self, Collected, FinishGate, PartPlan, Pipeline, PipelineError, PipelineInput, Progress, Scanned, SealedPart,
};
use crate::postgres::{Conninfo, Dump, Session, Tools};
use crate::spool::{QueuedPart, Spool};
use crate::storage::{Outage, Upload};
use crate::verified_dump::{self, VerifiedDump};

use super::index::IndexOfRun;
use super::limits::Limits;
use super::settings::BackupSettings;
use super::shared::Shared;
use super::upload_target::Target;
use super::watch::Watch;
use super::{BackupError, DumpError};

/// What one dump is made with.
pub(super) struct Job<'a> {
    pub settings: &'a BackupSettings,
    pub shared: &'a Shared,
    pub source: &'a Conninfo,
    pub tools: &'a Tools,
    pub plan: PartPlan,
    pub checksum: pipeline::PartChecksum,
    pub progress: &'a Arc<Progress>,
    pub limits: &'a Limits,
    pub application_name: &'a str,
    /// `pg_dump`'s warnings, once it has ended.
    pub warnings: &'a OnceLock<Vec<String>>,
    /// The index, once the dump is complete.
    pub index: &'a IndexOfRun<'a>,
}

impl Job<'_> {
    /// Dumps into the target and verifies the dump. `describe` makes the manifest for the spool's journal.
    pub async fn stream(
        &self,
        mut target: Target,
        session: &mut Session,
        describe: impl AsyncFnOnce(&VerifiedDump) -> serde_json::Value,
    ) -> Result<(Upload, VerifiedDump), BackupError> {
        let (mut dump, stdout) = match Dump::start(self.tools, &self.settings.postgres, self.source) {
            Ok(started) => started,
            Err(error) => {
                target.abort(self.limits).await;
                return Err(error.into());
            }
        };
        let cancel = CancellationToken::new();
        // However this ends, so do the threads: other dumps need their memory.
        let _end = cancel.clone().drop_guard();
        let watch = Watch::new(session, self.application_name, self.settings, self.progress);
        let outcome = tokio::select! {
            outcome = self.flow(&mut dump, stdout, &mut target, (cancel.clone(), describe)) => outcome,
            reason = self.limits.reached() => Err(reason),
            reason = watch.gives_way() => Err(reason.into()),
            reason = watch.stalled() => Err(reason.into()),
        };
        target.destination.outage().resume();
        let outcome = match outcome {
            Ok(verified) => target.upload.started().await.map(|upload| (upload.clone(), verified)),
            Err(cause) => Err(cause),
        };
        match outcome {
            Ok(done) => Ok(done),
            Err(cause) => {
                cancel.cancel();
                let (cause, ()) = tokio::join!(watch.conclude(dump, cause), target.abort(self.limits));
                Err(cause)
            }
        }
    }

    async fn flow(
        &self,
        dump: &mut Dump,
        stdout: File,
        target: &mut Target,
        (cancel, describe): (CancellationToken, impl AsyncFnOnce(&VerifiedDump) -> serde_json::Value),
    ) -> Result<VerifiedDump, BackupError> {
        let Shared { workers, memory, lanes } = self.shared;
        let memory = memory.share(&self.plan);
        let input = PipelineInput {
            stdout,
            process: dump.process(),
            memory: memory.clone(),
            checksum: self.checksum,
            recipients: self.settings.recipients.clone(),
            progress: Arc::clone(self.progress),
            cancel,
        };
        let Pipeline { parts, scan, gate, collected } =
            pipeline::start(&self.settings.pipeline, workers, input).map_err(DumpError::Pipeline)?;
        let (queue, waiting) = mpsc::unbounded_channel();
        let (spool, outage) = (target.spool.clone(), target.destination.clone());
        let (spool, outage) = (spool.as_ref(), outage.outage());
        let made = async {
            let stored = store(spool, parts, queue, outage);
            let (verified, ()) = tokio::try_join!(self.judge(dump, scan, gate, collected), stored)?;
            if let Some(spool) = spool {
                let manifest = describe(&verified).await;
                record_verified(spool, &verified, manifest).await;
                outage.resume();
            }
            Ok(verified)
        };
        let upload = &mut target.upload;
        let sent = async { Ok(upload.started().await?.send_parts(waiting, (&memory, lanes), self.progress).await?) };
        tokio::pin!(made, sent);
        let (verified, sent) = tokio::select! {
            verified = &mut made => (Ok(verified?), sent.await),
            sent = &mut sent => match sent {
                Err(cause) if !keeps_dump(spool) => return Err(cause),
                sent => (made.await, sent),
            },
        };
        match (verified, sent) {
            // The pipeline was aborted because the upload had failed: report that cause.
            (Err(BackupError::Dump(DumpError::Pipeline(PipelineError::GivenUp))) | Ok(_), Err(cause)) => Err(cause),
            (verified, _) => verified,
        }
    }

    /// Waits for the dump's end, judges it, and lets the object be ended.
    async fn judge(
        &self,
        dump: &mut Dump,
        scan: oneshot::Receiver<Result<Scanned, PipelineError>>,
        gate: FinishGate,
        collected: oneshot::Receiver<Result<Collected, PipelineError>>,
    ) -> Result<VerifiedDump, BackupError> {
        let collected =
            async { collected.await.unwrap_or(Err(PipelineError::WorkerDied)).map_err(DumpError::Pipeline) };
        let Scanned { report, entries } = match scan.await.unwrap_or(Err(PipelineError::WorkerDied)) {
            Ok(scan) => scan,
            // A later stage stopped the reader, and knows why.
            Err(PipelineError::GivenUp) => {
                drop(gate);
                collected.await?;
                return Err(DumpError::Pipeline(PipelineError::GivenUp).into());
            }
            Err(error) => return Err(DumpError::Pipeline(error).into()),
        };
        let limit = self.settings.postgres.stall_timeout;
        let end = timeout(limit, dump.wait()).await.map_err(|_| DumpError::DoesNotEnd { limit })?;
        let end = end.map_err(DumpError::Wait)?;
        let ended = verified_dump::judge_end(&end, report).map_err(DumpError::IncompleteDump)?;
        // Set here alone.
        let _ = self.warnings.set(end.warnings);
        gate.open();
        let Collected { totals, stream } = collected.await?;
        self.index.complete(entries, stream);
        Ok(ended.became(totals).map_err(DumpError::IncompleteDump)?)
    }
}

/// Whether the spool keeps what is dumped, so that a dump is worth completing though S3 refuses it.
fn keeps_dump(spool: Option<&Arc<Spool>>) -> bool {
    spool.is_some_and(|spool| !spool.is_given_up())
}

/// Passes parts on as they are sealed: by the disk, or in memory if there is no spool or it failed.
async fn store(
    spool: Option<&Arc<Spool>>,
    mut parts: mpsc::UnboundedReceiver<SealedPart>,
    queue: mpsc::UnboundedSender<QueuedPart>,
    outage: &Outage,
) -> Result<(), BackupError> {
    while let Some(part) = parts.recv().await {
        let stored = match spool {
            Some(spool) => spool.store(&part).await.ok(),
            None => None,
        };
        if let Some(stored) = stored {
            // If the upload has ended, the part is still on disk: the next run can send it.
            let _ = queue.send(QueuedPart::Spooled(stored));
        } else {
            outage.resume();
            let given_up = |_| DumpError::Pipeline(PipelineError::GivenUp);
            queue.send(QueuedPart::Sealed(part)).map_err(given_up)?;
        }
    }
    Ok(())
}

/// Records in the journal that the dump is verified. If the disk fails, the backup continues and cannot be resumed.
async fn record_verified(spool: &Arc<Spool>, verified: &VerifiedDump, manifest: serde_json::Value) {
    match spool.record_verified(verified, manifest).await {
        Ok(()) => {
            let bytes = verified.totals().object_bytes;
            tracing::info!(bytes, "the dump is complete and on disk: S3 may take its time");
        }
        Err(error) => tracing::debug!(error = %Chain(&error), "the journal does not record that the dump is verified"),
    }
}
