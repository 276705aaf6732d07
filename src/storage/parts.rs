//! Fills an upload with its parts: from memory as they are sealed, or from the spool.
//!
//! From memory, the pipeline's permits bound how many are in flight, and a slow S3 stops the pipeline. From the spool,
//! the pipeline never waits for S3: parts are read when their turn comes, and as many are in flight as memory allows.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::pipeline::{PartPlan, Progress, SealedPart};
use crate::spool::{Begun, Spool, SpoolError, SpooledPart};

use super::StorageError;
use super::requests::{Bucket, PartBody, TakenPart};
use super::retry::Outage;
use super::upload::Upload;

/// Where the parts of an upload are kept until its object is committed.
#[derive(Clone, Debug)]
pub enum PartStore {
    /// Nowhere but in memory, until S3 has taken them.
    Memory,
    /// On disk.
    Spool(Arc<Spool>),
}

/// A part on its way to S3.
pub enum Outgoing {
    /// In memory, with its place among the parts in flight.
    Sealed(SealedPart),
    /// On disk.
    Spooled(SpooledPart),
}

impl PartStore {
    /// Whether the parts outlive this process, and the upload should, too.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Spool(spool) if spool.is_whole())
    }

    /// Notes the upload. What cannot be noted costs the chance to resume, not the backup.
    pub(super) async fn begun(&self, begun: Begun) {
        if let Self::Spool(spool) = self
            && let Err(error) = spool.begun(begun).await
        {
            tracing::debug!(error = %crate::error::Chain(&error), "the upload is not noted in the spool");
        }
    }
}

impl From<SpooledPart> for Outgoing {
    fn from(part: SpooledPart) -> Self {
        Self::Spooled(part)
    }
}

impl From<SealedPart> for Outgoing {
    fn from(part: SealedPart) -> Self {
        Self::Sealed(part)
    }
}

impl Upload {
    /// Sends parts as they come, until there are no more.
    ///
    /// # Errors
    /// Where S3 refuses one, or takes none within the outage budget. Then the others are given up.
    pub async fn send_parts<Part: Into<Outgoing>>(
        &mut self,
        mut parts: mpsc::UnboundedReceiver<Part>,
        plan: &PartPlan,
        progress: &Progress,
    ) -> Result<(), StorageError> {
        // Dropped with this call, and every part in flight with it.
        let mut in_flight = JoinSet::new();
        let mut places = Places::OfDisk;
        loop {
            tokio::select! {
                part = parts.recv() => match part {
                    Some(part) => {
                        let part = part.into();
                        let most = places.most_beside(&part, plan, &self.store);
                        while in_flight.len() > most {
                            if let Some(sent) = in_flight.join_next().await {
                                self.take_in(sent, progress)?;
                            }
                        }
                        places.take(&part, plan, &self.store);
                        in_flight.spawn(self.courier().send(part));
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

    /// A refusal of the parts with its likely cause, where they have grown: a store that wants them equal says so at the end
    /// alone, and not in these words.
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

    fn courier(&self) -> Courier {
        Courier {
            bucket: self.bucket.clone(),
            outage: Arc::clone(&self.outage),
            upload: (self.key.clone(), self.id.clone()),
            store: self.store.clone(),
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

/// Who may be in flight.
enum Places {
    /// Parts from disk, so far; or from memory, which bring their own permits.
    OfDisk,
    /// The spool was given up: parts come from memory, with the places of those from disk.
    OfMemory,
}

impl Places {
    /// How many may be in flight beside a part that comes next.
    fn most_beside(&self, part: &Outgoing, plan: &PartPlan, store: &PartStore) -> usize {
        match (part, store, self) {
            (Outgoing::Spooled(part), ..) => plan.in_flight_from_disk(part.number).saturating_sub(1) as usize,
            // The first one from memory: those from disk must have left its place.
            (Outgoing::Sealed(_), PartStore::Spool(_), Self::OfDisk) => 0,
            (Outgoing::Sealed(_), ..) => usize::MAX,
        }
    }

    /// Notes a part. At the first one from memory, the pipeline gets the places that those from disk had.
    fn take(&mut self, part: &Outgoing, plan: &PartPlan, store: &PartStore) {
        if let (Outgoing::Sealed(part), PartStore::Spool(_), Self::OfDisk) = (part, store, &self) {
            *self = Self::OfMemory;
            part.permit.semaphore().add_permits(plan.in_flight_from_disk(part.number) as usize);
        }
    }
}

type Sent = Result<(u32, TakenPart), StorageError>;

/// Takes one part to S3.
struct Courier {
    bucket: Bucket,
    outage: Arc<Outage>,
    upload: (String, String),
    store: PartStore,
}

impl Courier {
    async fn send(self, part: Outgoing) -> Sent {
        match part {
            Outgoing::Sealed(SealedPart { number, bytes, digest, permit }) => {
                let taken = self.put(PartBody { number, bytes, digest }).await?;
                drop(permit);
                Ok((number, taken))
            }
            Outgoing::Spooled(part) => self.send_spooled(part).await,
        }
    }

    async fn send_spooled(&self, part: SpooledPart) -> Sent {
        let PartStore::Spool(spool) = &self.store else { return Err(SpoolError::GivenUp.into()) };
        let (number, digest) = (part.number, part.digest.clone());
        let bytes = spool.read(part).await?;
        let taken = self.put(PartBody { number, bytes, digest }).await?;
        // Without this note the next run sends the part again: no more than time is lost.
        if let Err(error) = spool.taken(number, taken.etag.clone()).await {
            tracing::debug!(part = number, error = %crate::error::Chain(&error), "the part is not noted as taken");
        }
        Ok((number, taken))
    }

    async fn put(&self, part: PartBody) -> Result<TakenPart, StorageError> {
        let began = Instant::now();
        let (key, id) = &self.upload;
        let taken = self.outage.persist("upload a part", || self.bucket.upload_part(key, id, &part)).await?;
        let elapsed_ms = began.elapsed().as_millis();
        tracing::debug!(part = part.number, bytes = taken.bytes, elapsed_ms, "part uploaded");
        Ok(taken)
    }
}
