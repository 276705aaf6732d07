//! The subcommands. Part of the table.

/// Every subcommand that has settings.
pub const ALL: &[CommandName] = &[
    CommandName::Backup,
    CommandName::List,
    CommandName::Check,
    CommandName::Daemon,
    CommandName::Health,
    CommandName::Prune,
    CommandName::Restore,
    CommandName::Delete,
];

/// A subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandName {
    /// `backup`
    Backup,
    /// `list`
    List,
    /// `daemon`
    Daemon,
    /// `check`
    Check,
    /// `health`
    Health,
    /// `prune`
    Prune,
    /// `restore`
    Restore,
    /// `delete`
    Delete,
    /// `completions`, which has no settings
    Completions,
}

impl CommandName {
    /// The word on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::List => "list",
            Self::Daemon => "daemon",
            Self::Check => "check",
            Self::Health => "health",
            Self::Prune => "prune",
            Self::Restore => "restore",
            Self::Delete => "delete",
            Self::Completions => "completions",
        }
    }
}
