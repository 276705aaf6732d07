//! One file a subcommand: build the parts, call one, print the result.

pub mod backup;
mod catch_up;
pub mod check;
pub mod completions;
pub mod daemon;
pub mod health;
pub mod list;
mod plan_table;
pub mod prune;
mod table;
mod take;

use std::io::Write as _;

use crate::config::{Environment, Flags};
use crate::error::{Chain, Error};
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

/// The same for what outlives its caller: a thread, or the runs of the daemon.
pub(crate) struct OwnedContext {
    pub flags: Flags,
    pub environment: Environment,
    pub writer: LogWriter,
}

impl OwnedContext {
    fn of(context: &Context<'_>) -> Self {
        let Context { flags, environment, writer } = *context;
        Self { flags: flags.clone(), environment: environment.clone(), writer: writer.clone() }
    }

    /// What is lent of it.
    pub fn context(&self) -> Context<'_> {
        Context { flags: &self.flags, environment: &self.environment, writer: &self.writer }
    }
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

/// Logs the error that ends a run: once, and each problem of the settings on its own line.
pub(crate) fn log_failure(command: &'static str, error: &Error) {
    let exit_code = error.exit_code().number();
    if let Error::Settings(problems) = error {
        for problem in problems.texts() {
            tracing::error!(command, exit_code, "{problem}");
        }
    } else {
        tracing::error!(command, exit_code, error = %Chain(error), "{command} failed");
    }
}
