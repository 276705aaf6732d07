//! Examples and files for `--help` and the manual.
//!
//! Used by `cli`, and by a test that runs each example as printed.

use crate::config::table::{CommandName, POSTGRES_CONNECTION_STRING, S3_BUCKET, Setting};

/// A command line worth copying.
#[derive(Debug)]
pub struct Example {
    /// The subcommand that it shows.
    pub command: CommandName,
    /// What it does, in one sentence without a full stop.
    pub purpose: &'static str,
    /// The command line; settings that it does not set come from the environment.
    pub line: &'static str,
}

const fn example(command: CommandName, purpose: &'static str, line: &'static str) -> Example {
    Example { command, purpose, line }
}

/// The examples, by subcommand.
pub const EXAMPLES: &[Example] = &[
    example(
        CommandName::Backup,
        "Back up the database shop, with the credentials that psql and the AWS CLI use",
        "S3_BUCKET=backups S3_PATH=shop PGDATABASE=shop pg-s3-backup backup",
    ),
    example(CommandName::Backup, "Print only the result, for a script", "pg-s3-backup backup --json --log-level error"),
    example(
        CommandName::Backup,
        "Leave out the rows of one table (the backup is marked as partial)",
        "pg-s3-backup backup -- --exclude-table-data=audit",
    ),
    example(CommandName::List, "Show the newest backup and its restore commands", "pg-s3-backup list latest"),
    example(CommandName::List, "Count all backups", "pg-s3-backup list --quiet | wc -l"),
    example(
        CommandName::Check,
        "Verify configuration and connectivity, and read the latest backup completely",
        "pg-s3-backup check --deep",
    ),
    example(
        CommandName::Check,
        "Monitor weekly backups from another host with a read-only key",
        "pg-s3-backup check --bucket-only --max-age 8d --json",
    ),
    example(
        CommandName::Prune,
        "Show what these rules keep and delete, and why",
        "pg-s3-backup prune --dry-run --retention-days 14 --keep-monthly 12",
    ),
    example(
        CommandName::Restore,
        "Write the latest backup to a file, as plain SQL",
        "pg-s3-backup restore --output shop.sql",
    ),
    example(
        CommandName::Restore,
        "Write the definitions of the latest backup to a file",
        "pg-s3-backup restore --schema-only --output shop_definitions.sql",
    ),
    example(
        CommandName::Restore,
        "Show the PostgreSQL version of the latest backup",
        "pg-s3-backup restore | grep '^-- Dumped from'",
    ),
    example(
        CommandName::Restore,
        "Restore into a new database with its roles, on the server that psql connects to",
        "pg-s3-backup restore --to dbname=postgres --create-db shop_restored --globals",
    ),
    example(
        CommandName::Restore,
        "Replace the database shop; the old one is kept under another name",
        "pg-s3-backup restore --to dbname=postgres --create-db shop --replace",
    ),
    example(
        CommandName::Delete,
        "Show what deleting the oldest backup would delete",
        "pg-s3-backup delete --dry-run $(pg-s3-backup list --quiet | tail -n 1)",
    ),
    example(
        CommandName::Daemon,
        "Back up each night at 2 in Berlin",
        "pg-s3-backup daemon --interval '0 2 * * *' --timezone Europe/Berlin",
    ),
    example(
        CommandName::Health,
        "Ask the daemon that listens on `LISTEN` whether it is alive, within 3 s",
        "pg-s3-backup health",
    ),
    example(
        CommandName::Completions,
        "Install the completions for zsh (in a directory of its fpath)",
        "pg-s3-backup completions zsh >_pg-s3-backup",
    ),
    example(
        CommandName::Completions,
        "Install the completions for bash",
        "pg-s3-backup completions bash >>~/.bash_completion",
    ),
];

/// A file that is read.
#[derive(Debug)]
pub struct ReadFile {
    /// Its path.
    pub path: &'static str,
    /// The commands that use this setting read it.
    pub with: &'static Setting,
    /// Who reads it, and why.
    pub purpose: &'static str,
}

/// The files that are read, besides those that a setting names.
pub const FILES: &[ReadFile] = &[
    ReadFile {
        path: "~/.aws/config, ~/.aws/credentials",
        with: &S3_BUCKET,
        purpose: "a profile's credentials and region for the AWS credential chain, unless `S3_ACCESS_KEY` is set",
    },
    ReadFile {
        path: "~/.pgpass, ~/.pg_service.conf, ~/.postgresql/",
        with: &POSTGRES_CONNECTION_STRING,
        purpose: "passwords, services and certificates, as libpq reads them",
    },
    ReadFile {
        path: "/usr/lib/postgresql/*/bin/",
        with: &POSTGRES_CONNECTION_STRING,
        purpose: "the first place besides `PATH` to find `pg_dump` and `psql`",
    },
];

/// The examples of one subcommand, as `--help` ends with them.
#[must_use]
pub fn examples_help(command: CommandName) -> String {
    let of_command = EXAMPLES.iter().filter(|example| example.command == command);
    of_command.fold("\n\nExamples:".to_owned(), |text, example| {
        format!("{text}\n  {}:\n      {}", example.purpose, example.line)
    })
}
