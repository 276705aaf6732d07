//! Hands out the jobs of a plan: which one may begin now, beside those that run.

use std::collections::{BTreeMap, VecDeque};

use super::data::{Load, Piece};
use super::post::{Lock, Statements};

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
    /// The entries of which the data must be loaded, if it may begin before its stage.
    pub needs: Option<Vec<usize>>,
}

impl Job {
    pub fn loads(loads: Vec<Load>) -> Self {
        Self { work: Work::Load(loads), locks: Vec::new(), needs: None }
    }

    /// `needs` gives the entries with the data of the tables that it needs.
    pub fn runs(statements: Statements, needs: Option<Vec<usize>>) -> Self {
        Self { work: Work::Run(statements.entries), locks: statements.locks, needs }
    }

    /// The pieces that it loads.
    fn pieces(&self) -> impl Iterator<Item = &Piece> {
        let loads = match &self.work {
            Work::Load(loads) => loads.as_slice(),
            Work::Run(_) => &[],
        };
        loads.iter().flat_map(|load| &load.pieces)
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
    /// Pieces of each entry that are not loaded yet.
    missing: BTreeMap<usize, usize>,
}

impl Schedule {
    /// Of stages, each of which begins when the one before it is complete.
    pub fn new(stages: Vec<Vec<Job>>) -> Self {
        let mut missing = BTreeMap::new();
        for piece in stages.iter().flatten().flat_map(Job::pieces) {
            *missing.entry(piece.entry).or_default() += 1;
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

    /// A job has ended.
    pub fn finish(&mut self, number: usize) {
        let Some((_, job)) = self.running.remove(&number) else { return };
        for piece in job.pieces() {
            if let Some(missing) = self.missing.get_mut(&piece.entry) {
                *missing -= 1;
            }
        }
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
        let is_loaded = |entry: &usize| self.missing.get(entry).is_none_or(|missing| *missing == 0);
        let may_begin = |job: &Job| job.needs.iter().flatten().all(is_loaded) && !self.is_excluded(job);
        let at = self.early.iter().position(|(_, job)| may_begin(job))?;
        self.early.remove(at)
    }

    fn next_of_stage(&mut self) -> Option<(usize, Job)> {
        while self.current + 1 < self.stages.len() && self.is_current_complete() {
            self.current += 1;
        }
        let waiting = self.stages.get(self.current)?;
        let at = waiting.iter().position(|job| !self.is_excluded(job))?;
        let job = self.stages[self.current].remove(at)?;
        Some((self.current, job))
    }

    fn is_current_complete(&self) -> bool {
        let stages = self.running.values().chain(&self.early).map(|(stage, _)| *stage);
        self.stages[self.current].is_empty() && stages.into_iter().all(|stage| stage > self.current)
    }

    fn is_excluded(&self, job: &Job) -> bool {
        self.running.values().any(|(_, running)| running.excludes(job))
    }
}
