//! One file per subcommand: builds the parts, calls one, prints the result.

pub mod backup;
mod catch_up;
pub mod check;
mod check_drill;
pub mod completions;
mod contents;
pub mod daemon;
mod daemon_drill;
mod daemon_inventory;
pub mod delete;
mod destinations;
mod drill;
pub mod health;
pub mod list;
mod plan_table;
pub mod prune;
pub mod restore;
mod run_backup;
mod server_run;
mod table;

use std::io::{BufWriter, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::archive::Listing;
use crate::config::{self, Flags, Notifications};
use crate::environment::Environment;
use crate::error::Error;
use crate::error_chain::Chain;
use crate::printable::{PrintableJson, printable_lines};
use crate::storage::Destination;
use crate::telemetry::metrics::MetricsStore;
use crate::telemetry::{LogWriter, Redactor};

/// What every subcommand gets.
pub struct Context<'a> {
    /// Settings given as flags.
    pub flags: &'a Flags,
    /// The environment.
    pub environment: &'a Environment,
    /// Where log lines go, and what must not be shown.
    pub writer: &'a LogWriter,
}

/// An owned [`Context`], for a thread or for the daemon's runs.
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

    /// The borrowed context.
    pub fn context(&self) -> Context<'_> {
        Context { flags: &self.flags, environment: &self.environment, writer: &self.writer }
    }

    /// The same, before settings are resolved again: what the secret files hold now is hidden from now on.
    pub fn learned(&self) -> Context<'_> {
        self.writer.learn(Redactor::new(config::secrets(&self.flags, &self.environment)));
        self.context()
    }
}

impl Context<'_> {
    /// Writes a result to stdout. It consists of this program's own values, none of which is secret, so it is not redacted: a
    /// bucket with the name of a key must not change. Control characters in foreign names are escaped.
    ///
    /// # Errors
    /// If stdout cannot be written. A closed reader (`| head`) is no error.
    pub fn print(&self, text: &str) -> Result<(), Error> {
        self.print_verbatim(&printable_lines(text))
    }

    /// Writes text to stdout unchanged.
    ///
    /// # Errors
    /// As [`Self::print`].
    pub fn print_verbatim(&self, text: &str) -> Result<(), Error> {
        let mut stdout = std::io::stdout().lock();
        ended(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
    }

    /// Writes a result to stdout as JSON in one line.
    ///
    /// # Errors
    /// As [`Self::print`].
    pub fn print_json(&self, value: &impl Serialize) -> Result<(), Error> {
        print_json(value)
    }

    /// Ends a command that changes the destination: prints what it did, as JSON also if it failed.
    ///
    /// # Errors
    /// Why it failed, else as [`Self::print`].
    pub fn conclude<T: Serialize>(
        &self,
        is_json: bool,
        done: Result<(), Error>,
        outcome: &T,
        words: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if is_json {
            let error = done.as_ref().err().map(|error| self.cause(error));
            let printed = self.print_json(&Concluded { success: done.is_ok(), outcome, error });
            return done.and(printed);
        }
        done?;
        self.print(&words())
    }

    /// The text of an error for a result, without the secrets that other programs' messages may contain.
    #[must_use]
    pub fn cause(&self, error: &Error) -> String {
        self.writer.clean(&Chain(error).to_string())
    }

    /// Prints a failure as JSON, if the result should be JSON.
    pub fn print_failure(&self, is_json: bool, error: &Error) {
        let failure = Failure { success: false, error: self.cause(error) };
        // If stdout failed, it fails for this, too.
        if is_json
            && !matches!(error, Error::Output(_))
            && let Err(error) = self.print_json(&failure)
        {
            tracing::warn!(error = %Chain(&error), "the report cannot be written");
        }
    }
}

/// The metrics of the runs to this destination.
fn metrics_store(context: &Context<'_>, notifications: &Notifications) -> MetricsStore {
    let store = MetricsStore::open(notifications.destination.as_deref(), notifications.metrics_file.clone());
    let is_server = config::means_several_databases(context.flags, context.environment);
    if is_server { store.of_server() } else { store }
}

/// A result with how it ended, as `--json` prints it.
#[derive(Serialize)]
struct Concluded<T> {
    success: bool,
    #[serde(flatten)]
    outcome: T,
    error: Option<String>,
}

/// The error if a destination lacks a backup, or all of them.
async fn no_such_backup(destination: &Destination, name: String) -> Error {
    let location = destination.url();
    match Listing::read(destination).await {
        Ok(listing) if listing.names(1).next().is_none() => Error::NoBackups { location },
        _ => Error::NoSuchBackup { name, location },
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Error> {
    let mut stdout = BufWriter::new(std::io::stdout().lock());
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut stdout, PrintableJson));
    let written = written.map_err(std::io::Error::from);
    ended(written.and_then(|()| writeln!(stdout)).and_then(|()| stdout.flush()))
}

/// Ignores a closed reader.
fn ended(written: std::io::Result<()>) -> Result<(), Error> {
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::Output),
    }
}

/// The width that every terminal has.
const COLUMNS: usize = 80;

/// The maximum width of a table on stdout; `None` without a terminal.
fn columns() -> Option<usize> {
    std::io::stdout().is_terminal().then_some(COLUMNS)
}

/// What `--json` prints for a failure without a result.
#[derive(Serialize)]
struct Failure {
    success: bool,
    error: String,
}

/// Prints a usage error as JSON: the first line of its message.
pub(crate) fn print_usage_failure(text: &str) {
    let line = text.lines().next().unwrap_or_default();
    let failure = Failure { success: false, error: line.trim_start_matches("error: ").to_owned() };
    // The message is on stderr already.
    drop(print_json(&failure));
}

/// Logs the error that ends a run, with one line per problem of the settings.
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
