//! The command line: clap's derive for the commands' own flags, the settings table for the rest.
//!
//! Called by `lib.rs`. Settings stay text here: resolving and judging them is `config`'s work, because clap knows
//! neither `X_FILE`, nor how to report all problems at once, nor this program's exit codes.

mod flags;
mod restore;
mod values;

use clap::builder::TypedValueParser as _;
use clap::{ArgMatches, FromArgMatches, Parser, Subcommand, ValueHint};

use crate::check::{MaxAge, MaxShrink, MinSize};
use crate::config::Flags;
use crate::config::table::{CommandName, PG_DUMP_ARGS, SETTINGS, Setting};

pub use flags::definition;
use flags::{Suggested, accepted_arguments};
pub use restore::{IntoDatabase, RestoreArgs};
pub use values::{BackupRef, Limit, MinIdle};

/// PostgreSQL backups in S3; a backup that is listed is complete and restorable.
#[derive(Debug, Parser)]
#[command(name = "pg-s3-backup", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take one backup: dump, compress, upload, verify, commit
    Backup(BackupArgs),
    /// List the backups of this destination, newest first
    List(ListArgs),
    /// Take backups on a schedule until stopped
    Daemon(DaemonArgs),
    /// Ask the daemon on this host whether it is alive: for a container's health check
    Health,
    /// Verify configuration, connectivity and the latest backup
    Check(CheckArgs),
    /// Restore a backup into a database, a file or stdout; verified, or not at all
    Restore(Box<RestoreArgs>),
    /// Delete the backups that no rule keeps, and abort this tool's own abandoned uploads
    Prune(PruneArgs),
    /// Delete named backups with their sidecars; not the newest valid one
    Delete(DeleteArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
}

/// What a transaction pooler between this program and the server means.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct PoolerArgs {
    /// Go on behind a transaction pooler: the dump may fail, its settings may reach other sessions, globals are not made
    #[arg(long)]
    pub allow_pooler: bool,
}

/// Flags of `backup` that are not settings.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Draw no progress bar; log progress every 30 s instead
    #[arg(long)]
    pub no_progress: bool,
    /// Back up to a destination that holds another database's backups
    #[arg(long)]
    pub allow_mixed: bool,
    /// What a transaction pooler means.
    #[command(flatten)]
    pub pooler: PoolerArgs,
    /// Arguments for `pg_dump`, instead of `PG_DUMP_ARGS`
    #[arg(last = true, value_name = "ARGS", long_help = accepted_arguments())]
    pub pg_dump_args: Vec<String>,
}

/// Flags of `daemon` that are not settings.
#[derive(Debug, clap::Args)]
pub struct DaemonArgs {
    /// At the start, take a backup at once where the newest is older than the schedule's last time
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = clap::ArgAction::Set)]
    pub catch_up: bool,
    /// At the start, take a backup at once, whatever is there
    #[arg(long)]
    pub run_on_start: bool,
    /// Back up to a destination that holds another database's backups
    #[arg(long)]
    pub allow_mixed: bool,
    /// What a transaction pooler means.
    #[command(flatten)]
    pub pooler: PoolerArgs,
    /// Arguments for `pg_dump`, instead of `PG_DUMP_ARGS`
    #[arg(last = true, value_name = "ARGS", long_help = accepted_arguments())]
    pub pg_dump_args: Vec<String>,
}

/// Flags of `list` that are not settings.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Show one backup in full: its name, its key, its s3:// URL, or `latest`
    #[arg(conflicts_with_all = ["limit", "quiet"], value_parser = Suggested(vec!["latest"]).try_map(|text| text.parse::<BackupRef>()), hide_possible_values = true)]
    pub name: Option<BackupRef>,
    /// Show the newest N with what their manifests say, or `all` [default: 50 on a terminal, else all; manifests of 50]
    #[arg(long, value_name = "N|all", allow_negative_numbers = true, value_parser = Suggested(vec!["all"]).try_map(|text| text.parse::<Limit>()), hide_possible_values = true)]
    pub limit: Option<Limit>,
    /// Print JSON on stdout: an array, or with a name its manifest
    #[arg(long)]
    pub json: bool,
    /// Print the names alone, one a line
    #[arg(long, short, conflicts_with = "json")]
    pub quiet: bool,
}

