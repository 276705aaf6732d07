//! The target that is a database.

use crate::postgres::PostgresSettings;

use super::{Report, Request, RestoreError};

#[expect(clippy::unused_async, reason = "the restore that follows waits")]
/// Restores into the database that the settings name, or into one that is made beside it.
///
/// # Errors
/// Where it failed; the target is then as it was before.
pub async fn restore(_request: &Request<'_>, _target: &PostgresSettings) -> Result<Report, RestoreError> {
    Err(RestoreError::Unsupported("a database"))
}
