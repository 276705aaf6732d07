//! The examples of manual and `--help` run as they are printed, in `sh`, with the program's directory in `PATH`.

use std::path::Path;
use std::time::Duration;

use pg_s3_backup::cli;
use pg_s3_backup::config::table::CommandName;
use pg_s3_backup::manual::EXAMPLES;

use crate::support::port::own_port;
use crate::support::program::{Outcome, Program};
use crate::support::servers::{Postgres, own_postgres, s3};

/// A shell in which the program is found, and PostgreSQL and S3 by their own variables.
pub fn shell(line: &str) -> Program {
    let program = Path::new(env!("CARGO_BIN_EXE_pg-s3-backup"));
    let path = std::env::var("PATH").unwrap_or_default();
    let directory = program.parent().expect("the program is in a directory").display().to_string();
    Program::at(Path::new("/bin/sh")).args(["-c", line]).env("PATH", format!("{directory}:{path}"))
}

#[test]
fn every_subcommand_has_an_example() {
    let definition = cli::definition();
    for command in definition.get_subcommands() {
        let has_one = EXAMPLES.iter().any(|example| example.command.word() == command.get_name());
        assert!(has_one, "no example of {} in src/manual.rs", command.get_name());
    }
}

#[test]
fn every_example_of_the_manual_runs_as_printed() {
    let server = own_postgres(&[]);
    server.psql("postgres", "CREATE DATABASE shop").expect("the examples' database");
    s3().request("PUT", "/backups", b"").expect("the examples' bucket");
    for example in EXAMPLES {
        // The daemon runs until it gets a signal. It replaces the shell, so that the signal reaches it.
        let (outcome, code) = match example.command {
            CommandName::Daemon => (stopped_while_it_waits(&format!("exec {}", example.line), &server), 143),
            CommandName::Health => (next_to_a_daemon(example.line, &server), 0),
            _ => (s3_and_postgres(shell(example.line), &server).run(), 0),
        };
        assert_eq!(outcome.code, Some(code), "{}\n{}", example.line, outcome.stderr);
        outcome.assert_no_children_left();
    }
}

fn stopped_while_it_waits(line: &str, server: &Postgres) -> Outcome {
    let mut running = s3_and_postgres(shell(line), server).spawn();
    running.wait_for_stderr("waiting", Duration::from_mins(1));
    running.signal("TERM");
    running.wait()
}

/// With the daemon that it asks.
fn next_to_a_daemon(line: &str, server: &Postgres) -> Outcome {
    let listen = format!("127.0.0.1:{}", own_port());
    let daemon = s3_and_postgres(shell("exec pg-s3-backup daemon --interval @yearly --catch-up=false"), server);
    let mut running = daemon.env("LISTEN", &listen).spawn();
    running.wait_for_stderr("listening", Duration::from_mins(1));
    s3_and_postgres(shell(line), server).env("LISTEN", &listen).run()
}

/// The settings that the examples leave to the environment.
fn s3_and_postgres(program: Program, postgres: &Postgres) -> Program {
    let s3 = s3();
    program
        .env("S3_URL", &s3.url)
        .env("S3_ACCESS_KEY", &s3.access_key)
        .env("S3_SECRET_KEY", &s3.secret_key)
        .env("S3_BUCKET", "backups")
        .env("S3_PATH", "shop")
        .env("PGHOST", &postgres.host)
        .env("PGPORT", postgres.port.to_string())
        .env("PGUSER", &postgres.user)
        .env("PGPASSWORD", &postgres.password)
        .env("PGDATABASE", "shop")
}
