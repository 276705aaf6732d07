//! `completions`: what it prints is what is committed, and completes in real shells: bash, zsh and fish.

use std::path::Path;

use crate::support::program::Program;
use crate::support::setup::repository_file;

/// What the last of the words typed so far becomes by one press of TAB.
const TYPED: [(&str, &str); 5] = [
    ("pg-s3-backup list --log-format j", "json"),
    ("pg-s3-backup daemon --interval @mon", "@monthly"),
    ("pg-s3-backup list --s3-p", "--s3-path"),
    ("pg-s3-backup backup --compression-l", "--compression-level"),
    ("pg-s3-backup comp", "completions"),
];
/// clap_complete 4.6 does not give Fish the values of arguments.
const TYPED_NOT_IN_FISH: [(&str, &str); 2] =
    [("pg-s3-backup completions zs", "zsh"), ("pg-s3-backup list lat", "latest")];

/// Runs a shell that `scripts/install` installs where it is missing.
fn shell(name: &str) -> Program {
    Program::at(&repository_file("scripts/install")).arg(name).run().assert_code(0);
    Program::at(Path::new("/usr/bin/env")).arg(name)
}

fn completions(file: &str) -> String {
    repository_file("completions").join(file).display().to_string()
}

#[test]
fn what_is_printed_is_what_is_committed() {
    for (shell, file) in [("bash", "pg-s3-backup.bash"), ("zsh", "_pg-s3-backup"), ("fish", "pg-s3-backup.fish")] {
        let outcome = Program::new().args(["completions", shell]).run();
        outcome.assert_code(0);
        let committed = std::fs::read_to_string(completions(file)).expect("it is committed");
        assert_eq!(outcome.stdout_text(), committed, "{shell}");
    }
    Program::new().args(["completions", "sh"]).run().assert_code(64);
}

#[test]
fn bash_completes() {
    const SCRIPT: &str = r#"
        source "$1"
        COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        function=$(complete -p pg-s3-backup | sed -n 's/.* -F \([^ ]*\) .*/\1/p')
        "$function" pg-s3-backup "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[@]}""#;
    let file = completions("pg-s3-backup.bash");
    for (typed, expected) in TYPED.into_iter().chain(TYPED_NOT_IN_FISH) {
        let outcome = Program::at(Path::new("/bin/bash")).args(["-c", SCRIPT, "bash", &file, typed]).run();
        outcome.assert_code(0);
        assert_eq!(outcome.stdout_text().trim(), expected, "{typed}\n{}", outcome.stderr);
    }
}

#[test]
fn fish_completes() {
    const SCRIPT: &str = "source $argv[1]; complete --do-complete $argv[2]";
    let file = completions("pg-s3-backup.fish");
    for (typed, expected) in TYPED {
        let outcome = shell("fish").args(["--no-config", "-c", SCRIPT, &file, typed]).run();
        outcome.assert_code(0);
        // A description, where there is one, follows a tab.
        let answer = outcome.stdout_text();
        assert_eq!(answer.split(['\t', '\n']).next(), Some(expected), "{typed}: {answer}\n{}", outcome.stderr);
    }
}

#[test]
fn zsh_completes() {
    // What a person has in a .zshrc, and a key that shows the line as it is.
    const ZSHRC: &str = r#"
        PS1= fpath=("$COMPLETIONS" $fpath)
        autoload -U compinit
        compinit -u -d "$HOME/.zcompdump"
        show() { print; print -r -- "<<<$BUFFER>>>" }
        zle -N show
        bindkey '^X' show"#;
    // A zsh at a terminal of its own, and what a person would press.
    const SCRIPT: &str = r#"
        zmodload zsh/zpty
        zpty terminal zsh -d -i
        zpty -w -n terminal "$1"$'\t\x18'
        zpty -r -m terminal answer '*<<<*>>>*'
        print -r -- "$answer""#;
    for (typed, expected) in TYPED.into_iter().chain(TYPED_NOT_IN_FISH) {
        let zsh = shell("zsh").env("COMPLETIONS", completions("")).args(["-f", "-c", SCRIPT, "zsh", typed]);
        std::fs::write(zsh.home().join(".zshrc"), ZSHRC).expect("the .zshrc");
        let outcome = zsh.run();
        outcome.assert_code(0);
        let answer = outcome.stdout_text();
        let line = answer.split_once("<<<").and_then(|(_, rest)| Some(rest.split_once(">>>")?.0)).unwrap_or_default();
        let (before, _) = typed.rsplit_once(' ').expect("words");
        // An option that wants a value gets its equals sign, too.
        assert_eq!(line.trim_end_matches(['=', ' ']), format!("{before} {expected}"), "{answer}\n{}", outcome.stderr);
    }
}
