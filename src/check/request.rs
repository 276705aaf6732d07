//! Sends a request to S3 with a deadline, and turns its error into an outcome.
//!
//! Used by `store`, `newest` and `deep`. A denied request is separate from other errors, because a backup works without some of
//! them.

use std::time::Duration;

use tokio::time::timeout;

use crate::storage::StorageError;

use super::result::{Outcome, Status};

/// Why a request failed.
#[derive(Debug)]
pub(super) struct RequestError {
    /// The credentials are valid, but may not do this.
    pub is_denied: bool,
    detail: String,
    hint: Option<String>,
}

impl RequestError {
    /// The outcome: a failure, or `if_denied` for a denied request.
    pub fn verdict(self, if_denied: Status) -> Outcome {
        let status = if self.is_denied { if_denied } else { Status::Fail };
        Outcome { status, detail: self.detail, hint: self.hint }
    }

    /// Replaces the hint for a denied request.
    pub fn or_if_denied(mut self, hint: &str) -> Self {
        if self.is_denied {
            self.hint = Some(hint.to_owned());
        }
        self
    }
}

impl From<StorageError> for RequestError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Refused { action, failure, .. } => Self {
                is_denied: failure.is_denied(),
                detail: format!("{action}: {failure}"),
                hint: Some(failure.advice().to_owned()),
            },
            StorageError::Outage { action, last, failed, .. } => Self {
                is_denied: false,
                detail: format!("{action}: {last} ({failed} attempts)"),
                hint: Some(last.outage_advice().to_owned()),
            },
            other => Self { is_denied: false, detail: crate::error_chain::Chain(&other).to_string(), hint: None },
        }
    }
}

/// The answer, or the error.
pub(super) async fn answered<T>(
    deadline: Duration,
    request: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, RequestError> {
    match timeout(deadline, request).await {
        Ok(answer) => answer.map_err(RequestError::from),
        Err(_) => Err(RequestError {
            is_denied: false,
            detail: format!("no answer within {}", humantime::format_duration(deadline)),
            hint: Some("check the server, the network and its proxies".to_owned()),
        }),
    }
}
