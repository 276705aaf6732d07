//! The middle of a backup: `pg_dump` into the pipeline into the upload, and the proof at its end.
//!
//! Called by [`super::run`]. On every way out but success, `pg_dump` has been stopped and the upload aborted when this
//! returns, each within its own deadline, and the error is the first cause.

use std::fs::File;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::pipeline::{
    self, FinishGate, PartMemory, PartPlan, PartSettings, Pipeline, PipelineError, PipelineInput, PipelineSettings,
    Progress, ScanReport, Totals,
};
use crate::postgres::{Conninfo, Dump, PostgresSettings, Session, Tools};
use crate::proof::{self, VerifiedDump};
use crate::storage::Upload;

use super::limits::Limits;
use super::watch::Watch;
use super::{BackupError, DumpError};

/// What one dump is made with.
pub(super) struct Job<'a> {
    pub postgres: &'a PostgresSettings,
    pub source: &'a Conninfo,
    pub tools: &'a Tools,
    pub settings: &'a PipelineSettings,
    pub plan: PartPlan,
    /// For parts that are sent again from disk.
    pub parts: &'a PartSettings,
    pub checksum: pipeline::PartChecksum,
    pub progress: &'a Arc<Progress>,
    pub limits: &'a Limits,
    pub application_name: &'a str,
    pub max_blocking: Option<Duration>,
    /// What `pg_dump` warned of, once it has ended.
    pub warnings: &'a OnceLock<Vec<String>>,
}

impl Job<'_> {
    /// Dumps into the upload and proves the dump.
    pub async fn stream(
        &self,
        mut upload: Upload,
        session: &mut Session,
    ) -> Result<(Upload, VerifiedDump), BackupError> {
        let (mut dump, stdout) = match Dump::start(self.tools, self.postgres, self.source) {
            Ok(started) => started,
            Err(error) => {
                upload.abort().await;
                return Err(error.into());
            }
        };
        let cancel = CancellationToken::new();
        let watch = Watch::new(self, session);
        let outcome = tokio::select! {
            outcome = self.flow(&mut dump, stdout, &mut upload, cancel.clone()) => outcome,
            reason = self.limits.reached() => Err(reason),
            reason = watch.run() => Err(reason.into()),
        };
        match outcome {
            Ok(verified) => Ok((upload, verified)),
            Err(cause) => {
                cancel.cancel();
                let (cause, _) = tokio::join!(watch.conclude(dump, cause), upload.abort());
                Err(cause)
            }
        }
    }

    async fn flow(
        &self,
        dump: &mut Dump,
        stdout: File,
        upload: &mut Upload,
        cancel: CancellationToken,
    ) -> Result<VerifiedDump, BackupError> {
        let memory = PartMemory::new(&self.plan);
        let Pipeline { parts, scan, gate, totals } = self.start(stdout, memory.clone(), cancel)?;
        let judged = self.judge(dump, scan, gate, totals);
        let sent = async { upload.send_parts(parts, &memory, self.progress).await.map_err(BackupError::from) };
        let (verified, ()) = tokio::try_join!(judged, sent)?;
        Ok(verified)
    }

    /// Starts the pipeline on `pg_dump`'s output.
    pub(super) fn start(
        &self,
        stdout: File,
        memory: PartMemory,
        cancel: CancellationToken,
    ) -> Result<Pipeline, BackupError> {
        let input =
            PipelineInput { stdout, memory, checksum: self.checksum, progress: Arc::clone(self.progress), cancel };
        Ok(pipeline::start(self.settings, input).map_err(DumpError::Pipeline)?)
    }

    /// Waits for the dump's end, judges it, and lets the object be ended.
    pub(super) async fn judge(
        &self,
        dump: &mut Dump,
        scan: oneshot::Receiver<Result<ScanReport, PipelineError>>,
        gate: FinishGate,
        totals: oneshot::Receiver<Result<Totals, PipelineError>>,
    ) -> Result<VerifiedDump, BackupError> {
        let totals = async { totals.await.unwrap_or(Err(PipelineError::WorkerDied)).map_err(DumpError::Pipeline) };
        let scan = match scan.await.unwrap_or(Err(PipelineError::WorkerDied)) {
            Ok(scan) => scan,
            // The reader was stopped by a stage after it, which knows why.
            Err(PipelineError::GivenUp) => {
                drop(gate);
                totals.await?;
                return Err(DumpError::Pipeline(PipelineError::GivenUp).into());
            }
            Err(error) => return Err(DumpError::Pipeline(error).into()),
        };
        let limit = self.postgres.stall_timeout;
        let end = timeout(limit, dump.wait()).await.map_err(|_| DumpError::DoesNotEnd { limit })?;
        let end = end.map_err(DumpError::Wait)?;
        let ended = proof::judge_end(&end, scan).map_err(DumpError::IncompleteDump)?;
        // Nobody else sets it.
        let _ = self.warnings.set(end.warnings);
        gate.open();
        Ok(ended.became(totals.await?).map_err(DumpError::IncompleteDump)?)
    }
}