/// Flags of `check` that are not settings.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Check the bucket alone: writes nothing, needs no PostgreSQL
    #[arg(long)]
    pub bucket_only: bool,
    /// What a transaction pooler means.
    #[command(flatten)]
    pub pooler: PoolerArgs,
    /// Read the latest backup completely: checksum, gzip, dump
    #[arg(long)]
    pub deep: bool,
    /// Fail where the latest backup is older: `26h`, `8d`, or `none` [default: what `BACKUP_INTERVAL` leads to expect, else 26h]
    #[arg(long, value_name = "TIME|none", allow_negative_numbers = true, value_parser = Suggested(vec!["none"]).try_map(|text| text.parse::<MaxAge>()), hide_possible_values = true)]
    pub max_age: Option<MaxAge>,
    /// Fail where the latest backup is smaller: `100MiB`
    #[arg(long, value_name = "SIZE", allow_negative_numbers = true, value_hint = ValueHint::Other)]
    pub min_size: Option<MinSize>,
    /// Fail where it is smaller by more than this share than the median of the five before it, or `none`
    #[arg(long, value_name = "SHARE|none", allow_negative_numbers = true, default_value_t, value_parser = Suggested(vec!["none"]).try_map(|text| text.parse::<MaxShrink>()), hide_possible_values = true)]
    pub max_shrink: MaxShrink,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Arguments for `pg_dump`, instead of `PG_DUMP_ARGS`
    #[arg(last = true, value_name = "ARGS", long_help = accepted_arguments(), conflicts_with = "bucket_only")]
    pub pg_dump_args: Vec<String>,
}

/// Flags of `prune` that are not settings.
#[derive(Debug, clap::Args)]
pub struct PruneArgs {
    /// Delete nothing; print each backup with keep or delete, and why
    #[arg(long)]
    pub dry_run: bool,
    /// Delete although a safety check blocks it: a gap, a newest backup of half the size, most of the backups, a name in
    /// the future
    #[arg(long)]
    pub force: bool,
    /// Abort abandoned uploads of this tool: begun, and last written to, longer ago than this
    #[arg(long, value_name = "TIME", allow_negative_numbers = true, default_value = "7d", value_hint = ValueHint::Other)]
    pub sweep_after: MinIdle,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// Flags of `delete` that are not settings.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    /// The backups: their names, their keys, or their s3:// URLs
    #[arg(required = true, value_name = "NAME", value_parser = named, value_hint = ValueHint::Other)]
    pub names: Vec<BackupRef>,
    /// Delete the newest valid backup, too
    #[arg(long)]
    pub force: bool,
    /// Delete nothing; print what would be deleted
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// A backup by its name: what is the latest may be another one by the time it is deleted.
fn named(text: &str) -> Result<BackupRef, String> {
    match text.parse() {
        Ok(BackupRef::Latest) => Err("must be a name: look with `list latest` which one it is".to_owned()),
        other => other.map_err(|_: String| "must be a name as `list` shows it, its key, or its s3:// URL".to_owned()),
    }
}

/// What `completions` wants to know.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell to complete in
    pub shell: clap_complete::Shell,
}

impl Command {
    /// The subcommand's name, as the settings table knows it.
    #[must_use]
    pub fn name(&self) -> CommandName {
        match self {
            Self::Backup(_) => CommandName::Backup,
            Self::List(_) => CommandName::List,
            Self::Daemon(_) => CommandName::Daemon,
            Self::Health => CommandName::Health,
            Self::Check(_) => CommandName::Check,
            Self::Prune(_) => CommandName::Prune,
            Self::Restore(_) => CommandName::Restore,
            Self::Delete(_) => CommandName::Delete,
            Self::Completions(_) => CommandName::Completions,
        }
    }
}

