//! The environment of the process as a value, so that tests can make one.
//!
//! A leaf: [`crate::config`] reads settings from it, [`crate::postgres`] the environment of child processes.

use std::collections::HashMap;
use std::ffi::OsString;

/// A snapshot of the process's environment. It is passed as an argument, so that no module reads globals.
#[derive(Clone, Default)]
pub struct Environment {
    variables: HashMap<OsString, OsString>,
}

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// A variable's value; an empty variable is an unset one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty())
    }

    /// The names of all variables that are set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().filter(|(_, value)| !value.is_empty()).filter_map(|(name, _)| name.to_str())
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().collect() }
    }
}
