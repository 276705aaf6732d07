//! The flags of `restore` that are not settings. Part of [`super`].

use std::path::PathBuf;

use clap::ValueHint;
use clap::builder::TypedValueParser as _;

use super::flags::Suggested;
use super::values::BackupRef;
use crate::config::table::Group;

/// Flags of `restore` that are not settings.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct RestoreArgs {
    /// The backup: its name, its key, its s3:// URL, or `latest` [default: latest]
    #[arg(value_parser = Suggested(vec!["latest"]).try_map(|text| text.parse::<BackupRef>()), hide_possible_values = true)]
    pub name: Option<BackupRef>,
    /// Restore the newest backup that was started at or before this time: RFC 3339, or local in `BACKUP_TIMEZONE`
    #[arg(long, value_name = "TIME", conflicts_with = "name", value_hint = ValueHint::Other)]
    pub at: Option<String>,
    /// Write the plain dump to this file, or with `-` to stdout
    #[arg(long, help_heading = Group::Target.heading(), value_name = "FILE", conflicts_with_all = ["RESTORE_CONNECTION_STRING", "IntoDatabase"], value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Write the bytes as they are stored: to a file or stdout
    #[arg(long, help_heading = Group::Target.heading(), conflicts_with_all = ["RESTORE_CONNECTION_STRING", "IntoDatabase"])]
    pub raw: bool,
    /// Judge the backup as one without a manifest: by itself alone
    #[arg(long)]
    pub ignore_manifest: bool,
    /// Restore nothing; see whether it could be done
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as one JSON object on stdout
    #[arg(long, help_heading = Group::Output.heading())]
    pub json: bool,
    /// Draw no progress bar; log progress every 30 s instead
    #[arg(long, help_heading = Group::Output.heading())]
    pub no_progress: bool,
    /// What a restore into a database is told.
    #[command(flatten)]
    pub into: IntoDatabase,
}

/// Flags of a restore into a database.
#[derive(Debug, clap::Args)]
#[group(id = "IntoDatabase", multiple = true)]
#[command(next_help_heading = Group::Target.heading())]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct IntoDatabase {
    /// Make this database; it appears when it is complete
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    pub create_db: Option<String>,
    /// Where that database exists, rename it and put the new one into its place
    #[arg(long, requires = "create_db")]
    pub replace: bool,
    /// Keep a database that could not be filled, under its scratch name
    #[arg(long, requires = "create_db")]
    pub keep_failed: bool,
    /// Leave owners out: the connecting role owns everything
    #[arg(long)]
    pub no_owner: bool,
    /// Leave grants out
    #[arg(long)]
    pub no_privileges: bool,
    /// Leave tablespaces out
    #[arg(long)]
    pub no_tablespaces: bool,
    /// Leave comments out
    #[arg(long)]
    pub no_comments: bool,
    /// Leave out the rows of tables that match: `schema.table`, with `*` and `?`
    #[arg(long, value_name = "GLOB", value_hint = ValueHint::Other)]
    pub exclude_table_data: Vec<String>,
    /// Make missing roles, without login
    #[arg(long)]
    pub create_roles: bool,
    /// Make missing roles and their memberships as the globals have them
    #[arg(long)]
    pub globals: bool,
    /// Leave out owner, grants and settings of the database itself
    #[arg(long)]
    pub no_database_settings: bool,
    /// Give functions of the dump this search_path; they run whatever stands in its schemas
    #[arg(long, value_name = "LIST", value_hint = ValueHint::Other)]
    pub search_path: Option<String>,
    /// Gather no statistics afterwards
    #[arg(long)]
    pub no_analyze: bool,
}

impl IntoDatabase {
    /// The first of these flags that was given.
    #[must_use]
    pub fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--create-db", self.create_db.is_some()),
            ("--replace", self.replace),
            ("--keep-failed", self.keep_failed),
            ("--no-owner", self.no_owner),
            ("--no-privileges", self.no_privileges),
            ("--no-tablespaces", self.no_tablespaces),
            ("--no-comments", self.no_comments),
            ("--exclude-table-data", !self.exclude_table_data.is_empty()),
            ("--create-roles", self.create_roles),
            ("--globals", self.globals),
            ("--no-database-settings", self.no_database_settings),
            ("--search-path", self.search_path.is_some()),
            ("--no-analyze", self.no_analyze),
        ];
        flags.into_iter().find_map(|(flag, is_given)| is_given.then_some(flag))
    }
}
