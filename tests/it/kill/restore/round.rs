//! One round: a restore that is killed, a look at what it left, and the next restore.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::Mode;
use super::aim::{Aim, Victim, When};
use super::scene::{MADE, Phase, Scene};
use crate::kill::round::wait;
use crate::restore::FAILED;
use crate::support::client::eventually;
use crate::support::program::{Outcome, Running};
use crate::support::session::Session;

/// The exit code if psql is killed while it connects.
const UNAVAILABLE: i32 = 10;

/// What became of one round.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// What the restore was doing.
    pub phase: Phase,
    pub victim: Victim,
    /// It had ended by itself.
    pub was_over: bool,
    /// The restored database was there, complete.
    pub is_complete: bool,
    /// It left a scratch database.
    pub has_scratch: bool,
}

/// The rounds of one mode, one after the other, on one server.
pub struct Rounds {
    pub mode: Mode,
    /// How long an undisturbed restore lasts: the shortest so far.
    pub length: Cell<Duration>,
    scene: Scene,
    /// A dump of an empty database, of the old one, and of the restored one.
    empty: String,
    old: String,
    complete: String,
    number: Cell<u32>,
}

/// What stands under the final name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// None, or an empty one that was there before.
    Nothing,
    Old,
    Complete,
}

impl Rounds {
    /// Measures an undisturbed restore.
    pub fn new(mode: Mode) -> Self {
        let scene = Scene::new(mode);
        scene.ask("CREATE DATABASE target_0");
        let empty = scene.dump("target_0");
        let old = if mode == Mode::Existing { String::new() } else { scene.dump("old_template") };
        let mut rounds =
            Self { mode, length: Cell::default(), scene, empty, old, complete: String::new(), number: Cell::default() };
        let target = rounds.prepare();
        let calm = rounds.scene.program(&target).run();
        calm.assert_code(0);
        rounds.length.set(calm.elapsed);
        rounds.complete = rounds.scene.dump(&target);
        assert!(rounds.complete.contains("20000\t"), "all rows");
        rounds
    }

    /// Kills a restore, and runs the next.
    pub fn play(&self, aim: &Aim, case: &str) -> Fate {
        let target = self.prepare();
        let (phase, killed) = self.kill(aim, &target);
        let case = format!("{case}: {phase:?}\nkilled:\n{}", killed.stderr);
        let codes = [Some(0), Some(FAILED), Some(UNAVAILABLE)];
        assert!(killed.signal == Some(9) || codes.contains(&killed.code), "{case}: {:?}", killed.code);
        eventually(|| self.scene.sessions().is_empty(), || format!("{case}: {}", self.scene.sessions()));
        assert!(killed.leftover_children().is_empty(), "{case}: {:?}", killed.leftover_children());
        let (found, scratch) = (self.found(&target, &case), self.scene.scratch());
        let is_complete = found == Found::Complete;
        // It says the truth where it still can, and names what it leaves.
        match killed.code {
            Some(0) => assert!(is_complete, "{case}: {found:?}"),
            Some(_) => {
                assert!(!is_complete && scratch.lines().all(|name| killed.stderr.contains(name)), "{case}: {scratch}");
            }
            None => {}
        }
        assert!(!is_complete || scratch.is_empty(), "{case}: a complete one, and {scratch}");
        self.play_next((&target, found, &scratch), &case);
        let was_over = killed.signal.is_none() && !matches!(aim.victim, Victim::Psql(_));
        Fate { phase, victim: aim.victim, was_over, is_complete, has_scratch: !scratch.is_empty() }
    }

    /// What is there before a restore; and the name of its database.
    fn prepare(&self) -> String {
        self.scene.reset();
        if self.mode != Mode::Existing {
            return MADE.to_owned();
        }
        self.number.set(self.number.get() + 1);
        let target = format!("target_{}", self.number.get());
        self.scene.ask(&format!("CREATE DATABASE {target}"));
        target
    }

