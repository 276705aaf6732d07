//! The documents that are generated from the code: the tables of `docs/`, the manual in `man/`, the completions.
//!
//! Each test fails if the file differs from the code, and writes it with `UPDATE_DOCUMENTS=1`
//! (`make documents`). The settings and exit codes come from the program's own tables, the rest from its command line.

use std::path::{Path, PathBuf};

use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};
use pg_s3_backup::cli;
use pg_s3_backup::commands::completions::script;
use pg_s3_backup::config::table::{SETTINGS, Setting};
use pg_s3_backup::exit_code::{EXIT_CODES, ExitCodeRow, SEVERAL_DATABASES};
use pg_s3_backup::manual::{EXAMPLES, FILES};
use pg_s3_backup::postgres::{Coverage, DumpOption, PG_DUMP_OPTIONS};
use pg_s3_backup::telemetry::metrics::{METRICS, Metric};

/// The manual's date: that of the last change to what it says.
const DATE: &str = "2026-11-24";

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// Compares a document with what it should be, or writes it.
fn assert_document(relative: &str, expected: &str) {
    let path = path(relative);
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::create_dir_all(path.parent().expect("it has a directory")).expect("the directory can be made");
        std::fs::write(&path, expected).expect("the document can be written");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = found.lines().zip(expected.lines()).take_while(|(found, expected)| found == expected).count();
    assert!(found == expected, "{relative} is out of date from line {} on: run `make documents`", lines + 1);
}

/// A document in which the lines between `<!-- NAME: … -->` and `<!-- end of NAME -->` are replaced.
fn with_section(document: &str, name: &str, content: &str) -> String {
    let (before, rest) = document.split_once(&format!("<!-- {name}:")).expect("the document has the section's begin");
    let (label, rest) = rest.split_once("-->\n").expect("the marker ends its line");
    let end = format!("<!-- end of {name} -->");
    let (_, after) = rest.split_once(&end).expect("the document has the section's end");
    format!("{before}<!-- {name}:{label}-->\n{content}{end}{after}")
}

#[test]
fn tables_of_the_pages() {
    for (page, name, table) in [
        ("docs/configuration.md", "settings", settings_table()),
        ("docs/exit-codes.md", "exit codes", exit_codes_table()),
        ("docs/monitoring.md", "metrics", metrics_table()),
    ] {
        let text = std::fs::read_to_string(path(page)).expect("there is the page");
        assert_document(page, &with_section(&text, name, &table));
    }
}

fn settings_table() -> String {
    let row = |setting: &&Setting| {
        let Setting { variable, default, help, .. } = setting;
        let flag = setting.flag.map(|flag| format!("`--{flag}`")).unwrap_or_default();
        let commands: Vec<String> = setting.commands.iter().map(|command| format!("`{}`", command.word())).collect();
        format!("| `{variable}` | {flag} | {default} | {} | {help} |\n", commands.join(" "))
    };
    let head = "| variable | flag | default | used by | |\n|---|---|---|---|---|\n".to_owned();
    SETTINGS.iter().map(row).fold(head, |table, row| table + &row)
}

fn exit_codes_table() -> String {
    let head = "| code | name | when |\n|---|---|---|\n".to_owned();
    let row = |table: String, row: &ExitCodeRow| table + &format!("| {} | {} | {} |\n", row.number, row.name, row.when);
    EXIT_CODES.iter().fold(head, row) + "\n" + SEVERAL_DATABASES + "\n"
}

fn metrics_table() -> String {
    let row = |metric: &&Metric| {
        let label = metric.label.map(|label| format!("`{label}`")).unwrap_or_default();
        format!("| `{}` | {} | {label} | {} |\n", metric.name, metric.kind.word(), metric.help)
    };
    let head = "| metric | type | label | |\n|---|---|---|---|\n".to_owned();
    METRICS.iter().map(row).fold(head, |table, row| table + &row)
}

#[test]
fn pg_dump_arguments() {
    let page = std::fs::read_to_string(path("docs/pg-dump-arguments.md")).expect("there is such a page");
    let page = with_section(&page, "complete", &arguments_table(Coverage::Complete));
    let page = with_section(&page, "partial", &arguments_table(Coverage::Partial));
    assert_document("docs/pg-dump-arguments.md", &page);
}

fn arguments_table(coverage: Coverage) -> String {
    let row = |option: &DumpOption| {
        let short = option.short.map(|short| format!("`-{short}`")).unwrap_or_default();
        let value = option.value.map(|value| format!("={value}")).unwrap_or_default();
        let since = option.since.map(|major| format!("{major}")).unwrap_or_default();
        format!("| `--{}{value}` | {short} | {since} | {} |\n", option.long, option.help)
    };
    let head = "| option | letter | `pg_dump` from | |\n|---|---|---|---|\n".to_owned();
    PG_DUMP_OPTIONS.iter().filter(|option| option.coverage == coverage).fold(head, |table, option| table + &row(option))
}

#[test]
fn manual_pages() {
    // `help` shows what these pages say.
    let mut definition = cli::definition().disable_help_subcommand(true);
    definition.build();
    for command in definition.get_subcommands().chain([&definition]) {
        let page = manual_page(command);
        assert_document(&format!("man/{}.1", display_name(command)), &page);
    }
}

