//! Why a request to S3 failed, classified once by status and code.
//!
//! Every call in this module turns the SDK's error into a [`Failure`]; `retry` waits on some, `commit` handles others.
//! No other module sees an SDK error. `transit` classifies what fails before S3 answers.

mod advice;
mod transit;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::error_chain::Chain;

/// AWS's header for a bucket's region.
const BUCKET_REGION: &str = "x-amz-bucket-region";

/// What is read of a storage class such as GLACIER has to be asked for hours before.
const ARCHIVED: &str = "InvalidObjectState";

/// This program's code for a request that stalled or was not answered in time.
const TIMEOUT: &str = "Timeout";
/// This program's code for an answer that is damaged or incomplete.
const DAMAGED_ANSWER: &str = "DamagedAnswer";
/// This program's code for a listing that breaks off.
const BROKEN_LISTING: &str = "BrokenListing";
/// This program's code for a bucket that the store takes for an object.
const BUCKET_IS_KEY: &str = "BucketIsKey";
/// S3's code for a missing bucket.
const NO_SUCH_BUCKET: &str = "NoSuchBucket";
/// S3's code for a missing object.
const NO_SUCH_KEY: &str = "NoSuchKey";

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Transient: no answer, 5xx, throttling, or a body damaged in transit.
    Passing,
    /// Permanent: the configuration or the credentials are wrong.
    Refused,
    /// The credentials have expired.
    Expired,
    /// The server's certificate is not trusted, or it does not speak TLS.
    Untrusted,
    /// The object does not exist.
    NotFound,
    /// A 4xx without an S3 error code: from a proxy or a load balancer, not the store.
    NotFromS3,
    /// The upload does not exist any more.
    NoSuchUpload,
    /// A precondition failed: the object exists.
    Exists,
    /// Another request came between: a conditional Complete needs every part again, in a new upload.
    Conflict,
    /// The server does not support the request.
    NotImplemented,
}

/// What a message names of the settings if they may be wrong. A URL with a password is refused as a setting.
#[derive(Debug)]
pub struct Store {
    /// `S3_BUCKET`
    pub bucket: String,
    /// `S3_URL`; `None` for AWS.
    pub url: Option<String>,
}

/// A failed request.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its kind.
    pub kind: FailureKind,
    /// S3's code, such as `NoSuchBucket`, or this program's own for a failure in transit.
    pub code: String,
    /// S3's message or the cause of a failure in transit, on one line.
    pub message: String,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// For the server's operator.
    pub request_id: Option<String>,
    /// The store itself answered: the answer had its code. Not without an answer, with half of one, or with a proxy's;
    /// nor to HEAD, which has no body.
    pub is_from_s3: bool,
}

impl Failure {
    /// Whether the request may have taken effect.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        match self.status {
            None => self.kind == FailureKind::Passing,
            // A throttled request was not started.
            Some(503) => false,
            Some(status) => status < 300 || status >= 500 && self.kind == FailureKind::Passing,
        }
    }

    /// Whether the same request may succeed later with the same settings.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.kind == FailureKind::Passing || self.may_pass_later()
    }

    /// A certificate or an answer that is not the store's: an outage if S3 has answered before, else a wrong
    /// setting.
    pub(super) fn may_pass_later(&self) -> bool {
        matches!(self.kind, FailureKind::Untrusted | FailureKind::NotFromS3)
    }

    /// A request that did not end in time.
    pub(super) fn timeout(message: &str) -> Self {
        Self::found_here(FailureKind::Passing, TIMEOUT, message)
    }

    /// An answer that is damaged or incomplete.
    pub(super) fn damaged(message: &str) -> Self {
        Self::found_here(FailureKind::Passing, DAMAGED_ANSWER, message)
    }

    /// A listing that breaks off.
    pub(super) fn broken_listing(message: &str) -> Self {
        Self { is_from_s3: true, ..Self::found_here(FailureKind::Refused, BROKEN_LISTING, message) }
    }

    /// Names the bucket that does not exist, or the URL that cannot be connected to.
    pub(super) fn naming(self, store: &Store) -> Self {
        let url = store.url.as_deref();
        let named = match self.code.as_str() {
            NO_SUCH_BUCKET => {
                Some(format!("bucket {}{}", store.bucket, url.map(|url| format!(" at {url}")).unwrap_or_default()))
            }
            transit::NO_CONNECTION => url.map(str::to_owned),
            _ => None,
        };
        let message = match named {
            Some(named) if self.message.is_empty() => named,
            Some(named) => format!("{} ({named})", self.message),
            None => return self,
        };
        Self { message, ..self }
    }

    /// Recognises a listing that is answered like a GET of an object.
    pub(super) fn of_listing(self) -> Self {
        if self.code == NO_SUCH_KEY {
            return Self { kind: FailureKind::Refused, code: BUCKET_IS_KEY.to_owned(), ..self };
        }
        self
    }

    /// A failure that this program found, without an answer's status.
    fn found_here(kind: FailureKind, code: &str, message: &str) -> Self {
        let (code, message) = (code.to_owned(), message.to_owned());
        Self { kind, code, message, status: None, request_id: None, is_from_s3: false }
    }

    /// Whether a listing was answered, but is incomplete.
    #[must_use]
    pub fn is_broken_listing(&self) -> bool {
        self.code == BROKEN_LISTING
    }

    /// Whether the store takes the bucket for an object, because its name is in `S3_URL`, too.
    #[must_use]
    pub fn is_bucket_in_url(&self) -> bool {
        self.code == BUCKET_IS_KEY
    }

    /// Whether it did not end in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.code == TIMEOUT
    }

    /// Whether there was no connection: refused, or the host's name is unknown.
    pub(super) fn is_no_connection(&self) -> bool {
        self.code == transit::NO_CONNECTION
    }

    /// Whether the object is archived, and cannot be read before the store has restored it.
    #[must_use]
    pub fn is_archived(&self) -> bool {
        self.code == ARCHIVED
    }

    /// Whether the credentials are valid, but lack a permission.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.code.as_str(), "AccessDenied" | "AllAccessDisabled" | "Forbidden")
    }

    /// Whether the same request would be refused again.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.kind, FailureKind::Refused | FailureKind::NotImplemented)
    }

    /// Whether it is about the data that was sent, so that sending it again fails again: the parts, their number, sizes
    /// or checksums.
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
            SdkError::ResponseError(_) => (FailureKind::Passing, DAMAGED_ANSWER.to_owned(), cause_of(&error)),
            _ => (FailureKind::Refused, "InvalidRequest".to_owned(), cause_of(&error)),
        };
        Self { kind, code, message, status, request_id, is_from_s3 }
    }
}

/// Whether it names another endpoint: AWS's answer to a wrong region.
fn is_redirection(status: u16) -> bool {
    (300..400).contains(&status)
}

/// The causes below the SDK's sentence, which says only that something failed.
fn cause_of(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| Chain(error).to_string(), |source| Chain(source).to_string())
}

/// The code of an answer without one: of HEAD, which has no body, or a proxy's.
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
        // A 400 or 403 about this attempt alone: damaged in transit, too slow, or a clock skew that the SDK now
        // corrects.
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
            404 if matches!(code, Some("NotFound" | NO_SUCH_KEY)) => FailureKind::NotFound,
            412 => FailureKind::Exists,
            501 => FailureKind::NotImplemented,
            // A success with an error inside (status below 300) counts as no answer.
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
    fn answers_without_a_code_are_from_a_proxy_unless_the_status_is_specific() {
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
    fn a_request_neither_refused_nor_throttled_may_have_taken_effect() {
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
