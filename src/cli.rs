//! The command line: clap's derive for the commands' own flags, the settings table for the rest.
//!
//! Called by `lib.rs`. Settings stay text here. `config` parses them, because clap supports neither `X_FILE`, nor reporting all
//! problems at once, nor this program's exit codes.

mod drill;
mod flags;
mod restore;
mod values;

use clap::builder::TypedValueParser as _;
use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, FromArgMatches, Parser, Subcommand, ValueHint};

use crate::check::{MaxAge, MaxShrink, MinSize};
use crate::config::Flags;
use crate::config::table::{CommandName, Group, PG_DUMP_ARGS, SETTINGS, Setting};

pub use drill::DrillArgs;
pub use flags::definition;
use flags::{Suggested, accepted_arguments};
pub use restore::{IntoDatabase, RestoreArgs};
pub use values::{BackupRef, Limit, MinIdle};

/// Back up PostgreSQL with pg_dump to S3; a backup that is listed is complete.
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
    /// List the backups, newest first
    List(ListArgs),
    /// Take backups on a schedule until stopped
    Daemon(DaemonArgs),
    /// Ask the daemon on this host whether it is alive, for a container's health check
    Health,
    /// Verify configuration, connectivity and the latest backup
    Check(CheckArgs),
    /// Restore a backup into a database, a file or stdout; verified, or not at all
    Restore(Box<RestoreArgs>),
    /// Delete the backups that no retention rule keeps, and abort abandoned uploads
    Prune(PruneArgs),
    /// Delete named backups with their sidecars (manifest, globals, index); the newest valid one only with `--force`
    Delete(DeleteArgs),
    /// Print a shell's completion script
    Completions(CompletionsArgs),
}

/// The flag that `backup`, `daemon` and `check` share.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct PoolerArgs {
    /// Dump through a transaction pooler
    ///
    /// The dump may fail, its settings may reach other sessions, and globals are not dumped.
    #[arg(long, help_heading = Group::Postgres.heading())]
    pub allow_pooler: bool,
}

/// Flags of `backup` that are not settings.
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    /// Print the result as one JSON object on stdout
    #[arg(long, help_heading = Group::Output.heading())]
    pub json: bool,
    /// Draw no progress bar; log progress every 30 s instead
    #[arg(long, help_heading = Group::Output.heading())]
    pub no_progress: bool,
    /// Back up to a destination that holds another database's backups
    #[arg(long, help_heading = Group::Storage.heading())]
    pub allow_mixed: bool,
    /// Whether to dump through a transaction pooler.
    #[command(flatten)]
    pub pooler: PoolerArgs,
    /// Arguments for `pg_dump`, instead of `PG_DUMP_ARGS`
    #[arg(last = true, value_name = "ARGS", help_heading = Group::Postgres.heading(), long_help = accepted_arguments())]
    pub pg_dump_args: Vec<String>,
}

/// Flags of `daemon` that are not settings.
#[derive(Debug, clap::Args)]
pub struct DaemonArgs {
    /// Take a backup at the start if the last one was missed
    #[arg(long, help_heading = Group::Schedule.heading(), value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", hide_possible_values = true, action = clap::ArgAction::Set)]
    pub catch_up: bool,
    /// Take a backup at the start in any case
    #[arg(long, help_heading = Group::Schedule.heading())]
    pub run_on_start: bool,
    /// Back up to a destination that holds another database's backups
    #[arg(long, help_heading = Group::Storage.heading())]
    pub allow_mixed: bool,
    /// Whether to dump through a transaction pooler.
    #[command(flatten)]
    pub pooler: PoolerArgs,
    /// Arguments for `pg_dump`, instead of `PG_DUMP_ARGS`
    #[arg(last = true, value_name = "ARGS", help_heading = Group::Postgres.heading(), long_help = accepted_arguments())]
    pub pg_dump_args: Vec<String>,
    /// Flags of the drill.
    #[command(flatten)]
    pub drill: DrillArgs,
}

/// Flags of `list` that are not settings.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Show one backup in full: its name, its key, its s3:// URL, or `latest`
    #[arg(conflicts_with_all = ["limit", "quiet"], value_parser = Suggested(vec!["latest"]).try_map(|text| text.parse::<BackupRef>()), hide_possible_values = true)]
    pub name: Option<BackupRef>,
    /// Show the newest N, with the facts of their manifests, or `all`
    ///
    /// Default: 50 on a terminal, else all. Without a number, the manifests of the newest 50 are read.
    #[arg(long, help_heading = Group::Output.heading(), value_name = "N|all", allow_negative_numbers = true, value_parser = Suggested(vec!["all"]).try_map(|text| text.parse::<Limit>()), hide_possible_values = true)]
    pub limit: Option<Limit>,
    /// Print JSON on stdout: an array of backups, or with a name the manifest of that backup
    #[arg(long, help_heading = Group::Output.heading())]
    pub json: bool,
    /// Print only the names, one per line
    #[arg(long, short, help_heading = Group::Output.heading(), conflicts_with = "json")]
    pub quiet: bool,
}

