//! Waits for an answer of S3 with a deadline, and says in a finding's words what went wrong with it.
//!
//! Used by `store`, `newest` and `deep`. What these credentials may not do is told from everything else, for a backup can do
//! without some of it.

use std::time::Duration;

use tokio::time::timeout;

use crate::storage::{OutageLimit, StorageError};

use super::result::{Outcome, Status};

/// Why there is no answer to build on.
#[derive(Debug)]
pub(super) struct RequestError {
    /// The credentials are good, but may not do this.
    pub is_denied: bool,
    detail: String,
    hint: Option<String>,
}

impl RequestError {
    /// A failure; where it was denied, `if_denied`.
    pub fn verdict(self, if_denied: Status) -> Outcome {
        let status = if self.is_denied { if_denied } else { Status::Fail };
        Outcome { status, detail: self.detail, hint: self.hint }
    }

    /// With what fixes it in the words of the probe, where it was denied.
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
            StorageError::Outage { action, last, failed, limit, .. } => Self {
                is_denied: false,
                detail: format!("{action}: {last} ({failed} attempts)"),
                hint: Some(match limit {
                    OutageLimit::FirstContact => limit.advice().to_owned(),
                    OutageLimit::Budget => {
                        "look at the server, and at the network and proxies on the way to it".to_owned()
                    }
                }),
            },
            other => Self { is_denied: false, detail: crate::error::Chain(&other).to_string(), hint: None },
        }
    }
}

/// The answer, or what is wrong.
pub(super) async fn answered<T>(
    deadline: Duration,
    request: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, RequestError> {
    match timeout(deadline, request).await {
        Ok(answer) => answer.map_err(RequestError::from),
        Err(_) => Err(RequestError {
            is_denied: false,
            detail: format!("no answer within {}", humantime::format_duration(deadline)),
            hint: Some("look at the server, and at the network and proxies on the way to it".to_owned()),
        }),
    }
}
