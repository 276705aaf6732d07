//! `delete`: named backups with their sidecars, or what would be deleted.

use std::collections::BTreeSet;

use bytesize::ByteSize;
use chrono::Utc;
use serde::Serialize;

use crate::archive::name::BackupName;
use crate::cli::DeleteArgs;
use crate::config;
use crate::error::Error;
use crate::interrupt::Interrupts;
use crate::printable::counted;
use crate::retention::{NamedBackup, NamedBackups, NamedError, Safety};
use crate::storage::Destination;

use super::{Context, backup_named, no_such_backup};

/// What `delete --json` prints.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    dry_run: bool,
    s3_location: Option<String>,
    /// What was named.
    backups: Vec<NamedBackup>,
    /// How many of them are gone.
    deleted: usize,
    /// Their bytes, with those of their sidecars.
    deleted_bytes: u64,
    /// What could not be deleted, and why.
    problems: Vec<String>,
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
        let destination = Destination::open(&config.s3).await?;
        let named = find(&destination, args).await?;
        Ok::<_, Error>((destination, named))
    };
    let (destination, named) = interrupts.until_signal(looking).await?;
    outcome.s3_location = Some(destination.location(&destination.key("")));
    outcome.backups = named.iter().collect();
    if args.dry_run {
        return Ok(());
    }
    let stop = || async { _ = interrupts.received().await };
    let deleted = named.delete(&destination, stop).await;
    (outcome.deleted, outcome.deleted_bytes) = (deleted.backups, deleted.bytes);
    outcome.problems = deleted.failed.iter().map(|(file_name, reason)| format!("{file_name}: {reason}")).collect();
    if deleted.is_stopped {
        return Err(Error::Interrupted(interrupts.received().await));
    }
    deleted.shortfall().map_or(Ok(()), |shortfall| Err(shortfall.into()))
}

async fn find(destination: &Destination, args: &DeleteArgs) -> Result<NamedBackups, Error> {
    let mut names: BTreeSet<BackupName> = BTreeSet::new();
    for wanted in &args.names {
        names.extend(backup_named(destination, wanted)?);
    }
    let safety = if args.force { Safety::Override } else { Safety::Enforce };
    match NamedBackups::find(destination, &names, safety, Utc::now()).await {
        Ok(found) => Ok(found),
        Err(NamedError::Storage(error)) => Err(error.into()),
        Err(NamedError::Absent(name)) => Err(match no_such_backup(destination, name.to_string()).await {
            Error::NoSuchBackup { name, location } => Error::NothingDeleted { name, location },
            other => other,
        }),
        Err(NamedError::NewestValid(name)) => Err(Error::NewestBackup { name: name.to_string() }),
    }
}

fn in_words(outcome: &Outcome) -> String {
    let size = |bytes| ByteSize(bytes).display().iec();
    let location = outcome.s3_location.as_deref().unwrap_or_default();
    if !outcome.dry_run {
        let gone = counted(outcome.deleted, "backup");
        return format!("{location}: {gone} deleted ({})", size(outcome.deleted_bytes));
    }
    let line = |backup: &NamedBackup| {
        let NamedBackup { file_name, bytes, sidecars, .. } = backup;
        format!("{file_name} would be deleted, with {} ({})", counted(*sidecars, "sidecar"), size(*bytes))
    };
    let mut lines: Vec<String> = outcome.backups.iter().map(line).collect();
    let bytes = outcome.backups.iter().map(|backup| backup.bytes).sum();
    lines.push(format!("{location}: {} would be deleted ({})", counted(lines.len(), "backup"), size(bytes)));
    lines.join("\n")
}
