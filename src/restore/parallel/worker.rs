//! One session of the restore: takes a job after the other, and commits each only when it is verified.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::archive::{RangeRead, Ranges, VerifiedRanges};
use crate::postgres::{PostgresError, RestoreSession, Session, Transactions};
use crate::restore::filter::{Filter, FilterError};
use crate::restore::left_out::LeftOut;
use crate::restore::plan::{Commit, Load, Schedule, Work, data_section};
use crate::restore::{RestoreError, off_the_runtime};

use super::cutter::{Cutter, Loaded, sections};
use super::{BUFFER_BYTES, NAMED, Parallel};

/// What the sessions share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// A job has ended.
    ended: Notify,
    sessions: usize,
    /// Of a server on this machine.
    server_cpus: Option<usize>,
}

/// What all sessions did.
pub(super) struct State {
    pub schedule: Schedule,
    pub read: VerifiedRanges,
    pub left_out: LeftOut,
    /// Rows of each entry.
    pub rows: Vec<u64>,
    /// The sha256 of the COPY statement of each entry that has begun.
    pub statements: BTreeMap<usize, [u8; 32]>,
}

impl State {
    /// Whether these pieces have the COPY statements of the other pieces of their entries. The statement before rows in the middle of a
    /// table is that of the index, and the first piece has that of the dump.
    fn has_statements(&mut self, loaded: &[Loaded]) -> bool {
        loaded.iter().all(|Loaded { entry, statement, .. }| {
            statement.is_none_or(|statement| *self.statements.entry(*entry).or_insert(statement) == statement)
        })
    }
}

impl Shared {
    pub fn new(state: State, (sessions, server_cpus): (usize, Option<usize>)) -> Self {
        Self { state: Mutex::new(state), ended: Notify::new(), sessions, server_cpus }
    }

    /// Whether the server has a CPU that no other session will use while this job runs, as far as known.
    fn has_free_cpu(&self, number: usize) -> bool {
        let has_work_beside = |others| self.lock().schedule.has_work_beside(number, others);
        self.server_cpus.is_none_or(|cpus| self.sessions < cpus || !has_work_beside(cpus.saturating_sub(1)))
    }

    /// What a session loads next within a running job, asked of S3.
    fn go_on<'a>(&self, number: usize, ranges: &'a Ranges) -> Option<Reading<'a>> {
        let load = self.lock().schedule.go_on(number)?;
        Some(Reading { read: ranges.begin(sections(&load)), load })
    }

    pub fn into_state(self) -> State {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Pieces that are being downloaded.
struct Reading<'a> {
    load: Load,
    read: RangeRead<'a>,
}

/// A session that works.
pub(super) struct Worker<'a> {
    pub restore: &'a Parallel<'a>,
    pub shared: &'a Shared,
    pub session: &'a mut RestoreSession,
    pub control: &'a tokio::sync::Mutex<Session>,
}

