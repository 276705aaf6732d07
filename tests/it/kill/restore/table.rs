//! Where the kills landed and what was left, as a table in Markdown; and whether they landed everywhere.

use std::fmt;

use super::aim::Victim;
use super::round::Fate;
use super::scene::Phase;
use super::{MODES, Mode};

/// So many rounds of each kind reach every phase.
const ENOUGH: usize = 20;

const PHASES: [(Phase, &str, &[Mode]); 8] = [
    (Phase::Outside, "no session yet, or over", &MODES),
    (Phase::Connected, "target is checked", &[]),
    (Phase::Creating, "CREATE DATABASE", &[Mode::Create, Mode::Replace]),
    (Phase::Filling, "the dump runs", &MODES),
    (Phase::Committing, "COMMIT runs", &[Mode::Existing]),
    (Phase::Analyzing, "ANALYZE", &MODES),
    (Phase::Renaming, "between the renames", &[Mode::Create, Mode::Replace]),
    (Phase::Renamed, "renamed", &[Mode::Create, Mode::Replace]),
];

/// The fates of all rounds.
#[derive(Debug, Default)]
pub struct Table(Vec<(Mode, Fate)>);

impl Table {
    /// Adds those of one mode.
    pub fn add(&mut self, mode: Mode, fates: Vec<Fate>) {
        self.0.extend(fates.into_iter().map(|fate| (mode, fate)));
    }

    /// Kills that all come too early or too late prove nothing.
    pub fn assert_that_kills_landed_everywhere(&self) {
        for mode in MODES {
            let of_mode = self.count(|of, _| of == mode);
            assert!(self.count(|of, fate| of == mode && fate.was_over) <= of_mode / 2, "{mode:?}: too late\n{self}");
            if of_mode < ENOUGH {
                continue;
            }
            for (phase, name, modes) in PHASES {
                let landed = self.count(|of, fate| of == mode && fate.phase == phase);
                assert!(landed > 0 || !modes.contains(&mode), "{mode:?}: no kill landed: {name}\n{self}");
            }
        }
    }

    fn count(&self, is_so: impl Fn(Mode, &Fate) -> bool) -> usize {
        self.0.iter().filter(|(mode, fate)| is_so(*mode, fate)).count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| where SIGKILL landed |")?;
        for mode in ["existing database", "`--create-db`", "`--replace`"] {
            write!(f, " {mode} | complete | scratch left |")?;
        }
        writeln!(f, "\n|---|{}", "---|".repeat(3 * MODES.len()))?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, is_in: &dyn Fn(&Fate) -> bool| {
            write!(f, "| {name} |")?;
            for mode in MODES {
                let all = self.count(|of, fate| of == mode && is_in(fate));
                let complete = self.count(|of, fate| of == mode && is_in(fate) && fate.is_complete);
                let scratch = self.count(|of, fate| of == mode && is_in(fate) && fate.has_scratch);
                write!(f, " {all} | {complete} | {scratch} |")?;
            }
            writeln!(f)
        };
        for (phase, name, _) in PHASES {
            row(f, name, &|fate| fate.phase == phase)?;
        }
        row(f, "*killed: this program*", &|fate| fate.victim == Victim::Program)?;
        row(f, "*killed: a psql*", &|fate| matches!(fate.victim, Victim::Psql(_)))?;
        row(f, "*killed: all of them*", &|fate| fate.victim == Victim::Everything)?;
        row(f, "all", &|_| true)?;
        writeln!(f, "\nThe old database was there each time, no session stayed, and the next restore worked.")
    }
}
