//! `list`: what is stored, as a table, as names, or as JSON; or one backup in full.

use crate::cli::{ListArgs, Wanted};
use crate::config;
use crate::error::Error;
use crate::listing::Listing;
use crate::storage::Destination;

use super::Context;
use super::table;

/// Lists the backups, newest first, or shows one.
///
/// # Errors
/// Where the settings are wrong, the listing is not to be had, or the one backup is not there.
pub async fn run(context: &Context<'_>, args: &ListArgs) -> Result<(), Error> {
    let config = config::list(context.flags, context.environment).map_err(Error::Settings)?;
    let destination = Destination::open(&config.s3).await?;
    let listing = Listing::read(&destination).await?;
    let location = destination.location(&destination.key(""));
    if let Some(wanted) = args.name {
        return show(context, args, &listing, wanted)
            .await?
            .ok_or(Error::NoSuchBackup { name: wanted.to_string(), location });
    }
    if args.quiet {
        let names: Vec<String> = listing.names(args.limit.get()).collect();
        return if names.is_empty() { Ok(()) } else { context.print(&names.join("\n")) };
    }
    let backups = listing.newest(args.limit.get()).await;
    if args.json {
        return context.print(&json(&backups)?);
    }
    if backups.is_empty() {
        tracing::info!(location, "no backups");
        return Ok(());
    }
    context.print(&table::of_backups(&backups, chrono::Utc::now()))
}

/// Prints one backup in full; `None` where it is not there.
async fn show(
    context: &Context<'_>,
    args: &ListArgs,
    listing: &Listing<'_>,
    wanted: Wanted,
) -> Result<Option<()>, Error> {
    let name = match wanted {
        Wanted::Latest => None,
        Wanted::Named(name) => Some(name),
    };
    let Some((backup, manifest)) = listing.find(name).await else { return Ok(None) };
    let text = match (args.json, &manifest) {
        (true, Some(manifest)) => json(manifest)?,
        (true, None) => json(&backup)?,
        (false, manifest) => table::of_one(&backup, manifest.as_ref()),
    };
    context.print(&text).map(Some)
}

fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string_pretty(value).map_err(|error| Error::Internal(error.into()))
}
