//! Sends a backup to psql and verifies it, for an existing database and for a new one.
//!
//! Called by [`super::database`]. When it returns, the dump is applied but not committed.

use std::io::BufWriter;

use crate::archive::{Mismatch, ReadError, Reader, VerifiedStream};
use crate::postgres::{Applied, RestoreSession, Session};

use super::filter::{Filter, FilterError};
use super::left_out::LeftOut;
use super::rules::Rules;
use super::{Request, RestoreError, off_the_runtime};

mod selected;

/// If psql fails, a backup up to this size is read again, because damage may first look like a wrong statement.
const MOST_READ_AGAIN: u64 = 1 << 30;

/// The buffer size, so that small statements reach psql in one write.
const BUFFER_BYTES: usize = 64 << 10;

/// A backup, and the psql session that runs it.
pub(super) struct Filling<'a> {
    pub request: &'a Request<'a>,
    /// For messages.
    pub database: &'a str,
}

impl Filling<'_> {
    /// Sends the dump, and waits until the server has executed all of it.
    ///
    /// # Errors
    /// If verification fails, the filter refuses the dump, a statement fails, or S3 fails.
    pub async fn run(
        &self,
        session: &mut RestoreSession,
        control: &mut Session,
        rules: Rules,
    ) -> Result<(VerifiedStream, LeftOut), RestoreError> {
        let reader = self.request.open().await?;
        let sink = Filter::new(BufWriter::with_capacity(BUFFER_BYTES, session.input()?), rules);
        let (contents, sink) = match reader.read_into(sink).await {
            Ok(read) => read,
            Err(ReadError::Storage(error)) => return Err(error.into()),
            Err(ReadError::Sink { error, mut sink }) => {
                let failure = sink.take_failure().unwrap_or(FilterError::Write(error));
                return Err(self.explained(session, failure, sink.left_out()).await);
            }
        };
        let manifest = self.request.chosen.manifest.as_ref();
        let verified = contents.verify(manifest).map_err(|mismatch| self.request.mismatch(mismatch))?;
        let (finished, left_out) = off_the_runtime(move || {
            let mut sink = sink;
            (sink.finish(), sink.left_out().clone())
        })
        .await;
        if let Err(failure) = finished {
            return Err(self.explained(session, failure, &left_out).await);
        }
        let settled = session.settle(control).await;
        let applied = settled.map_err(|error| self.statement(error.to_string(), &left_out))?;
        self.compare(&applied, &verified, &left_out)?;
        Ok((verified, left_out))
    }

    fn other_rows(&self, table: &str, sent: u64, taken: u64) -> RestoreError {
        RestoreError::Rows { file_name: self.file_name().to_owned(), table: table.to_owned(), sent, taken }
    }

    /// Why the restore failed: psql's message, unless the backup is damaged.
    async fn explained(&self, session: &mut RestoreSession, failure: FilterError, left_out: &LeftOut) -> RestoreError {
        let error = self.cause_of(session, failure, left_out).await;
        self.damage().await.map_or(error, |mismatch| self.request.mismatch(mismatch))
    }

    /// The same of an intact backup.
    async fn cause_of(&self, session: &mut RestoreSession, failure: FilterError, left_out: &LeftOut) -> RestoreError {
        let error = match failure {
            FilterError::Refused { .. } => RestoreError::Refused { file_name: self.file_name().to_owned(), failure },
            FilterError::Write(_) => {
                let cause = session.cause().await.unwrap_or_else(|| "psql ended without a word".to_owned());
                self.statement(cause, left_out)
            }
        };
        // The rest of the backup is not needed.
        session.kill().await;
        error
    }

    /// Reads a small backup again, and returns what is damaged.
    async fn damage(&self) -> Option<Mismatch> {
        if self.request.chosen.backup.file_size > MOST_READ_AGAIN {
            tracing::warn!("`check --deep` verifies whether the backup is damaged");
            return None;
        }
        let reader = Reader::open(self.request.destination, self.file_name(), self.request.identities).await.ok()??;
        let contents = reader.read().await.ok()?;
        contents.verify(self.request.chosen.manifest.as_ref()).err()
    }

    /// Compares the server's row counts with the dump.
    fn compare(&self, applied: &Applied, verified: &VerifiedStream, left_out: &LeftOut) -> Result<(), RestoreError> {
        let differ = |table: &str, sent, taken| Err(self.other_rows(table, sent, taken));
        let scan = verified.scan();
        let tables = scan.tables.iter().enumerate();
        let sent = tables.filter(|(at, _)| !left_out.copies.contains(at)).map(|(_, table)| table);
        if let Some((table, taken)) = sent.zip(&applied.copied).find(|(table, taken)| table.rows != **taken) {
            return differ(&table.table, table.rows, *taken);
        }
        // The list of tables is capped, so that a dump of very many tables fits into memory.
        let (sent, taken) = (scan.rows - left_out.rows, applied.copied.iter().sum());
        if sent == taken { Ok(()) } else { differ("all tables", sent, taken) }
    }

    fn statement(&self, reason: String, left_out: &LeftOut) -> RestoreError {
        let hint = left_out.hint(&reason).unwrap_or_else(|| hint(&reason).to_owned());
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

/// Returns the hint for a failed statement.
pub(super) fn hint(reason: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if has(&["out of shared memory", "max_locks_per_transaction"]) {
        "raise max_locks_per_transaction and restart the server, or use --create-db, which needs no such locks"
    } else if has(&["must be owner", "must be member", "must be able to SET ROLE", "must be superuser"]) {
        "restore with --no-owner and --no-privileges as the role that should own everything, or as a superuser"
    } else if has(&["violates partition constraint", "no partition of relation"]) {
        "if the database has another locale than the source, use --create-db; if the table is partitioned by hash, back up with PG_DUMP_ARGS=--load-via-partition-root"
    } else if has(&["violates check constraint"]) {
        "if the constraint reads other tables, they are still empty: make it NOT VALID in the source database, and back up again"
    } else if has(&["permission denied"]) {
        "grant the role the missing privilege, or restore as the database's owner"
    } else if has(&["does not exist"]) {
        "if a function of the dump needs a search_path, use --search-path public"
    } else if has(&["No space left", "disk full"]) {
        "free disk space on the server"
    } else {
        "`check --deep` verifies the backup; --output writes the dump to a file, where you can look at the statement"
    }
}
