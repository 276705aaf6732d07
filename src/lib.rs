//! PostgreSQL backups in S3: complete and restorable, or not there.
//!
//! If `postgres-backup-2026-11-23_02-00-00.sql.gz` exists in the bucket, it is a complete, restorable dump.
//! [`verified_dump::VerifiedDump`] guarantees that: only [`verified_dump`] makes one, and [`storage::Upload::commit`], the only caller of
//! S3's CompleteMultipartUpload, requires one.
//!
//! # Modules
//!
//! | module | what it manages |
//! |---|---|
//! | [`cli`], [`config`] | turn command line and environment into each module's settings; report every problem at once |
//! | [`commands`] | one file per subcommand: builds the parts, calls one, prints the result |
//! | [`backup`] | one backup, from the connection to the report |
//! | [`postgres`] | finds and runs `pg_dump` and `psql`; keeps secrets out of their arguments |
//! | [`pipeline`] | reads the dump, scans it, compresses it on several threads, seals parts; bounded memory |
//! | [`codec`] | compresses the dump's blocks into pieces of one stream, and encrypts it |
//! | [`sql`] | the lexer that cuts a dump into spans |
//! | [`index`] | what stands where in a dump, and where reading can begin |
//! | [`verified_dump`] | decides whether a dump is complete |
//! | [`spool`] | parts and a journal on disk, so that a complete dump survives an S3 outage and a killed process |
//! | [`storage`] | uploads, commit, listings and outages; the only module that uses the AWS SDK |
//! | [`archive`] | stored backups: names, manifests, restore instructions, the listing of a destination, and the reader |
//! | [`databases`] | the databases of a server: which are meant, and the sub-path of each one's backups |
//! | [`retention`] | the plan of deletions, the safety checks that block it, and the deletion |
//! | [`inventory`] | the newest backups of each destination, for `list` and the status page |
//! | [`check`] | verifies everything that a backup needs, and the latest backup |
//! | [`restore`] | brings a backup back into a database, a file or stdout |
//! | [`scheduler`], [`health`] | the daemon's loop, and its HTTP server |
//! | [`telemetry`] | log, progress, metrics, pings, without secrets |
//! | [`printable`] | text of others without what would control a terminal |
//! | [`manual`] | examples and files, for help and manual |
//! | [`error`] | why a command failed; only [`commands`] sees it, each module has its own error |
//! | [`at_once`], [`exit_code`], [`error_chain`], [`environment`], [`glob`], [`interrupt`], [`disk`], [`log_target`], [`random`] | leaves: tasks of which some run at once, the table of exit codes, errors as text, the process's environment, patterns of names, signals, file system calls with a deadline, who an event is for, random identifiers |
//!
//! Dependencies point one way; `tests/it/modules.rs` checks it: `commands -> backup | check | scheduler -> retention -> archive -> storage ->
//! spool -> verified_dump -> pipeline | postgres`. [`config`] fills the settings of all of them; only [`cli`], [`manual`] and
//! [`commands`] use it.
//!
//! # The commands
//!
//! - **`backup`**: [`commands::backup`] resolves the settings ([`config::backup`]) and calls [`backup::Backup::run`]. It delivers
//!   what an earlier run left in the spool ([`spool::SpoolDir`]), connects ([`postgres::Session`]), takes the lock
//!   ([`postgres::lock`]), checks what could make a dump fail ([`postgres::preflight`]), starts the upload
//!   ([`storage::Destination::begin`]) and starts `pg_dump` ([`postgres::Dump`]). [`pipeline::Pipeline`] compresses its output
//!   into parts, which [`storage::Upload`] sends, from memory or from the spool. [`verified_dump`] verifies its end; the commit follows,
//!   then the manifest ([`archive::manifest`]), the globals and [`retention`].
//! - **`prune`**: [`commands::prune`] loads a [`retention::RetentionReview`] of the destination: listing, decisive manifests, plan and
//!   safety checks. [`retention`] then deletes, and aborts abandoned uploads.
//! - **`list`**: [`commands::list`] reads an [`inventory::Inventory`]: an [`archive::Listing`] and the manifests of the newest backups.
//! - **`check`**: [`check::Check::run`] tests everything that a backup needs and adds a [`check::CheckResult`] for each test; with
//!   `--deep` it reads the latest backup ([`archive::Reader`]): downloads it in parallel ranges, decompresses it and verifies
//!   the dump as the pipeline does. With `--restore-to`, [`restore::Drill`] restores it into a scratch database.
//! - **`daemon`**: [`scheduler::Scheduler`] starts the same run as `backup` at each tick of its [`scheduler::Schedule`];
//!   [`health::Server`] answers over HTTP from the [`scheduler::Heartbeat`] and the [`inventory::InventoryCache`].
//! - **`health`**: [`health::probe`] asks a local daemon.
//!
//! `list`, `prune`, `delete`, `restore` and the drills act on destinations, which `commands::destinations` finds: that of `S3_PATH`, or
//! with `BACKUP_DATABASES` that of each database ([`databases::StoredDatabases`]).

