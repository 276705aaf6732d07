//! Sends an upload's parts: from memory as they are sealed, or from the spool.
//!
//! From memory, the memory budget bounds the number in flight, and a slow S3 stops the pipeline. From the spool, the
//! pipeline never waits for S3: parts are read from disk in their turn, and leave memory for those that are being made.
//! The uploads of a run share the memory and the lanes.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::pipeline::{PartMemory, PartPlan, Progress, SealedPart};
use crate::spool::{QueuedPart, Spool, SpoolError, SpooledPart};

use super::StorageError;
use super::lanes::Lanes;
use super::requests::{Bucket, PartBody, UploadedPart};
use super::retry::Outage;
use super::upload::Upload;

impl Upload {
    /// Sends parts as they come, until the channel closes.
    ///
    /// # Errors
    /// If S3 refuses a part, or accepts none within the outage budget. The others are cancelled.
    pub async fn send_parts(
        &mut self,
        mut parts: mpsc::UnboundedReceiver<QueuedPart>,
        (memory, lanes): (&PartMemory, &Lanes),
        progress: &Progress,
    ) -> Result<(), StorageError> {
        // Dropping it cancels every part in flight.
        let mut in_flight = JoinSet::new();
        loop {
            tokio::select! {
                part = parts.recv() => match part {
                    Some(part) => {
                        let most = most_at_once(&part, memory.plan());
                        while in_flight.len() >= most {
                            if let Some(sent) = in_flight.join_next().await {
                                self.take_in(sent, progress)?;
                            }
                        }
                        in_flight.spawn(self.uploader(memory, lanes).send(part).in_current_span());
                    }
                    None => break,
                },
                Some(sent) = in_flight.join_next() => self.take_in(sent, progress)?,
            }
        }
        while let Some(sent) = in_flight.join_next().await {
            self.take_in(sent, progress)?;
        }
        Ok(())
    }

    /// Adds the likely cause to a refusal of parts that have grown: a store that wants equal parts says so only at the
    /// end, and not in these words.
    pub(super) fn because_of_sizes(&self, error: StorageError) -> StorageError {
        let mut sizes = self.parts.values().map(|part| part.bytes);
        let first = sizes.next().unwrap_or_default();
        let has_grown = sizes.any(|size| size > first);
        match error {
            StorageError::Refused { failure, .. }
                if has_grown && matches!(failure.code.as_str(), "InvalidPart" | "EntityTooSmall") =>
            {
                StorageError::UnequalParts { key: self.key.clone(), last: failure }
            }
            other => other,
        }
    }

    fn uploader(&self, memory: &PartMemory, lanes: &Lanes) -> PartUploader {
        PartUploader {
            bucket: self.bucket.clone(),
            outage: Arc::clone(&self.outage),
            upload: (self.key.clone(), self.id.clone()),
            spool: self.spool.clone(),
            memory: memory.clone(),
            lanes: lanes.clone(),
        }
    }

    fn take_in(&mut self, sent: Result<Sent, tokio::task::JoinError>, progress: &Progress) -> Result<(), StorageError> {
        let (number, part) = sent.map_err(|error| StorageError::Inconsistent {
            key: self.key.clone(),
            what: format!("an upload task ended: {error}"),
        })??;
        progress.add_uploaded(part.bytes);
        self.parts.insert(number, part);
        Ok(())
    }
}

/// How many parts may be in flight with this one. One on disk needs memory first; one in memory has it already.
fn most_at_once(part: &QueuedPart, plan: &PartPlan) -> usize {
    match part {
        QueuedPart::Spooled(part) => plan.in_flight_from_disk(part.number) as usize,
        QueuedPart::Sealed(_) => usize::MAX,
    }
}

type Sent = Result<(u32, UploadedPart), StorageError>;

/// Sends one part to S3.
struct PartUploader {
    bucket: Bucket,
    outage: Arc<Outage>,
    upload: (String, String),
    spool: Option<Arc<Spool>>,
    memory: PartMemory,
    lanes: Lanes,
}

impl PartUploader {
    async fn send(self, part: QueuedPart) -> Sent {
        match part {
            QueuedPart::Sealed(SealedPart { number, bytes, digest }) => {
                Ok((number, self.put(PartBody { number, bytes, digest }).await?))
            }
            QueuedPart::Spooled(part) => self.send_spooled(part).await,
        }
    }

    async fn send_spooled(&self, part: SpooledPart) -> Sent {
        let Some(spool) = &self.spool else { return Err(SpoolError::GivenUp.into()) };
        let (number, digest) = (part.number, part.digest.clone());
        let buffer = self.memory.take_to_read(part.bytes.min(self.memory.plan().size_of(number))).await;
        let bytes = spool.read(part, buffer).await?;
        let taken = self.put(PartBody { number, bytes, digest }).await?;
        // Without this record the next run sends the part again, which costs time only.
        if let Err(error) = spool.uploaded(number, taken.etag.clone()).await {
            tracing::debug!(part = number, error = %crate::error_chain::Chain(&error), "the spool has no record of the uploaded part");
        }
        Ok((number, taken))
    }

    async fn put(&self, part: PartBody) -> Result<UploadedPart, StorageError> {
        let began = Instant::now();
        let (key, id) = &self.upload;
        let attempt = || self.lanes.send(self.bucket.upload_part(key, id, &part));
        let taken = self.outage.retry_while_moving("upload a part", attempt).await?;
        let elapsed_ms = began.elapsed().as_millis();
        tracing::debug!(part = part.number, bytes = taken.bytes, elapsed_ms, "part uploaded");
        Ok(taken)
    }
}
