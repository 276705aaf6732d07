//! `delete`: named backups with their sidecars, or what would be deleted.

use std::collections::{BTreeMap, BTreeSet};

use bytesize::ByteSize;
use chrono::Utc;
use serde::Serialize;
use tracing::Instrument as _;

use crate::archive::name::BackupName;
use crate::cli::DeleteArgs;
use crate::config;
use crate::error::Error;
use crate::interrupt::Interrupts;
use crate::printable::{counted, printable};
use crate::retention::{NamedBackup, NamedBackups, NamedError, Safety};
use crate::storage::Destination;

use super::destinations::{DATABASES_FLAG, DatabaseDestination, Destinations, Failures};
use super::{Context, no_such_backup};

/// What `delete --json` prints.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    dry_run: bool,
    s3_location: Option<String>,
    /// What was named.
    backups: Vec<Named>,
    /// How many of them are gone.
    deleted: usize,
    /// Their bytes, with those of their sidecars.
    deleted_bytes: u64,
    /// What could not be deleted, and why.
    problems: Vec<String>,
}

/// A named backup, of several databases with its own.
#[derive(Debug, Serialize)]
struct Named {
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    #[serde(flatten)]
    backup: NamedBackup,
}

/// Deletes the named backups.
///
/// # Errors
/// If the settings are wrong, one is not there or is the newest valid one, or not everything could be deleted.
pub async fn run(context: &Context<'_>, args: &DeleteArgs, interrupts: Interrupts) -> Result<(), Error> {
    let mut outcome = Outcome { dry_run: args.dry_run, ..Outcome::default() };
    let done = delete(context, args, &interrupts, &mut outcome).await;
    context.conclude(args.json, done, &outcome, || in_words(&outcome))
}

async fn delete(
    context: &Context<'_>,
    args: &DeleteArgs,
    interrupts: &Interrupts,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let config = config::list(context.flags, context.environment).map_err(Error::Settings)?;
    let looking = async {
        let root = Destination::open(&config.s3).await?;
        let places = Destinations::find(root, config.databases.as_ref()).await?;
        let named = find(&places, args).await?;
        Ok::<_, Error>((places, named))
    };
    let (places, named) = interrupts.until_signal(looking).await?;
    outcome.s3_location = Some(places.location());
    outcome.backups = named.iter().flat_map(|(place, named)| of_database(place, named)).collect();
    if args.dry_run {
        return Ok(());
    }
    let mut failures = Failures::default();
    for (place, named) in named {
        let done = delete_in(&place, named, interrupts, outcome).instrument(place.span()).await;
        failures.keep(&place, done)?;
    }
    failures.conclude()
}

async fn delete_in(
    place: &DatabaseDestination,
    named: NamedBackups,
    interrupts: &Interrupts,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let stop = || async { _ = interrupts.received().await };
    let deleted = named.delete(&place.destination, stop).await;
    outcome.deleted += deleted.backups;
    outcome.deleted_bytes += deleted.bytes;
    outcome.problems.extend(deleted.failed.iter().map(|(file_name, reason)| format!("{file_name}: {reason}")));
    if deleted.is_stopped {
        return Err(Error::Interrupted(interrupts.received().await));
    }
    deleted.shortfall().map_or(Ok(()), |shortfall| Err(shortfall.into()))
}

fn of_database(place: &DatabaseDestination, named: &NamedBackups) -> Vec<Named> {
    named.iter().map(|backup| Named { database: place.database.clone(), backup }).collect()
}

/// Finds all that are named, by database, before anything is deleted.
async fn find(places: &Destinations, args: &DeleteArgs) -> Result<Vec<(DatabaseDestination, NamedBackups)>, Error> {
    let mut names: BTreeMap<String, (&DatabaseDestination, BTreeSet<BackupName>)> = BTreeMap::new();
    for wanted in &args.names {
        let (place, name) = places.locate(wanted, DATABASES_FLAG).await.map_err(nothing_deleted)?;
        names.entry(place.location()).or_insert((place, BTreeSet::new())).1.extend(name);
    }
    let safety = if args.force { Safety::Override } else { Safety::Enforce };
    let mut found = Vec::new();
    for (place, names) in names.into_values() {
        let backups = find_in(place, &names, safety).instrument(place.span()).await?;
        found.push((place.clone(), backups));
    }
    Ok(found)
}

async fn find_in(
    place: &DatabaseDestination,
    names: &BTreeSet<BackupName>,
    safety: Safety,
) -> Result<NamedBackups, Error> {
    let destination = &place.destination;
    match NamedBackups::find(destination, names, safety, Utc::now()).await {
        Ok(found) => Ok(found),
        Err(NamedError::Storage(error)) => Err(error.into()),
        Err(NamedError::Absent(name)) => Err(nothing_deleted(no_such_backup(destination, name.to_string()).await)),
        Err(NamedError::NewestValid(name)) => Err(Error::NewestBackup { name: place.name_of(name) }),
    }
}

fn nothing_deleted(error: Error) -> Error {
    match error {
        Error::NoSuchBackup { name, location } => Error::NothingDeleted { name, location },
        other => other,
    }
}

fn in_words(outcome: &Outcome) -> String {
    let size = |bytes| ByteSize(bytes).display().iec();
    let location = outcome.s3_location.as_deref().unwrap_or_default();
    if !outcome.dry_run {
        let gone = counted(outcome.deleted, "backup");
        return format!("{location}: {gone} deleted ({})", size(outcome.deleted_bytes));
    }
    let line = |Named { database, backup }: &Named| {
        let NamedBackup { file_name, bytes, sidecars, .. } = backup;
        let of = database.as_ref().map(|database| format!("{}: ", printable(database))).unwrap_or_default();
        format!("{of}{file_name} would be deleted, with {} ({})", counted(*sidecars, "sidecar"), size(*bytes))
    };
    let mut lines: Vec<String> = outcome.backups.iter().map(line).collect();
    let bytes = outcome.backups.iter().map(|named| named.backup.bytes).sum();
    lines.push(format!("{location}: {} would be deleted ({})", counted(lines.len(), "backup"), size(bytes)));
    lines.join("\n")
}