/// Flags of `check` that are not settings.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Check only the bucket: writes nothing, needs no PostgreSQL
    #[arg(long, help_heading = Group::Checks.heading())]
    pub bucket_only: bool,
    /// Whether to dump through a transaction pooler.
    #[command(flatten)]
    pub pooler: PoolerArgs,
    /// Download the latest backup and verify all of it
    ///
    /// Verifies its checksum, its compressed stream, and the dump from its first line to its last.
    #[arg(long, help_heading = Group::Checks.heading())]
    pub deep: bool,
    /// Fail if the latest backup is older, such as `26h` or `8d`
    ///
    /// Default: 26h; with `BACKUP_INTERVAL`, fails if the last two scheduled backups are missing.
    #[arg(long, help_heading = Group::Checks.heading(), value_name = "TIME|none", allow_negative_numbers = true, value_parser = Suggested(vec!["none"]).try_map(|text| text.parse::<MaxAge>()), hide_possible_values = true)]
    pub max_age: Option<MaxAge>,
    /// Fail if the latest backup is smaller, such as `100MiB`
    #[arg(long, help_heading = Group::Checks.heading(), value_name = "SIZE", allow_negative_numbers = true, value_hint = ValueHint::Other)]
    pub min_size: Option<MinSize>,
    /// Fail if the latest backup shrank by more than this
    ///
    /// Compares it with the median of the five backups before it.
    #[arg(long, help_heading = Group::Checks.heading(), value_name = "SHARE|none", allow_negative_numbers = true, default_value_t, value_parser = Suggested(vec!["none"]).try_map(|text| text.parse::<MaxShrink>()), hide_possible_values = true)]
    pub max_shrink: MaxShrink,
    /// Print the result as one JSON object on stdout
    #[arg(long, help_heading = Group::Output.heading())]
    pub json: bool,
    /// Arguments for `pg_dump`, instead of `PG_DUMP_ARGS`
    #[arg(last = true, value_name = "ARGS", help_heading = Group::Postgres.heading(), long_help = accepted_arguments(), conflicts_with = "bucket_only")]
    pub pg_dump_args: Vec<String>,
    /// Drill this backup instead of the latest: its name, its key or its s3:// URL
    #[arg(long, hide_short_help = true, help_heading = Group::Checks.heading(), value_name = "NAME", value_parser = Suggested(vec!["latest"]).try_map(|text| text.parse::<BackupRef>()), hide_possible_values = true)]
    pub backup: Option<BackupRef>,
    /// Flags of the drill.
    #[command(flatten)]
    pub drill: DrillArgs,
}

/// Flags of `prune` that are not settings.
#[derive(Debug, clap::Args)]
pub struct PruneArgs {
    /// Delete nothing; print for each backup whether it is kept or deleted, and why
    #[arg(long, help_heading = Group::Retention.heading())]
    pub dry_run: bool,
    /// Delete even if a safety check fails
    ///
    /// The checks: a gap before the newest backup, a newest backup of half the usual size, a plan that deletes most backups,
    /// a name in the future.
    #[arg(long, help_heading = Group::Retention.heading())]
    pub force: bool,
    /// Abort this tool's abandoned uploads: those without a new part for this time
    #[arg(long, help_heading = Group::Retention.heading(), value_name = "TIME", allow_negative_numbers = true, default_value = "7d", value_hint = ValueHint::Other)]
    pub sweep_after: MinIdle,
    /// Print the result as one JSON object on stdout
    #[arg(long, help_heading = Group::Output.heading())]
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
    #[arg(long, help_heading = Group::Output.heading())]
    pub json: bool,
}

/// A backup by its name: what is the latest may be another one by the time it is deleted.
fn named(text: &str) -> Result<BackupRef, String> {
    match text.parse() {
        Ok(BackupRef::Latest) => Err("must be a name; `list latest` prints it".to_owned()),
        other => other.map_err(|_: String| "must be a name as `list` shows it, its key, or its s3:// URL".to_owned()),
    }
}

/// The argument of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell to complete in
    pub shell: clap_complete::Shell,
}

impl Command {
    /// The subcommand's name in the settings table.
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
/// clap's error; `--help` and `--version` are errors, too.
pub fn parse(arguments: &[std::ffi::OsString]) -> Result<(Cli, Flags), clap::Error> {
    let mut definition = definition();
    let matches = definition.try_get_matches_from_mut(arguments).map_err(|error| without_absent(error, arguments))?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut definition))?;
    let mut flags = matches.subcommand().map(|(_, matches)| settings_in(matches)).unwrap_or_default();
    if let Command::Backup(BackupArgs { pg_dump_args, .. })
    | Command::Check(CheckArgs { pg_dump_args, .. })
    | Command::Daemon(DaemonArgs { pg_dump_args, .. }) = &cli.command
        && !pg_dump_args.is_empty()
    {
        let text = shlex::try_join(pg_dump_args.iter().map(String::as_str));
        // A command line cannot contain a NUL byte.
        flags.insert(PG_DUMP_ARGS.variable, text.unwrap_or_default());
    }
    Ok((cli, flags))
}

