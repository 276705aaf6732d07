//! The hint at the end of a failure's message. Part of [`super`].

use super::{ARCHIVED, BROKEN_LISTING, BUCKET_IS_KEY, Failure, FailureKind, NO_SUCH_BUCKET, transit};

impl Failure {
    /// The hint that ends the message of an outage with this last failure.
    #[must_use]
    pub fn outage_advice(&self) -> &'static str {
        transit::advice(&self.code, &self.message)
            .unwrap_or("look at the server, at S3_URL, and at the network and proxies on the way")
    }

    /// The hint that ends the message.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        if let Some(advice) = transit::advice(&self.code, &self.message) {
            return advice;
        }
        match self.code.as_str() {
            _ if self.kind == FailureKind::NotFromS3 => {
                "S3 did not send this answer: correct S3_URL, or look at the proxy or load balancer before the store"
            }
            NO_SUCH_BUCKET => "create the bucket, or correct S3_BUCKET",
            // The second is Swift's.
            "InvalidAccessKeyId" | "NotSignedUp" => "correct S3_ACCESS_KEY",
            "SignatureDoesNotMatch" => "correct S3_SECRET_KEY",
            // Some servers answer the same to a wrong key or secret.
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
                "have the store or the proxy before it fixed: nothing is deleted by an incomplete listing"
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
