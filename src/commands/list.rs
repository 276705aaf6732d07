//! `list`: prints the backups as a table, as names or as JSON, or one backup in full.

use serde::Serialize;

use crate::archive::drill::DrillRecord;
use crate::archive::manifest::Manifest;
use crate::archive::name::BackupName;
use crate::archive::{Listing, MANIFESTS};
use crate::cli::{Limit, ListArgs};
use crate::config;
use crate::error::Error;
use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::storage::Destination;

use super::{Context, backup_named, columns, no_such_backup, table};

/// Lists the backups, newest first, or shows one.
///
/// # Errors
/// If the settings are invalid, the destination cannot be listed, or the backup does not exist.
pub async fn run(context: &Context<'_>, args: &ListArgs) -> Result<(), Error> {
    let config = config::list(context.flags, context.environment).map_err(Error::Settings)?;
    let destination = Destination::open(&config.s3).await?.with_first_contact();
    let location = destination.location(&destination.key(""));
    if let Some(wanted) = &args.name {
        let name = backup_named(&destination, wanted)?;
        let listing = Listing::read(&destination).await?;
        return match show(context, args, &listing, (name, destination.endpoint())).await? {
            Some(()) => Ok(()),
            None => Err(no_such_backup(&destination, wanted.to_string()).await),
        };
    }
    let listing = Listing::read(&destination).await?;
    let columns = columns();
    let (limit, manifests) = match args.limit {
        Some(Limit::Newest(count)) => (count.get(), count.get()),
        // At a terminal the newest are enough; a program gets all.
        None if columns.is_some() && !args.quiet && !args.json => (MANIFESTS, MANIFESTS),
        Some(Limit::All) | None => (usize::MAX, MANIFESTS),
    };
    if args.quiet {
        let names: Vec<String> = listing.names(limit).collect();
        return if names.is_empty() { Ok(()) } else { context.print(&names.join("\n")) };
    }
    let backups = listing.newest(limit, manifests).await;
    if args.json {
        return context.print_json(&backups);
    }
    if backups.count() == 0 {
        tracing::info!(target: FOR_MACHINES, location, "no backups");
        tracing::info!(target: FOR_PEOPLE, "no backups at {location}");
        return Ok(());
    }
    context.print(&table::of_backups(|| backups.iter(), chrono::Utc::now(), columns))?;
    if columns.is_some() {
        let (count, bytes) = listing.totals();
        context.print(&table::totals(backups.count(), count, bytes))?;
    }
    Ok(())
}

/// What `list NAME --json` prints.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    #[serde(skip_serializing_if = "Option::is_none")]
    drill: Option<&'a DrillRecord>,
}

/// Prints one backup in full, the newest without a name; `None` if there is none.
async fn show(
    context: &Context<'_>,
    args: &ListArgs,
    listing: &Listing<'_>,
    (name, endpoint): (Option<BackupName>, Option<&str>),
) -> Result<Option<()>, Error> {
    let found = match name {
        Some(name) => listing.find(name).await,
        None => listing.latest(None).await.found,
    };
    let Some((mut backup, manifest)) = found else { return Ok(None) };
    let drill = listing.add_drill(&mut backup).await;
    let shown = match (args.json, &manifest) {
        (true, Some(manifest)) => context.print_json(&Shown { manifest, drill: drill.as_ref() }),
        (true, None) => context.print_json(&backup),
        (false, manifest) => context.print(&table::of_one(&backup, (manifest.as_ref(), drill.as_ref()), endpoint)),
    };
    shown.map(Some)
}
