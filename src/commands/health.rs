//! `health`: whether the daemon of this host turns its loop, told by the exit code. For a container's health check, which has
//! no shell and no curl to ask with.

use std::time::Duration;

use crate::config;
use crate::error::Error;
use crate::health::probe;

use super::Context;

/// Less than any health check waits: better this program's own words than a kill.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the daemon that listens on `LISTEN`.
///
/// # Errors
/// Where `LISTEN` cannot be used, or the daemon does not say that it is alive.
pub async fn run(context: &Context<'_>) -> Result<(), Error> {
    let address = config::health(context.flags, context.environment).map_err(Error::Settings)?;
    probe::ask(&address, PATIENCE).await?;
    context.print("alive")
}
