//! `completions`: a shell's completion script, made from the command line's own definition.
//!
//! The scripts in `completions/` are what this prints, which a test sees to.

use clap_complete::Shell;

use crate::cli::{self, CompletionsArgs};
use crate::error::Error;

use super::Context;

/// Prints the script for a shell.
///
/// # Errors
/// If stdout cannot be written.
pub fn run(context: &Context<'_>, args: &CompletionsArgs) -> Result<(), Error> {
    context.print_verbatim(script(args.shell).trim_end())
}

/// The completion script for a shell.
#[must_use]
pub fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::definition(), "pg-s3-backup", &mut script);
    // clap_complete 4.6.11 spells a program's name with dashes in two ways for bash, and then completes nothing.
    String::from_utf8_lossy(&script).replace("pg__subcmd__s3__subcmd__backup", "pg__s3__backup")
}
