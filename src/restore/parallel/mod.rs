//! Restores a backup that has an index into a scratch database, by several sessions.
//!
//! 1. Read what comes before and after the data ([`texts`]), and plan the jobs ([`super::plan`]).
//! 2. One session runs what comes before the data.
//! 3. N sessions take jobs ([`worker`]): each downloads, unpacks and verifies its own ranges, and commits a job only after the CRC-32
//!    of its ranges and the server's row counts have matched. A job is never repeated: any failure is that of the restore, and the
//!    caller drops the scratch database.
//! 4. At the end every byte of the dump was read once, and verified; the rows are those of the index, and no index is invalid that was
//!    valid.
//!
//! Where this is not possible, the backup is restored by one session, in the dump's order ([`OneSession`]).

mod cutter;
mod sessions;
mod texts;
mod worker;

use std::collections::BTreeMap;

use tokio::sync::Mutex;

use crate::archive::{Mismatch, Ranges, VerifiedStream};
use crate::at_once::together;
use crate::index::Index;
use crate::postgres::{PostgresError, PostgresSettings, RestoreSession, Session, Tools};

use super::filling::hint;
use super::filter::FilterError;
use super::left_out::LeftOut;
use super::open::Unusable;
use super::plan::{Catalog, Contents, Job, Load, Schedule, data_section};
use super::rules::Rules;
use super::{Request, RestoreError};
use texts::{TextError, Texts};
use worker::{Shared, State, Worker, send};

/// Connections of a session's download.
const CONNECTIONS: usize = 2;
/// So that small statements reach psql in one write.
const BUFFER_BYTES: usize = 64 << 10;
/// The most tables that a message names.
const NAMED: usize = 3;
const INVALID_INDEXES: &str = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
WHERE c.relkind = 'I' AND NOT i.indisvalid";

/// Why a backup is restored by one session.
#[derive(Debug, thiserror::Error)]
pub(super) enum OneSession {
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("it has no data")]
    NoData,
    #[error("its statements before and after the data are too long")]
    LargeText,
    #[error("it has TimescaleDB")]
    TimescaleDb,
    #[error("it has standard_conforming_strings = off")]
    NonConforming,
    #[error("it changes a setting between its entries")]
    Setting,
    #[error("its entries are not as pg_dump writes them")]
    Unexpected,
}

/// A restore by several sessions.
pub(super) struct Parallel<'a> {
    request: &'a Request<'a>,
    /// For messages.
    database: &'a str,
    ranges: Ranges,
    texts: Texts,
    /// The number of the COPY statement of each entry.
    copies: Vec<Option<usize>>,
}

/// The scratch database.
pub(super) struct Into<'a> {
    pub tools: &'a Tools,
    pub settings: &'a PostgresSettings,
    pub database: &'a str,
}

/// A restore by several sessions that has not begun.
pub(super) struct Prepared<'a> {
    request: &'a Request<'a>,
    ranges: Ranges,
    texts: Texts,
    schedule: Schedule,
}

impl<'a> Prepared<'a> {
    /// Reads what comes before and after the data, and plans the jobs; `None` if it must be done by one session. Asks S3 alone, so that
    /// the scratch database may be created meanwhile.
    ///
    /// # Errors
    /// If verification fails, the filter refuses the dump, or S3 fails.
    pub async fn of(request: &'a Request<'a>, rules: &Rules) -> Result<Option<Self>, RestoreError> {
        if request.options.jobs <= 1 {
            return Ok(None);
        }
        let ranges = match ranges(request).await? {
            Ok(ranges) => ranges,
            Err(why) => return Ok(by_one_session(why)),
        };
        let data = data_section(ranges.index());
        let (texts, catalog) = match Box::pin(Texts::read(request, &ranges, data, rules)).await {
            Ok(read) => read,
            Err(TextError::OneSession(why)) => return Ok(by_one_session(why)),
            Err(TextError::Failed(error)) => return Err(error),
        };
        let schedule = plan(ranges.index(), &texts, (&catalog, rules));
        Ok(Some(Self { request, ranges, texts, schedule }))
    }

