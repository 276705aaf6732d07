//! What one request to S3 came to, where it came to nothing: told apart once, by status and code.
//!
//! Every call in this module turns the SDK's error into a [`Failure`]; `retry` waits on some, `commit` looks closer at
//! others. Nothing else in the program sees an SDK error. What fails before S3 answers is in `transit`.

mod transit;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::error_chain::Chain;

use super::pages::{BROKEN_LISTING, BUCKET_IS_KEY};

/// Where AWS says which region a bucket is in.
const BUCKET_REGION: &str = "x-amz-bucket-region";

/// What is read of a storage class such as GLACIER has to be asked for hours before.
const ARCHIVED: &str = "InvalidObjectState";

/// This program's own code for a request in which nothing moved, or that was not answered in time.
const TIMEOUT: &str = "Timeout";

/// What kind of failure a request met with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It may pass: no answer, 5xx, throttling, a body that was damaged on its way.
    Passing,
    /// It will not pass by itself: the configuration or the credentials are wrong.
    Refused,
    /// The credentials have expired.
    Expired,
    /// The server's certificate is not to be trusted, or it does not speak TLS.
    Untrusted,
    /// The object does not exist.
    NotFound,
    /// A 4xx without an S3 error code in it: a proxy or a load balancer answered, not the store.
    NotFromS3,
    /// The upload does not exist (any more).
    NoSuchUpload,
    /// A condition was not met: something is there already.
    Exists,
    /// Another request came in between a conditional Complete: S3 wants every part again, in a new upload.
    Conflict,
    /// The server does not know what was asked.
    NotImplemented,
}

/// A request that came to nothing.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its kind.
    pub kind: FailureKind,
    /// S3's code, such as `NoSuchBucket`, or a word for what happened on the way.
    pub code: String,
    /// S3's message or the cause on the way, on one line.
    pub message: String,
    /// HTTP status, where an answer came.
    pub status: Option<u16>,
    /// For the operator of the server.
    pub request_id: Option<String>,
    /// The store itself answered: its code was in the answer. Not so at silence, at half an answer, and at what a proxy says; nor
    /// at HEAD, whose answers have no body.
    pub is_from_s3: bool,
}

