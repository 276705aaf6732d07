//! Completes an upload: one Complete at a time, each after HEAD.
//!
//! Called by `commit` alone. A Complete with a lost answer may have taken effect, or may do so minutes later, and a
//! second one would be refused. So HEAD comes before each, and after each without a clean answer. While a Complete may
//! still take effect, [`Upload::abort`] leaves the upload alone: a store may remove the parts of an object that it is
//! just making.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::types::{ChecksumType, CompletedMultipartUpload, CompletedPart};
use tokio::time::{Instant, sleep};

use crate::pipeline::PartDigest;
use crate::verified_dump::VerifiedDump;

use super::failure::{Failure, FailureKind};
use super::head::Head;
use super::requests::{Bucket, UploadedPart, crc64_text, without_sdk_retries};
use super::retry::LONGEST_PAUSE;
use super::upload::Upload;
use super::{Outage, StorageError};

pub(super) const COMMIT: &str = "commit the backup";
/// Pause before the second Complete, doubled before each further one, within the outage budget.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// How often an object is looked for after its upload is gone and the store has answered every Complete. What an
/// answered Complete made is visible within moments.
const LOOKS: u32 = 5;
/// Time for Complete per part, in addition to `S3_REQUEST_TIMEOUT`: ten minutes for 10,000 parts. The S3 API reference
/// says "several minutes"; meanwhile the store sends white space, which is no complete answer.
const COMPLETE_PER_PART: Duration = Duration::from_millis(60);
/// S3's code for a checksum that does not match.
const BAD_DIGEST: &str = "BadDigest";
/// Codes of a 400 that concern the parts, not the condition.
const ABOUT_PARTS: [&str; 6] =
    [BAD_DIGEST, "InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge", "MalformedXML"];

/// The result of Complete.
#[derive(Debug)]
pub(super) enum Completed {
    /// A clean success, and its description of the object.
    Answered(Head),
    /// HEAD found an object under the key.
    Found(Head),
}

/// The parameters of Complete.
#[derive(Clone, Debug)]
struct Completion<'a> {
    id: &'a str,
    parts: Vec<CompletedPart>,
    crc64: Option<u64>,
    /// Send `If-None-Match: *`.
    is_conditional: bool,
}

/// The possible effect of the Completes that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sent {
    /// None: no Complete was sent, or the store refused all.
    Nothing,
    /// The store answered one, neither with a success nor with a refusal.
    Answered,
    /// One was not answered by the store, which may work on it for minutes.
    Unanswered,
}

/// The state of one upload's Complete.
struct Completing<'a> {
    upload: &'a Upload,
    completion: Completion<'a>,
    /// Its own outage budget: HEAD succeeds each time, so that a Complete that always fails ends.
    outage: Outage,
    sent: Sent,
    /// HEAD is denied.
    is_blind: bool,
    is_renewed: bool,
    pause: Duration,
}

impl Upload {
    /// Completes the upload, or finds the object that is there already.
    ///
    /// # Errors
    /// [`StorageError::Unknown`] if S3 does not say whether it took effect, [`StorageError::Outage`] if it did
    /// not within the outage budget, [`StorageError::Refused`] if it never will.
    pub(super) async fn complete(&self, verified: &VerifiedDump) -> Result<Completed, StorageError> {
        let completion = Completion {
            id: &self.id,
            parts: self.parts.iter().map(|(number, part)| completed_part(*number, part)).collect(),
            crc64: verified.totals().object_crc64,
            is_conditional: true,
        };
        let (outage, sent) = (self.outage.separate(), Sent::Nothing);
        let completing =
            Completing { upload: self, completion, outage, sent, is_blind: false, is_renewed: false, pause: PAUSE };
        completing.run().await
    }
}

