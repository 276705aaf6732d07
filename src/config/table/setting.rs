//! The columns of the table of settings. Part of the table.

use super::CommandName;
use crate::exit_code::ExitCode;

/// Whether a value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// May be printed; may have a flag.
    Public,
    /// Never printed, never on a command line.
    Secret,
}

/// The group of a flag in help texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The bucket, and where backups are in it.
    Storage,
    /// The database that is backed up, and PostgreSQL's programs.
    Postgres,
    /// Where it is restored to.
    Target,
    /// How it is backed up.
    Backup,
    /// When it is backed up.
    Schedule,
    /// What `check` verifies.
    Checks,
    /// Which backups are deleted.
    Retention,
    /// Metrics, health and pings.
    Monitoring,
    /// What is written to the terminal.
    Output,
}

impl Group {
    /// The groups in the order of help texts.
    pub const ALL: [Self; 9] = [
        Self::Postgres,
        Self::Storage,
        Self::Target,
        Self::Backup,
        Self::Schedule,
        Self::Checks,
        Self::Retention,
        Self::Monitoring,
        Self::Output,
    ];

    /// The heading in help texts.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Storage => "Storage",
            Self::Postgres => "PostgreSQL",
            Self::Target => "Target",
            Self::Backup => "Backup",
            Self::Schedule => "Schedule",
            Self::Checks => "Checks",
            Self::Retention => "Retention",
            Self::Monitoring => "Monitoring",
            Self::Output => "Output",
        }
    }
}

/// What a shell completes for a flag's value. It restricts nothing: `config` judges values.
#[derive(Clone, Copy, Debug)]
pub enum Completion {
    /// Nothing.
    None,
    /// These words; others may be valid, too.
    Words(fn() -> Vec<&'static str>),
    /// Files.
    File,
    /// Directories.
    Directory,
    /// Programs.
    Program,
    /// A URL.
    Url,
}

/// One setting: an environment variable, and perhaps a flag.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable. With `_FILE` appended, it names a file that holds the value.
    pub variable: &'static str,
    /// The long flag without its dashes.
    pub flag: Option<&'static str>,
    /// The placeholder for the value in help texts.
    pub value: &'static str,
    /// The default in words; empty if there is none. A literal value is in backticks.
    pub default: &'static str,
    /// Whether the value may be shown.
    pub secrecy: Secrecy,
    /// The subcommands that use it.
    pub commands: &'static [CommandName],
    /// The exit code of an invalid value.
    pub refusal: ExitCode,
    /// The group of the flag.
    pub group: Group,
    /// What a shell completes for the flag's value.
    pub completion: Completion,
    /// Its description, one sentence without a full stop. `-h` shows its first clause.
    pub help: &'static str,
}
