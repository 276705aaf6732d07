//! One multipart upload: begun, or taken up again, and either committed or aborted. `parts` fills it.
//!
//! `backup` owns it. It can only be completed through [`Upload::commit`](super::commit), which takes a proof.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::pipeline::PartChecksum;
use crate::spool::{Begun, Journal};

use super::failure::FailureKind;
use super::parts::PartStore;
use super::requests::{Bucket, TakenPart};
use super::retry::Outage;
use super::{Failure, StorageError};

/// What giving up may take in all (SPEC §6: SIGTERM to exit in 10 s; `pg_dump` is stopped at the same time).
pub(super) const ABORT_DEADLINE: Duration = Duration::from_secs(7);
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
    pub(super) store: PartStore,
}

/// What an upload is begun with.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The object's key.
    pub key: String,
    /// The run's id, for the object's metadata.
    pub run_id: String,
    /// The dump leaves a part of its database out, which the object's metadata says, too: its manifest may get lost.
    pub is_partial: bool,
    /// What its parts carry.
    pub checksum: PartChecksum,
    /// Where its parts are kept.
    pub store: PartStore,
}

impl Upload {
    pub(super) async fn begin(bucket: Bucket, outage: Arc<Outage>, with: Beginning) -> Result<Self, StorageError> {
        let ambiguous = AtomicBool::new(false);
        let created = outage
            .persist(CREATE, || async {
                let result = bucket.create_upload(&with).await;
                if result.as_ref().is_err_and(Failure::is_ambiguous) {
                    ambiguous.store(true, Ordering::Relaxed);
                }
                result
            })
            .await;
        let has_twins = ambiguous.into_inner();
        let Beginning { key, run_id, store, .. } = with;
        match created {
            Ok(id) => {
                store.begun(Begun { key: key.clone(), upload_id: id.clone(), has_twins }).await;
                Ok(Self { bucket, outage, key, id, run_id, parts: BTreeMap::new(), has_twins, store })
            }
            Err(error) => {
                if has_twins {
                    let _ = timeout(ABORT_DEADLINE, abort_twins(&bucket, &key, None)).await;
                }
                Err(error.at_first_request())
            }
        }
    }

    /// The upload that an earlier run began, with the parts that S3 has taken of it.
    pub(super) fn taken_up(bucket: Bucket, outage: Arc<Outage>, journal: &Journal, store: PartStore) -> Option<Self> {
        let Begun { key, upload_id: id, has_twins } = journal.begun.clone()?;
        let taken = |(number, etag): (&u32, &String)| {
            let part = journal.parts.get(number)?;
            Some((*number, TakenPart { etag: etag.clone(), digest: part.digest.clone(), bytes: part.bytes }))
        };
        let parts = journal.taken.iter().filter_map(taken).collect();
        let run_id = journal.start.run_id.clone();
        Some(Self { bucket, outage, key, id, run_id, parts, has_twins, store })
    }

    /// The same, begun by a run before which another may have begun one, unnoted.
    #[must_use]
    pub fn with_twins(self) -> Self {
        Self { has_twins: true, ..self }
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

    /// Whether S3 has taken this part.
    #[must_use]
    pub fn has(&self, part: u32) -> bool {
        self.parts.contains_key(&part)
    }

    /// As [`Self::abort`], within this time at most, unless the spool has all of it for the next run.
    pub async fn abort_unless_kept(self, limit: Duration) {
        if !self.store.is_whole() {
            self.abort_within(limit.min(ABORT_DEADLINE)).await;
        }
    }

    /// Gives the upload up, within a deadline of its own. What cannot be removed is logged, never returned: the
    /// cause of giving up must not be hidden by it. Whether another try could remove more is what comes back.
    pub async fn abort(self) -> Aborted {
        self.abort_within(ABORT_DEADLINE).await
    }

    async fn abort_within(self, limit: Duration) -> Aborted {
        let began = Instant::now();
        let mut last = None;
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
                    Err(failure) if !failure.may_pass() => return Err(failure),
                    Err(failure) if began.elapsed() > limit / 2 => return Err(failure),
                    Err(failure) => {
                        last = Some(failure);
                        tokio::time::sleep(Duration::from_millis(300)).await;
                    }
                }
            }
        };
        let left = "an open upload is left behind: abort it, or set a lifecycle rule that does";
        let aborted = match timeout(limit, aborting).await {
            Ok(Ok(())) => {
                tracing::debug!(key = self.key, "upload aborted");
                Aborted::AsFarAsPossible
            }
            Ok(Err(error)) => {
                tracing::warn!(key = self.key, upload_id = self.id, %error, "{left}");
                if error.may_pass() { Aborted::NotYet } else { Aborted::AsFarAsPossible }
            }
            Err(_) => {
                let before = last.map(|failure| format!("; before: {failure}")).unwrap_or_default();
                tracing::warn!(key = self.key, upload_id = self.id, error = %format!("no answer in time{before}"), "{left}");
                Aborted::NotYet
            }
        };
        if self.has_twins {
            let _ = timeout(limit.saturating_sub(began.elapsed()), abort_twins(&self.bucket, &self.key, None)).await;
        }
        aborted
    }
}

/// What came of giving an upload up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aborted {
    /// It is gone, or S3 refuses to remove it.
    AsFarAsPossible,
    /// S3 did not answer: another try may help.
    NotYet,
}

/// Aborts uploads of this very key but one: an attempt to begin whose answer was lost left them. The key carries the
/// second of this run's start, and the destination is locked, so they are this run's own.
pub(super) async fn abort_twins(bucket: &Bucket, key: &str, keep: Option<&str>) -> Aborted {
    let mut aborted = Aborted::AsFarAsPossible;
    let mut left_behind = |failure: &Failure| {
        if failure.may_pass() {
            aborted = Aborted::NotYet;
        }
    };
    let twins = bucket.open_uploads(key).await.unwrap_or_else(|error| {
        left_behind(&error);
        tracing::warn!(key, %error, "cannot look for uploads left behind by a lost answer");
        Vec::new()
    });
    for twin in twins.iter().filter(|upload| upload.key == key && Some(upload.id.as_str()) != keep) {
        match bucket.abort(key, &twin.id).await {
            Ok(()) => tracing::debug!(key, upload_id = twin.id, "aborted an upload whose beginning was not answered"),
            Err(error) => {
                left_behind(&error);
                tracing::warn!(key, upload_id = twin.id, %error, "an open upload is left behind");
            }
        }
    }
    aborted
}