fn display_name(command: &clap::Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn manual_page(command: &clap::Command) -> String {
    let source = concat!("pg-s3-backup ", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).date(DATE).source(source).manual("pg-s3-backup manual");
    let mut bytes = Vec::new();
    // Not all of it: what follows `--help` is in sections of its own below.
    page.render_title(&mut bytes).expect("writes to memory");
    page.render_name_section(&mut bytes).expect("writes to memory");
    page.render_synopsis_section(&mut bytes).expect("writes to memory");
    page.render_description_section(&mut bytes).expect("writes to memory");
    page.render_options_section(&mut bytes).expect("writes to memory");
    if command.has_subcommands() {
        page.render_subcommands_section(&mut bytes).expect("writes to memory");
    }
    let mut roff = Roff::new();
    environment_section(&mut roff, command);
    exit_status_section(&mut roff);
    files_section(&mut roff, command);
    examples_section(&mut roff, command);
    see_also_section(&mut roff, command);
    roff.to_writer(&mut bytes).expect("writes to memory");
    tidy(&String::from_utf8(bytes).expect("a manual page is text"))
}

/// Whether a subcommand uses a setting; the program's own page lists all.
fn is_used(setting: &Setting, command: &clap::Command) -> bool {
    command.has_subcommands() || setting.commands.iter().any(|used_by| used_by.word() == command.get_name())
}

fn environment_section(roff: &mut Roff, command: &clap::Command) {
    let used: Vec<_> = SETTINGS.iter().filter(|setting| is_used(setting, command)).collect();
    if used.is_empty() {
        return;
    }
    roff.control("SH", ["ENVIRONMENT"]);
    roff.text([roman(
        "A flag takes precedence over a variable, and a variable over the default; an empty variable is unset.",
    )]);
    roff.text([
        roman("Every variable X also works as "),
        bold("X_FILE"),
        roman(": the path of a file that holds the value. Secrets have no flag."),
    ]);
    for setting in used {
        let flag = setting.flag.map(|flag| format!(" (--{flag})")).unwrap_or_default();
        roff.control("TP", []);
        roff.text([bold(setting.variable), roman(flag)]);
        roff.text(words(&format!("{}. Default: {}.", capitalised(setting.help), setting.default)));
    }
}

fn exit_status_section(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for row in EXIT_CODES {
        roff.control("TP", []);
        roff.text([bold(row.number.to_string())]);
        roff.text(words(&format!("{}: {}.", capitalised(row.name), row.when)));
    }
    roff.control("PP", []);
    roff.text(words(SEVERAL_DATABASES));
}

fn files_section(roff: &mut Roff, command: &clap::Command) {
    let read: Vec<_> = FILES.iter().filter(|file| is_used(file.with, command)).collect();
    if read.is_empty() {
        return;
    }
    roff.control("SH", ["FILES"]);
    for file in read {
        roff.control("TP", []);
        roff.text([bold(file.path)]);
        roff.text(words(&format!("{}.", capitalised(file.purpose))));
    }
}

fn examples_section(roff: &mut Roff, command: &clap::Command) {
    let is_meant = |name: &str| command.has_subcommands() || name == command.get_name();
    roff.control("SH", ["EXAMPLES"]);
    for example in EXAMPLES.iter().filter(|example| is_meant(example.command.word())) {
        roff.control("TP", ["4"]);
        roff.text(words(&format!("{}:", example.purpose)));
        roff.control("EX", []);
        roff.text([roman(example.line)]);
        roff.control("EE", []);
    }
}

fn see_also_section(roff: &mut Roff, command: &clap::Command) {
    let definition = cli::definition();
    let all = definition.get_subcommands().map(|sub| format!("pg-s3-backup-{}", sub.get_name()));
    let pages = std::iter::once("pg-s3-backup".to_owned()).chain(all).filter(|page| page != display_name(command));
    roff.control("SH", ["SEE ALSO"]);
    let mut line: Vec<Inline> = pages.flat_map(|page| [bold(page), roman("(1), ")]).collect();
    line.extend([bold("pg_dump"), roman("(1), "), bold("psql"), roman("(1)")]);
    roff.text(line);
}

/// Text with `words` between backticks in bold.
fn words(text: &str) -> Vec<Inline> {
    let pieces = text.split('`').enumerate();
    pieces.map(|(index, piece)| if index % 2 == 1 { bold(piece) } else { roman(piece) }).collect()
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// One preamble is enough (each part brings its own), one line break too, and what is in backticks is bold in a manual.
fn tidy(page: &str) -> String {
    let page = page.replace(".br\n\n.br\n", ".br\n");
    let preamble = |line: &&str| line.starts_with(".ie \\n(.g") || line.starts_with(".el .ds Aq");
    let head: Vec<&str> = page.lines().filter(preamble).take(2).collect();
    let body = page.lines().filter(|line| !preamble(line));
    head.into_iter().chain(body).map(|line| emboldened(line.trim_end()) + "\n").collect()
}

fn emboldened(line: &str) -> String {
    let fonts = ["\\fB", "\\fR"].into_iter().cycle();
    let pieces: Vec<&str> = line.split('`').collect();
    let (first, rest) = pieces.split_first().expect("splitting gives a piece");
    fonts.zip(rest).fold((*first).to_owned(), |text, (font, piece)| text + font + piece)
}

#[test]
fn completions() {
    assert_document("completions/pg-s3-backup.bash", &script(Shell::Bash));
    assert_document("completions/_pg-s3-backup", &script(Shell::Zsh));
    assert_document("completions/pg-s3-backup.fish", &script(Shell::Fish));
}

#[test]
fn alerts_for_kubernetes() {
    let alerts = std::fs::read_to_string(path("monitoring/alerts.yml")).expect("the alerts");
    let (_, groups) = alerts.split_once("\ngroups:\n").expect("groups of alerts");
    let head = "# Made from monitoring/alerts.yml by `make documents`.\napiVersion: monitoring.coreos.com/v1\n\
                kind: PrometheusRule\nmetadata:\n  name: pg-s3-backup\nspec:\n  groups:\n";
    let indented = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") };
    let rules: String = groups.lines().map(indented).collect();
    assert_document("k8s/components/prometheus/prometheusrule.yaml", &format!("{head}{rules}"));
}
