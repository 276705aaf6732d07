//! Why a drill did not succeed: because of the backup, or because of the server that it runs on.

use std::fmt;

use crate::error_chain::Chain;
use crate::interrupt::Interrupt;

use super::{RestoreError, ScratchError};

/// Messages that are not about the backup: the server has no space or memory, ends, or its role lacks rights.
const OF_THE_SERVER: [&str; 23] = [
    "No space left",
    "disk full",
    "out of shared memory",
    "out of memory",
    "terminating connection",
    "server closed the connection",
    "connection to server was lost",
    "could not receive data from server",
    "permission denied",
    "must be owner",
    "must be superuser",
    "must be member",
    "must be able to SET ROLE",
    "could not open extension control file",
    "is not available",
    "not supported by this build",
    // A locale, a dictionary or a library that the host of the drill lacks.
    "could not create locale",
    "could not open",
    "could not access file",
    "could not load library",
    // The host or its administrator ended the query.
    "canceling statement due to user request",
    "temporary file size exceeds",
    "psql ended without a word",
];

/// What a drill found, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it found.
    pub text: String,
    /// What to do, unless the text says it.
    pub hint: Option<String>,
}

impl Finding {
    /// A finding without a hint.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// Text and hint on one line, for the log.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, ": {hint}"))
    }
}

/// Why a drill did not succeed.
#[derive(Debug)]
pub(super) enum DrillError {
    /// A signal asked the program to stop.
    Interrupted(Interrupt),
    /// The drill could not be run, which says nothing about the backup.
    NotProven(Finding),
    /// The backup failed a check.
    Failed {
        /// The check, in one word.
        check: &'static str,
        /// What it found.
        reason: Finding,
    },
}

impl DrillError {
    /// The check that a statement of the dump failed.
    pub const STATEMENT: &str = "statement";

    pub fn not_proven(error: impl std::error::Error + 'static) -> Self {
        Self::NotProven(Finding::new(Chain(&error).to_string()))
    }

    pub fn failed(check: &'static str, reason: impl fmt::Display) -> Self {
        Self::Failed { check, reason: Finding::new(reason.to_string()) }
    }

    /// Adds what to do.
    pub fn with_hint(self, hint: String) -> Self {
        match self {
            Self::Failed { check, reason } => Self::Failed { check, reason: reason.with_hint(hint) },
            Self::NotProven(finding) => Self::NotProven(finding.with_hint(hint)),
            Self::Interrupted(_) => self,
        }
    }
}

impl From<Interrupt> for DrillError {
    fn from(interrupt: Interrupt) -> Self {
        Self::Interrupted(interrupt)
    }
}

impl From<RestoreError> for DrillError {
    fn from(error: RestoreError) -> Self {
        let check = match &error {
            RestoreError::Interrupted(interrupt) => return Self::Interrupted(*interrupt),
            RestoreError::Mismatch { .. } | RestoreError::DamagedManifest { .. } => "integrity",
            RestoreError::Refused { .. } => "contents",
            RestoreError::Rows { .. } => "rows",
            RestoreError::Statement { reason, .. } if !is_of_the_server(reason) => Self::STATEMENT,
            _ => return Self::not_proven(error),
        };
        Self::failed(check, Chain(&error))
    }
}

impl From<ScratchError> for DrillError {
    fn from(error: ScratchError) -> Self {
        match error {
            ScratchError::MayNotCreate { user } => {
                let found = Finding::new(format!("the role {user} may not create databases"));
                Self::NotProven(found.with_hint(format!("run ALTER ROLE {user} CREATEDB")))
            }
            error => Self::not_proven(error),
        }
    }
}

/// Whether the server could not do what the dump asks for.
fn is_of_the_server(reason: &str) -> bool {
    let lacks_role = reason.contains("role \"") && reason.contains("does not exist");
    lacks_role || OF_THE_SERVER.iter().any(|words| reason.contains(words))
}