    /// Fills a scratch database.
    ///
    /// # Errors
    /// If verification fails, the filter refuses the dump, a statement fails, or S3 fails.
    pub async fn fill(self, into: &Into<'_>) -> Result<(VerifiedStream, LeftOut), RestoreError> {
        let Self { request, ranges, texts, schedule } = self;
        let stored =
            schedule.waiting().flat_map(Job::loads).map(|load| ranges.stored_bytes(&cutter::sections(load))).sum();
        let ranges = ranges.with_progress_of(stored, CONNECTIONS);
        (request.show)(ranges.progress());
        let copies = copies(ranges.index());
        Parallel { request, database: into.database, ranges, texts, copies }.run(into, schedule).await
    }
}

fn by_one_session<T>(why: OneSession) -> Option<T> {
    match why {
        OneSession::Unusable(why) if why.is_damage() => tracing::warn!("the backup is restored by one session: {why}"),
        why => tracing::info!("the backup is restored by one session: {why}"),
    }
    None
}

/// Opens the backup with its index.
async fn ranges(request: &Request<'_>) -> Result<Result<Ranges, OneSession>, RestoreError> {
    let ranges = match request.ranges().await? {
        Ok(ranges) => ranges,
        Err(unusable) => return Ok(Err(unusable.into())),
    };
    if ranges.index().entries.iter().any(|entry| entry.kind == "?") {
        return Ok(Err(OneSession::Unexpected));
    }
    let is_empty = data_section(ranges.index()).is_empty();
    Ok(if is_empty { Err(OneSession::NoData) } else { Ok(ranges) })
}

fn plan(index: &Index, texts: &Texts, (catalog, rules): (&Catalog, &Rules)) -> Schedule {
    let after: Vec<_> = texts.after.iter().map(|entry| entry.class.clone()).collect();
    let leave_out = &rules.leave_out;
    Contents { index, data: data_section(index), catalog, after: &after, leave_out }.plan()
}

/// The number of the COPY statement of each entry.
fn copies(index: &Index) -> Vec<Option<usize>> {
    let mut count = 0;
    let number = |has_rows: bool| {
        count += usize::from(has_rows);
        has_rows.then(|| count - 1)
    };
    index.entries.iter().map(|entry| entry.copy.is_some()).map(number).collect()
}

fn refused(request: &Request<'_>, failure: FilterError) -> RestoreError {
    RestoreError::Refused { file_name: request.chosen.backup.file_name.clone(), failure }
}

