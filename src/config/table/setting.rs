//! What a row of the table of settings says. Part of the table.

use super::CommandName;
use crate::exit_code::ExitCode;

/// Whether a value may ever be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// May be printed; may have a flag.
    Public,
    /// Never printed, never on a command line.
    Secret,
}

/// Where a flag stands in help texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Where backups go.
    Destination,
    /// What is backed up.
    Source,
    /// Where it is restored to.
    Target,
    /// How it is backed up.
    Backup,
    /// When it is backed up.
    Schedule,
    /// What is deleted afterwards.
    Retention,
    /// Who is told.
    Monitoring,
    /// What is written to the terminal.
    Output,
}

impl Group {
    /// The heading in help texts.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Self::Destination => "Destination",
            Self::Source => "Source",
            Self::Target => "Target",
            Self::Backup => "Backup",
            Self::Schedule => "Schedule",
            Self::Retention => "Retention",
            Self::Monitoring => "Monitoring",
            Self::Output => "Output",
        }
    }
}

/// What a shell offers for a flag's value. Nothing is refused by it: values are judged by `config`.
#[derive(Clone, Copy, Debug)]
pub enum Completion {
    /// Nothing: only the user knows.
    None,
    /// These words; others may be right, too.
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

/// One setting: an environment variable, perhaps with a flag of the same meaning.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable. With `_FILE` after it, the path of a file that holds the value.
    pub variable: &'static str,
    /// The long flag without its dashes.
    pub flag: Option<&'static str>,
    /// What stands for the value in help texts.
    pub value: &'static str,
    /// The default in words; empty where there is none. A value that can be given stands in backticks.
    pub default: &'static str,
    /// Whether the value may be shown.
    pub secrecy: Secrecy,
    /// The subcommands that use it.
    pub commands: &'static [CommandName],
    /// The exit code of a value that cannot be used.
    pub refusal: ExitCode,
    /// Where the flag stands in help texts.
    pub group: Group,
    /// Whether the flag is one of the few that `-h` shows.
    pub is_common: bool,
    /// What a shell offers for the flag's value.
    pub completion: Completion,
    /// What it does, in one sentence without a full stop. `-h` shows its first clause.
    pub help: &'static str,
}