/// Parses a command line (with the program's name first) into the command and the settings given as flags.
///
/// # Errors
/// clap's own error, which is also how `--help` and `--version` come.
pub fn parse(arguments: &[std::ffi::OsString]) -> Result<(Cli, Flags), clap::Error> {
    let mut definition = definition();
    let matches = definition.try_get_matches_from_mut(arguments)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut definition))?;
    let mut flags = matches.subcommand().map(|(_, matches)| settings_in(matches)).unwrap_or_default();
    if let Command::Backup(BackupArgs { pg_dump_args, .. })
    | Command::Check(CheckArgs { pg_dump_args, .. })
    | Command::Daemon(DaemonArgs { pg_dump_args, .. }) = &cli.command
        && !pg_dump_args.is_empty()
    {
        let text = shlex::try_join(pg_dump_args.iter().map(String::as_str));
        // A NUL byte cannot come in by a command line.
        flags.insert(PG_DUMP_ARGS.variable, text.unwrap_or_default());
    }
    Ok((cli, flags))
}

fn settings_in(matches: &ArgMatches) -> Flags {
    let given = |setting: &&Setting| -> Option<(&'static str, String)> {
        let value = matches.try_get_one::<String>(setting.variable).ok().flatten()?;
        Some((setting.variable, value.clone()))
    };
    SETTINGS.iter().filter_map(given).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<(Cli, Flags), clap::Error> {
        let arguments: Vec<_> = std::iter::once(&"pg-s3-backup").chain(words).map(std::ffi::OsString::from).collect();
        parse(&arguments)
    }

    #[test]
    fn the_definition_is_sound() {
        definition().debug_assert();
    }

    #[test]
    fn flags_of_settings_arrive_under_their_variable() {
        let (cli, flags) = parsed(&["backup", "--s3-bucket", "b", "--s3-force-path-style", "--json"]).expect("parses");
        assert!(matches!(cli.command, Command::Backup(BackupArgs { json: true, no_progress: false, .. })));
        assert_eq!(flags.get("S3_BUCKET").map(String::as_str), Some("b"));
        assert_eq!(flags.get("S3_FORCE_PATH_STYLE").map(String::as_str), Some("true"));
    }

    #[test]
    fn words_behind_the_dashes_are_for_pg_dump() {
        let (_, flags) = parsed(&["backup", "--json", "--", "-t", "my table"]).expect("parses");
        assert_eq!(flags.get("PG_DUMP_ARGS").map(String::as_str), Some("-t 'my table'"));
    }

    #[test]
    fn the_short_help_is_short_and_the_long_one_has_each_setting_and_exit_code() {
        let shown = |words: &[&str]| parsed(words).expect_err("help").to_string();
        for command in crate::config::table::ALL {
            let short = shown(&[command.word(), "-h"]);
            assert!(short.lines().count() <= 64, "{} lines:\n{short}", short.lines().count());
            let long = shown(&["help", command.word()]);
            assert_eq!(long, shown(&[command.word(), "--help"]));
            for setting in SETTINGS.iter().filter(|setting| setting.commands.contains(command)) {
                assert!(long.contains(setting.variable), "{}:\n{long}", setting.variable);
                let is_shown = setting.flag.is_some_and(|flag| short.contains(&format!("--{flag} ")));
                assert_eq!(is_shown, setting.is_common, "{}:\n{short}", setting.variable);
            }
        }
        let short = shown(&["backup", "-h"]);
        let headings = ["Options:", "Destination:", "Backup:", "Retention:", "Monitoring:", "Output:"];
        let places: Vec<_> = headings.iter().map(|heading| short.find(heading)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}:\n{short}");
        assert!(crate::exit_code::EXIT_CODES.iter().all(|row| shown(&["help"]).contains(row.name)));
        assert!(shown(&["-h"]).lines().count() <= 25, "{}", shown(&["-h"]));
    }

    #[test]
    fn a_command_has_only_the_flags_that_it_uses() {
        assert!(parsed(&["list", "--threads", "2"]).is_err());
        assert!(parsed(&["backup", "--threads", "2"]).is_ok());
    }
}