    fn kill(&self, aim: &Aim, target: &str) -> (Phase, Outcome) {
        let began = Instant::now();
        let mut running = self.scene.program(target).spawn();
        let mut held: Option<Session> = None;
        let mut had_scratch = false;
        let mut phase = || {
            had_scratch = had_scratch || !self.scene.scratch().is_empty();
            self.scene.phase(had_scratch)
        };
        match aim.when {
            When::After(time) => wait(&mut running, Duration::ZERO, || {
                phase();
                began.elapsed() >= time
            }),
            When::At(wanted, more) => wait(&mut running, more, || phase() == wanted),
            When::BetweenRenames(more) => wait(&mut running, more, || {
                held = held.take().or_else(|| self.scene.hold());
                self.scene.is_between_renames()
            }),
        }
        let phase = phase();
        strike(&mut running, aim.victim);
        // A psql that was killed may not be the one that is held up.
        let killed = running.wait();
        drop(held);
        if killed.code == Some(0) && matches!(aim.when, When::After(_)) {
            self.length.set(self.length.get().min(killed.elapsed));
        }
        (phase, killed)
    }

    /// What is under the name is complete, or as it was; and the old database is there.
    fn found(&self, target: &str, case: &str) -> Found {
        let names = self.scene.ask(&format!(
            "SELECT datname FROM pg_database WHERE datname = '{target}' OR datname LIKE '{MADE}_before_%' ORDER BY 1"
        ));
        let names: Vec<&str> = names.lines().collect();
        let (name, before) = match names.as_slice() {
            [] if self.mode == Mode::Create => return Found::Nothing,
            [name] => (*name, None),
            [name, before] if self.mode == Mode::Replace => (*name, Some(*before)),
            _ => panic!("{case}: {names:?}"),
        };
        assert_eq!(name, target, "{case}");
        let allows = self.scene.ask(&format!("SELECT datallowconn FROM pg_database WHERE datname = '{name}'"));
        assert_eq!(allows, "t", "{case}: it takes connections");
        let dump = self.scene.dump(name);
        if let Some(before) = before {
            assert!(self.scene.dump(before) == self.old, "{case}: the old one is as it was");
        }
        match dump {
            dump if dump == self.complete && before.is_some() == (self.mode == Mode::Replace) => Found::Complete,
            dump if dump == self.old && self.mode == Mode::Replace && before.is_none() => Found::Old,
            dump if dump == self.empty && self.mode == Mode::Existing => Found::Nothing,
            dump => panic!("{case}: under the name is {dump}"),
        }
    }

    /// The next restore works; or is refused, where there is nothing to do. It names what was left, with what drops it.
    fn play_next(&self, (target, found, scratch): (&str, Found, &str), case: &str) {
        let next = self.scene.program(target).run();
        let case = format!("{case}\nnext:\n{}", next.stderr);
        let is_refused = found == Found::Complete && self.mode != Mode::Replace;
        assert_eq!(next.code, Some(if is_refused { FAILED } else { 0 }), "{case}");
        if is_refused {
            assert!(["is not empty", "it exists"].iter().any(|words| next.stderr.contains(words)), "{case}");
        }
        if found != Found::Complete || self.mode != Mode::Replace {
            assert_eq!(self.found(target, &case), Found::Complete, "{case}");
        }
        for name in scratch.lines() {
            let statement = format!("DROP DATABASE \"{name}\" WITH (FORCE);").replace('"', "");
            let said = next.stderr.replace(['"', '\\'], "");
            assert!(said.contains(&statement), "{case}: {statement}");
            self.scene.ask(&format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
        }
        assert_eq!(self.scene.scratch(), "", "{case}");
    }
}

/// Kills what is to be killed, and what of it has not ended by itself.
fn strike(running: &mut Running, victim: Victim) {
    let children = running.descendants();
    // The number of one that has ended may be another's.
    if !matches!(victim, Victim::Psql(_)) && running.is_running() {
        running.signal("KILL");
    }
    match victim {
        Victim::Program => {}
        Victim::Psql(number) => {
            if let Some(child) = children.iter().nth(number % children.len().max(1)) {
                child.signal("KILL");
            }
        }
        Victim::Everything => children.iter().for_each(|child| child.signal("KILL")),
    }
}
