//! The flags of the settings, from their table: help texts, headings, and what a shell offers. Part of [`super`].

use std::fmt::Write as _;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Command, CommandFactory, ValueHint};

use crate::config::table::{self, CommandName, Completion, SETTINGS, Setting};
use crate::exit_code::EXIT_CODES;
use crate::manual::examples_help;
use crate::postgres::{Coverage, DumpOption, PG_DUMP_OPTIONS};

use super::Cli;

/// the entire command line's definition, with the settings' flags in it.
#[must_use]
pub fn definition() -> Command {
    let completions =
        |command: Command| command.after_long_help(examples_help(CommandName::Completions).trim_start().to_owned());
    let definition = Cli::command()
        .after_help("`pg-s3-backup help COMMAND` describes a command in full, `--help` the exit codes.")
        .after_long_help(exit_codes_help())
        .mut_subcommand("completions", completions);
    table::ALL.iter().copied().fold(definition, |definition, name| {
        definition.mut_subcommand(name.word(), |command| {
            let flags = used_by(name).filter_map(flag);
            let long = environment_help(name) + &examples_help(name);
            command.args(flags).after_help(short_environment_help(name)).after_long_help(long)
        })
    })
}

fn used_by(command: CommandName) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.commands.contains(&command)).copied()
}

fn flag(setting: &'static Setting) -> Option<Arg> {
    // A negative number is judged with the setting's name and bounds, not taken for a flag.
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
    let short = first_clause(setting.help);
    let arg = arg.help_heading(setting.group.heading()).hide_short_help(!setting.is_common);
    let arg = arg.help(format!("{short} [env: {}]", setting.variable));
    Some(arg.long_help(format!("{} [env: {}] [default: {}]", setting.help, setting.variable, setting.default)))
}

/// What may be given `pg_dump`: the list behind the error for everything else.
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

/// A sentence up to its first mark. A comma after something quoted goes on with a list.
fn first_clause(sentence: &str) -> &str {
    let is_end = |(index, mark): &(usize, char)| match mark {
        ';' | ':' => true,
        ',' => !sentence[..*index].ends_with('`'),
        _ => false,
    };
    let end = sentence.char_indices().find(is_end);
    end.map_or(sentence, |(index, _)| &sentence[..index])
}

/// Any text, where a shell offers these words: `config` judges values, with this program's own exit codes.
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

/// The variables alone, for `-h`.
fn short_environment_help(command: CommandName) -> String {
    let variables = used_by(command).filter(|setting| setting.flag.is_none()).map(|setting| setting.variable);
    let variables: Vec<&str> = variables.collect();
    format!(
        "By environment alone: {}.\nEach variable X also as X_FILE. `pg-s3-backup help {}` has every flag and variable.",
        variables.join(", "),
        command.word()
    )
}

fn environment_help(command: CommandName) -> String {
    let mut text = String::from("Settings by environment alone:\n");
    for setting in used_by(command).filter(|setting| setting.flag.is_none()) {
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
