//! Sends a backup into psql and judges it: the same for a database that exists and for one that is made.
//!
//! Called by [`super::database`]. What it gives back is applied, but not committed.

use tokio::task::spawn_blocking;

use crate::archive::manifest::Manifest;
use crate::archive::{ReadError, Reader, VerifiedStream};
use crate::postgres::{Applied, PostgresError, RestoreSession};

use super::filter::FilterError;
use super::left_out::LeftOut;
use super::sink::PsqlSink;
use super::{Request, RestoreError};

/// A backup up to this size is read once more where psql failed: what is damaged may look like a wrong statement first.
const MOST_READ_AGAIN: u64 = 1 << 30;

/// Sends the dump, and waits until the server has executed all of it.
///
/// # Errors
/// Where the backup is not what it must be, the filter refuses it, a statement failed, or S3 did.
pub(super) async fn fill(
    request: &Request<'_>,
    session: &mut RestoreSession,
    sink: PsqlSink,
) -> Result<(VerifiedStream, LeftOut), RestoreError> {
    let manifest = request.chosen.manifest.as_ref();
    let reader = open(request).await?;
    (request.show)(reader.progress());
    let (contents, sink) = match reader.read_into(sink).await {
        Ok(read) => read,
        Err(ReadError::Storage { error, .. }) => return Err(error.into()),
        Err(ReadError::Sink { error, sink }) => {
            let failure = sink.failure().unwrap_or(FilterError::Write(error));
            return Err(explained(request, session, failure).await);
        }
    };
    let file_name = &request.chosen.backup.file_name;
    let mismatch = |mismatch| RestoreError::Mismatch { file_name: file_name.clone(), mismatch };
    let verified = contents.verify(manifest).map_err(mismatch)?;
    let sent = spawn_blocking(|| sink.finish()).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    let left_out = match sent {
        Ok(left_out) => left_out,
        Err(failure) => return Err(explained(request, session, failure).await),
    };
    let applied = session.settle().await.map_err(|cause| RestoreError::Statement { cause })?;
    compare(&applied, &verified, &left_out)?;
    Ok((verified, left_out))
}

async fn open(request: &Request<'_>) -> Result<Reader, RestoreError> {
    let file_name = &request.chosen.backup.file_name;
    let reader = Reader::open(request.destination, file_name).await?;
    reader.ok_or_else(|| RestoreError::Gone { file_name: file_name.clone() })
}

/// Why the dump was not taken: psql's words, unless the backup is damaged.
async fn explained(request: &Request<'_>, session: &mut RestoreSession, failure: FilterError) -> RestoreError {
    let error = match failure {
        FilterError::Refused { .. } => RestoreError::Refused(failure),
        FilterError::Write(_) => {
            let reason = session.cause().await.unwrap_or_else(|| failure.to_string());
            RestoreError::Statement { cause: PostgresError::SessionLost { reason } }
        }
    };
    // Nothing of it is needed any more.
    session.kill().await;
    match damage(request).await {
        Some(mismatch) => mismatch,
        None => error,
    }
}

/// What is wrong with the stored bytes, where it does not take long to see.
async fn damage(request: &Request<'_>) -> Option<RestoreError> {
    if request.chosen.backup.file_size > MOST_READ_AGAIN {
        tracing::warn!("`check --deep` tells whether the backup is damaged");
        return None;
    }
    let contents = open(request).await.ok()?.read().await.ok()?;
    let mismatch = contents.verify(request.chosen.manifest.as_ref()).err()?;
    Some(RestoreError::Mismatch { file_name: request.chosen.backup.file_name.clone(), mismatch })
}

/// Whether the server took as many rows as the dump has.
fn compare(applied: &Applied, verified: &VerifiedStream, left_out: &LeftOut) -> Result<(), RestoreError> {
    let scan = verified.scan();
    let sent = scan.tables.iter().filter(|table| !left_out.table_data.contains(&table.table));
    let differs = sent.clone().zip(&applied.copied).find(|(table, copied)| table.rows != **copied);
    if let Some((table, copied)) = differs {
        return Err(RestoreError::Rows { table: table.table.clone(), sent: table.rows, taken: *copied });
    }
    // A dump of very many tables has no list of all of them.
    let all = scan.rows - excluded_rows(verified, left_out);
    let taken = applied.copied.iter().sum();
    if all == taken { Ok(()) } else { Err(RestoreError::Rows { table: "all tables".to_owned(), sent: all, taken }) }
}
