//! When the kills come: half of them at instants spread evenly over the length of a run, half at what a run does (a request
//! that S3 has in hand, a proof that is being noted). The same seed gives the same aims; where exactly they hit is up to
//! the machine.

use std::time::Duration;

use fastrand::Rng;

use super::round::{MANIFEST, Mode, Rounds};
use crate::support::proxy::{S3Verb, StallAt};

/// How long after an event a kill comes at most.
const SHORTLY: u64 = 25;
/// How many of what a run does are aimed at, one after the other: so many rounds twice, and kills landed everywhere.
pub const EVENTS: usize = 10;
/// Runs that are killed take a little longer than the calm one that was measured, at times.
const BEYOND: f64 = 1.05;

/// When one run is to be killed.
#[derive(Clone, Debug)]
pub enum Aim {
    /// So long after its start.
    After(Duration),
    /// So long after so many requests were started.
    Requests(usize, Duration),
    /// While `pg_dump` has written nothing yet.
    Dumping,
    /// So long after the proof was noted in the spool.
    Verified(Duration),
    /// As soon as the manifest is written, when nothing is left but retention and the report.
    Described,
    /// While a request has no answer yet: before or after it took effect. The suffix is of its key.
    Unanswered(S3Verb, &'static str, StallAt),
}

/// All aims of one kind of run.
pub struct Aims<'a> {
    rng: Rng,
    next: usize,
    rounds: usize,
    calm: &'a Rounds,
}

/// An instant of a run in the `number`-th of as many equal spans as there are such aims.
pub fn instant(rng: &mut Rng, (number, spans): (usize, usize), length: Duration) -> Duration {
    #[expect(clippy::cast_precision_loss, reason = "some hundred spans")]
    let part = (number as f64 + rng.f64()) / spans.max(1) as f64;
    length.mul_f64(part * BEYOND)
}

/// How long after an event a kill comes.
pub fn shortly(rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.u64(..SHORTLY))
}

impl<'a> Aims<'a> {
    /// So many, for runs that last as long as a calm one did.
    pub fn new(seed: u64, rounds: usize, calm: &'a Rounds) -> Self {
        Self { rng: Rng::with_seed(seed ^ calm.mode as u64), next: 0, rounds, calm }
    }

    fn instant(&mut self, number: usize) -> Aim {
        Aim::After(instant(&mut self.rng, (number, self.rounds.div_ceil(2)), self.calm.length.get()))
    }

    fn sidecar(&mut self) -> &'static str {
        [MANIFEST, ".globals.sql.gz", ".index.json.gz"][self.rng.usize(..3)]
    }

    fn event(&mut self, number: usize) -> Aim {
        let at = if self.rng.bool() { StallAt::BeforeEffect } else { StallAt::BeforeAnswer };
        let shortly = shortly(&mut self.rng);
        match number % EVENTS {
            0 => Aim::Unanswered(S3Verb::CompleteMultipartUpload, "", StallAt::BeforeEffect),
            1 if self.calm.mode == Mode::Spooled => Aim::Verified(shortly),
            2 => Aim::Unanswered(S3Verb::CompleteMultipartUpload, "", StallAt::BeforeAnswer),
            3 => Aim::Unanswered(S3Verb::UploadPart, "", at),
            4 => Aim::Unanswered(S3Verb::CreateMultipartUpload, "", at),
            5 => Aim::Unanswered(S3Verb::PutObject, self.sidecar(), at),
            // The first of all requests.
            6 => Aim::Unanswered(S3Verb::ListObjects, "", at),
            7 => Aim::Described,
            8 => Aim::Dumping,
            _ => Aim::Requests(self.rng.usize(1..=self.calm.requests), shortly),
        }
    }
}

impl Iterator for Aims<'_> {
    type Item = Aim;

    fn next(&mut self) -> Option<Aim> {
        let number = self.next;
        self.next += 1;
        match number {
            number if number >= self.rounds => None,
            number if number.is_multiple_of(2) => Some(self.instant(number / 2)),
            number => Some(self.event(number / 2)),
        }
    }
}
