//! S3 Client: the only module that uses the AWS SDK.
//!
//! Connection: `client` builds the SDK's client, `watchdog` ends stalled requests, `failure` classifies errors, `retry`
//! waits for the end of outages. A multipart upload: `upload`, `parts`, `complete` and `commit`; the last compares by
//! `head`, `expected` and `read_back`. The bucket: `destination` is a prefix of it, `pages` its listings, `download`
//! reads an object in ranges (`range`), `upkeep` deletes, `probe` tests permissions. `web` lends the SDK's HTTP client
//! to pings. Used by `backup`, `archive`, `retention` and `check`.

mod client;
mod commit;
mod complete;
mod connector;
mod credentials;
mod destination;
mod download;
mod expected;
mod failure;
mod head;
mod lanes;
mod pages;
mod parts;
mod payload;
mod probe;
mod range;
mod read_back;
mod requests;
mod retry;
mod settings;
mod sidecar;
mod unacknowledged;
mod upkeep;
mod upload;
mod watchdog;
mod web;

use std::time::Duration;

use crate::exit_code::ExitCode;
use crate::spool::SpoolError;

pub use commit::Committed;
pub use destination::{Damaged, Destination};
pub use download::{Download, SectionedObject};
pub use failure::{Failure, FailureKind};
pub use head::{Head, etag_parts};
pub use lanes::Lanes;
pub use probe::{FirstLook, PROBE_NAME, Probe};
pub use requests::NewUpload;
pub use retry::{Outage, OutageLimit};
pub use settings::{
    AtRest, CaBundle, ChecksumSetting, Encryption, Endpoint, MAX_PARTS, Prefix, S3Settings, StaticCredentials,
    read_ca_bundle,
};
pub use sidecar::Sidecar;
pub use upkeep::{AbandonedUpload, Deletion};
pub use upload::{Aborted, Upload};
pub use web::WebClient;

/// Why S3 did not do what was requested.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Neither settings nor the AWS chain hold credentials.
    #[error("S3_ACCESS_KEY and S3_SECRET_KEY are not set, and the AWS chain has no credentials: {reason}")]
    NoCredentials {
        /// What the chain said.
        reason: String,
    },
    /// The CA bundle cannot be used.
    #[error("S3_CA_BUNDLE cannot be used: {reason}")]
    TrustStore {
        /// Why.
        reason: String,
    },
    /// S3 refused.
    #[error("{action}: {failure}: {}", failure.advice())]
    Refused {
        /// The action.
        action: &'static str,
        /// The answer.
        failure: Failure,
        /// Whether it answered the first request, so that the configuration is at fault.
        first: bool,
    },
    /// The store does not confirm the requested encryption.
    #[error(
        "begin the upload: S3_SSE={asked} was asked for, but the store answers {}: unset S3_SSE, or set it to what this store can do",
        answered.as_deref().unwrap_or("without encryption")
    )]
    NotEncrypted {
        /// `S3_SSE`
        asked: &'static str,
        /// The encryption that the store names.
        answered: Option<String>,
    },
    /// No request to S3 succeeded for too long.
    #[error(
        "{action}: S3 took nothing for {} ({failed} attempts failed): {last}: {}",
        humantime::format_duration(Duration::from_secs(lasted.as_secs())),
        limit.advice(last)
    )]
    Outage {
        /// The last action.
        action: &'static str,
        /// Duration of the outage.
        lasted: Duration,
        /// Number of failed attempts.
        failed: u32,
        /// The last failure.
        last: Failure,
        /// What ended the waiting.
        limit: OutageLimit,
    },
    /// Every tested name is taken.
    #[error("look for a free name: {tried} names from {key} on are taken: look at the objects there")]
    NoFreeName {
        /// The first key.
        key: String,
        /// How many.
        tried: u32,
    },
    /// Another object has the backup's name.
    #[error("commit {key}: another object has this name: it was left alone, run the backup again")]
    Foreign {
        /// The key.
        key: String,
    },
    /// S3 holds other bytes than were sent.
    #[error("check {key}: {what}: it was deleted, run the backup again")]
    Mismatch {
        /// The key.
        key: String,
        /// What differs.
        what: String,
    },
    /// The parts are not those that were made.
    #[error("commit {key}: {what}")]
    Inconsistent {
        /// The key.
        key: String,
        /// What differs.
        what: String,
    },
    /// The store refuses parts that it has accepted before, and their sizes differ.
    #[error(
        "commit {key}: {last}: the parts grew with the dump, and this store may want them equal: set S3_EQUAL_PARTS=true"
    )]
    UnequalParts {
        /// The key.
        key: String,
        /// What the store said.
        last: Failure,
    },
    /// The object being read was replaced or deleted.
    #[error("read {key}: it was replaced or deleted while it was read: read it again")]
    Replaced {
        /// The key.
        key: String,
    },
    /// A part on disk cannot be sent.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// S3 does not say whether the object exists.
    #[error("commit {key}: S3 does not say whether it took the object ({last}): look for it with `list`")]
    Unknown {
        /// The key.
        key: String,
        /// The last failure.
        last: Failure,
    },
}

impl StorageError {
    /// The exit code of a command with this error: missing setting, invalid S3 setting if the first request was refused,
    /// else storage failed.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::NoCredentials { .. } => ExitCode::MissingSetting,
            Self::TrustStore { .. } | Self::NotEncrypted { .. } | Self::Refused { first: true, .. } => {
                ExitCode::InvalidS3
            }
            Self::Refused { first: false, .. }
            | Self::Outage { .. }
            | Self::NoFreeName { .. }
            | Self::Foreign { .. }
            | Self::Mismatch { .. }
            | Self::Inconsistent { .. }
            | Self::UnequalParts { .. }
            | Self::Replaced { .. }
            | Self::Spool(_)
            | Self::Unknown { .. } => ExitCode::StorageFailed,
        }
    }

    /// Marks a refusal as the answer to the first request.
    #[must_use]
    pub fn at_first_request(self) -> Self {
        match self {
            Self::Refused { action, failure, .. } => Self::Refused { action, failure, first: true },
            other => other,
        }
    }
}
