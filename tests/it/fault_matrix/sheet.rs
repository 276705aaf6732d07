//! The cells of one scene: creates them, runs a few at a time, and writes the table. Used by the tests of [`super`].

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cell::{Cell, Outcome, Parts, Scene, Span};
use super::faults::{self, Injection};
use super::stage::{Dumps, Stage, UNTIL_STALE, prepare};
use crate::support::age::Encryption;
use crate::support::proxy::S3Verb;
use crate::support::servers::s3;
use crate::support::setup::repository_file;

/// Cells that run at once in the test process, over all tests: a cell waits half of its time.
const AT_ONCE: usize = 6;
/// Stalled cells that run at once, in addition: they only wait.
const STALLED_AT_ONCE: usize = 12;
/// The number of failed cells that are printed in full.
const SHOWN_IN_FULL: usize = 5;

/// Sections of the table, by scene and title.
type Sections = BTreeMap<(Scene, &'static str), (usize, String)>;

/// The cells of one scene.
pub struct Sheet {
    scene: Scene,
    title: &'static str,
    cells: Vec<Cell>,
    at_once: usize,
}

impl Sheet {
    /// Creates cells for the first, middle and last call of these verbs, with each wrong answer, once and from then on.
    ///
    /// # Panics
    /// If a run without a fault does not call one of the verbs.
    pub fn answers(scene: Scene, verbs: &[S3Verb]) -> Self {
        let cells = verbs.iter().flat_map(|&verb| {
            let parts = if verb == S3Verb::UploadPart { Parts::Three } else { Parts::One };
            let of = calls(scene, verb, parts);
            let calls = positions(of).into_iter();
            calls.flat_map(move |call| cells(scene, verb, (call, of), faults::answers(verb)))
        });
        Self { scene, title: "answers", cells: half_encrypted(cells), at_once: AT_ONCE }
    }

    /// Creates cells for the first call of these verbs, with each stall, once and from then on.
    ///
    /// # Panics
    /// As [`Self::answers`].
    pub fn stalls(scene: Scene, verbs: &[S3Verb]) -> Self {
        let cells = verbs.iter().flat_map(|&verb| {
            let of = calls(scene, verb, Parts::One);
            cells(scene, verb, (1, of), faults::stalls(verb))
        });
        Self { scene, title: "stalls", cells: half_encrypted(cells), at_once: STALLED_AT_ONCE }
    }

    /// Runs all cells, and writes them to the table.
    ///
    /// # Panics
    /// If the outcome of a cell differs from its rule; prints the first such cells.
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
                        let _slot = (!cell.is_stall()).then(Slot::take);
                        let target = (bucket.as_str(), path(index));
                        let run =
                            || Stage::new((cell.scene, cell.parts()), target, &dumps).with(cell.encryption).run(cell);
                        let outcome = catch_unwind(AssertUnwindSafe(run)).map_err(|panic| words(&*panic));
                        lock(&done).insert(index, outcome);
                    }
                });
            }
        });
        let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(done.len(), self.cells.len(), "a cell did not run");
        self.write(&done, began.elapsed());
        let failed: Vec<&String> = done.values().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(failed.is_empty(), "{} of {} cells failed: {}", failed.len(), done.len(), describe(&failed));
    }

    fn write(&self, done: &BTreeMap<usize, Result<Outcome, String>>, took: Duration) {
        // Every test adds its own section.
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
            let mark = if cell.encryption == Encryption::Age { "encrypted: " } else { "" };
            if let Some((_, outcomes)) = rows.last_mut() {
                outcomes[column] = format!("{mark}{outcome}");
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
            "# S3 faults, and the outcome of a run\n\nWritten by the tests (`tests/it/fault_matrix`). {total} cells: in each, the \
             fault occurred, and the outcome is the one that the cell's rule expects; else the cell is **FAILED**, and so is the \
             test.\n\n*complete*: the object exists, and unpacked it is \
             byte for byte what `pg_dump` wrote. *Once*: the SDK or the program retries. *From then on*: no such call \
             succeeds; the outage budget is 300 ms (12 s for stalls), the exit code is the documented one, and the log has the \
             cause. *Encrypted*: the run encrypts, and what it stores is decrypted first. No process is left. No object, open upload or file is left, unless the table says so; the next run aborted \
             such an upload, or delivered such a dump. A \
             CreateMultipartUpload with a lost answer leaves an upload without parts, with an unknown id. If a \
             Complete may still take effect, its upload is not aborted. The matrix leaves out what is impossible: an error inside \
             an answer to HEAD, a 404 to HEAD that is not S3's, a reset in a body that is not sent, a trickle without a body. Stalls are tested at a \
             verb's first call only.\n"
        );
        let text: String = std::iter::once(head).chain(sections.values().map(|(_, text)| text.clone())).collect();
        std::fs::write(repository_file("target/fault-table.md"), text).expect("the table is written");
    }
}

/// Creates the cells of one call: each injection, once and from then on.
fn cells(scene: Scene, verb: S3Verb, (call, of): (usize, usize), injections: Vec<Injection>) -> Vec<Cell> {
    let both = |injection: Injection| {
        [Span::Once, Span::FromThenOn].map(|span| {
            let (injection, encryption) = (injection.clone(), Encryption::None);
            Cell { scene, verb, call, of, span, injection, encryption }
        })
    };
    injections.into_iter().flat_map(both).collect()
}

/// One of the two cells of each fault is that of a run that encrypts, in turn. `prune` stores nothing.
fn half_encrypted(cells: impl Iterator<Item = Cell>) -> Vec<Cell> {
    let chosen = |(index, cell): (usize, Cell)| {
        let is_turn = (index / 2 + index).is_multiple_of(2) && cell.scene != Scene::Prune;
        Cell { encryption: if is_turn { Encryption::Age } else { Encryption::None }, ..cell }
    };
    cells.enumerate().map(chosen).collect()
}

/// Counts the calls of a verb in a run without a fault.
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

/// Returns the first, the middle and the last call.
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

/// A slot for a running cell; freed when it is dropped.
struct Slot;

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Slot {
    fn take() -> Self {
        let free = FREED.wait_while(lock(&TAKEN), |taken| *taken >= AT_ONCE);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *lock(&TAKEN) -= 1;
        FREED.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
