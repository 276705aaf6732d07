//! The cells of one scene: made, run a few at a time, and written into the table. Used by the tests of [`super`].

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cell::{Cell, Outcome, Parts, Scene, Span};
use super::faults::{self, Injection};
use super::stage::{Dumps, Stage, UNTIL_STALE, prepare};
use crate::support::proxy::S3Verb;
use crate::support::servers::s3;
use crate::support::setup::repository_file;

/// Cells at once in the test process, however many tests run: they wait for half of their time.
const AT_ONCE: usize = 6;
/// Cells that stall at once, in addition: they only wait.
const STALLED_AT_ONCE: usize = 12;
/// So many failed cells are printed in full.
const SHOWN_IN_FULL: usize = 5;

/// Parts of the table, by scene and title.
type Sections = BTreeMap<(Scene, &'static str), (usize, String)>;

/// The cells of one scene.
pub struct Sheet {
    scene: Scene,
    title: &'static str,
    cells: Vec<Cell>,
    at_once: usize,
}

impl Sheet {
    /// Each of these verbs at its first, middle and last call, with each wrong answer, once and from then on.
    ///
    /// # Panics
    /// Where a run without a fault does not call one of the verbs.
    pub fn answers(scene: Scene, verbs: &[S3Verb]) -> Self {
        let cells = verbs.iter().flat_map(|&verb| {
            let parts = if verb == S3Verb::UploadPart { Parts::Three } else { Parts::One };
            let of = calls(scene, verb, parts);
            let calls = positions(of).into_iter();
            calls.flat_map(move |call| cells(scene, verb, (call, of), faults::answers(verb)))
        });
        Self { scene, title: "answers", cells: cells.collect(), at_once: AT_ONCE }
    }

    /// Each of these verbs at its first call, with each stall, once and from then on.
    ///
    /// # Panics
    /// As [`Self::answers`].
    pub fn stalls(scene: Scene, verbs: &[S3Verb]) -> Self {
        let cells = verbs.iter().flat_map(|&verb| {
            let of = calls(scene, verb, Parts::One);
            cells(scene, verb, (1, of), faults::stalls(verb))
        });
        Self { scene, title: "stalls", cells: cells.collect(), at_once: STALLED_AT_ONCE }
    }

    /// Runs every cell, and writes them into the table.
    ///
    /// # Panics
    /// Where a cell's outcome is not what its rule says, with the first of these.
    pub fn run(self) {
        let began = Instant::now();
        let bucket = s3().create_bucket("matrix");
        let path = |index: usize| format!("c{index}");
        (0..self.cells.len()).for_each(|index| prepare(self.scene, &bucket, &path(index)));
        if self.scene == Scene::Prune {
            std::thread::sleep(UNTIL_STALE);
        }
        let (waiting, done) = (Mutex::new(self.cells.iter().enumerate()), Mutex::new(BTreeMap::new()));
        std::thread::scope(|scope| {
            for _ in 0..self.at_once {
                scope.spawn(|| {
                    let dumps = Dumps::new();
                    loop {
                        let Some((index, cell)) = lock(&waiting).next() else { break };
                        let _place = (!cell.is_stall()).then(Place::take);
                        let target = (bucket.as_str(), path(index));
                        let run = || Stage::new((cell.scene, cell.parts()), target, &dumps).run(cell);
                        let outcome = catch_unwind(AssertUnwindSafe(run)).map_err(|panic| words(&*panic));
                        lock(&done).insert(index, outcome);
                    }
                });
            }
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(done.len(), self.cells.len(), "every cell was run");
        self.write(&done, began.elapsed());
        let failed: Vec<&String> = done.values().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(failed.is_empty(), "{} of {} cells failed: {}", failed.len(), done.len(), describe(&failed));
    }

    fn write(&self, done: &BTreeMap<usize, Result<Outcome, String>>, took: Duration) {
        // Every test adds its own part.
        static SECTIONS: Mutex<Sections> = Mutex::new(Sections::new());
        let mut rows: Vec<(String, [String; 2])> = Vec::new();
        for (index, cell) in self.cells.iter().enumerate() {
            let row = format!("| {:?} | {} of {} | {} |", cell.verb, cell.call, cell.of, cell.injection.name);
            let outcome = done.get(&index).map_or("not run".to_owned(), |outcome| {
                outcome.as_ref().map_or("**FAILED**".to_owned(), ToString::to_string)
            });
            if rows.last().is_none_or(|(last, _)| *last != row) {
                rows.push((row.clone(), Default::default()));
            }
            let column = usize::from(cell.span == Span::FromThenOn);
            if let Some((_, outcomes)) = rows.last_mut() {
                outcomes[column] = outcome;
            }
        }
        let (cells, seconds) = (self.cells.len(), took.as_secs());
        let mut text = format!("\n## {}: {} ({cells} cells, {seconds} s)\n\n", self.scene, self.title);
        text += "| verb | call | fault | once | from then on |\n|---|---|---|---|---|\n";
        for (row, [once, from_then_on]) in rows {
            let _ = writeln!(text, "{row} {once} | {from_then_on} |");
        }
        let mut sections = lock(&SECTIONS);
        sections.insert((self.scene, self.title), (cells, text));
        let total: usize = sections.values().map(|(cells, _)| cells).sum();
        let head = format!(
            "# Faults of S3, and what becomes of a backup\n\nWritten by the tests (`tests/it/fault_matrix`). {total} cells: each \
             fault was met, and each outcome is what the cell's rule says; one of which that is not so is **FAILED**, and the \
             test with it.\n\n*complete*: the object is there, and unpacked it is \
             byte for byte what `pg_dump` wrote. *Once*: the SDK or the program tries again. *From then on*: no such call \
             succeeds any more; the outage budget is 300 ms then (12 s for stalls), the exit code the documented one, and the cause is in the \
             log. No process is left, and where nothing else is said, no object, no open upload and no file; of an upload \
             or a dump that is left, the next run was seen to abort or to deliver it. A \
             CreateMultipartUpload with a lost answer leaves an upload without parts, with an unknown id; and of one whose \
             Complete may still take effect nothing is aborted. Left out is what cannot be: an error inside \
             an answer to HEAD, a 404 to HEAD that is not S3's, a reset in a body that is not sent, a trickle without a body; and a stall anywhere but at a \
             verb's first call.\n"
        );
        let text: String = std::iter::once(head).chain(sections.values().map(|(_, text)| text.clone())).collect();
        std::fs::write(repository_file("target/fault-table.md"), text).expect("the table is written");
    }
}

/// The cells of one call: each injection, once and from then on.
fn cells(scene: Scene, verb: S3Verb, (call, of): (usize, usize), injections: Vec<Injection>) -> Vec<Cell> {
    let both = |injection: Injection| {
        [Span::Once, Span::FromThenOn].map(|span| Cell { scene, verb, call, of, span, injection: injection.clone() })
    };
    injections.into_iter().flat_map(both).collect()
}

/// How often a scene calls a verb where nothing fails.
fn calls(scene: Scene, verb: S3Verb, parts: Parts) -> usize {
    let bucket = s3().create_bucket("matrix-calls");
    let dumps = Dumps::new();
    prepare(scene, &bucket, "calls");
    if scene == Scene::Prune {
        std::thread::sleep(UNTIL_STALE);
    }
    let seen = Stage::new((scene, parts), (&bucket, "calls".to_owned()), &dumps).calls();
    let of = seen.into_iter().filter(|seen| *seen == verb).count();
    assert!(of > 0, "{scene}: {verb:?} is never called");
    of
}

/// First, middle and last.
fn positions(of: usize) -> Vec<usize> {
    let mut positions = vec![1, of.div_ceil(2), of];
    positions.dedup();
    positions
}

fn describe(failed: &[&String]) -> String {
    let first: Vec<&str> = failed.iter().take(SHOWN_IN_FULL).map(|words| words.as_str()).collect();
    first.join("\n----\n")
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// One of the places for a cell that runs; given back when it is dropped.
struct Place;

static TAKEN: Mutex<usize> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

impl Place {
    fn take() -> Self {
        let free = GIVEN_BACK.wait_while(lock(&TAKEN), |taken| *taken >= AT_ONCE);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *lock(&TAKEN) -= 1;
        GIVEN_BACK.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
