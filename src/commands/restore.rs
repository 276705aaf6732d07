//! `restore`: a backup back into a database, a file or stdout, and what came of it.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::archive::ReadProgress;
use crate::cli::{BackupRef, IntoDatabase, RestoreArgs};
use crate::config::table::RESTORE_CONNECTION_STRING;
use crate::config::{self, Problems, RestoreConfig};
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupts;
use crate::postgres::PostgresSettings;
use crate::restore::{self, DatabaseName, LeaveOut, Report, Request, RestoreError, RestoreOptions, Wanted};
use crate::storage::Destination;
use crate::telemetry::{Display, ProgressStyleChoice};

use super::{Context, backup_named};

/// Where the backup goes.
enum Target {
    Database(Box<PostgresSettings>),
    File(PathBuf),
    Stdout,
}

/// What `restore --json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    success: bool,
    #[serde(flatten)]
    report: &'a Report,
}

/// Restores a backup.
///
/// # Errors
/// Where the settings are wrong, there is no such backup, or it was not restored.
pub async fn run(context: &Context<'_>, args: &RestoreArgs, interrupts: Interrupts) -> Result<(), Error> {
    let restored = Box::pin(restore(context, args, &interrupts)).await;
    let report = restored.inspect_err(|error| context.print_failure(args.json, error))?;
    if args.json {
        return context.print_json(&Answer { success: true, report: &report });
    }
    tracing::info!(file_name = report.file_name, target = report.target, "restored");
    Ok(())
}

async fn restore(context: &Context<'_>, args: &RestoreArgs, interrupts: &Interrupts) -> Result<Report, Error> {
    let config = config::restore(context.flags, context.environment).map_err(Error::Settings)?;
    let (options, target) = asked(args, &config).map_err(Error::Settings)?;
    config.effective.announce();
    let choosing = async {
        let destination = Destination::open(&config.s3).await?;
        let wanted = args.name.as_ref().unwrap_or(&BackupRef::Latest);
        let name = backup_named(&destination, wanted)?;
        let chosen = restore::choose(&destination, name.map_or(Wanted::Latest, Wanted::Named)).await?;
        let location = destination.location(&destination.key(""));
        let chosen = chosen.ok_or_else(|| Error::NoSuchBackup { name: wanted.to_string(), location })?;
        Ok((destination, chosen))
    };
    let (destination, mut chosen) = tokio::select! {
        chosen = choosing => chosen,
        interrupt = interrupts.received() => Err(Error::Interrupted(interrupt)),
    }?;
    chosen.manifest = chosen.manifest.filter(|_| !args.ignore_manifest);
    let display = Mutex::new(None);
    let show = |progress: Arc<ReadProgress>| {
        let bytes = progress.bytes();
        let choice = if args.no_progress { ProgressStyleChoice::Lines } else { ProgressStyleChoice::Auto };
        let started = Display::of_reading(context.writer.bars(), choice, move || progress.read(), bytes);
        *display.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    };
    let request = Request { destination: &destination, chosen: &chosen, options: &options, interrupts, show: &show };
    let restored = match &target {
        Target::Database(target) => restore::database::restore(&request, target).await,
        Target::File(_path) => Err(RestoreError::Unsupported("a file")),
        Target::Stdout => Err(RestoreError::Unsupported("stdout")),
    };
    Ok(restored?)
}

/// What the command line asks for, or every problem with it.
fn asked(args: &RestoreArgs, config: &RestoreConfig) -> Result<(RestoreOptions, Target), Problems> {
    let mut problems = Problems::default();
    let target = target(args, config, &mut problems);
    let create_db = args.into.create_db.as_deref().map(DatabaseName::new).transpose();
    match (create_db, problems.is_empty()) {
        (Ok(create_db), true) => Ok((options(args, create_db), target)),
        (Ok(_), false) => Err(problems),
        (Err(why), _) => {
            problems.push(ExitCode::InvalidSetting, format!("--create-db: {why}"));
            Err(problems)
        }
    }
}

fn target(args: &RestoreArgs, config: &RestoreConfig, problems: &mut Problems) -> Target {
    let variable = RESTORE_CONNECTION_STRING.variable;
    match (&args.output, &config.target) {
        (Some(path), _) if path.as_os_str() != "-" => return Target::File(path.clone()),
        (None, Some(target)) if !args.raw => return Target::Database(Box::new(target.clone())),
        _ => {}
    }
    if let Some(flag) = args.into.given() {
        let text = format!("{variable} is not set: {flag} is of a restore into a database: set it, or give --to");
        problems.push(ExitCode::MissingSetting, text);
    } else if args.json && !args.dry_run {
        let text = "--json: the result and the dump cannot both go to stdout: give --output FILE";
        problems.push(ExitCode::InvalidSetting, text.to_owned());
    } else if std::io::stdout().is_terminal() && !args.dry_run {
        let text = format!(
            "{variable} is not set, and stdout is a terminal: give --to and a database, --output FILE, or a pipe to write to"
        );
        problems.push(ExitCode::MissingSetting, text);
    }
    Target::Stdout
}

fn options(args: &RestoreArgs, create_db: Option<DatabaseName>) -> RestoreOptions {
    let into: &IntoDatabase = &args.into;
    RestoreOptions {
        create_db,
        replace: into.replace,
        keep_failed: into.keep_failed,
        leave_out: LeaveOut {
            owner: into.no_owner,
            privileges: into.no_privileges,
            tablespaces: into.no_tablespaces,
            comments: into.no_comments,
            table_data: into.exclude_table_data.clone(),
        },
        create_roles: into.create_roles,
        globals: into.globals,
        no_database_settings: into.no_database_settings,
        search_path: into.search_path.clone(),
        no_analyze: into.no_analyze,
        dry_run: args.dry_run,
    }
}
