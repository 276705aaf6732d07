//! `restore`: restores a backup into a database, a file or stdout, and prints the result.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::archive::ReadProgress;
use crate::archive::manifest::time_text;
use crate::cli::{BackupRef, IntoDatabase, RestoreArgs};
use crate::config::table::{RESTORE_CONNECTION_STRING, RESTORE_JOBS};
use crate::config::{self, Problems, RestoreConfig};
use crate::error::Error;
use crate::exit_code::ExitCode;
use crate::glob::Glob;
use crate::interrupt::Interrupts;
use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::postgres::PostgresSettings;
use crate::printable::counted;
use crate::restore::{
    self, Chosen, DatabaseName, Evidence, LeaveOut, Output, OutputForm, Part, Report, Request, RestoreOptions,
    Selected, Selection, Wanted,
};
use crate::storage::Destination;
use crate::telemetry::{Display, ProgressStyleChoice};

use super::destinations::{DatabaseDestination, Destinations, names_of};
use super::{Context, no_such_backup};

/// Chooses a database.
const DATABASE_FLAG: &str = "--database";

/// The target of the restore.
enum Target {
    Database(Box<PostgresSettings>),
    Output(Output),
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
/// If a setting is wrong, the backup does not exist, or it was not restored.
pub async fn run(context: &Context<'_>, args: &RestoreArgs, interrupts: Interrupts) -> Result<(), Error> {
    let began = Instant::now();
    let restored = Box::pin(restore(context, args, &interrupts)).await;
    let mut report = restored.inspect_err(|error| context.print_failure(args.json, error))?;
    report.duration = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    if let Some(unchecked) = &report.unchecked {
        tracing::warn!("not verified: {unchecked}");
    }
    let Report { file_name, target, replaced, dump_bytes, rows, tables, duration, .. } = &report;
    if report.dry_run && args.into.replace {
        tracing::info!(
            file_name,
            restored_to = target,
            "dry run: nothing was restored; the restore would replace the database"
        );
    } else if report.dry_run {
        tracing::info!(file_name, restored_to = target, "dry run: nothing was restored; no obstacle was found");
    } else {
        tracing::info!(target: FOR_MACHINES, file_name, restored_to = target, replaced, dump_bytes, rows, tables, duration_s = duration, "restored");
        tracing::info!(target: FOR_PEOPLE, "{}", summary(&report));
    }
    if report.dry_run && !args.json {
        announce_selected(&report);
    }
    if args.json { context.print_json(&Answer { success: true, report: &report }) } else { Ok(()) }
}

async fn restore(context: &Context<'_>, args: &RestoreArgs, interrupts: &Interrupts) -> Result<Report, Error> {
    let config = config::restore(context.flags, context.environment).map_err(Error::Settings)?;
    let Asked { at, options, target } = asked(args, &config).map_err(Error::Settings)?;
    config.effective.announce();
    let choosing = async {
        let (destination, chosen) = choose(args, &config, at).await?;
        let chosen = match target {
            Target::Database(_) => chosen.with_names((&destination, config.identities.as_ref())).await,
            Target::Output(_) => chosen,
        };
        Ok::<_, Error>((destination, chosen))
    };
    let (destination, chosen) = interrupts.until_signal(choosing).await?;
    announce(&chosen, &target, &options);
    if matches!(target, Target::Database(_))
        && options.create_db.is_none()
        && context.flags.contains_key(RESTORE_JOBS.variable)
    {
        tracing::warn!(
            "--jobs: an existing database is restored by one session; with --create-db, several restore into a new one"
        );
    }
    let display = Mutex::new(None);
    let show = |progress: Arc<ReadProgress>| {
        let bytes = progress.bytes();
        let choice = if args.no_progress { ProgressStyleChoice::Lines } else { ProgressStyleChoice::Auto };
        let started = Display::of_reading(context.writer, choice, move || progress.read(), bytes);
        *display.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    };
    let (destination, chosen, options, identities) = (&destination, &chosen, &options, config.identities.as_ref());
    let request = Request { destination, chosen, options, identities, interrupts, show: &show };
    let restored = match &target {
        Target::Database(target) => restore::database::restore(&request, target).await,
        Target::Output(output) => restore::into_file(&request, output).await,
    };
    Ok(restored?)
}

/// Prints what is restored and where to, for a person.
fn announce(chosen: &Chosen, target: &Target, options: &RestoreOptions) {
    let backup = &chosen.backup;
    let database = chosen.manifest.as_ref().map(|manifest| format!(", database {}", manifest.database));
    let target = match (target, &options.create_db) {
        (Target::Output(Output { path: Some(path), .. }), _) => path.display().to_string(),
        (Target::Output(_), _) => "stdout".to_owned(),
        (Target::Database(at), Some(name)) if options.replace => {
            format!("database {name} at {}, replacing it", at.address())
        }
        (Target::Database(at), Some(name)) => format!("the new database {name} at {}", at.address()),
        (Target::Database(at), None) => match at.conninfo.get("dbname") {
            Some(name) => format!("database {name} at {}", at.address()),
            None => format!("the default database at {}", at.address()),
        },
    };
    let size = ByteSize(backup.file_size).display().iec();
    let database = database.unwrap_or_default();
    tracing::info!(target: FOR_PEOPLE, "restoring {} ({size}{database}) to {target}", backup.s3_location);
}

/// Logs what a selective restore would bring.
fn announce_selected(report: &Report) {
    for Selected { kind, schema, name, rows } in report.selected.iter().flatten() {
        let rows = rows.map(|rows| format!(": {}", counted(rows, "row"))).unwrap_or_default();
        let schema = if schema == "-" { String::new() } else { format!("{schema}.") };
        tracing::info!("would restore {kind} {schema}{name}{rows}");
    }
}

/// The result in one line, for a person.
fn summary(report: &Report) -> String {
    let of_dump = report.dump_bytes.map(|bytes| format!("{} of dump, ", ByteSize(bytes).display().iec()));
    let rows = report.rows.zip(report.tables);
    let rows = rows.map(|(rows, tables)| format!("{} in {}, ", counted(rows, "row"), counted(tables as u64, "table")));
    let (of_dump, rows) = (of_dump.unwrap_or_default(), rows.unwrap_or_default());
    let replaced = report.replaced.as_ref().map(|name| format!("; the old database is {name}")).unwrap_or_default();
    format!("restored to {}: {of_dump}{rows}in {:.1} s{replaced}", report.target, report.duration)
}

async fn choose(
    args: &RestoreArgs,
    config: &RestoreConfig,
    at: Option<DateTime<Utc>>,
) -> Result<(Destination, Chosen), Error> {
    let root = Destination::open(&config.s3).await?;
    let asked = (args.database.as_deref(), args.name.as_ref());
    let places = Destinations::of_restore(root, asked, config.databases.as_ref()).await?;
    let (latest, name) = (BackupRef::Latest, wanted_name(args, at));
    let wanted = args.name.as_ref().unwrap_or(&latest);
    if *wanted == latest && places.are_databases() {
        return Err(places.which_database(name, DATABASE_FLAG));
    }
    let (place, named) = places.locate(wanted, DATABASE_FLAG).await?;
    let wanted = match (named, at) {
        (Some(name), _) => Wanted::Named(name),
        (None, Some(time)) => Wanted::At(time),
        (None, None) => Wanted::Latest,
    };
    let evidence = if args.ignore_manifest { Evidence::Itself } else { Evidence::Manifest };
    let chosen = restore::choose(&place.destination, wanted, evidence).await?;
    let Some(chosen) = chosen else {
        return Err(match (no_such_backup(&place.destination, name).await, &args.database) {
            (Error::NoBackups { .. }, Some(database)) => no_backups_of(database, &places, place).await,
            (error, _) => error,
        });
    };
    verify_database(args, place, &chosen)?;
    Ok((place.destination.clone(), chosen))
}

/// What is wanted, for an error.
fn wanted_name(args: &RestoreArgs, at: Option<DateTime<Utc>>) -> String {
    match (&args.name, at) {
        (Some(name), _) => name.to_string(),
        (None, Some(time)) => format!("one that was started by {}", time_text(time)),
        (None, None) => BackupRef::Latest.to_string(),
    }
}

/// Refuses a backup of another database than its sub-path's, or warns of it if its URL was given.
fn verify_database(args: &RestoreArgs, place: &DatabaseDestination, chosen: &Chosen) -> Result<(), Error> {
    let Some((manifest, database)) = chosen.manifest.as_ref().zip(place.database.as_ref()) else { return Ok(()) };
    let (name, holds) = (chosen.backup.s3_location.clone(), manifest.database.clone());
    if holds == *database {
        return Ok(());
    }
    if args.database.is_some() {
        return Err(Error::OtherDatabase { name, holds, database: database.clone() });
    }
    tracing::warn!(name, "this backup is of the database {holds}, not of {database}, as its path says");
    Ok(())
}

/// The error if the database that was named has no backup.
async fn no_backups_of(database: &str, places: &Destinations, place: &DatabaseDestination) -> Error {
    let others = match places.of_all().await {
        Ok(all) if !all.each().is_empty() => format!("; there are backups of {}", names_of(all.each())),
        _ => String::new(),
    };
    Error::NoBackupsOf { database: database.to_owned(), location: place.location(), others }
}

/// What the command line asks for.
struct Asked {
    at: Option<DateTime<Utc>>,
    options: RestoreOptions,
    target: Target,
}

/// What the command line asks for, or every problem with it.
fn asked(args: &RestoreArgs, config: &RestoreConfig) -> Result<Asked, Problems> {
    let mut problems = Problems::default();
    let target = target(args, config, &mut problems);
    let mut judged = |flag: &str, why: String| problems.push(ExitCode::InvalidSetting, format!("{flag}: {why}"));
    let at = args.at.as_deref().map(|text| restore::parse_time(text, config.zone)).transpose();
    let at = at.unwrap_or_else(|why| {
        judged("--at", why);
        None
    });
    let create_db = args.into.create_db.as_deref().map(DatabaseName::new).transpose();
    let create_db = create_db.unwrap_or_else(|why| {
        judged("--create-db", why);
        None
    });
    if problems.is_empty() {
        Ok(Asked { at, options: options(args, create_db, config.jobs), target })
    } else {
        Err(problems)
    }
}

fn target(args: &RestoreArgs, config: &RestoreConfig, problems: &mut Problems) -> Target {
    let variable = RESTORE_CONNECTION_STRING.variable;
    let form = if args.raw { OutputForm::Stored } else { OutputForm::Plain };
    match (&args.output, &config.target) {
        (Some(path), _) if path != Path::new("-") => {
            return Target::Output(Output { path: Some(path.clone()), form });
        }
        (None, Some(target)) if !args.raw => return Target::Database(Box::new(target.clone())),
        _ => {}
    }
    if let Some(flag) = args.into.given() {
        let text = format!("{variable} is not set, but {flag} needs a database to restore into: set it, or use --to");
        problems.push(ExitCode::MissingSetting, text);
    } else if args.json && !args.dry_run {
        let text = "--json: the result and the dump cannot both go to stdout: use --output FILE";
        problems.push(ExitCode::InvalidSetting, text.to_owned());
    } else if std::io::stdout().is_terminal() && !args.dry_run {
        let text = if args.raw || args.output.is_some() {
            "stdout is a terminal: use --output FILE or a pipe".to_owned()
        } else {
            format!(
                "{variable} is not set, and stdout is a terminal: use --to with a database, --output FILE, or a pipe"
            )
        };
        problems.push(ExitCode::MissingSetting, text);
    }
    Target::Output(Output { path: None, form })
}

fn globs(patterns: &[String]) -> Vec<Glob> {
    patterns.iter().map(|pattern| Glob::new(pattern)).collect()
}

fn options(args: &RestoreArgs, create_db: Option<DatabaseName>, jobs: usize) -> RestoreOptions {
    let into: &IntoDatabase = &args.into;
    RestoreOptions {
        create_db,
        replace: into.replace,
        jobs,
        keep_failed: into.keep_failed,
        leave_out: LeaveOut {
            owner: into.no_owner,
            privileges: into.no_privileges,
            tablespaces: into.no_tablespaces,
            comments: into.no_comments,
            subscriptions: false,
            table_data: globs(&into.exclude_table_data),
            tables: globs(&into.exclude_table),
            schemas: globs(&into.exclude_schema),
        },
        create_roles: into.create_roles,
        globals: into.globals,
        no_database_settings: into.no_database_settings,
        search_path: into.search_path.clone(),
        no_analyze: into.no_analyze,
        selection: Selection {
            tables: globs(&args.select.table),
            schemas: globs(&args.select.schema),
            part: match (args.select.schema_only, args.select.data_only) {
                (true, _) => Part::Definitions,
                (_, true) => Part::Data,
                _ => Part::All,
            },
        },
        dry_run: args.dry_run,
    }
}