pub mod archive;
pub mod at_once;
pub mod backup;
pub mod check;
pub mod cli;
pub mod codec;
pub mod commands;
pub mod config;
pub mod databases;
pub mod disk;
pub mod environment;
pub mod error;
pub mod error_chain;
pub mod exit_code;
pub mod glob;
pub mod health;
pub mod index;
pub mod interrupt;
pub mod inventory;
pub mod log_target;
pub mod manual;
pub mod pipeline;
pub mod postgres;
pub mod printable;
pub mod random;
pub mod restore;
pub mod retention;
pub mod scheduler;
pub mod spool;
pub mod sql;
pub mod storage;
pub mod telemetry;
pub mod verified_dump;

use std::ffi::OsString;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::oneshot;
use tokio::time::{sleep, sleep_until};

use cli::{Cli, Command};
use commands::{Context, OwnedContext};
use environment::Environment;
use error::Error;
use exit_code::ExitCode;
use interrupt::{HangUp, Interrupt, Interrupts};
use printable::printable_lines;
use telemetry::{LogWriter, Redactor, without_credentials};

/// Threads for S3, child processes and signals; the pipeline has its own.
const RUNTIME_THREADS: usize = 2;
/// Stack of the command's thread; as large as that of a main thread.
const STACK_BYTES: usize = 8 << 20;
/// How long the exit waits for a blocked thread.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// From a signal to the exit, even if a call hangs: Kubernetes and systemd kill the process a while later.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Runs the program with a command line (program name first) and an environment.
#[must_use]
pub fn run(arguments: &[OsString], environment: &Environment) -> ExitCode {
    let (cli, flags) = match cli::parse(arguments) {
        Ok(parsed) => parsed,
        Err(error) => return show(&error, arguments),
    };
    let settings = config::log_settings(&flags, environment);
    let settings = if matches!(cli.command, Command::Daemon(_)) { settings.of_daemon() } else { settings };
    let writer = LogWriter::new(Redactor::new(config::secrets(&flags, environment)), &settings);
    telemetry::install(&settings, writer.clone());
    let context = OwnedContext { flags, environment: environment.clone(), writer };
    let cli = Arc::new(cli);
    let outcome = supervise(&cli, context);
    outcome.map_or_else(|error| report(&cli, &error), |()| ExitCode::Ok)
}

/// Runs the command in a separate thread and handles signals in this one, which can end the process even if the kernel blocks
/// the other in a file system.
fn supervise(cli: &Arc<Cli>, context: OwnedContext) -> Result<(), Error> {
    let internal = |error: std::io::Error| Error::Internal(error.into());
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(internal)?;
    runtime.block_on(async {
        let hang_up = HangUp::of(matches!(cli.command, Command::Daemon(_)));
        let interrupts = Interrupts::listen(hang_up).map_err(internal)?;
        let (sender, ended) = oneshot::channel();
        let (cli, heard) = (Arc::clone(cli), interrupts.clone());
        let work = move || _ = sender.send(work(&cli, &context, &heard));
        thread::Builder::new().name("command".to_owned()).stack_size(STACK_BYTES).spawn(work).map_err(internal)?;
        tokio::select! {
            biased;
            outcome = ended => outcome.unwrap_or_else(|_| Err(Error::Internal(anyhow::anyhow!("the command panicked")))),
            interrupt = overdue(&interrupts) => {
                tracing::warn!("something does not stop, such as a file system that hangs: exiting without it");
                Err(Error::Interrupted(interrupt))
            }
        }
    })
}