impl Failure {
    /// Whether the request may have taken effect all the same.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        match self.status {
            None => self.kind == FailureKind::Passing,
            // What was throttled was not begun.
            Some(503) => false,
            Some(status) => status < 300 || status >= 500 && self.kind == FailureKind::Passing,
        }
    }

    /// Whether the same request may succeed later, without anything being set otherwise.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.kind == FailureKind::Passing || self.may_pass_later()
    }

    /// Whether it is an outage where S3 has answered well before, and a wrong setting where it has not: a certificate, or an
    /// answer that is not the store's.
    pub(super) fn may_pass_later(&self) -> bool {
        matches!(self.kind, FailureKind::Untrusted | FailureKind::NotFromS3)
    }

    /// One that did not come to an end in time.
    pub(super) fn timeout(message: &str) -> Self {
        let (code, message) = (TIMEOUT.to_owned(), message.to_owned());
        Self { kind: FailureKind::Passing, code, message, status: None, request_id: None, is_from_s3: false }
    }

    /// Whether nothing came of it in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.code == TIMEOUT
    }

    /// Whether no connection came about: refused, or the host's name is unknown.
    pub(super) fn is_no_connection(&self) -> bool {
        self.code == transit::NO_CONNECTION
    }

    /// Whether the object is archived, and cannot be read before the store has restored it.
    #[must_use]
    pub fn is_archived(&self) -> bool {
        self.code == ARCHIVED
    }

    /// Whether these credentials are good, but may not do this.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.code.as_str(), "AccessDenied" | "AllAccessDisabled" | "Forbidden")
    }

    /// Whether it is about what was sent, which is the same however often it is sent: the parts, their number, their sizes
    /// or their checksums.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.kind == FailureKind::Refused
            && (self.status == Some(413)
                || matches!(
                    self.code.as_str(),
                    "InvalidPart"
                        | "InvalidPartOrder"
                        | "InvalidPartNumber"
                        | "EntityTooSmall"
                        | "EntityTooLarge"
                        | "InvalidRequest"
                        | "InvalidArgument"
                        | "InvalidDigest"
                        | "BadDigest"
                        | "MalformedXML"
                ))
    }

    /// What a person can do about an outage that this was the last failure of.
    #[must_use]
    pub fn outage_advice(&self) -> &'static str {
        transit::advice(&self.code, &self.message)
            .unwrap_or("look at the server, at S3_URL, and at the network and proxies on the way")
    }

    /// What a person can do about it, to end a message with.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        if let Some(advice) = transit::advice(&self.code, &self.message) {
            return advice;
        }
        match self.code.as_str() {
            _ if self.kind == FailureKind::NotFromS3 => {
                "this is no answer of S3's: correct S3_URL, or look at the proxy or load balancer before the store"
            }
            "NoSuchBucket" => "create the bucket, or correct S3_BUCKET",
            // The second is Swift's.
            "InvalidAccessKeyId" | "NotSignedUp" => "correct S3_ACCESS_KEY",
            "SignatureDoesNotMatch" => "correct S3_SECRET_KEY",
            // Some servers say no more to a wrong key or secret.
            _ if self.is_denied() => {
                "correct S3_ACCESS_KEY and S3_SECRET_KEY, or allow these credentials to use the bucket (docs/security.md has the policies)"
            }
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraint"
            | "IllegalLocationConstraintException" => "set S3_REGION to the bucket's region",
            "RequestTimeTooSkewed" => "set this machine's clock",
            "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired" => {
                "renew the credentials"
            }
            "InvalidStorageClass" => "the store does not know this class: correct S3_STORAGE_CLASS, or leave it out",
            "NotImplemented" | "InvalidArgument" | "InvalidRequest" | "InvalidEncryptionAlgorithmError" => {
                "the store does not take this: leave out S3_STORAGE_CLASS, S3_SSE and S3_CHECKSUM, as far as they are set"
            }
            "ConditionalRequestConflict" => {
                "S3 wants every part again: run the backup again (with BACKUP_SPOOL_DIR they are sent again from disk)"
            }
            // Alibaba's and Tencent's.
            "SecondLevelDomainForbidden" | "PathStyleDomainForbidden" => {
                "set S3_FORCE_PATH_STYLE=false: the store wants the bucket in the host's name"
            }
            ARCHIVED => "the object is archived: have the store restore it, and read it when that is done",
            BUCKET_IS_KEY => "take the bucket out of S3_URL, which leads to an object of it",
            BROKEN_LISTING => {
                "have the store or the proxy in front of it fixed: nothing is deleted or decided by a part of a listing"
            }
            "NoSuchUpload" => "something aborted the upload, such as a lifecycle rule: run the backup again",
            "InvalidPart" | "BadDigest" => {
                "the store does not hold what was sent, or takes only equal parts: run the backup again, with S3_EQUAL_PARTS=true"
            }
            "EntityTooSmall" | "EntityTooLarge" => {
                "the store takes no parts of this size: set BACKUP_PART_SIZE, and S3_EQUAL_PARTS and S3_MAX_PARTS as the store needs them"
            }
            code if code.starts_with("KMS.") => "correct S3_SSE_KMS_KEY_ID, or allow these credentials to use the key",
            _ => "check the S3_ settings",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if let Some(status) = self.status {
            write!(f, " (HTTP {status}")?;
            if let Some(id) = &self.request_id {
                write!(f, ", request {id}")?;
            }
            write!(f, ")")?;
        }
        Ok(())
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let request_id = error.request_id().map(str::to_owned);
        let mut is_from_s3 = false;
        let (kind, code, message) = match &error {
            SdkError::ServiceError(service) => {
                let status = status.unwrap_or_default();
                // The SDK makes up a code for a 404 without a body.
                let has_body = service.raw().body().bytes().is_none_or(|body| !body.is_empty());
                let s3_code = service.err().code().filter(|_| has_body);
                is_from_s3 = s3_code.is_some();
                let message = service.err().message().unwrap_or_default().replace(['\n', '\r'], " ");
                let region = service.raw().headers().get(BUCKET_REGION).filter(|_| is_redirection(status));
                let message = region.map_or(message, |region| format!("the bucket is in {region}"));
                (kind_of(status, s3_code), s3_code.unwrap_or_else(|| word_for(status)).to_owned(), message)
            }
            SdkError::TimeoutError(_) => return Self::timeout("no answer in time"),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => return Self::timeout(&cause_of(&error)),
            SdkError::DispatchFailure(_) => {
                let cause = cause_of(&error);
                match transit::distrust(&cause) {
                    Some(code) => (FailureKind::Untrusted, code.to_owned(), cause),
                    None => (FailureKind::Passing, transit::NO_CONNECTION.to_owned(), cause),
                }
            }
            SdkError::ResponseError(_) => (FailureKind::Passing, "DamagedAnswer".to_owned(), cause_of(&error)),
            _ => (FailureKind::Refused, "InvalidRequest".to_owned(), cause_of(&error)),
        };
        Self { kind, code, message, status, request_id, is_from_s3 }
    }
}

