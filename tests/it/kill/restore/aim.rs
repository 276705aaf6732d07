//! What is killed, and when: half of the kills at instants spread evenly over the length of a restore, half at what it does.
//! The same seed gives the same aims.

use std::time::Duration;

use fastrand::Rng;

use super::Mode;
use super::round::Rounds;
use super::scene::Phase;
use crate::kill::aim::{instant, shortly};

/// What SIGKILL goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// This program; its psql reads the end of its input.
    Program,
    /// One psql, by this number among those that run; this program must notice.
    Psql(usize),
    /// All of them, as when a container is killed.
    Everything,
}

/// When it comes.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// So long after the start.
    After(Duration),
    /// So long after this was seen on the server.
    At(Phase, Duration),
    /// So long after the second rename has begun; it is held up there.
    BetweenRenames(Duration),
}

/// One kill.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    pub when: When,
    pub victim: Victim,
}

/// All aims of one mode.
pub struct Aims<'a> {
    rng: Rng,
    next: usize,
    rounds: usize,
    calm: &'a Rounds,
}

impl<'a> Aims<'a> {
    /// So many, for restores that last as long as a calm one did.
    pub fn new(seed: u64, rounds: usize, calm: &'a Rounds) -> Self {
        Self { rng: Rng::with_seed(seed ^ (calm.mode as u64 + 1) << 32), next: 0, rounds, calm }
    }

    fn event(&mut self, number: usize) -> When {
        let shortly = shortly(&mut self.rng);
        if self.calm.mode == Mode::Existing {
            let phases = [Phase::Committing, Phase::Filling, Phase::Analyzing, Phase::Committing];
            return When::At(phases[number % phases.len()], shortly);
        }
        match number % 5 {
            0 => When::BetweenRenames(shortly),
            1 => When::At(Phase::Filling, shortly),
            2 => When::At(Phase::Renamed, Duration::ZERO),
            3 => When::At(Phase::Creating, shortly),
            _ => When::At(Phase::Analyzing, shortly),
        }
    }

    fn victim(&mut self) -> Victim {
        match self.rng.u8(..10) {
            0..5 => Victim::Program,
            5..8 => Victim::Psql(self.rng.usize(..6)),
            _ => Victim::Everything,
        }
    }
}

impl Iterator for Aims<'_> {
    type Item = Aim;

    fn next(&mut self) -> Option<Aim> {
        let number = self.next;
        self.next += 1;
        if number >= self.rounds {
            return None;
        }
        let when = if number.is_multiple_of(2) {
            let spans = self.rounds.div_ceil(2);
            When::After(instant(&mut self.rng, (number / 2, spans), self.calm.length.get()))
        } else {
            self.event(number / 2)
        };
        Some(Aim { when, victim: self.victim() })
    }
}
