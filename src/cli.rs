//! The command line: clap's derive for the commands' own flags, the settings table for the rest.
//!
//! Called by `lib.rs`. Settings stay text here: resolving and judging them is `config`'s work, because clap knows
//! neither `X_FILE`, nor how to report all problems at once, nor this program's exit codes.

use std::fmt::{self, Write as _};
use std::time::Duration;

use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::backup::name::BackupName;
use crate::check::{MaxAge, MaxShrink, MinSize};
use crate::config::Flags;
use crate::config::table::{self, CommandName, PG_DUMP_ARGS, SETTINGS, Setting};
use crate::error::EXIT_CODES;
use crate::manual::examples_help;

/// PostgreSQL backups in S3 whose names are proofs: a backup that is listed is whole and restorable.
#[derive(Debug, Parser)]
#[command(name = "pg-s3-backup", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take one backup: dump, compress, upload, prove, commit
    Backup(BackupArgs),
    /// List the backups of this destination, newest first
    List(ListArgs),
    /// Take backups on a schedule until stopped
    Daemon(DaemonArgs),
    /// Ask the daemon on this host whether it is alive: for a container's health check
    Health,
    /// Try whether everything is fit to back up, and the newest backup fresh and sound
    Check(CheckArgs),
    /// Delete the backups that no rule keeps, and abort this tool's own stale uploads
    Prune(PruneArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
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
    /// Arguments for `pg_dump`, instead of `PG_DUMP_ARGS`
    #[arg(last = true, value_name = "ARGS")]
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
    /// Arguments for `pg_dump`, instead of `PG_DUMP_ARGS`
    #[arg(last = true, value_name = "ARGS")]
    pub pg_dump_args: Vec<String>,
}

/// Flags of `list` that are not settings.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Show one backup in full: its file name, or `latest`
    #[arg(conflicts_with_all = ["limit", "quiet"])]
    pub name: Option<Wanted>,
    /// Show the newest N, or `all`
    #[arg(long, value_name = "N|all", default_value = "50")]
    pub limit: Limit,
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
    /// Look at the bucket alone: nothing is written, and no setting of PostgreSQL is needed
    #[arg(long)]
    pub bucket_only: bool,
    /// Read the newest backup whole: its sum, gzip, and the dump to its end
    #[arg(long)]
    pub deep: bool,
    /// Fail where the newest backup is older: `26h`, `8d`, or `none` [default: what `BACKUP_INTERVAL` leads to expect, else 26h]
    #[arg(long, value_name = "TIME|none")]
    pub max_age: Option<MaxAge>,
    /// Fail where the newest backup is smaller: `100MiB`
    #[arg(long, value_name = "SIZE")]
    pub min_size: Option<MinSize>,
    /// Fail where it is smaller by more than this share than the median of the five before it, or `none`
    #[arg(long, value_name = "SHARE|none", default_value_t)]
    pub max_shrink: MaxShrink,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Arguments for `pg_dump`, instead of `PG_DUMP_ARGS`
    #[arg(last = true, value_name = "ARGS", conflicts_with = "bucket_only")]
    pub pg_dump_args: Vec<String>,
}

/// Flags of `prune` that are not settings.
#[derive(Debug, clap::Args)]
pub struct PruneArgs {
    /// Delete nothing; print each backup with keep or delete, and why
    #[arg(long)]
    pub dry_run: bool,
    /// Delete although something speaks against it: a gap, a newest backup of half the size, most of the backups, a name in
    /// the future
    #[arg(long)]
    pub force: bool,
    /// Abort uploads of this tool that were begun, and last written to, longer ago than this
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub sweep_after: Idle,
    /// Print the result as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

/// How long something was left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle(Duration);

impl Idle {
    /// The time.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl std::str::FromStr for Idle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match humantime::parse_duration(text) {
            // What gets a part each moment must not look left alone.
            Ok(idle) if idle >= Duration::from_secs(1) => Ok(Self(idle)),
            _ => Err("must be a duration of at least 1s, such as `36h` or `7d`".to_owned()),
        }
    }
}

/// What `completions` wants to know.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell to complete in
    pub shell: clap_complete::Shell,
}

/// Which backup is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest by name.
    Latest,
    /// This one.
    Named(BackupName),
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        BackupName::parse(text)
            .map(Self::Named)
            .ok_or_else(|| "must be `latest`, or a name as `list` shows it".to_owned())
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Named(name) => name.fmt(f),
        }
    }
}

/// How many backups to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(usize);

impl Limit {
    /// The number.
    #[must_use]
    pub fn get(self) -> usize {
        self.0
    }
}

impl std::str::FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self(usize::MAX));
        }
        text.parse().map(Self).map_err(|_| "must be a whole number, or `all`".to_owned())
    }
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
            Self::Completions(_) => CommandName::Completions,
        }
    }
}

/// The whole command line's definition, with the settings' flags in it.
#[must_use]
pub fn definition() -> clap::Command {
    let definition = Cli::command().after_help(exit_codes_help()).mut_subcommand("completions", |command| {
        command.after_long_help(examples_help(CommandName::Completions).trim_start().to_owned())
    });
    table::ALL.iter().copied().fold(definition, |definition, name| {
        definition.mut_subcommand(name.word(), |command| {
            let flags = SETTINGS.iter().filter(|setting| setting.commands.contains(&name)).copied().filter_map(flag);
            let long = environment_help(name) + &examples_help(name);
            command.args(flags).after_help(environment_help(name)).after_long_help(long)
        })
    })
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

fn flag(setting: &'static Setting) -> Option<Arg> {
    let arg = Arg::new(setting.variable).long(setting.flag?).value_name(setting.value);
    let arg = if setting.value == "BOOL" {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg
    };
    Some(arg.help(format!("{} [env: {}] [default: {}]", setting.help, setting.variable, setting.default)))
}

fn environment_help(command: CommandName) -> String {
    let mut text = String::from("Settings by environment alone:\n");
    for setting in SETTINGS.iter().filter(|setting| setting.flag.is_none() && setting.commands.contains(&command)) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}\n          {} [default: {}]", setting.variable, setting.help, setting.default);
    }
    text + "\nEvery variable X also works as X_FILE: the path of a file that holds the value."
}

fn exit_codes_help() -> String {
    let mut text = String::from("Exit codes:\n");
    for row in EXIT_CODES {
        let _ = writeln!(text, "  {:>3}  {}: {}", row.number, row.name, row.when);
    }
    text
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
    fn a_command_has_only_the_flags_that_it_uses() {
        assert!(parsed(&["list", "--threads", "2"]).is_err());
        assert!(parsed(&["backup", "--threads", "2"]).is_ok());
    }
}
