//! The level of each block: the one that is set, or with `auto` the smallest result that costs no time.
//!
//! [`super::reader`] asks before each block. `auto` starts at gzip's fast level, or at zstd's second, which hardly takes longer.
//! Once a second it looks at the time that the workers have spent, and moves one step: down where they can barely keep up, up
//! where they would keep up at the next level, too, and neither they nor `pg_dump` wait for a processor. So a high level neither
//! holds the pipeline up, nor takes processors from `pg_dump` or from a server on the same machine. Where every processor is
//! taken, a worker is hardly ever interrupted in its millisecond of work: `pg_dump` is the one that waits. Where uploads hold the
//! pipeline up, it works in bursts, in which workers and `pg_dump` wait for each other at no cost: there the workers' waits of the
//! last seconds count together, and those of `pg_dump` not at all. Pipelines that share workers look at the work for all of them:
//! where the workers can barely keep up, all pipelines step down. Pure: callers pass the time.

use std::time::{Duration, Instant};

use crate::codec::{Codec, Compression};

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Less work than this shows nothing.
const LEAST_WORK: Duration = Duration::from_millis(5);
/// From this share of their time on, the workers can barely keep up.
const BUSY: f64 = 0.8;
/// A level that would take more of the workers' time than this is not tried.
const MOST_EXPECTED: f64 = 0.6;
/// A worker that computes for less than this share of its work waits for a processor now and then.
const UNDISTURBED: f64 = 0.9;
/// A worker that computes for less than this share of its work waits for a processor all the time.
const STARVED: f64 = 0.6;
/// Where `pg_dump` waits for a processor for more than this share of the time, a higher level would take it from the dump. It
/// waits 7 to 14 % of the time on two cores beside its server alone, 22 to 56 % where the pipeline and S3 share them, too.
const MOST_DUMP_WAIT: f64 = 0.25;
/// Where a part waits for memory for more than this share of the time, the uploads hold the pipeline up. With a store as fast as
/// the pipeline it is less than 0.001, on a link of 10 MB/s 0.4 to 0.9.
const SLOW_UPLOADS: f64 = 0.3;
/// Uploads that began together end together, so on a slow link the pipeline works in bursts: several seconds count, each with this
/// weight against all before it.
const WEIGHT: f64 = 0.2;
/// On a slow link, where the workers together wait for this many processors on average, others need them: it is 0.1 to 0.3 by the
/// pipeline's own bursts on two cores.
const MOST_WORKER_WAIT: f64 = 0.3;
/// On a slow link, where the workers together wait for this many processors on average, they give way.
const STARVED_WORKER_WAIT: f64 = 0.6;
/// After a step down, the next step up is this many looks away; after each further one twice as many, up to the most.
const LEAST_HOLD: u32 = 4;
const MOST_HOLD: u32 = 64;
/// `auto` goes no higher where the states of all workers would have more bytes.
const MOST_MEMORY: u64 = 32 << 20;

/// The level, as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It follows the load.
    Auto,
    /// This one.
    Fixed(u32),
}

/// A level with its speed in MB/s of one thread, as `benches/codec.rs` shows it; only the ratios matter.
type Rung = (u32, f64);

/// Each level shrinks the dump of `scripts/demo-data.sql` by 1 % or more against the one before. Level 9 is larger than 8.
/// zlib-rs's level 1 would be much larger than 2.
#[cfg(feature = "isal")]
const GZIP: &[Rung] = &[(1, 640.0), (3, 308.0), (5, 120.0), (7, 52.0), (8, 35.0)];
#[cfg(not(feature = "isal"))]
const GZIP: &[Rung] = &[(2, 144.0), (5, 120.0), (7, 52.0), (8, 35.0)];
/// As above. Levels 3 and 4 are larger than 2; those left out are hardly smaller than the one before.
const ZSTD: &[Rung] = &[(1, 537.0), (2, 411.0), (5, 150.0), (6, 108.0), (8, 68.0), (10, 58.0), (16, 11.0)];

/// The levels of `auto`, from fast to small.
fn ladder(codec: Codec, threads: usize) -> &'static [Rung] {
    let all = match codec {
        Codec::Gzip => GZIP,
        Codec::Zstd => ZSTD,
    };
    let fits = |(level, _): &&Rung| Compression { codec, level: *level }.memory() * threads as u64 <= MOST_MEMORY;
    let count = all.iter().take_while(fits).count();
    // The fast level always remains.
    &all[..count.max(1)]
}

/// The time that workers have spent on blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// By the clock.
    pub wall: Duration,
    /// On a processor.
    pub cpu: Duration,
}

/// What else has waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waits {
    /// `pg_dump`, for a processor.
    pub dump: Duration,
    /// A new part, until an upload has freed memory.
    pub parts: Duration,
}

/// Gives each block its level.
pub(super) struct Levels {
    codec: Codec,
    choice: Choice,
}

enum Choice {
    Fixed(u32),
    Auto(Controller),
}

impl Levels {
    /// For this many workers, from now on, with what they have done so far.
    pub fn new((codec, level): (Codec, Level), threads: usize, begin: (Instant, Work)) -> Self {
        let choice = match level {
            Level::Fixed(level) => Choice::Fixed(level),
            Level::Auto => Choice::Auto(Controller::new(codec, threads, begin)),
        };
        Self { codec, choice }
    }

    /// How the next block is compressed. `work` is what the workers have done so far, `waits` says what else has waited so far.
    pub fn next(&mut self, now: Instant, work: Work, waits: impl FnOnce() -> Waits) -> Compression {
        let level = match &mut self.choice {
            Choice::Fixed(level) => *level,
            Choice::Auto(controller) => {
                let before = controller.level();
                controller.look(now, work, waits);
                let level = controller.level();
                if level != before {
                    tracing::debug!(codec = self.codec.name(), from = before, to = level, "compression level changed");
                }
                level
            }
        };
        Compression { codec: self.codec, level }
    }
}

