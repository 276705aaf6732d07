//! The settings' flags, made from their table: help texts, headings and completions. Part of [`super`].

use std::fmt::Write as _;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, Command, CommandFactory, ValueHint};

use crate::config::table::{self, CommandName, Completion, Group, SETTINGS, Setting};
use crate::exit_code::{EXIT_CODES, SEVERAL_DATABASES};
use crate::manual::examples_help;
use crate::postgres::{Coverage, DumpOption, PG_DUMP_OPTIONS};

use super::Cli;

/// The settings that most users set, the most used first. Help texts begin with the first [`MOST_SHOWN`] that a command uses.
const MOST_USED: &[&Setting] = &[
    &table::POSTGRES_CONNECTION_STRING,
    &table::RESTORE_CONNECTION_STRING,
    &table::S3_BUCKET,
    &table::S3_PATH,
    &table::S3_URL,
    &table::S3_REGION,
    &table::S3_ACCESS_KEY,
    &table::S3_SECRET_KEY,
    &table::BACKUP_INTERVAL,
    &table::BACKUP_RETENTION_DAYS,
    &table::BACKUP_SPOOL_DIR,
    &table::METRICS_FILE,
    &table::LISTEN,
];
const MOST_SHOWN: usize = 10;
/// The commands in the order of `--help`, the most used first; `completions` and `help` follow.
const COMMAND_ORDER: &[CommandName] = &[
    CommandName::Backup,
    CommandName::List,
    CommandName::Check,
    CommandName::Restore,
    CommandName::Prune,
    CommandName::Delete,
    CommandName::Daemon,
    CommandName::Health,
];
/// The most used settings stand before the groups of flags.
const TEMPLATE: &str = "{about-with-newline}\n{usage-heading} {usage}\n\n{before-help}{all-args}{after-help}";

/// The command line's definition, with the flags of the settings.
#[must_use]
pub fn definition() -> Command {
    let completions = |command: Command| {
        command
            .display_order(COMMAND_ORDER.len())
            .after_long_help(examples_help(CommandName::Completions).trim_start().to_owned())
    };
    let definition = Cli::command()
        .after_help("`pg-s3-backup help COMMAND` describes a command in full, `--help` the exit codes.")
        .after_long_help(exit_codes_help())
        .mut_subcommand("completions", completions);
    table::ALL.iter().copied().fold(definition, |definition, name| {
        definition.mut_subcommand(name.word(), |command| with_settings(&command, name))
    })
}

/// The command with the settings' flags. It is built again, because clap orders headings by their first flag.
fn with_settings(command: &Command, name: CommandName) -> Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::Help);
    let help = help.help("Print this help; `--help` describes every setting").help_heading(Group::Output.heading());
    let settings =
        used_by(name).filter_map(|setting| Some(flag(setting)?.hide_short_help(is_shown_apart(setting, name))));
    let mut args: Vec<Arg> = command.get_arguments().cloned().chain(settings).chain([help]).collect();
    let place = |arg: &Arg| Group::ALL.iter().position(|group| Some(group.heading()) == arg.get_help_heading());
    args.sort_by_key(place);
    Command::new(name.word())
        .display_order(COMMAND_ORDER.iter().position(|shown| *shown == name).unwrap_or_default())
        .about(command.get_about().cloned().unwrap_or_default())
        .disable_help_flag(true)
        .help_template(TEMPLATE)
        .before_help(most_used_help(name))
        .args(args)
        .groups(command.get_groups().cloned())
        .after_help(short_environment_help(name))
        .after_long_help(environment_help(name) + &examples_help(name))
}

fn most_used(command: CommandName) -> impl Iterator<Item = &'static Setting> {
    let used = MOST_USED.iter().filter(move |setting| setting.commands.contains(&command));
    used.take(MOST_SHOWN).copied()
}

fn is_most_used(setting: &Setting, command: CommandName) -> bool {
    most_used(command).any(|shown| shown.variable == setting.variable)
}

/// Whether `-h` shows a setting outside the groups of flags.
fn is_shown_apart(setting: &Setting, command: CommandName) -> bool {
    is_most_used(setting, command) || is_only_verified(setting, command) || is_of_the_drill(setting, command)
}

/// Whether the daemon uses a setting only for its drill.
fn is_of_the_drill(setting: &Setting, command: CommandName) -> bool {
    command == CommandName::Daemon && matches!(setting.group, Group::Target | Group::Checks)
}

/// Whether `check` uses a setting only to verify it for `backup`.
fn is_only_verified(setting: &Setting, command: CommandName) -> bool {
    command == CommandName::Check && matches!(setting.group, Group::Backup | Group::Retention)
}