impl Parallel<'_> {
    async fn run(&self, into: &Into<'_>, schedule: Schedule) -> Result<(VerifiedStream, LeftOut), RestoreError> {
        let control = Mutex::new(Session::connect(into.tools, into.settings).await?);
        let mut first = sessions::open(into).await?;
        let ran = self.run_before(&mut first, &control).await;
        let done = match ran {
            Ok(()) => self.run_jobs((into, &control), first, schedule).await,
            Err(error) => {
                first.kill().await;
                Err(error)
            }
        };
        let done = match done {
            Ok(state) => self.finish(state, &mut *control.lock().await).await,
            Err(error) => Err(error),
        };
        control.into_inner().close().await;
        done
    }

    /// Runs the statements before the data.
    async fn run_before(&self, first: &mut RestoreSession, control: &Mutex<Session>) -> Result<(), RestoreError> {
        let Texts { preamble, before, left_out, .. } = &self.texts;
        for text in [preamble, before] {
            if let Err(cause) = send(first, text).await? {
                return Err(self.statement(None, &cause, left_out));
            }
        }
        let applied = first.settle_job(control).await;
        let applied = applied.map_err(|error| self.statement(None, &error.to_string(), left_out))?;
        if applied.is_in_transaction {
            let reason = "a statement before the data left a transaction open";
            return Err(self.statement(None, reason, left_out));
        }
        Ok(())
    }

    /// Runs the jobs, by this session and further ones.
    async fn run_jobs(
        &self,
        (into, control): (&Into<'_>, &Mutex<Session>),
        first: RestoreSession,
        schedule: Schedule,
    ) -> Result<State, RestoreError> {
        let mut sessions = vec![first];
        sessions.extend(sessions::open_more(into, &self.texts.preamble, self.request.options.jobs).await);
        let rows = vec![0; self.ranges.index().entries.len()];
        let left_out = self.texts.left_out.clone();
        let state = State { schedule, read: self.texts.read, left_out, rows, statements: BTreeMap::new() };
        let server_cpus = sessions.first().and_then(|session| session.server_cpus(self.database));
        let shared = Shared::new(state, (sessions.len(), server_cpus));
        tracing::debug!(sessions = sessions.len(), server_cpus, "restoring by several sessions");
        let workers = sessions.iter_mut().map(|session| {
            let worker = Worker { restore: self, shared: &shared, session, control };
            worker.run()
        });
        let done = together(workers).await;
        // Also those that still run.
        together(sessions.iter_mut().map(|session| async {
            session.kill().await;
            Ok::<_, RestoreError>(())
        }))
        .await?;
        done.map(|_| shared.into_state())
    }

    /// Verifies the complete restore.
    async fn finish(&self, state: State, control: &mut Session) -> Result<(VerifiedStream, LeftOut), RestoreError> {
        let State { read, left_out, rows, .. } = state;
        for (entry, rows) in rows.iter().enumerate() {
            self.compare_rows(entry, *rows)?;
        }
        let index = self.ranges.index();
        if let Some(expected) = index.invalid_indexes.filter(|_| !self.request.options.leave_out.has_patterns()) {
            let found = control.query(INVALID_INDEXES).await?.first().and_then(|line| line.parse::<u64>().ok());
            if found != Some(expected) {
                let file_name = self.file_name().to_owned();
                return Err(RestoreError::InvalidIndexes { file_name, found: found.unwrap_or_default(), expected });
            }
        }
        let Some(manifest) = &self.request.chosen.manifest else { unreachable!("the index is the manifest's") };
        let verified = VerifiedStream::of_ranges(index, manifest, read).map_err(|mismatch| self.mismatch(mismatch))?;
        Ok((verified, left_out))
    }

    /// Compares the rows of an entry with the index.
    fn compare_rows(&self, entry: usize, rows: u64) -> Result<(), RestoreError> {
        match &self.ranges.index().entries[entry].copy {
            Some(copy) if copy.rows != rows => Err(self.rows(entry, copy.rows, rows)),
            _ => Ok(()),
        }
    }

    fn rows(&self, entry: usize, sent: u64, taken: u64) -> RestoreError {
        let copy = self.ranges.index().entries[entry].copy.as_ref();
        let table = copy.map_or_else(|| "a table".to_owned(), |copy| copy.table.clone());
        RestoreError::Rows { file_name: self.file_name().to_owned(), table, sent, taken }
    }

    /// The error of a failed statement.
    fn statement(&self, load: Option<&Load>, reason: &str, left_out: &LeftOut) -> RestoreError {
        let own = self.texts.left_out.hint(reason).or_else(|| left_out.hint(reason));
        let hint = own.unwrap_or_else(|| hint(reason).to_owned());
        let reason = load.map_or_else(|| reason.to_owned(), |load| format!("{}: {reason}", self.what(load)));
        RestoreError::Statement {
            file_name: self.file_name().to_owned(),
            database: self.database.to_owned(),
            reason,
            hint,
        }
    }

    fn inconsistent(&self, load: &Load) -> RestoreError {
        let reason = "the dump is not as its index says: use --jobs 1, which does not need the index";
        self.statement(Some(load), reason, &LeftOut::default())
    }

    fn not_committed(&self, load: &Load, error: &PostgresError) -> RestoreError {
        self.statement(Some(load), &format!("COMMIT: {error}"), &LeftOut::default())
    }

    /// What a load is, for messages.
    fn what(&self, load: &Load) -> String {
        let entries = &self.ranges.index().entries;
        let of_piece = |entry: usize| match &entries[entry].copy {
            Some(copy) => copy.table.clone(),
            None => format!("{} {}", entries[entry].kind, entries[entry].name),
        };
        let mut names: Vec<_> = load.pieces.iter().map(|piece| of_piece(piece.entry)).collect();
        names.dedup();
        if names.len() > NAMED {
            names.truncate(NAMED);
            names.push("…".to_owned());
        }
        let first = load.pieces.first().map_or(0, |piece| piece.span.start);
        let last = load.pieces.last().map_or(0, |piece| piece.span.end);
        format!("in the range from byte {first} to byte {last} of the dump ({})", names.join(", "))
    }

    fn mismatch(&self, mismatch: Mismatch) -> RestoreError {
        self.request.mismatch(mismatch)
    }

    fn refused(&self, failure: FilterError) -> RestoreError {
        refused(self.request, failure)
    }

    fn file_name(&self) -> &str {
        &self.request.chosen.backup.file_name
    }
}