/// The most bytes that the state of one thread's encoder has.
pub(super) fn encoder_memory(codec: Codec, level: Level, threads: usize) -> u64 {
    let memory = |level| Compression { codec, level }.memory();
    match level {
        Level::Fixed(level) => memory(level),
        Level::Auto => ladder(codec, threads).iter().map(|(level, _)| memory(*level)).max().unwrap_or_default(),
    }
}

/// Moves along a ladder.
struct Controller {
    ladder: &'static [Rung],
    threads: f64,
    /// Index of the level.
    at: usize,
    /// The last look, and the work until then.
    looked: Instant,
    before: Work,
    waited: Waits,
    average: Option<Shares>,
    /// Looks until the next step up is allowed, and how many it is after the next step down.
    hold: u32,
    next_hold: u32,
}

impl Controller {
    fn new(codec: Codec, threads: usize, (looked, before): (Instant, Work)) -> Self {
        let ladder = ladder(codec, threads);
        let start = match codec {
            Codec::Gzip => 0,
            Codec::Zstd => ladder.len().min(2) - 1,
        };
        let threads = f64::from(u32::try_from(threads).unwrap_or(u32::MAX));
        let waited = Waits::default();
        Self { ladder, threads, at: start, looked, before, waited, average: None, hold: 0, next_hold: LEAST_HOLD }
    }

    fn level(&self) -> u32 {
        self.ladder[self.at].0
    }

    /// Moves by at most one step, if a second has passed and the workers have done something.
    fn look(&mut self, now: Instant, work: Work, waits: impl FnOnce() -> Waits) {
        let elapsed = now.saturating_duration_since(self.looked);
        let wall = work.wall.saturating_sub(self.before.wall);
        if elapsed < INTERVAL || wall < LEAST_WORK {
            return;
        }
        let cpu = work.cpu.saturating_sub(self.before.cpu);
        let (waits, before) = (waits(), self.waited);
        (self.looked, self.before, self.waited) = (now, work, waits);
        let share = |time: Duration| time.as_secs_f64() / elapsed.as_secs_f64();
        let busy = share(wall) / self.threads;
        let shares = Shares {
            busy,
            demand: busy * self.ladder[self.at].1,
            worker_wait: share(wall.saturating_sub(cpu)),
            dump_wait: share(waits.dump.saturating_sub(before.dump)),
            // A wait counts when it has ended, and may have begun before the last look.
            part_wait: share(waits.parts.saturating_sub(before.parts)).min(1.0),
        };
        let average = self.average.map_or(shares, |before| before.followed_by(&shares, elapsed));
        self.average = Some(average);
        if average.part_wait > SLOW_UPLOADS {
            // A second in which the workers can barely keep up is one of a burst, and costs nothing.
            let verdict = Verdict {
                is_too_high: average.busy >= BUSY || average.worker_wait > STARVED_WORKER_WAIT,
                would_keep_up: self.would_keep_up(average.demand),
                has_processors: average.worker_wait <= MOST_WORKER_WAIT,
            };
            return self.move_by(&verdict, &average);
        }
        let computing = cpu.as_secs_f64() / wall.as_secs_f64();
        let verdict = Verdict {
            is_too_high: busy >= BUSY || computing < STARVED,
            would_keep_up: self.would_keep_up(shares.demand),
            has_processors: computing >= UNDISTURBED && shares.dump_wait <= MOST_DUMP_WAIT,
        };
        self.move_by(&verdict, &shares);
    }

    fn move_by(&mut self, verdict: &Verdict, shares: &Shares) {
        if self.at > 0 && verdict.is_too_high {
            self.at -= 1;
            self.hold = self.next_hold;
            self.next_hold = (self.next_hold * 2).min(MOST_HOLD);
        } else if self.hold > 0 {
            self.hold -= 1;
        } else if verdict.would_keep_up && verdict.has_processors {
            self.at += 1;
        } else if verdict.would_keep_up {
            tracing::debug!(?shares, "compression level stays: the workers or pg_dump wait for a processor");
        }
    }

    /// Whether the workers would keep up at the next level, if there is one.
    fn would_keep_up(&self, demand: f64) -> bool {
        self.ladder.get(self.at + 1).is_some_and(|(_, speed)| demand / speed <= MOST_EXPECTED)
    }
}

/// Shares of the time between two looks, or of the last seconds.
#[derive(Clone, Copy, Debug)]
struct Shares {
    /// Of the workers' time, in which they have work.
    busy: f64,
    /// The same, times the level's speed.
    demand: f64,
    /// In which a worker waits for a processor, of all workers together.
    worker_wait: f64,
    /// In which `pg_dump` does.
    dump_wait: f64,
    /// In which a part waits for memory.
    part_wait: f64,
}

impl Shares {
    fn followed_by(&self, last: &Self, elapsed: Duration) -> Self {
        let weight = 1.0 - (1.0 - WEIGHT).powf(elapsed.as_secs_f64());
        let average = |before: f64, last: f64| before + (last - before) * weight;
        Self {
            busy: average(self.busy, last.busy),
            demand: average(self.demand, last.demand),
            worker_wait: average(self.worker_wait, last.worker_wait),
            dump_wait: average(self.dump_wait, last.dump_wait),
            part_wait: average(self.part_wait, last.part_wait),
        }
    }
}

/// What the shares mean for the level.
struct Verdict {
    is_too_high: bool,
    would_keep_up: bool,
    /// Whether there are processors for a higher level.
    has_processors: bool,
}

#[cfg(test)]
mod tests;
