//! A warning about the settings. Made by `warnings` and `typos`.

use std::fmt;

/// A setting that is valid, but may not do what the user expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What is set and what it does; never with a secret.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.hint)
    }
}
