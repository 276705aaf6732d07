//! One file a subcommand: build the parts, call one, print the result.

pub mod backup;
pub mod completions;
pub mod list;
mod table;

use std::io::Write as _;

use crate::config::{Environment, Flags};
use crate::error::Error;
use crate::telemetry::LogWriter;

/// What every subcommand gets.
pub struct Context<'a> {
    /// Settings given as flags.
    pub flags: &'a Flags,
    /// The environment.
    pub environment: &'a Environment,
    /// Where log lines go, and what must not be shown.
    pub writer: &'a LogWriter,
}

impl Context<'_> {
    /// Writes a result to stdout. It is made of this program's own values, none of which is a secret, and is not
    /// searched for any: a bucket that is called as its key must not turn names into something else.
    ///
    /// # Errors
    /// Where stdout cannot be written; a reader that has gone (`| head`) is no error.
    pub fn print(&self, text: &str) -> Result<(), Error> {
        let mut stdout = std::io::stdout().lock();
        match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(Error::Output),
        }
    }
}