/// A conflict that names only flags that were given. clap lists all members of a group.
fn without_absent(mut error: clap::Error, arguments: &[std::ffi::OsString]) -> clap::Error {
    let given = |flag: &String| {
        let flag = flag.split([' ', '=']).next().unwrap_or_default();
        let words = arguments.iter().filter_map(|word| word.to_str());
        words.take_while(|word| *word != "--").any(|word| word.split('=').next() == Some(flag))
    };
    if let Some(ContextValue::Strings(flags)) = error.get(ContextKind::PriorArg) {
        let flags: Vec<String> = flags.iter().filter(|flag| given(flag)).cloned().collect();
        if !flags.is_empty() {
            error.insert(ContextKind::PriorArg, ContextValue::Strings(flags));
        }
    }
    error
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
    fn definition_passes_clap_assertions() {
        definition().debug_assert();
    }

    #[test]
    fn setting_flags_are_stored_under_their_variable() {
        let (cli, flags) = parsed(&["backup", "--s3-bucket", "b", "--s3-force-path-style", "--json"]).expect("parses");
        assert!(matches!(cli.command, Command::Backup(BackupArgs { json: true, no_progress: false, .. })));
        assert_eq!(flags.get("S3_BUCKET").map(String::as_str), Some("b"));
        assert_eq!(flags.get("S3_FORCE_PATH_STYLE").map(String::as_str), Some("true"));
    }

    #[test]
    fn a_conflict_names_only_what_was_given() {
        let conflict =
            parsed(&["restore", "--raw", "--create-db=x", "--no-owner"]).expect_err("a conflict").to_string();
        assert!(conflict.contains("--create-db") && conflict.contains("--no-owner"), "{conflict}");
        assert!(!conflict.contains("--globals") && !conflict.contains("--to"), "{conflict}");
    }

    #[test]
    fn words_after_the_dashes_go_to_pg_dump() {
        let (_, flags) = parsed(&["backup", "--json", "--", "-t", "my table"]).expect("parses");
        assert_eq!(flags.get("PG_DUMP_ARGS").map(String::as_str), Some("-t 'my table'"));
    }

    #[test]
    fn short_help_fits_66_lines_and_long_help_has_each_setting_and_exit_code() {
        let shown = |words: &[&str]| parsed(words).expect_err("help").to_string();
        for command in crate::config::table::ALL {
            let short = shown(&[command.word(), "-h"]);
            assert!(short.lines().count() <= 66, "{} lines:\n{short}", short.lines().count());
            let long = shown(&["help", command.word()]);
            assert_eq!(long, shown(&[command.word(), "--help"]));
            for setting in SETTINGS.iter().filter(|setting| setting.commands.contains(command)) {
                assert!(long.contains(setting.variable), "{}:\n{long}", setting.variable);
                assert!(short.contains(setting.variable), "{}:\n{short}", setting.variable);
                let is_shown = setting.flag.is_none_or(|flag| short.contains(&format!("--{flag}")));
                assert!(is_shown, "{}:\n{short}", setting.variable);
            }
        }
        assert!(shown(&["help", "daemon"]).contains("[required by `daemon`]"));
        // Of a restore the bucket is the source: the headings must not say otherwise.
        let restore = shown(&["restore", "-h"]);
        let place = |words: &str| restore.find(words).unwrap_or_else(|| panic!("{words:?} in {restore}"));
        assert!(place("\nPostgreSQL:") < place("--pg-dump-path") && place("--pg-dump-path") < place("\nStorage:"));
        assert!(place("to use with its `psql`") < place("\nStorage:"), "{restore}");
        let short = shown(&["backup", "-h"]);
        let (most_used, groups) = short.split_once("\n\nPostgreSQL:").expect("the groups");
        let (_, most_used) = most_used.split_once("Most used settings:\n").expect("the settings");
        assert!(most_used.lines().count() == 10 && most_used.lines().all(|line| line.len() <= 80), "{most_used}");
        let headings = ["Storage:", "Backup:", "Schedule:", "Retention:", "Output:"];
        let places: Vec<_> = headings.iter().map(|heading| groups.find(heading)).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}:\n{short}");
        let output = groups.split_once("Output:").map(|(_, output)| output).unwrap_or_default();
        assert!(
            ["--json", "--no-progress", "--log-level", "--help"].iter().all(|flag| output.contains(flag)),
            "{short}"
        );
        assert!(crate::exit_code::EXIT_CODES.iter().all(|row| shown(&["help"]).contains(row.name)));
        assert!(shown(&["-h"]).lines().count() <= 25, "{}", shown(&["-h"]));
    }

    #[test]
    fn command_rejects_flags_it_does_not_use() {
        assert!(parsed(&["list", "--threads", "2"]).is_err());
        assert!(parsed(&["backup", "--threads", "2"]).is_ok());
    }
}