impl Completing<'_> {
    async fn run(mut self) -> Result<Completed, StorageError> {
        let mut found = self.look().await?;
        loop {
            if let Some(head) = found {
                return Ok(Completed::Found(head));
            }
            let began = Instant::now();
            let failure = match self.send().await {
                Ok(answer) => return Ok(Completed::Answered(answer)),
                Err(failure) => failure,
            };
            // A throttled one left nothing, and the next HEAD comes before the next Complete.
            if failure.is_ambiguous() || !failure.may_pass() {
                found = self.look().await?;
            }
            if found.is_none() {
                found = self.go_on(began, failure).await?;
            }
        }
    }

    async fn send(&mut self) -> Result<Head, Failure> {
        let upload = self.upload;
        // Set before the answer, which may never come, or a signal may end the wait for it.
        upload.may_take_effect.store(true, Ordering::Relaxed);
        let failure = match upload.bucket.complete(&upload.key, &self.completion).await {
            Ok(answer) => {
                upload.outage.succeeded();
                return Ok(answer);
            }
            Err(failure) => failure,
        };
        tracing::warn!(error = %failure, "the answer to Complete is not clean: HEAD decides");
        if failure.is_ambiguous() {
            self.sent = self.sent.max(if failure.is_from_s3 { Sent::Answered } else { Sent::Unanswered });
        }
        upload.may_take_effect.store(self.sent != Sent::Nothing, Ordering::Relaxed);
        Err(failure)
    }

    /// HEAD. `None` also if it is refused.
    async fn look(&mut self) -> Result<Option<Head>, StorageError> {
        let Upload { bucket, key, outage, .. } = self.upload;
        match outage.retry(COMMIT, || bucket.head(key)).await {
            Err(StorageError::Refused { failure, .. }) => {
                tracing::debug!(error = %failure, "HEAD is refused");
                self.is_blind = true;
                Ok(None)
            }
            other => other,
        }
    }

    /// Handles an answer that was not clean and left no object: returns an object that comes late, or `None` to send
    /// another Complete.
    async fn go_on(&mut self, began: Instant, failure: Failure) -> Result<Option<Head>, StorageError> {
        match failure.kind {
            FailureKind::NoSuchUpload | FailureKind::Exists => {
                return self.await_effect(began, failure).await.map(Some);
            }
            FailureKind::Expired if !self.is_renewed && self.outage.renew(began).await => self.is_renewed = true,
            _ if self.completion.is_conditional && may_refuse_condition(&failure) => {
                self.completion.is_conditional = false;
            }
            _ if !failure.may_pass() => return Err(refused(failure)),
            // Ceph repeats this answer for an upload that no longer exists.
            _ if failure.is_from_s3 && failure.is_ambiguous() && self.is_gone().await => {
                return self.await_effect(began, failure).await.map(Some);
            }
            _ => {
                let waited = self.wait(began, &failure).await;
                let found = self.look().await?;
                return if found.is_none() { waited.map(|()| None) } else { Ok(found) };
            }
        }
        Ok(None)
    }

    /// Looks for the object of an upload that is gone: for the outage budget if a Complete was not answered.
    async fn await_effect(&mut self, began: Instant, failure: Failure) -> Result<Head, StorageError> {
        if self.is_blind {
            return Err(self.unknown(failure));
        }
        if self.sent != Sent::Nothing {
            tracing::warn!(error = %failure, "an earlier Complete may still take effect: looking for it");
        }
        let mut looks = 0;
        while match self.sent {
            Sent::Nothing => false,
            Sent::Answered => {
                sleep(PAUSE).await;
                looks < LOOKS
            }
            Sent::Unanswered => self.wait(began, &failure).await.is_ok(),
        } {
            looks += 1;
            if let Some(head) = self.look().await? {
                return Ok(head);
            }
        }
        // If the upload is gone, no Complete takes effect any more, and there is nothing to abort.
        let is_open = failure.kind == FailureKind::Exists && self.sent != Sent::Nothing;
        self.upload.may_take_effect.store(is_open, Ordering::Relaxed);
        Err(refused(failure))
    }

    /// Waits before the next attempt, within the outage budget.
    async fn wait(&mut self, began: Instant, failure: &Failure) -> Result<(), StorageError> {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        match self.outage.wait(COMMIT, began, failure.clone(), pause).await {
            Err(_) if self.is_blind && self.sent != Sent::Nothing => Err(self.unknown(failure.clone())),
            waited => waited,
        }
    }

    async fn is_gone(&self) -> bool {
        let gone = self.upload.bucket.is_gone(&self.upload.key, &self.upload.id).await;
        gone.unwrap_or_else(|failure| {
            tracing::debug!(error = %failure, "whether the upload is still open is not known");
            false
        })
    }

    fn unknown(&self, last: Failure) -> StorageError {
        StorageError::Unknown { key: self.upload.key.clone(), last }
    }
}

