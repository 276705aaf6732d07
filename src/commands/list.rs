//! `list`: prints the backups as a table, as names or as JSON, or one backup in full.

use serde::Serialize;

use crate::archive::drill::DrillRecord;
use crate::archive::manifest::Manifest;
use crate::archive::name::BackupName;
use crate::archive::{Listing, Stored};
use crate::cli::{Limit, ListArgs};
use crate::config;
use crate::error::Error;
use crate::inventory::{Extent, Inventory};
use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::storage::Destination;

use super::destinations::{DATABASES_FLAG, DatabaseDestination, Destinations};
use super::table::DatabaseColumn;
use super::{Context, columns, contents, no_such_backup, table};

/// Lists the backups, newest first, or shows one.
///
/// # Errors
/// If the settings are invalid, the destination cannot be listed, or the backup does not exist.
pub async fn run(context: &Context<'_>, args: &ListArgs) -> Result<(), Error> {
    let config = config::list(context.flags, context.environment).map_err(Error::Settings)?;
    let root = Destination::open(&config.s3).await?.with_first_contact();
    let places = Destinations::find(root, config.databases.as_ref()).await?;
    if let Some(wanted) = &args.name {
        let (place, name) = places.locate(wanted, DATABASES_FLAG).await?;
        let destination = &place.destination;
        let listing = Listing::read(destination).await?.of_database(place.database.clone());
        return match show(context, args, &listing, (name, (destination, config.identities.as_ref()))).await? {
            Some(()) => Ok(()),
            None => Err(no_such_backup(destination, wanted.to_string()).await),
        };
    }
    let listings = places.listings().await?;
    if args.quiet {
        return print_names(context, args, (&listings, places.are_databases()));
    }
    let spans = places.each().iter().map(DatabaseDestination::span);
    let newest = Inventory::read(listings.into_iter().zip(spans).collect(), |share| extent(args, share)).await;
    if args.json {
        return context.print_json(&newest);
    }
    if newest.count() == 0 {
        let location = places.location();
        tracing::info!(target: FOR_MACHINES, location, "no backups");
        tracing::info!(target: FOR_PEOPLE, "no backups at {location}");
        return Ok(());
    }
    let database = if places.are_databases() { DatabaseColumn::First } else { DatabaseColumn::BeforeStatus };
    context.print(&table::of_backups(|| newest.iter(), chrono::Utc::now(), (columns(), database)))?;
    if columns().is_some() {
        let (count, bytes) = newest.totals();
        context.print(&table::totals(newest.count(), count, bytes))?;
    }
    Ok(())
}

/// Prints the names for other commands: those of several databases as URLs, because two may have the same name.
fn print_names(
    context: &Context<'_>,
    args: &ListArgs,
    (listings, are_databases): (&[Listing], bool),
) -> Result<(), Error> {
    let limit = match args.limit {
        Some(Limit::Newest(count)) => count.get(),
        Some(Limit::All) | None => usize::MAX,
    };
    let names = listings.iter().flat_map(|listing| {
        listing.names(limit).map(move |name| if are_databases { listing.location(&name) } else { name })
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() { Ok(()) } else { context.print(&names.join("\n")) }
}

/// How many backups of each database are shown, given its share of the manifests that are read by default.
fn extent(args: &ListArgs, share: usize) -> Extent {
    let is_on_terminal = columns().is_some() && !args.json;
    let (backups, manifests) = match args.limit {
        Some(Limit::Newest(count)) => (count.get(), count.get()),
        // At a terminal the newest are enough; a program gets all.
        None if is_on_terminal => (share, share),
        Some(Limit::All) | None => (usize::MAX, share),
    };
    Extent { backups, manifests }
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
    listing: &Listing,
    (name, from): (Option<BackupName>, Stored<'_>),
) -> Result<Option<()>, Error> {
    let found = match name {
        Some(name) => listing.find(name).await,
        None => listing.latest(None).await.found,
    };
    let Some((mut backup, manifest)) = found else { return Ok(None) };
    if args.contents {
        let of = (backup.file_name.as_str(), manifest.as_ref());
        return contents::print(context, from, of, args.json).await.map(Some);
    }
    let manifest = match manifest {
        Some(manifest) => Some(manifest.with_names(&backup.file_name, from).await),
        None => None,
    };
    let drill = listing.add_drill(&mut backup).await;
    let shown = match (args.json, &manifest) {
        (true, Some(manifest)) => context.print_json(&Shown { manifest, drill: drill.as_ref() }),
        (true, None) => context.print_json(&backup),
        (false, manifest) => {
            context.print(&table::of_one(&backup, (manifest.as_ref(), drill.as_ref()), from.0.endpoint()))
        }
    };
    shown.map(Some)
}
