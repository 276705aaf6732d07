//! The commit: the one place that completes an upload, and the proof that it was completed.
//!
//! Complete goes out once at a time and is never retried blindly: one whose answer was lost may have taken effect, and
//! a second one would be refused. After any answer but a clean success HEAD decides (SPEC §4.7). What comes back,
//! [`Committed`], is needed to write anything beside the object.

use std::time::Duration;

use md5::{Digest, Md5};
use tokio::time::Instant;

use crate::pipeline::PartDigest;
use crate::proof::WholeDump;

use super::failure::{Failure, FailureKind};
use super::requests::{Bucket, CompleteAnswer, Completion, Head, TakenPart, completed_part, crc64_text};
use super::upload::{ABORT_DEADLINE, Upload, abort_twins};
use super::{Outage, StorageError};

const COMMIT: &str = "commit the backup";
/// Pauses between attempts at Complete that left nothing behind; the outage budget bounds their number.
const PAUSE: Duration = Duration::from_secs(1);
/// How often an object that S3 has confirmed is looked for.
const LOOKS: u32 = 5;

/// An object that is whole, complete, and checked.
#[derive(Debug)]
pub struct Committed {
    pub(super) bucket: Bucket,
    key: String,
    bytes: u64,
    whole: WholeDump,
}

impl Committed {
    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The object's size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is in it.
    #[must_use]
    pub fn whole(&self) -> &WholeDump {
        &self.whole
    }

    /// Writes a file beside the object.
    ///
    /// # Errors
    /// Where S3 refuses it or takes it not within the outage budget.
    pub async fn write_sidecar(&self, kind: Sidecar, body: Vec<u8>, outage: &Outage) -> Result<(), StorageError> {
        let (key, body) = (format!("{}{}", self.key, kind.suffix), bytes::Bytes::from(body));
        outage.persist(kind.action, || self.bucket.put(&key, body.clone(), kind.content_type)).await
    }
}

/// A kind of file beside a backup.
#[derive(Clone, Copy, Debug)]
pub struct Sidecar {
    /// What its key has behind the backup's.
    pub suffix: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// What is done when it is written, for messages.
    pub action: &'static str,
}

/// How sure an answer to Complete makes.
enum Answer {
    /// A clean success.
    Clean(CompleteAnswer),
    /// HEAD found an object.
    Found(Head),
}

impl Upload {
    /// Completes the upload and checks what S3 has then. The only caller of Complete.
    ///
    /// # Errors
    /// Where S3 does not end up holding exactly this object; then the upload is aborted, unless the spool has all of it
    /// for the next run. An object of this run that is not what was sent is deleted again.
    pub async fn commit(self, whole: WholeDump) -> Result<Committed, StorageError> {
        let outcome = self.complete_and_check(&whole).await;
        match outcome {
            Ok(()) => {
                if self.has_twins {
                    abort_twins(&self.bucket, &self.key, Some(&self.id)).await;
                }
                Ok(Committed { bucket: self.bucket, key: self.key, bytes: whole.totals().object_bytes, whole })
            }
            Err(error) => {
                self.abort_unless_kept(ABORT_DEADLINE).await;
                Err(error)
            }
        }
    }

    /// Looks whether an earlier run has committed this upload, without a word of its own about it.
    ///
    /// # Errors
    /// Where S3 does not say, or the object there is not what was sent.
    pub async fn find_committed(&self, whole: WholeDump) -> Result<Option<Committed>, StorageError> {
        let head = self.outage.persist("look for the backup", || self.bucket.head(&self.key)).await?;
        let Some(head) = head else { return Ok(None) };
        match Expected::new(self, &whole).judge(&head) {
            Verdict::Ours => {
                let (bucket, key, bytes) = (self.bucket.clone(), self.key.clone(), head.bytes);
                Ok(Some(Committed { bucket, key, bytes, whole }))
            }
            Verdict::Damaged(what) => self.take_back(what).await.map(|()| None),
            Verdict::Foreign => Ok(None),
        }
    }

