//! The flags of `restore` that are not settings. Part of [`super`].

use std::path::PathBuf;

use clap::ValueHint;
use clap::builder::{NonEmptyStringValueParser, TypedValueParser as _};

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
    /// Newest backup started by this time: RFC 3339 or local in `BACKUP_TIMEZONE`
    #[arg(long, value_name = "TIME", conflicts_with = "name", value_hint = ValueHint::Other)]
    pub at: Option<String>,
    /// With `BACKUP_DATABASES`: the database that was backed up
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other, value_parser = NonEmptyStringValueParser::new())]
    pub database: Option<String>,
    /// Write the plain dump to this file, or with `-` to stdout
    #[arg(long, help_heading = Group::Target.heading(), value_name = "FILE", conflicts_with_all = ["RESTORE_CONNECTION_STRING", "IntoDatabase"], value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// Write the stored bytes (compressed), to a file or stdout
    #[arg(long, help_heading = Group::Target.heading(), conflicts_with_all = ["RESTORE_CONNECTION_STRING", "IntoDatabase"])]
    pub raw: bool,
    /// Verify without the manifest: by the codec's checksum and the dump's end
    #[arg(long)]
    pub ignore_manifest: bool,
    /// Restore nothing; look for what would make the restore fail
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as one JSON object on stdout
    #[arg(long, help_heading = Group::Output.heading())]
    pub json: bool,
    /// Draw no progress bar; log progress every 30 s instead
    #[arg(long, help_heading = Group::Output.heading())]
    pub no_progress: bool,
    /// Which part is restored.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Flags of a restore into a database.
    #[command(flatten)]
    pub into: IntoDatabase,
}

/// Flags of a restore of a part.
#[derive(Debug, clap::Args)]
#[group(id = "Selection", multiple = true)]
#[command(next_help_heading = Group::Target.heading())]
pub struct SelectArgs {
    /// Restore only matching tables, views and sequences (with `*`, `?`)
    ///
    /// They come with all that belongs to them: indexes, constraints, triggers, own sequences, partitions, comments, grants. A
    /// pattern matches `table` or `schema.table`. Only their part of the backup is read.
    #[arg(long, value_name = "GLOB", value_hint = ValueHint::Other, conflicts_with_all = EXCLUDE)]
    pub table: Vec<String>,
    /// Restore only matching schemas with everything in them
    #[arg(long, value_name = "GLOB", value_hint = ValueHint::Other, conflicts_with_all = EXCLUDE)]
    pub schema: Vec<String>,
    /// Restore only definitions, no rows
    #[arg(long, conflicts_with_all = EXCLUDE)]
    pub schema_only: bool,
    /// Restore only rows, into empty tables that exist
    #[arg(long, conflicts_with_all = EXCLUDE, conflicts_with_all = ["schema_only", "create_db"])]
    pub data_only: bool,
}

/// What cannot go with a selection.
const EXCLUDE: [&str; 5] = ["raw", "replace", "exclude_table", "exclude_schema", "exclude_table_data"];

/// Flags of a restore into a database.
#[derive(Debug, clap::Args)]
#[group(id = "IntoDatabase", multiple = true)]
#[command(next_help_heading = Group::Target.heading())]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct IntoDatabase {
    /// Create this database; it gets its name when it is complete
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    pub create_db: Option<String>,
    /// Replace the database of that name; the old one is kept, renamed
    #[arg(long, requires = "create_db")]
    pub replace: bool,
    /// If the restore fails, keep the incomplete scratch database
    #[arg(long, requires = "create_db")]
    pub keep_failed: bool,
    /// Restore no owners: the connecting role owns everything
    #[arg(long)]
    pub no_owner: bool,
    /// Restore no grants
    #[arg(long)]
    pub no_privileges: bool,
    /// Restore no tablespaces: everything is in the default one
    #[arg(long)]
    pub no_tablespaces: bool,
    /// Restore no comments
    #[arg(long)]
    pub no_comments: bool,
    /// Leave out matching tables, views and sequences (with `*`, `?`)
    ///
    /// Everything that belongs to them is left out, too. A pattern matches `table` or `schema.table`.
    #[arg(long, value_name = "GLOB", value_hint = ValueHint::Other)]
    pub exclude_table: Vec<String>,
    /// Leave out matching schemas with everything in them
    #[arg(long, value_name = "GLOB", value_hint = ValueHint::Other)]
    pub exclude_schema: Vec<String>,
    /// Leave out the rows of matching tables
    #[arg(long, value_name = "GLOB", value_hint = ValueHint::Other)]
    pub exclude_table_data: Vec<String>,
    /// Create missing roles that the manifest lists, with `NOLOGIN`
    #[arg(long)]
    pub create_roles: bool,
    /// Create missing roles, with passwords, from the backup's globals
    ///
    /// Their memberships, too. The globals are what `pg_dumpall --globals-only` writes.
    #[arg(long)]
    pub globals: bool,
    /// With `--create-db`: no owner, grants and settings of the database
    #[arg(long)]
    pub no_database_settings: bool,
    /// `search_path` of the restore, for functions that need one
    ///
    /// They can call anything in its schemas.
    #[arg(long, value_name = "LIST", value_hint = ValueHint::Other)]
    pub search_path: Option<String>,
    /// Do not run `ANALYZE` afterwards
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
            ("--exclude-table", !self.exclude_table.is_empty()),
            ("--exclude-schema", !self.exclude_schema.is_empty()),
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
