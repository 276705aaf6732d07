//! What one request to S3 came to, where it came to nothing: told apart once, by status and code.
//!
//! Every call in this room turns the SDK's error into a [`Failure`]; `retry` waits on some, `commit` looks closer at
//! others. Nothing else in the program sees an SDK error.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::error::Chain;

/// Where AWS says which region a bucket is in.
const BUCKET_REGION: &str = "x-amz-bucket-region";

/// Codes of this program's own for certificates.
const UNKNOWN_AUTHORITY: &str = "UnknownCertificateAuthority";
const EXPIRED_CERTIFICATE: &str = "ExpiredCertificate";
const OTHER_NAME: &str = "CertificateOfAnotherName";
const BAD_CERTIFICATE: &str = "BadCertificate";

/// What kind of failure a request met with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It may pass: no answer, 5xx, throttling, a body that was damaged on its way.
    Passing,
    /// It will not pass by itself: the configuration or the credentials are wrong.
    Refused,
    /// The credentials have expired.
    Expired,
    /// The server's certificate is not to be trusted.
    Untrusted,
    /// 404 without a more telling code.
    NotFound,
    /// The upload does not exist (any more).
    NoSuchUpload,
    /// A condition was not met: something is there already.
    Exists,
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
}

impl Failure {
    /// Whether the request may have taken effect all the same.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.kind == FailureKind::Passing && !matches!(self.status, Some(429 | 503))
            || self.status.is_some_and(|status| status < 300)
    }

    /// Whether the same request may succeed later, without anything being set otherwise.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self.kind, FailureKind::Passing | FailureKind::Untrusted)
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

    /// What a person can do about it, to end a message with.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self.code.as_str() {
            "NoSuchBucket" => "create the bucket, or correct S3_BUCKET",
            // The second is Swift's.
            "InvalidAccessKeyId" | "NotSignedUp" => "correct S3_ACCESS_KEY",
            "SignatureDoesNotMatch" => "correct S3_SECRET_KEY",
            // Some servers say no more to a wrong key or secret.
            _ if self.is_denied() => {
                "correct S3_ACCESS_KEY and S3_SECRET_KEY, or allow these credentials to use the bucket (the README has the policy)"
            }
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraint"
            | "IllegalLocationConstraintException" => "set S3_REGION to the bucket's region",
            "RequestTimeTooSkewed" => "set this machine's clock",
            UNKNOWN_AUTHORITY => "set S3_CA_BUNDLE to the certificates of its authority, or correct S3_URL",
            EXPIRED_CERTIFICATE => "have the server's certificate renewed, or set this machine's clock",
            OTHER_NAME => "correct S3_URL: the server's certificate has other names",
            BAD_CERTIFICATE => "have the server's certificate mended, or correct S3_URL and S3_CA_BUNDLE",
            "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired" => {
                "renew the credentials"
            }
            "InvalidStorageClass" => "the store does not know this class: correct S3_STORAGE_CLASS, or leave it out",
            "NotImplemented" | "InvalidArgument" | "InvalidRequest" | "InvalidEncryptionAlgorithmError" => {
                "the store does not take this: leave out S3_STORAGE_CLASS, S3_SSE and S3_CHECKSUM, as far as they are set"
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
        let (kind, code, message) = match &error {
            SdkError::ServiceError(service) => {
                let status = status.unwrap_or_default();
                let code = service.err().code().map_or_else(|| word_for(status).to_owned(), str::to_owned);
                let message = service.err().message().unwrap_or_default().replace(['\n', '\r'], " ");
                let region = service.raw().headers().get(BUCKET_REGION).filter(|_| is_redirection(status));
                let message = region.map_or(message, |region| format!("the bucket is in {region}"));
                (kind_of(status, &code), code, message)
            }
            SdkError::TimeoutError(_) => (FailureKind::Passing, "Timeout".to_owned(), "no answer in time".to_owned()),
            SdkError::DispatchFailure(_) => {
                let cause = cause_of(&error);
                match distrust(&cause) {
                    Some(code) => (FailureKind::Untrusted, code.to_owned(), cause),
                    None => (FailureKind::Passing, "NoConnection".to_owned(), cause),
                }
            }
            SdkError::ResponseError(_) => (FailureKind::Passing, "DamagedAnswer".to_owned(), cause_of(&error)),
            _ => (FailureKind::Refused, "InvalidRequest".to_owned(), cause_of(&error)),
        };
        Self { kind, code, message, status, request_id }
    }
}