/// Waits until a command has exceeded its time to stop.
async fn overdue(interrupts: &Interrupts) -> Interrupt {
    let stopped = async {
        let (interrupt, at) = interrupts.received_at().await;
        sleep_until(at + STOP_WITHIN).await;
        interrupt
    };
    let forced = async {
        let interrupt = interrupts.forced().await;
        sleep(LAST_WAIT * 2).await;
        interrupt
    };
    tokio::select! {
        interrupt = stopped => interrupt,
        interrupt = forced => interrupt,
    }
}

/// Runs the command in its own runtime.
fn work(cli: &Cli, context: &OwnedContext, interrupts: &Interrupts) -> Result<(), Error> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().build();
    let runtime = runtime.map_err(|error| Error::Internal(error.into()))?;
    let outcome = runtime.block_on(run_until_second_signal(cli, &context.context(), interrupts));
    // Drops what still runs with its child processes, such as the daemon's backup after a second Ctrl-C. A blocked name lookup
    // in a thread must not delay the exit.
    runtime.shutdown_timeout(LAST_WAIT);
    outcome
}

/// Runs the command. A second Ctrl-C drops it with its child processes.
async fn run_until_second_signal(cli: &Cli, context: &Context<'_>, interrupts: &Interrupts) -> Result<(), Error> {
    tokio::select! {
        outcome = dispatch(cli, context, interrupts.clone()) => outcome,
        interrupt = interrupts.forced() => Err(Error::Interrupted(interrupt)),
    }
}

async fn dispatch(cli: &Cli, context: &Context<'_>, interrupts: Interrupts) -> Result<(), Error> {
    // `check` without --json prints the same warnings as results.
    let is_silent = match &cli.command {
        Command::Health | Command::Completions(_) => true,
        Command::Check(args) => !args.json,
        _ => false,
    };
    if !is_silent {
        for warning in config::warnings(cli.command.name(), context.flags, context.environment) {
            tracing::warn!(hint = warning.hint, "{}", warning.what);
        }
    }
    match &cli.command {
        Command::Backup(args) => Box::pin(commands::backup::run(context, args, interrupts)).await,
        Command::Daemon(args) => Box::pin(commands::daemon::run(context, args, interrupts)).await,
        Command::Prune(args) => Box::pin(commands::prune::run(context, args, interrupts)).await,
        Command::Check(args) => Box::pin(commands::check::run(context, args, interrupts)).await,
        Command::Restore(args) => Box::pin(commands::restore::run(context, args, interrupts)).await,
        Command::Delete(args) => Box::pin(commands::delete::run(context, args, interrupts)).await,
        Command::Completions(args) => commands::completions::run(context, args),
        Command::Health => interrupts.until_signal(commands::health::run(context)).await,
        Command::List(args) => {
            let listed = interrupts.until_signal(Box::pin(commands::list::run(context, args))).await;
            listed.inspect_err(|error| context.print_failure(args.json, error))
        }
    }
}

/// Logs the error that ended the run. For a daemon, a signal is no error.
fn report(cli: &Cli, error: &Error) -> ExitCode {
    let (command, code) = (cli.command.name().word(), error.exit_code());
    if let (Command::Daemon(_), Error::Interrupted(signal)) = (&cli.command, error) {
        tracing::info!(command, exit_code = code.number(), %signal, "the daemon has stopped");
    } else {
        commands::log_failure(command, error);
    }
    code
}

/// Whether an invalid command line contains `--json`, before the arguments for `pg_dump`.
fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().skip(1).take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

/// Prints clap's output: help and version on stdout, an error on stderr.
fn show(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    let is_asked_for =
        matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion);
    if is_asked_for {
        let _ = error.print();
        return ExitCode::Ok;
    }
    let quoted = error.context().filter_map(|(_, value)| match value {
        clap::error::ContextValue::String(text) => Some(text.as_str()),
        _ => None,
    });
    let text = printable_lines(&without_credentials(&error.render().to_string(), quoted));
    let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), text.as_bytes());
    // Not if the command has no such flag.
    let refused = error.get(clap::error::ContextKind::InvalidArg).map(ToString::to_string);
    if wants_json(arguments) && refused.as_deref() != Some("--json") {
        commands::print_usage_failure(&text);
    }
    ExitCode::Usage
}
