//! Sends a backup into psql and judges it: the same for a database that exists and for one that is made.
//!
//! Called by [`super::database`]. What it gives back is applied, but not committed.

use tokio::task::spawn_blocking;

use crate::archive::{Mismatch, ReadError, Reader, VerifiedStream};
use crate::postgres::{Applied, RestoreSession, Session};

use super::filter::FilterError;
use super::left_out::LeftOut;
use super::sink::PsqlSink;
use super::{Request, RestoreError};

/// A backup up to this size is read once more where psql failed: what is damaged may look like a wrong statement first.
const MOST_READ_AGAIN: u64 = 1 << 30;

/// What is sent, and where to.
pub(super) struct Filling<'a> {
    pub request: &'a Request<'a>,
    /// For messages.
    pub database: &'a str,
}

impl Filling<'_> {
    /// Sends the dump, and waits until the server has executed all of it.
    ///
    /// # Errors
    /// Where the backup is not what it must be, the filter refuses it, a statement failed, or S3 did.
    pub async fn run(
        &self,
        session: &mut RestoreSession,
        control: &mut Session,
        sink: PsqlSink,
    ) -> Result<(VerifiedStream, LeftOut), RestoreError> {
        let reader = self.request.open().await?;
        let (contents, sink) = match reader.read_into(sink).await {
            Ok(read) => read,
            Err(ReadError::Storage { error, .. }) => return Err(error.into()),
            Err(ReadError::Sink { error, sink }) => {
                let failure = sink.failure().unwrap_or(FilterError::Write(error));
                return Err(self.explained(session, failure).await);
            }
        };
        let manifest = self.request.chosen.manifest.as_ref();
        let verified = contents.verify(manifest).map_err(|mismatch| self.request.mismatch(mismatch))?;
        let sent = spawn_blocking(|| sink.finish()).await;
        let left_out = match sent.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) {
            Ok(left_out) => left_out,
            Err(failure) => return Err(self.explained(session, failure).await),
        };
        let applied = session.settle(control).await.map_err(|error| self.statement(error.to_string()))?;
        self.compare(&applied, &verified, &left_out)?;
        Ok((verified, left_out))
    }

    /// Why the dump was not taken: psql's words, unless the backup is damaged.
    async fn explained(&self, session: &mut RestoreSession, failure: FilterError) -> RestoreError {
        let error = match failure {
            FilterError::Refused { .. } => RestoreError::Refused { file_name: self.file_name().to_owned(), failure },
            FilterError::Write(_) => {
                self.statement(session.cause().await.unwrap_or_else(|| "psql ended without a word".to_owned()))
            }
        };
        // Nothing of it is needed any more.
        session.kill().await;
        self.damage().await.map_or(error, |mismatch| self.request.mismatch(mismatch))
    }

    /// What is wrong with the stored bytes, where it does not take long to see.
    async fn damage(&self) -> Option<Mismatch> {
        if self.request.chosen.backup.file_size > MOST_READ_AGAIN {
            tracing::warn!("`check --deep` verifies whether the backup is damaged");
            return None;
        }
        let reader = Reader::open(self.request.destination, self.file_name()).await.ok()??;
        let contents = reader.read().await.ok()?;
        contents.verify(self.request.chosen.manifest.as_ref()).err()
    }

    /// Whether the server took as many rows as the dump has.
    fn compare(&self, applied: &Applied, verified: &VerifiedStream, left_out: &LeftOut) -> Result<(), RestoreError> {
        let differ = |table: &str, sent, taken| {
            Err(RestoreError::Rows { file_name: self.file_name().to_owned(), table: table.to_owned(), sent, taken })
        };
        let scan = verified.scan();
        let sent = scan.tables.iter().filter(|table| !left_out.table_data.contains(&table.table));
        if let Some((table, taken)) = sent.zip(&applied.copied).find(|(table, taken)| table.rows != **taken) {
            return differ(&table.table, table.rows, *taken);
        }
        // A dump of very many tables has no list of all of them.
        let (sent, taken) = (scan.rows - left_out.rows, applied.copied.iter().sum());
        if sent == taken { Ok(()) } else { differ("all tables", sent, taken) }
    }

    fn statement(&self, reason: String) -> RestoreError {
        let hint = hint(&reason);
        RestoreError::Statement {
            file_name: self.file_name().to_owned(),
            database: self.database.to_owned(),
            reason,
            hint,
        }
    }

    fn file_name(&self) -> &str {
        &self.request.chosen.backup.file_name
    }
}

/// What to do about a statement that failed.
fn hint(reason: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if has(&["out of shared memory", "max_locks_per_transaction"]) {
        "raise max_locks_per_transaction and restart the server, or use --create-db, which needs no such locks"
    } else if has(&["must be owner", "must be member", "must be able to SET ROLE", "must be superuser"]) {
        "restore as the role that is to own everything with --no-owner and --no-privileges, or as a superuser"
    } else if has(&["permission denied"]) {
        "grant the role what it lacks, or restore as the database's owner"
    } else if has(&["does not exist"]) {
        "where a function of the dump needs a search_path, use --search-path public"
    } else if has(&["No space left", "disk full"]) {
        "make space on the server"
    } else {
        "`check --deep` verifies the backup; --output writes the dump to a file, to be looked at"
    }
}
