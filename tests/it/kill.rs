//! SIGKILL at seeded instants of a run: no incomplete object is ever visible; the next run always
//! succeeds; with a spool, a complete dump is delivered and not dumped again. And at those of a restore: [`restore`].
//!
//! `make test` takes [`DEFAULT_ROUNDS`] of each kind, `make test-kill` 200. `KILL_ROUNDS` and `KILL_SEED` set both; the seed
//! in use is printed, and what became of the rounds is written to `target/kill-table.md`.

mod aim;
mod restore;
mod round;
mod table;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use crate::support::age::Encryption;
use aim::{Aims, EVENTS};
use round::{Mode, Rounds};
use table::Table;

/// Enough for each aim once, and for as many instants again.
const DEFAULT_ROUNDS: usize = 2 * EVENTS;

/// Every other aim is one of runs that encrypt: with a spool those that the others have without one, and after [`DEFAULT_ROUNDS`] the
/// other way round.
fn encryption(mode: Mode, round: usize) -> Encryption {
    let (aim, lap) = (round / 2, round / DEFAULT_ROUNDS);
    let is_turn = (aim + lap).is_multiple_of(2) == (mode == Mode::Spooled);
    if is_turn { Encryption::Age } else { Encryption::None }
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The seed, and how many rounds: of each kind of backup, and half as many restores.
#[expect(clippy::print_stdout, reason = "the seed repeats a run")]
fn seed_and_rounds() -> (u64, usize) {
    let seed: u64 = setting("KILL_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let rounds = setting("KILL_ROUNDS").unwrap_or(DEFAULT_ROUNDS);
    println!("KILL_SEED={seed} KILL_ROUNDS={rounds}");
    (seed, rounds)
}

/// Prints a table, and writes it with those of the other tests to `target/kill-table.md`.
#[expect(clippy::print_stdout, reason = "the table is what one wants to see of it")]
fn publish(title: &'static str, text: String) {
    static TABLES: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());
    println!("{text}");
    let mut tables = TABLES.lock().expect("no panic");
    tables.insert(title, text);
    let target = Path::new(env!("CARGO_BIN_EXE_pg-s3-backup")).ancestors().nth(2).expect("the target directory");
    let all = tables.iter().fold(String::new(), |all, (title, text)| format!("{all}# {title}\n\n{text}\n"));
    std::fs::write(target.join("kill-table.md"), all).expect("written");
}

#[test]
fn killing_a_run_at_any_instant_loses_no_complete_dump_and_shows_no_partial_one() {
    let (seed, rounds) = seed_and_rounds();
    let mut table = Table::default();
    std::thread::scope(|scope| {
        let modes = [Mode::Streamed, Mode::Spooled];
        let runs = modes.map(|mode| {
            scope.spawn(move || {
                let rounds_of_mode = Rounds::new(mode);
                let aims = Aims::new(seed, rounds, &rounds_of_mode);
                let play = |(number, aim)| {
                    let encryption = encryption(mode, number);
                    let case =
                        format!("{mode:?} round {number} of KILL_SEED={seed}, encryption {encryption:?}: {aim:?}");
                    rounds_of_mode.play((&aim, encryption), &case)
                };
                let fates: Vec<_> = aims.enumerate().map(play).collect();
                (fates, rounds_of_mode.clean_up_uploads())
            })
        });
        for (mode, run) in modes.into_iter().zip(runs) {
            let (fates, aborted) = run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            table.add(mode, (&fates, aborted));
        }
    });
    publish("Backups", format!("Seed {seed}, {rounds} rounds of each kind.\n\n{table}"));
    table.assert_that_kills_landed_everywhere();
}
