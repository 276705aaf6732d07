//! Why a check did not pass.

use crate::exit_code::ExitCode;
use crate::interrupt::Interrupt;

/// Why a check did not pass.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// At least one check failed.
    #[error("{failed} of {tried} checks failed: {checks}")]
    Failed {
        /// How many failed.
        failed: usize,
        /// How many ran.
        tried: usize,
        /// Their names, separated by commas.
        checks: String,
    },
    /// A signal stopped the check.
    #[error("stopped by {0}")]
    Interrupted(Interrupt),
}

impl From<Interrupt> for CheckError {
    fn from(interrupt: Interrupt) -> Self {
        Self::Interrupted(interrupt)
    }
}

impl CheckError {
    /// The exit code that `check` ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed { .. } => ExitCode::CheckFailed,
            Self::Interrupted(interrupt) => interrupt.exit_code(),
        }
    }
}
