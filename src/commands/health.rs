//! `health`: asks the daemon on this host whether it is alive, and answers with the exit code. A container's health check uses
//! it, because the image has no shell and no curl.

use std::time::Duration;

use crate::config;
use crate::error::Error;
use crate::health::probe;

use super::Context;

/// Shorter than the timeout of common health checks, so that the reason is printed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the daemon that listens on `LISTEN`.
///
/// # Errors
/// If `LISTEN` is invalid, or the daemon does not answer that it is alive.
pub async fn run(context: &Context<'_>) -> Result<(), Error> {
    let address = config::health(context.flags, context.environment).map_err(Error::Settings)?;
    probe::ask(&address, PATIENCE).await?;
    context.print("alive")
}