/// Whether another endpoint is asked for: AWS's answer to a wrong region.
fn is_redirection(status: u16) -> bool {
    (300..400).contains(&status)
}

/// The causes below the SDK's own sentence, which only says that something failed.
fn cause_of(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| Chain(error).to_string(), |source| Chain(source).to_string())
}

/// For an answer without a code: any to HEAD, which has no body, and a proxy's.
fn word_for(status: u16) -> &'static str {
    match status {
        status if is_redirection(status) => "PermanentRedirect",
        400 => "BadRequest",
        403 => "Forbidden",
        404 => "NotFound",
        412 => "PreconditionFailed",
        501 => "NotImplemented",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        500.. => "ServerError",
        _ => "Refused",
    }
}

fn kind_of(status: u16, code: Option<&str>) -> FailureKind {
    match code {
        Some("NoSuchUpload") => FailureKind::NoSuchUpload,
        Some("PreconditionFailed") => FailureKind::Exists,
        Some("ConditionalRequestConflict") => FailureKind::Conflict,
        Some("NotImplemented") => FailureKind::NotImplemented,
        Some("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => FailureKind::Expired,
        // 400 and 403 that are about this one attempt: damaged on the way, too slow, or a clock the SDK now allows for.
        Some(
            "RequestTimeout"
            | "RequestTimeTooSkewed"
            | "BadDigest"
            | "XAmzContentSHA256Mismatch"
            | "IncompleteBody"
            | "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "InternalError",
        ) => FailureKind::Passing,
        _ => match status {
            404 if matches!(code, Some("NotFound" | "NoSuchKey")) => FailureKind::NotFound,
            412 => FailureKind::Exists,
            501 => FailureKind::NotImplemented,
            // A success with an error inside (status below 300) is as good as no answer.
            0..300 | 408 | 429 | 500.. => FailureKind::Passing,
            400..500 if code.is_none() => FailureKind::NotFromS3,
            _ => FailureKind::Refused,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (status, code, kind) in [
            (503, "SlowDown", FailureKind::Passing),
            (200, "InternalError", FailureKind::Passing),
            (429, "TooManyRequests", FailureKind::Passing),
            (400, "RequestTimeout", FailureKind::Passing),
            (403, "RequestTimeTooSkewed", FailureKind::Passing),
            (403, "AccessDenied", FailureKind::Refused),
            (404, "NoSuchBucket", FailureKind::Refused),
            (404, "NoSuchKey", FailureKind::NotFound),
            (404, "NoSuchUpload", FailureKind::NoSuchUpload),
            (412, "PreconditionFailed", FailureKind::Exists),
            (409, "ConditionalRequestConflict", FailureKind::Conflict),
            (501, "NotImplemented", FailureKind::NotImplemented),
            (400, "NotImplemented", FailureKind::NotImplemented),
            (400, "ExpiredToken", FailureKind::Expired),
            (301, "PermanentRedirect", FailureKind::Refused),
        ] {
            assert_eq!(kind_of(status, Some(code)), kind, "{status} {code}");
        }
    }

    #[test]
    fn answers_without_a_code_are_of_a_proxy_unless_the_status_says_enough() {
        for (status, kind) in [
            (400, FailureKind::NotFromS3),
            (403, FailureKind::NotFromS3),
            (404, FailureKind::NotFromS3),
            (412, FailureKind::Exists),
            (501, FailureKind::NotImplemented),
            (502, FailureKind::Passing),
            (302, FailureKind::Refused),
        ] {
            assert_eq!(kind_of(status, None), kind, "{status}");
        }
    }

    #[test]
    fn only_what_is_neither_refused_nor_throttled_may_have_taken_effect() {
        for (status, code, is_ambiguous) in [
            (None, None, true),
            (Some(200), Some("InternalError"), true),
            (Some(500), Some("InternalError"), true),
            (Some(502), None, true),
            (Some(503), Some("SlowDown"), false),
            (Some(400), Some("RequestTimeout"), false),
            (Some(404), Some("NoSuchUpload"), false),
            (Some(501), Some("NotImplemented"), false),
        ] {
            let kind = status.map_or(FailureKind::Passing, |status| kind_of(status, code));
            let (code, message, request_id, is_from_s3) = (String::new(), String::new(), None, code.is_some());
            let failure = Failure { kind, code, message, status, request_id, is_from_s3 };
            assert_eq!(failure.is_ambiguous(), is_ambiguous, "{failure:?}");
        }
    }
}
