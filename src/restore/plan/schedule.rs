//! Hands out the jobs of a plan: which one may begin now, beside those that run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::data::{Load, Piece};
use super::post::{Lock, Statements};
use crate::restore::subject::Name;

/// The most bytes of the dump that a session goes on to load as one job. psql sends all rows of a COPY statement before it says that the
/// server refused the first of them.
const MOST_BYTES: u64 = 512 << 20;

/// What must be done before a job begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::restore) enum Need {
    /// The data of an entry are loaded.
    Loaded(usize),
    /// An entry after the data has run.
    Ran(usize),
}

/// Work of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::restore) enum Work {
    /// Loads data.
    Load(Vec<Load>),
    /// Runs entries after the data, by their numbers.
    Run(Vec<usize>),
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::restore) struct Job {
    pub work: Work,
    pub locks: Vec<Lock>,
    /// What it needs, if it may begin before its stage.
    pub needs: Option<Vec<Need>>,
    /// Bytes of rows that it reads, or loads since its session went on.
    pub bytes: u64,
}

impl Job {
    pub fn of_loads(loads: Vec<Load>) -> Self {
        let bytes = loads.iter().flat_map(|load| &load.pieces).map(Piece::bytes).sum();
        Self { work: Work::Load(loads), locks: Vec::new(), needs: None, bytes }
    }

    /// `loaded` gives the entries with the data of tables.
    pub fn of_statements(statements: Statements, loaded: impl Fn(&BTreeSet<Name>) -> Vec<usize>) -> Self {
        let needs = statements.needs.map(|needs| {
            let loaded = loaded(&needs.tables).into_iter().map(Need::Loaded);
            loaded.chain(needs.entries.into_iter().map(Need::Ran)).collect()
        });
        Self { work: Work::Run(statements.entries), locks: statements.locks, needs, bytes: statements.bytes }
    }

    /// What is done when it has ended; of a cut entry once for each piece.
    fn provides(&self) -> impl Iterator<Item = Need> {
        let ran = match &self.work {
            Work::Load(_) => &[],
            Work::Run(entries) => entries.as_slice(),
        };
        let loaded = self.pieces().map(|piece| Need::Loaded(piece.entry));
        loaded.chain(ran.iter().copied().map(Need::Ran))
    }

    /// What it loads.
    pub fn loads(&self) -> &[Load] {
        match &self.work {
            Work::Load(loads) => loads.as_slice(),
            Work::Run(_) => &[],
        }
    }

    /// The pieces that it loads.
    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.loads().iter().flat_map(|load| &load.pieces)
    }

    /// The entry of the pieces that it loads, if all are of one.
    fn only_entry(&self) -> Option<usize> {
        let mut entries = self.pieces().map(|piece| piece.entry);
        entries.next().filter(|first| entries.all(|entry| entry == *first))
    }

    /// Makes another load a part of this.
    fn absorb(&mut self, other: Self) {
        self.bytes = other.bytes;
        if let (Work::Load(loads), Work::Load(others)) = (&mut self.work, other.work) {
            loads.extend(others);
        }
    }

    fn waits_for(&self, other: &Self) -> bool {
        other.provides().any(|provided| self.needs.iter().flatten().any(|need| *need == provided))
    }

    fn excludes(&self, other: &Self) -> bool {
        self.locks.iter().any(|lock| other.locks.iter().any(|others| lock.excludes(others)))
    }
}

/// The jobs that have not ended.
#[derive(Debug)]
pub(in crate::restore) struct Schedule {
    /// The stage that has begun; those before it are complete.
    current: usize,
    /// Jobs that wait, by their stages.
    stages: Vec<VecDeque<Job>>,
    /// Jobs that may begin before their stage, which is this.
    early: VecDeque<(usize, Job)>,
    /// With their stages.
    running: BTreeMap<usize, (usize, Job)>,
    begun: usize,
    /// How many jobs, or pieces of them, are still missing for each need.
    missing: BTreeMap<Need, usize>,
}

impl Schedule {
    /// Of stages, each of which begins when the one before it is complete.
    pub fn new(stages: Vec<Vec<Job>>) -> Self {
        let mut missing = BTreeMap::new();
        for need in stages.iter().flatten().flat_map(Job::provides) {
            *missing.entry(need).or_default() += 1;
        }
        let (mut early, mut later) = (VecDeque::new(), Vec::new());
        for (number, stage) in stages.into_iter().enumerate() {
            let (may, must_wait): (Vec<_>, Vec<_>) = stage.into_iter().partition(|job| job.needs.is_some());
            early.extend(may.into_iter().map(|job| (number, job)));
            later.push(VecDeque::from(must_wait));
        }
        Self { current: 0, stages: later, early, running: BTreeMap::new(), begun: 0, missing }
    }

