//! SIGKILL at seeded instants of a restore: never a target that is half filled, never a database of the final name that is
//! incomplete; the old database is never lost; no session stays on the server, and the next restore works.
//!
//! Kills this program, its psql, or all of them. A third of the rounds is for each [`Mode`].

mod aim;
mod round;
mod scene;
mod table;

use super::{publish, seed_and_rounds};
use aim::Aims;
use round::Rounds;
use table::Table;

/// Where a restore goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Into an existing empty database.
    Existing,
    /// `--create-db`.
    Create,
    /// `--create-db --replace`.
    Replace,
}

const MODES: [Mode; 3] = [Mode::Existing, Mode::Create, Mode::Replace];

#[test]
fn killing_a_restore_at_any_instant_leaves_no_incomplete_database() {
    let (seed, rounds) = seed_and_rounds();
    // Half as many as of each kind of backup.
    let rounds = rounds.div_ceil(2 * MODES.len());
    let mut table = Table::default();
    std::thread::scope(|scope| {
        let runs = MODES.map(|mode| {
            scope.spawn(move || {
                let rounds_of_mode = Rounds::new(mode);
                let aims = Aims::new(seed, rounds, &rounds_of_mode);
                let case = |number, aim: &_| format!("{mode:?} round {number} of KILL_SEED={seed}: {aim:?}");
                let play = |(number, aim)| rounds_of_mode.play(&aim, &case(number, &aim));
                aims.enumerate().map(play).collect::<Vec<_>>()
            })
        });
        for (mode, run) in MODES.into_iter().zip(runs) {
            table.add(mode, run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    publish("Restores", format!("Seed {seed}, {rounds} rounds of each kind.\n\n{table}"));
    table.assert_that_kills_landed_everywhere();
}
