//! One multipart upload: begun, filled with parts, and either committed or aborted.
//!
//! `backup::stream` owns it. It can only be completed through [`Upload::commit`](super::commit), which takes a proof.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::pipeline::{PartChecksum, Progress, SealedPart};

use super::StorageError;
use super::failure::FailureKind;
use super::requests::{Bucket, TakenPart};
use super::retry::Outage;

/// What giving up may take in all (SPEC §6: SIGTERM to exit in 10 s; `pg_dump` is stopped at the same time).
pub(super) const ABORT_DEADLINE: Duration = Duration::from_secs(8);
const CREATE: &str = "begin the upload";

/// A multipart upload that is open.
#[derive(Clone, Debug)]
pub struct Upload {
    pub(super) bucket: Bucket,
    pub(super) outage: Arc<Outage>,
    pub(super) key: String,
    pub(super) id: String,
    pub(super) run_id: String,
    pub(super) parts: BTreeMap<u32, TakenPart>,
    /// Another attempt to begin may have left an upload of the same key behind.
    pub(super) has_twins: bool,
}

impl Upload {
    pub(super) async fn begin(
        bucket: Bucket,
        outage: Arc<Outage>,
        key: &str,
        run_id: &str,
        checksum: PartChecksum,
    ) -> Result<Self, StorageError> {
        let ambiguous = AtomicBool::new(false);
        let created = outage
            .persist(CREATE, || async {
                let result = bucket.create_upload(key, run_id, checksum).await;
                if result.as_ref().is_err_and(super::Failure::is_ambiguous) {
                    ambiguous.store(true, Ordering::Relaxed);
                }
                result
            })
            .await;
        let has_twins = ambiguous.into_inner();
        let (key, run_id) = (key.to_owned(), run_id.to_owned());
        match created {
            Ok(id) => Ok(Self { bucket, outage, key, id, run_id, parts: BTreeMap::new(), has_twins }),
            Err(error) => {
                if has_twins {
                    let _ = timeout(ABORT_DEADLINE, abort_twins(&bucket, &key, None)).await;
                }
                Err(error.at_first_request())
            }
        }
    }

    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The run's id, as the object's metadata will have it.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Sends parts as they come, until there are no more.
    ///
    /// # Errors
    /// Where S3 refuses one, or takes none within the outage budget. Then the others are given up.
    pub async fn send_parts(
        &mut self,
        mut parts: mpsc::UnboundedReceiver<SealedPart>,
        progress: &Progress,
    ) -> Result<(), StorageError> {
        // Dropped with this call, and every part in flight with it.
        let mut in_flight = JoinSet::new();
        loop {
            tokio::select! {
                part = parts.recv() => match part {
                    Some(part) => {
                        let (bucket, outage) = (self.bucket.clone(), Arc::clone(&self.outage));
                        let (key, id) = (self.key.clone(), self.id.clone());
                        in_flight.spawn(async move { send(&bucket, &outage, (&key, &id), part).await });
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

    /// Gives the upload up, within a deadline of its own. What cannot be removed is logged, never returned: the
    /// cause of giving up must not be hidden by it.
    pub async fn abort(self) {
        let began = Instant::now();
        let aborting = async {
            let mut renewed = false;
            loop {
                match self.bucket.abort(&self.key, &self.id).await {
                    Ok(()) => return Ok(()),
                    Err(failure)
                        if failure.kind == FailureKind::Expired && !renewed && self.outage.renew(began).await =>
                    {
                        renewed = true;
                    }
                    Err(failure) if failure.kind != FailureKind::Passing => return Err(failure),
                    Err(failure) if began.elapsed() > ABORT_DEADLINE / 2 => return Err(failure),
                    Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
                }
            }
        };
        let left = "an open upload is left behind: abort it, or set a lifecycle rule that does";
        match timeout(ABORT_DEADLINE, aborting).await {
            Ok(Ok(())) => tracing::debug!(key = self.key, "upload aborted"),
            Ok(Err(error)) => tracing::warn!(key = self.key, upload_id = self.id, %error, "{left}"),
            Err(_) => tracing::warn!(key = self.key, upload_id = self.id, error = "no answer in time", "{left}"),
        }
        if self.has_twins {
            let _ = timeout(ABORT_DEADLINE.saturating_sub(began.elapsed()), abort_twins(&self.bucket, &self.key, None))
                .await;
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

type Sent = Result<(u32, TakenPart), StorageError>;

async fn send(bucket: &Bucket, outage: &Outage, (key, id): (&str, &str), part: SealedPart) -> Sent {
    let began = Instant::now();
    let taken = outage.persist("upload a part", || bucket.upload_part(key, id, &part)).await?;
    let elapsed_ms = began.elapsed().as_millis();
    tracing::debug!(part = part.number, bytes = taken.bytes, elapsed_ms, "part uploaded");
    Ok((part.number, taken))
}

/// Aborts uploads of this very key but one: an attempt to begin whose answer was lost left them. The key carries the
/// second of this run's start, and the destination is locked, so they are this run's own.
pub(super) async fn abort_twins(bucket: &Bucket, key: &str, keep: Option<&str>) {
    let twins = match bucket.open_uploads(key).await {
        Ok(uploads) => uploads,
        Err(error) => {
            tracing::warn!(key, %error, "cannot look for uploads left behind by a lost answer");
            return;
        }
    };
    for twin in twins.iter().filter(|upload| upload.key == key && Some(upload.id.as_str()) != keep) {
        match bucket.abort(key, &twin.id).await {
            Ok(()) => tracing::debug!(key, upload_id = twin.id, "aborted an upload whose beginning was not answered"),
            Err(error) => tracing::warn!(key, upload_id = twin.id, %error, "an open upload is left behind"),
        }
    }
}