    async fn complete_and_check(&self, whole: &WholeDump) -> Result<(), StorageError> {
        self.check_parts(whole)?;
        let expected = Expected::new(self, whole);
        let answer = self.complete(whole).await?;
        let head = match answer {
            Answer::Found(head) => head,
            Answer::Clean(answer) => match self.head_after_success().await {
                Ok(head) => head,
                // HEAD is denied (write-only credentials) or out of reach: S3's own word on Complete is the proof,
                // where it is the checksum computed here.
                Err(error @ (StorageError::Refused { .. } | StorageError::Outage { .. }))
                    if expected.is_proved_by(&answer) =>
                {
                    tracing::info!(%error, "HEAD is not to be had: the checksum that S3 answered to Complete is the proof");
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        match expected.judge(&head) {
            Verdict::Ours => Ok(()),
            Verdict::Damaged(what) => self.take_back(what).await,
            Verdict::Foreign => Err(StorageError::Foreign { key: self.key.clone() }),
        }
    }

    /// HEAD after a clean Complete. Some stores take a moment to show what they have.
    async fn head_after_success(&self) -> Result<Head, StorageError> {
        for _ in 0..LOOKS {
            if let Some(head) = self.outage.persist(COMMIT, || self.bucket.head(&self.key)).await? {
                return Ok(head);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let what = "S3 said that it was complete, but it is not there".to_owned();
        Err(StorageError::Inconsistent { key: self.key.clone(), what })
    }

    /// The sum of the parts must be the sum produced, without a gap.
    fn check_parts(&self, whole: &WholeDump) -> Result<(), StorageError> {
        let totals = whole.totals();
        let sum: u64 = self.parts.values().map(|part| part.bytes).sum();
        let is_contiguous = self.parts.keys().copied().eq(1..=totals.parts);
        if is_contiguous && sum == totals.object_bytes {
            return Ok(());
        }
        let what = format!(
            "{} parts with {sum} bytes were sent, {} with {} were made",
            self.parts.len(),
            totals.parts,
            totals.object_bytes
        );
        Err(StorageError::Inconsistent { key: self.key.clone(), what })
    }

    /// Sends Complete until it has taken effect.
    async fn complete(&self, whole: &WholeDump) -> Result<Answer, StorageError> {
        let mut completion = Completion {
            id: &self.id,
            parts: self.parts.iter().map(|(number, part)| completed_part(*number, part)).collect(),
            crc64: whole.totals().object_crc64,
            conditional: true,
        };
        // HEAD succeeds each time: that must not make a Complete that never does go on for ever.
        let outage = self.outage.afresh();
        let (mut renewed, mut is_sent) = (false, false);
        loop {
            let began = Instant::now();
            let failure = match self.bucket.complete(&self.key, &completion).await {
                Ok(answer) => {
                    self.outage.succeeded();
                    return Ok(Answer::Clean(answer));
                }
                Err(failure) => failure,
            };
            tracing::warn!(error = %failure, "the answer to Complete is not clean: HEAD decides");
            if let Some(head) = self.look(&failure).await? {
                return Ok(Answer::Found(head));
            }
            if failure.is_ambiguous() {
                is_sent = true;
            }
            match failure.kind {
                FailureKind::Passing | FailureKind::Untrusted => outage.wait(COMMIT, began, failure, PAUSE).await?,
                // S3 is still at an earlier one, whose answer was lost.
                FailureKind::NoSuchUpload | FailureKind::Exists if is_sent => {
                    let patience = self.bucket.complete_timeout(self.parts.len());
                    return self.look_for(patience, failure).await.map(Answer::Found);
                }
                FailureKind::Expired if !renewed && outage.renew(began).await => renewed = true,
                FailureKind::NotImplemented if completion.conditional => completion.conditional = false,
                _ => return Err(StorageError::Refused { action: COMMIT, failure, first: false }),
            }
        }
    }

    /// HEAD again and again, where S3 has the upload no more, and not yet the object.
    async fn look_for(&self, patience: Duration, failure: Failure) -> Result<Head, StorageError> {
        let began = Instant::now();
        tracing::warn!(error = %failure, patience_s = patience.as_secs(), "an earlier Complete may still take effect: looking for it");
        while began.elapsed() < patience {
            tokio::time::sleep(PAUSE).await;
            if let Some(head) = self.look(&failure).await? {
                return Ok(head);
            }
        }
        Err(StorageError::Refused { action: COMMIT, failure, first: false })
    }

    /// HEAD after an unclean answer; where HEAD is denied, nobody knows.
    async fn look(&self, after: &Failure) -> Result<Option<Head>, StorageError> {
        match self.outage.persist(COMMIT, || self.bucket.head(&self.key)).await {
            Err(StorageError::Refused { .. })
                if after.is_ambiguous() || matches!(after.kind, FailureKind::NoSuchUpload | FailureKind::Exists) =>
            {
                Err(StorageError::Unknown { key: self.key.clone(), last: after.clone() })
            }
            Err(StorageError::Refused { .. }) => Ok(None),
            other => other,
        }
    }

    /// Deletes an object that is this run's, but not what was sent: no name without a proof.
    async fn take_back(&self, what: String) -> Result<(), StorageError> {
        if let Err(error) = self.outage.persist("delete", || self.bucket.delete(&self.key)).await {
            tracing::error!(key = self.key, %error, "a damaged object is left behind: delete it");
        }
        Err(StorageError::Mismatch { key: self.key.clone(), what })
    }
}

/// What the object must be, by what was computed here.
struct Expected {
    bytes: u64,
    run_id: String,
    etag: Option<String>,
    crc64: Option<String>,
}

impl Expected {
    fn new(upload: &Upload, whole: &WholeDump) -> Self {
        // Of an upload that was taken up, not every part's ETag need be known.
        let knows_all = upload.parts.keys().copied().eq(1..=whole.totals().parts);
        Self {
            bytes: whole.totals().object_bytes,
            run_id: upload.run_id.clone(),
            etag: composite_etag(upload.parts.values()).filter(|_| knows_all),
            crc64: whole.totals().object_crc64.map(crc64_text),
        }
    }

    /// Whose an object is, and whether it is what was sent.
    fn judge(&self, head: &Head) -> Verdict {
        match &head.run_id {
            Some(id) if *id == self.run_id => self.difference(head).map_or(Verdict::Ours, Verdict::Damaged),
            // A store that drops metadata: only the very same bytes are surely this run's.
            None if head.bytes == self.bytes && self.is_named_by(head.etag.as_deref(), head.crc64.as_deref()) => {
                Verdict::Ours
            }
            Some(_) | None => Verdict::Foreign,
        }
    }

    /// How an object of this run differs from what was sent.
    fn difference(&self, head: &Head) -> Option<String> {
        if head.bytes != self.bytes {
            return Some(format!("it has {} bytes, but {} were sent", head.bytes, self.bytes));
        }
        // An ETag of another shape is none of an object of several parts, and says nothing about its bytes.
        let etag = head.etag.as_deref().filter(|etag| etag.contains('-'));
        differs("ETag", self.etag.as_deref(), etag)
            .or_else(|| differs("CRC-64", self.crc64.as_deref(), head.crc64.as_deref()))
    }

    /// Whether the answer to Complete names the very bytes that were sent.
    fn is_proved_by(&self, answer: &CompleteAnswer) -> bool {
        self.is_named_by(answer.etag.as_deref(), answer.crc64.as_deref())
    }

    fn is_named_by(&self, etag: Option<&str>, crc64: Option<&str>) -> bool {
        let same = |ours: Option<&str>, theirs: Option<&str>| ours.is_some() && ours == theirs.map(unquoted);
        same(self.etag.as_deref(), etag) || same(self.crc64.as_deref(), crc64)
    }
}

/// What HEAD says about the object behind the commit.
enum Verdict {
    /// It is this run's, and what was sent.
    Ours,
    /// It is this run's, and something else.
    Damaged(String),
    /// It is somebody else's.
    Foreign,
}

fn differs(what: &str, ours: Option<&str>, theirs: Option<&str>) -> Option<String> {
    let (ours, theirs) = (ours?, unquoted(theirs?));
    (ours != theirs).then(|| format!("its {what} is {theirs}, but what was sent has {ours}"))
}

fn unquoted(etag: &str) -> &str {
    etag.trim_matches('"')
}

/// The ETag that S3 gives an object of several parts: the MD5 of the parts' MD5s, and their number. Only where the
/// store's own ETags of the parts are their MD5s, which is not so with SSE-KMS.
fn composite_etag<'a>(parts: impl ExactSizeIterator<Item = &'a TakenPart>) -> Option<String> {
    let count = parts.len();
    let mut all = Md5::new();
    for part in parts {
        let PartDigest::Md5(md5) = part.digest else { return None };
        if unquoted(&part.etag) != hex(&md5) {
            return None;
        }
        all.update(md5);
    }
    let md5: [u8; 16] = all.finalize().into();
    Some(format!("{}-{count}", hex(&md5)))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(md5: [u8; 16], etag: &str) -> TakenPart {
        TakenPart { etag: etag.to_owned(), digest: PartDigest::Md5(md5), bytes: 1 }
    }

    #[test]
    fn the_etag_of_parts_is_the_one_that_s3_computes() {
        // md5("a") and md5("b"); then md5 of both digests: as aws s3api shows for two such parts.
        let (a, b): ([u8; 16], [u8; 16]) = (Md5::digest(b"a").into(), Md5::digest(b"b").into());
        let both: [u8; 16] = Md5::digest([a, b].concat()).into();
        let parts = [part(a, &format!("\"{}\"", hex(&a))), part(b, &hex(&b))];
        assert_eq!(composite_etag(parts.iter()), Some(format!("{}-2", hex(&both))));
    }

    #[test]
    fn etags_that_are_no_md5_prove_nothing() {
        assert_eq!(composite_etag([part([1; 16], "something-else")].iter()), None);
    }
}