/// Names the flags that no group shows.
fn apart_help(command: CommandName) -> String {
    let apart = used_by(command).filter(|setting| {
        (is_only_verified(setting, command) || is_of_the_drill(setting, command)) && !is_most_used(setting, command)
    });
    let names: Vec<String> =
        apart.filter_map(|setting| Some(format!("--{} ({})", setting.flag?, setting.variable))).collect();
    let names = names.join(", ");
    match command {
        CommandName::Check => format!("Flags of `backup` that are verified: {names}.\n"),
        CommandName::Daemon => format!("Flags of the drill: {names}.\n"),
        _ => String::new(),
    }
}

fn most_used_help(command: CommandName) -> String {
    let names = |setting: &Setting| match setting.flag {
        Some(flag) => format!("{}, --{flag}", setting.variable),
        None => setting.variable.to_owned(),
    };
    let width = most_used(command).map(|setting| names(setting).len()).max().unwrap_or_default();
    most_used(command).fold("Most used settings:".to_owned(), |text, setting| {
        format!("{text}\n  {:<width$}  {}", names(setting), first_clause(setting.help))
    })
}

fn used_by(command: CommandName) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.commands.contains(&command)).copied()
}

fn flag(setting: &'static Setting) -> Option<Arg> {
    // `config` refuses a negative number with the setting's name and bounds; clap would take it for a flag.
    let arg = Arg::new(setting.variable).long(setting.flag?).value_name(setting.value).allow_negative_numbers(true);
    let arg = if setting.value == "BOOL" {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg
    };
    let arg = match setting.completion {
        Completion::None => arg.value_hint(ValueHint::Other),
        Completion::Words(words) => arg.value_parser(Suggested(words())).hide_possible_values(true),
        Completion::File => arg.value_hint(ValueHint::FilePath),
        Completion::Directory => arg.value_hint(ValueHint::DirPath),
        Completion::Program => arg.value_hint(ValueHint::ExecutablePath),
        Completion::Url => arg.value_hint(ValueHint::Url),
    };
    let (help, short) = (capitalised(setting.help), capitalised(first_clause(setting.help)));
    let arg = arg.help_heading(setting.group.heading());
    let arg = arg.help(format!("{short} [env: {}]", setting.variable));
    Some(arg.long_help(format!("{help} [env: {}] {}", setting.variable, default(setting))))
}

/// The default of a setting; one that is required has none.
fn default(setting: &Setting) -> String {
    if setting.default.starts_with("required") {
        format!("[{}]", setting.default)
    } else {
        format!("[default: {}]", setting.default)
    }
}

/// The help of `-- ARGS`: the options that are accepted.
pub(super) fn accepted_arguments() -> String {
    let list = |coverage: Coverage| {
        let options = PG_DUMP_OPTIONS.iter().filter(|option| option.coverage == coverage);
        options.map(DumpOption::spelling).collect::<Vec<_>>().join(" ")
    };
    format!(
        "Arguments for `pg_dump`, instead of `PG_DUMP_ARGS`. Accepted: {}; and, for a partial backup: {}",
        list(Coverage::Complete),
        list(Coverage::Partial)
    )
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// The text up to its first punctuation mark. A comma after a quoted word continues a list.
fn first_clause(sentence: &str) -> &str {
    let is_end = |(index, mark): &(usize, char)| match mark {
        ';' | ':' => true,
        ',' => !sentence[..*index].ends_with('`'),
        _ => false,
    };
    let end = sentence.char_indices().find(is_end);
    end.map_or(sentence, |(index, _)| &sentence[..index])
}

/// Accepts any text and offers these words to the shell. clap would refuse a wrong value at once and with exit code 64;
/// `config` reports all problems together, with the exit code of each setting.
#[derive(Clone, Debug)]
pub(super) struct Suggested(pub Vec<&'static str>);

impl TypedValueParser for Suggested {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &std::ffi::OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}

/// Names the variables that `-h` does not show elsewhere.
fn short_environment_help(command: CommandName) -> String {
    let others = used_by(command).filter(|setting| setting.flag.is_none() && !is_most_used(setting, command));
    let others: Vec<&str> = others.map(|setting| setting.variable).collect();
    apart_help(command)
        + &format!(
            "Variables without a flag: {}.\nEach variable X also as X_FILE. `pg-s3-backup help {}` describes every flag and variable.",
            others.join(", "),
            command.word()
        )
}

fn environment_help(command: CommandName) -> String {
    let mut text = String::from("Variables without a flag:\n");
    for setting in used_by(command).filter(|setting| setting.flag.is_none()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}\n          {} {}", setting.variable, setting.help, default(setting));
    }
    text + "\nEvery variable X also works as X_FILE: the path of a file that holds the value."
}

fn exit_codes_help() -> String {
    let mut text = String::from("Exit codes:\n");
    for row in EXIT_CODES {
        let _ = writeln!(text, "  {:>3}  {}: {}", row.number, row.name, row.when);
    }
    text + SEVERAL_DATABASES
}