impl Worker<'_> {
    /// Works until all jobs have ended.
    ///
    /// # Errors
    /// The first job that failed.
    pub async fn run(mut self) -> Result<(), RestoreError> {
        loop {
            let mut ended = std::pin::pin!(self.shared.ended.notified());
            // From here on, no end is missed.
            ended.as_mut().enable();
            let next = self.shared.lock().schedule.next();
            let Some((number, job)) = next else {
                if self.shared.lock().schedule.is_complete() {
                    return Ok(());
                }
                ended.await;
                continue;
            };
            match job.work {
                Work::Load(loads) => {
                    for load in loads {
                        self.load(number, load).await?;
                    }
                }
                Work::Run(entries) => {
                    self.session.set_parallel_workers(self.shared.has_free_cpu(number)).await;
                    self.statements(&entries).await?;
                }
            }
            self.shared.lock().schedule.finish(number);
            self.shared.ended.notify_waiters();
        }
    }

    /// Loads pieces of the data, and the rest of the last one's table as long as this is what the session would do next: rows of one
    /// COPY statement stay in the 16 MB of shared buffers that the server keeps for it, while each further statement takes other ones.
    /// One statement for each range cost the server 10 % more processor time (735 MB, PostgreSQL 15).
    async fn load(&mut self, number: usize, mut load: Load) -> Result<(), RestoreError> {
        let (restore, shared) = (self.restore, self.shared);
        let transactions = match load.commit {
            Commit::Once => Transactions::One,
            Commit::AsWritten => Transactions::Each,
        };
        if load.commit == Commit::Once {
            self.session.begin_job().await;
        }
        let input = BufWriter::with_capacity(BUFFER_BYTES, self.session.input()?);
        let filter = Filter::resumed(input, &restore.texts.state, transactions);
        let indexed = (restore.ranges.index().as_ref(), restore.copies.as_slice());
        let mut sink = Cutter::new(filter, &load, indexed);
        let mut next = Some(Reading { read: restore.ranges.begin(sections(&load)), load: load.clone() });
        while let Some(reading) = next.take() {
            sink = self.read(reading, (sink, || next = shared.go_on(number, &restore.ranges))).await?;
            if let Some(Reading { load: rest, .. }) = &next {
                sink.go_on(rest, indexed);
                load.pieces.extend_from_slice(&rest.pieces);
            }
        }
        let (ended, sink) = off_the_runtime(move || (sink.finish(), sink)).await;
        if let Err(error) = ended {
            return Err(self.failed_write(&load, sink, error).await);
        }
        let is_as_indexed = sink.filter.is_between_statements() && !sink.is_other;
        if !(is_as_indexed && self.shared.lock().has_statements(&sink.loaded)) {
            return Err(restore.inconsistent(&load));
        }
        let Cutter { filter, loaded, .. } = sink;
        let left_out = filter.into_left_out();
        self.commit(&load, (&loaded, &left_out)).await?;
        let mut state = self.shared.lock();
        state.left_out.merge(left_out);
        for Loaded { entry, rows, .. } in loaded {
            state.rows[entry] += rows;
        }
        Ok(())
    }

    /// Verifies pieces into a sink.
    async fn read<W: Write + Send + 'static>(
        &mut self,
        Reading { read, load }: Reading<'_>,
        (sink, downloaded): (Cutter<W>, impl FnOnce()),
    ) -> Result<Cutter<W>, RestoreError> {
        match read.into_sink(sink, downloaded).await {
            Ok((read, sink)) => {
                let mut state = self.shared.lock();
                state.read = state.read.with(read);
                Ok(sink)
            }
            Err(error) => {
                let (error, sink) = self.restore.request.sink_error(error)?;
                let failed = self.failed_write(&load, sink, error).await;
                // Bytes that are damaged may be why.
                Err(self.restore.request.explained(failed, (&self.restore.ranges, &sections(&load))).await)
            }
        }
    }

    /// Why a write to the sink failed: the filter's refusal, or psql's message.
    async fn failed_write<W: Write>(
        &mut self,
        load: &Load,
        mut sink: Cutter<W>,
        error: std::io::Error,
    ) -> RestoreError {
        let failure = sink.filter.take_failure().unwrap_or(FilterError::Write(error));
        self.failed_load(load, failure, sink.filter.left_out()).await
    }

    /// Compares what the server did with what was sent, and commits it.
    async fn commit(&mut self, load: &Load, (loaded, left_out): (&[Loaded], &LeftOut)) -> Result<(), RestoreError> {
        let restore = self.restore;
        let applied = match self.session.settle_job(self.control).await {
            Ok(applied) => applied,
            Err(error) => return Err(restore.statement(Some(load), &error.to_string(), left_out)),
        };
        if applied.is_in_transaction != (load.commit == Commit::Once) {
            return Err(restore.inconsistent(load));
        }
        let is_sent = |loaded: &&Loaded| loaded.copy.is_some_and(|copy| !left_out.copies.contains(&copy));
        let sent: Vec<_> = loaded.iter().filter(is_sent).collect();
        let differs = sent.iter().zip(&applied.copied).find(|(loaded, taken)| loaded.rows != **taken);
        if let Some((loaded, taken)) = differs {
            return Err(restore.rows(loaded.entry, loaded.rows, *taken));
        }
        if sent.len() != applied.copied.len() {
            return Err(restore.inconsistent(load));
        }
        for loaded in loaded.iter().filter(|loaded| loaded.is_complete) {
            restore.compare_rows(loaded.entry, loaded.rows)?;
        }
        match load.commit {
            Commit::Once => {
                self.session.commit_job(self.control).await.map_err(|error| restore.not_committed(load, &error))
            }
            Commit::AsWritten => Ok(()),
        }
    }

    /// Why a load failed.
    async fn failed_load(&mut self, load: &Load, failure: FilterError, left_out: &LeftOut) -> RestoreError {
        let restore = self.restore;
        let error = match failure {
            FilterError::Refused { .. } => restore.refused(failure),
            FilterError::Write(_) => {
                let cause = self.session.cause().await.unwrap_or_else(|| "psql ended without a word".to_owned());
                restore.statement(Some(load), &cause, left_out)
            }
        };
        self.session.kill().await;
        error
    }

    /// Runs entries after the data.
    async fn statements(&mut self, entries: &[usize]) -> Result<(), RestoreError> {
        let after = &self.restore.texts.after;
        let mut in_force: Option<&str> = None;
        for entry in entries {
            // Of what the session did before, nothing is known.
            if in_force != Some(after[*entry].settings.as_str()) {
                self.send(entries, after[*entry].settings.as_bytes()).await?;
            }
            self.send(entries, &after[*entry].text).await?;
            in_force = after.get(entry + 1).map(|next| next.settings.as_str());
        }
        let applied = self.session.settle_job(self.control).await;
        let applied = applied.map_err(|error| self.failed_statements(entries, &error.to_string()))?;
        if applied.is_in_transaction {
            return Err(self.failed_statements(entries, "a statement left a transaction open"));
        }
        Ok(())
    }

    /// Why entries after the data failed. The server's message may name none: "could not extend file".
    fn failed_statements(&self, entries: &[usize], cause: &str) -> RestoreError {
        let Parallel { ranges, texts, .. } = self.restore;
        let first = data_section(ranges.index()).end;
        let of_index = entries.iter().filter_map(|entry| ranges.index().entries.get(first + entry));
        let mut names: Vec<_> = of_index.map(|entry| format!("{} {}", entry.kind, entry.name)).take(NAMED).collect();
        if entries.len() > NAMED {
            names.push("…".to_owned());
        }
        self.restore.statement(None, &format!("{}: {cause}", names.join(", ")), &texts.left_out)
    }

    /// Sends statements of these entries. If psql has ended, its message is the error.
    async fn send(&mut self, entries: &[usize], text: &[u8]) -> Result<(), RestoreError> {
        match send(self.session, text).await? {
            Ok(()) => Ok(()),
            Err(cause) => Err(self.failed_statements(entries, &cause)),
        }
    }
}

/// Sends statements to a session. The inner error is psql's message, if it has ended.
pub(super) async fn send(session: &mut RestoreSession, text: &[u8]) -> Result<Result<(), String>, PostgresError> {
    let (mut input, text) = (session.input()?, text.to_vec());
    match off_the_runtime(move || input.write_all(&text)).await {
        Ok(()) => Ok(Ok(())),
        Err(error) => Ok(Err(session.cause().await.unwrap_or_else(|| error.to_string()))),
    }
}
