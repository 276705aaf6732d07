//! The flags of a drill that are not settings. Part of [`super`].

use std::path::PathBuf;

use clap::ValueHint;

use crate::config::table::Group;

/// Flags of `check --restore-to`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = Group::Checks.heading())]
pub struct DrillArgs {
    /// Run the queries of this file in the restored database; each must return one true
    #[arg(long, hide_short_help = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub check_sql: Option<PathBuf>,
    /// Allow a drill on the server that was backed up
    #[arg(long, hide_short_help = true)]
    pub allow_same_server: bool,
    /// Allow a drill as a superuser on a server that has other databases
    #[arg(long, hide_short_help = true)]
    pub allow_shared_server: bool,
}

impl DrillArgs {
    /// The first of these flags that was given.
    #[must_use]
    pub fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--check-sql", self.check_sql.is_some()),
            ("--allow-same-server", self.allow_same_server),
            ("--allow-shared-server", self.allow_shared_server),
        ];
        flags.into_iter().find_map(|(flag, is_given)| is_given.then_some(flag))
    }
}