impl Bucket {
    async fn complete(&self, key: &str, upload: &Completion<'_>) -> Result<Head, Failure> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(upload.parts.clone())).build();
        let request = self.client.complete_multipart_upload().bucket(&self.name).key(key).upload_id(upload.id);
        let mut request = request.multipart_upload(parts);
        if upload.is_conditional {
            request = request.if_none_match("*");
        }
        if let Some(crc64) = upload.crc64 {
            request = request.checksum_crc64_nvme(crc64_text(crc64)).checksum_type(ChecksumType::FullObject);
        }
        let timeout = complete_timeout(self.request_timeout, upload.parts.len());
        // Without the SDK's retries: a repeated Complete is refused after one that took effect, and would look like a
        // failure.
        // The answer may begin at once and pause until the object is put together.
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(timeout).read_timeout(timeout);
        let config = without_sdk_retries().timeout_config(timeouts.build());
        let sending = Box::pin(request.customize().config_override(config).send());
        let answer = sending.await.map_err(|error| match Failure::from(error) {
            // The checksum is of the stored parts, which do not change.
            failure if failure.code == BAD_DIGEST => Failure { kind: FailureKind::Refused, ..failure },
            failure => failure,
        })?;
        // Ceph answers with an empty ETag if the upload no longer exists: the outcome is unknown.
        let etag = answer.e_tag.filter(|etag| !etag.trim_matches('"').is_empty()).ok_or_else(without_etag)?;
        let is_composite = answer.checksum_type == Some(ChecksumType::Composite);
        let crc64 = answer.checksum_crc64_nvme.filter(|_| !is_composite);
        Ok(Head { etag: Some(etag), crc64, ..Head::default() })
    }
}

fn without_etag() -> Failure {
    let failure = Failure::damaged("the answer names no object");
    Failure { code: "NoETag".to_owned(), status: Some(200), is_from_s3: true, ..failure }
}

/// A part's entry in the request.
fn completed_part(number: u32, part: &UploadedPart) -> CompletedPart {
    let number = i32::try_from(number).unwrap_or(i32::MAX);
    let entry = CompletedPart::builder().part_number(number).e_tag(part.etag.clone());
    match part.digest {
        PartDigest::Crc64Nvme(crc) => entry.checksum_crc64_nvme(crc64_text(crc)).build(),
        PartDigest::Md5(_) | PartDigest::None => entry.build(),
    }
}

/// Whether a refusal may be due to `If-None-Match`: some stores support it for PutObject alone, some not at all.
fn may_refuse_condition(failure: &Failure) -> bool {
    let is_other = ABOUT_PARTS.contains(&failure.code.as_str());
    failure.kind == FailureKind::NotImplemented
        || failure.kind == FailureKind::Refused && failure.status == Some(400) && !is_other
}

fn refused(failure: Failure) -> StorageError {
    StorageError::Refused { action: COMMIT, failure, first: false }
}

fn complete_timeout(request_timeout: Duration, parts: usize) -> Duration {
    request_timeout + COMPLETE_PER_PART.saturating_mul(u32::try_from(parts).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complete_has_minutes_for_thousands_of_parts() {
        let patience = |parts| complete_timeout(Duration::from_secs(30), parts).as_secs();
        assert_eq!((patience(1), patience(1_000), patience(10_000)), (30, 90, 630));
    }

    #[test]
    fn a_refusal_of_the_parts_is_no_refusal_of_the_condition() {
        let failure = |kind, status, code: &str| {
            let (code, message) = (code.to_owned(), String::new());
            Failure { kind, code, message, status: Some(status), request_id: None, is_from_s3: true }
        };
        for (kind, status, code, may_refuse) in [
            (FailureKind::NotImplemented, 501, "NotImplemented", true),
            (FailureKind::NotImplemented, 400, "NotImplemented", true),
            (FailureKind::Refused, 400, "InvalidArgument", true),
            (FailureKind::Refused, 400, "InvalidPart", false),
            (FailureKind::Refused, 400, BAD_DIGEST, false),
            (FailureKind::Refused, 403, "AccessDenied", false),
            (FailureKind::Passing, 500, "InternalError", false),
        ] {
            assert_eq!(may_refuse_condition(&failure(kind, status, code)), may_refuse, "{code}");
        }
    }
}