/// Whether another endpoint is asked for: AWS's answer to a wrong region.
fn is_redirection(status: u16) -> bool {
    (300..400).contains(&status)
}

/// What is wrong with the server's certificate, where that is the cause. By rustls's own words for it: its type lies behind
/// an `io::Error`, and a dependency on its version would be needed to name it.
fn distrust(cause: &str) -> Option<&'static str> {
    let (_, why) = cause.split_once("invalid peer certificate: ")?;
    let begins = |words: &[&str]| words.iter().any(|word| why.starts_with(word));
    Some(match () {
        () if begins(&["UnknownIssuer"]) => UNKNOWN_AUTHORITY,
        () if begins(&["Expired", "certificate expired", "NotValidYet", "certificate not valid yet"]) => {
            EXPIRED_CERTIFICATE
        }
        () if begins(&["NotValidForName", "certificate not valid for name"]) => OTHER_NAME,
        () => BAD_CERTIFICATE,
    })
}

/// The causes below the SDK's own sentence, which only says that something failed.
fn cause_of(error: &(dyn std::error::Error + 'static)) -> String {
    error.source().map_or_else(|| Chain(error).to_string(), |source| Chain(source).to_string())
}

/// An answer to HEAD has no body, and so no code.
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

fn kind_of(status: u16, code: &str) -> FailureKind {
    match code {
        "NoSuchUpload" => FailureKind::NoSuchUpload,
        "PreconditionFailed" | "ConditionalRequestConflict" => FailureKind::Exists,
        "NotImplemented" => FailureKind::NotImplemented,
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => FailureKind::Expired,
        // 400 and 403 that are about this one attempt: damaged on the way, too slow, or a clock the SDK now allows for.
        "RequestTimeout"
        | "RequestTimeTooSkewed"
        | "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "IncompleteBody"
        | "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "InternalError" => FailureKind::Passing,
        _ => match status {
            404 if code == "NotFound" || code == "NoSuchKey" => FailureKind::NotFound,
            412 => FailureKind::Exists,
            501 => FailureKind::NotImplemented,
            // A success with an error inside (status below 300) is as good as no answer.
            0..300 | 408 | 429 | 500.. => FailureKind::Passing,
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
            (404, "NotFound", FailureKind::NotFound),
            (404, "NoSuchUpload", FailureKind::NoSuchUpload),
            (412, "PreconditionFailed", FailureKind::Exists),
            (501, "NotImplemented", FailureKind::NotImplemented),
            (400, "ExpiredToken", FailureKind::Expired),
            (301, "PermanentRedirect", FailureKind::Refused),
        ] {
            assert_eq!(kind_of(status, code), kind, "{status} {code}");
        }
    }
    #[test]
    fn certificates_are_told_from_other_causes() {
        for (cause, code) in [
            ("client error (Connect): invalid peer certificate: UnknownIssuer", Some(UNKNOWN_AUTHORITY)),
            (
                "invalid peer certificate: certificate expired: verification time 1 (UNIX), but certificate is not valid after 0",
                Some(EXPIRED_CERTIFICATE),
            ),
            ("invalid peer certificate: certificate not valid for name \"a\"; it is valid for \"b\"", Some(OTHER_NAME)),
            ("TLS handshake failed: invalid peer certificate: Expired", Some(EXPIRED_CERTIFICATE)),
            ("invalid peer certificate: BadSignature", Some(BAD_CERTIFICATE)),
            ("client error (Connect): tcp connect error: Connection refused", None),
        ] {
            assert_eq!(distrust(cause), code, "{cause}");
        }
    }
}