    /// The next job, with its number; `None` if none may begin now.
    pub fn next(&mut self) -> Option<(usize, Job)> {
        let (stage, job) = self.next_early().or_else(|| self.next_of_stage())?;
        self.begun += 1;
        self.running.insert(self.begun, (stage, job.clone()));
        Some((self.begun, job))
    }

    /// What the session of this running job would begin with next, if both load the same table: then it is a part of this job from
    /// here on. The end of this job lets no other begin, because that needs the end of the table.
    pub fn go_on(&mut self, number: usize) -> Option<Load> {
        let (stage, mut job) = self.running.remove(&number)?;
        let entry = job.only_entry();
        let is_rest = |piece: &Piece| piece.begins_in_rows && Some(piece.entry) == entry;
        let sent: u64 = job.pieces().map(Piece::bytes).sum();
        let is_next = |next: &Job| next.pieces().next().is_some_and(is_rest) && sent + next.bytes <= MOST_BYTES;
        let of_stage = self.of_stage().filter(|_| self.of_early().is_none());
        let at = of_stage.filter(|at| is_next(&self.stages[self.current][*at]));
        let next = at.and_then(|at| self.stages[self.current].remove(at));
        let load = next.as_ref().and_then(|next| next.loads().first().cloned());
        if let Some(next) = next {
            job.absorb(next);
        }
        self.running.insert(number, (stage, job));
        load
    }

    /// A job has ended.
    pub fn finish(&mut self, number: usize) {
        let Some((_, job)) = self.running.remove(&number) else { return };
        for need in job.provides() {
            if let Some(missing) = self.missing.get_mut(&need) {
                *missing -= 1;
            }
        }
    }

    /// Whether so many other sessions have work as long as this running job takes, by bytes of rows: jobs that run, and those that may
    /// run before it has ended. An estimate: these may have to wait for each other.
    pub fn has_work_beside(&self, number: usize, sessions: usize) -> bool {
        let Some((_, job)) = self.running.get(&number) else { return false };
        let running = self.running.iter().filter(|(other, _)| **other != number).map(|(_, (_, job))| job);
        let early = self.early.iter().map(|(_, job)| job).filter(|other| !other.waits_for(job));
        let of_stage = self.stages.get(self.current).into_iter().flatten();
        let beside: Vec<_> = running.chain(early.chain(of_stage).filter(|other| !other.excludes(job))).collect();
        let bytes: u64 = beside.iter().map(|job| job.bytes).sum();
        beside.len() >= sessions && bytes >= job.bytes.saturating_mul(sessions as u64)
    }

    /// Whether all jobs have ended.
    pub fn is_complete(&self) -> bool {
        self.running.is_empty() && self.early.is_empty() && self.stages.iter().all(VecDeque::is_empty)
    }

    /// The jobs that have not begun.
    pub fn waiting(&self) -> impl Iterator<Item = &Job> {
        self.stages.iter().flatten().chain(self.early.iter().map(|(_, job)| job))
    }

    fn next_early(&mut self) -> Option<(usize, Job)> {
        self.of_early().and_then(|at| self.early.remove(at))
    }

    /// Which of the early jobs may begin.
    fn of_early(&self) -> Option<usize> {
        let is_done = |need: &Need| self.missing.get(need).is_none_or(|missing| *missing == 0);
        let may_begin = |job: &Job| job.needs.iter().flatten().all(is_done) && !self.is_excluded(job);
        self.early.iter().position(|(_, job)| may_begin(job))
    }

    fn next_of_stage(&mut self) -> Option<(usize, Job)> {
        while self.current + 1 < self.stages.len() && self.is_current_complete() {
            self.current += 1;
        }
        let at = self.of_stage()?;
        let job = self.stages[self.current].remove(at)?;
        Some((self.current, job))
    }

    /// Which job of the current stage is next.
    fn of_stage(&self) -> Option<usize> {
        let waiting = self.stages.get(self.current)?;
        let at = waiting.iter().position(|job| !self.is_excluded(job) && self.is_alone(job));
        at.or_else(|| waiting.iter().position(|job| !self.is_excluded(job)))
    }

    /// Whether no other session loads the same table: two that do wait for each other where it grows, and no index can be
    /// created meanwhile.
    fn is_alone(&self, job: &Job) -> bool {
        let Some(piece) = job.pieces().next() else { return true };
        !self.running.values().flat_map(|(_, running)| running.pieces()).any(|other| other.entry == piece.entry)
    }

    fn is_current_complete(&self) -> bool {
        let stages = self.running.values().chain(&self.early).map(|(stage, _)| *stage);
        self.stages[self.current].is_empty() && stages.into_iter().all(|stage| stage > self.current)
    }

    fn is_excluded(&self, job: &Job) -> bool {
        self.running.values().any(|(_, running)| running.excludes(job))
    }
}
