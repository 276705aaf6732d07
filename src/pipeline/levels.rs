//! The level of each block: the one that is set, or with `auto` the smallest result that costs no time.
//!
//! [`super::reader`] asks before each block. `auto` starts at gzip's fast level, or at zstd's second, which hardly takes longer.
//! Once a second it looks at the time that the workers have spent, and moves one step: down where they can barely keep up, up
//! where they would keep up at the next level, too, and neither they nor `pg_dump` wait for a processor. So a high level neither
//! holds the pipeline up, nor takes processors from `pg_dump` or from a server on the same machine. Where every processor is
//! taken, a worker is hardly ever interrupted in its millisecond of work: `pg_dump` is the one that waits. Pipelines that share
//! workers look at the work for all of them: where the workers can barely keep up, all pipelines step down. Pure: callers pass
//! the time.

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

    /// How the next block is compressed. `work` is what the workers have done so far, `dump_wait` says how long `pg_dump` has
    /// waited for a processor so far.
    pub fn next(&mut self, now: Instant, work: Work, dump_wait: impl FnOnce() -> Duration) -> Compression {
        let level = match &mut self.choice {
            Choice::Fixed(level) => *level,
            Choice::Auto(controller) => {
                let before = controller.level();
                controller.look(now, work, dump_wait);
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
    dump_waited: Duration,
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
        let dump_waited = Duration::ZERO;
        Self { ladder, threads, at: start, looked, before, dump_waited, hold: 0, next_hold: LEAST_HOLD }
    }

    fn level(&self) -> u32 {
        self.ladder[self.at].0
    }

    /// Moves by at most one step, if a second has passed and the workers have done something.
    fn look(&mut self, now: Instant, work: Work, dump_wait: impl FnOnce() -> Duration) {
        let elapsed = now.saturating_duration_since(self.looked);
        let wall = work.wall.saturating_sub(self.before.wall);
        if elapsed < INTERVAL || wall < LEAST_WORK {
            return;
        }
        let cpu = work.cpu.saturating_sub(self.before.cpu);
        let dump_wait = dump_wait();
        let dump_waiting = dump_wait.saturating_sub(self.dump_waited).as_secs_f64() / elapsed.as_secs_f64();
        (self.looked, self.before, self.dump_waited) = (now, work, dump_wait);
        let busy = wall.as_secs_f64() / (elapsed.as_secs_f64() * self.threads);
        let computing = cpu.as_secs_f64() / wall.as_secs_f64();
        let would_keep_up = self.expected(busy).is_some_and(|busy| busy <= MOST_EXPECTED);
        if self.at > 0 && (busy >= BUSY || computing < STARVED) {
            self.at -= 1;
            self.hold = self.next_hold;
            self.next_hold = (self.next_hold * 2).min(MOST_HOLD);
        } else if self.hold > 0 {
            self.hold -= 1;
        } else if would_keep_up && computing >= UNDISTURBED && dump_waiting <= MOST_DUMP_WAIT {
            self.at += 1;
        } else if would_keep_up {
            tracing::debug!(
                busy,
                computing,
                dump_waiting,
                "compression level stays: the workers or pg_dump wait for a processor"
            );
        }
    }

    /// The share of the workers' time that the next level would take; `None` at the last.
    fn expected(&self, busy: f64) -> Option<f64> {
        let (_, next) = self.ladder.get(self.at + 1)?;
        Some(busy * self.ladder[self.at].1 / next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREADS: usize = 2;

    /// A pipeline with a made-up clock: a source of so many MB/s, and processors that give a share of themselves.
    struct Simulation {
        levels: Levels,
        now: Instant,
        work: Work,
        dump_waited: Duration,
    }

    impl Simulation {
        fn new(codec: Codec) -> Self {
            let now = Instant::now();
            let work = Work::default();
            Self {
                levels: Levels::new((codec, Level::Auto), THREADS, (now, work)),
                now,
                work,
                dump_waited: Duration::ZERO,
            }
        }

        /// Runs for so many seconds; returns the level of each.
        fn run(&mut self, seconds: u32, source: f64, processors: f64) -> Vec<u32> {
            let mut levels = Vec::new();
            for _ in 0..seconds {
                let Compression { codec, level } = self.levels.next(self.now, self.work, || self.dump_waited);
                levels.push(level);
                let speed = ladder(codec, THREADS).iter().find(|rung| rung.0 == level).expect("a rung").1;
                // The workers never do more than there is time for.
                let cpu = (source / speed).min(processors * 2.0);
                let cpu = Duration::from_secs_f64(cpu);
                self.now += INTERVAL;
                self.work.cpu += cpu;
                self.work.wall += cpu.div_f64(processors);
            }
            levels
        }
    }

    fn last(levels: &[u32]) -> u32 {
        *levels.last().expect("a level")
    }

    #[test]
    fn starts_fast_and_rises_one_step_a_second_while_workers_idle() {
        let levels = Simulation::new(Codec::Zstd).run(8, 5.0, 1.0);
        assert_eq!(levels, [2, 5, 6, 8, 10, 16, 16, 16]);
        let levels = Simulation::new(Codec::Gzip).run(8, 5.0, 1.0);
        let ladder: Vec<u32> = GZIP.iter().map(|rung| rung.0).collect();
        assert_eq!(levels[..ladder.len()], ladder);
        assert_eq!(last(&levels), 8);
    }

    #[test]
    fn stays_where_the_next_level_would_hold_the_pipeline_up() {
        for source in [10.0, 50.0, 100.0, 140.0, 300.0, 600.0] {
            let mut simulation = Simulation::new(Codec::Zstd);
            let levels = simulation.run(60, source, 1.0);
            assert!(levels[1..].is_sorted(), "{source} MB/s: {levels:?}");
            let speed = ZSTD.iter().find(|rung| rung.0 == last(&levels)).expect("a rung").1;
            assert!(last(&levels) <= 2 || source <= 0.6 * 2.0 * speed, "{source} MB/s at {speed}");
        }
    }

    #[test]
    fn falls_where_compression_holds_the_pipeline_up() {
        let mut simulation = Simulation::new(Codec::Zstd);
        assert_eq!(last(&simulation.run(10, 5.0, 1.0)), 16);
        let levels = simulation.run(10, 400.0, 1.0);
        assert_eq!(levels[..6], [16, 10, 8, 6, 5, 2], "one step a second");
        assert_eq!(last(&levels), 2);
    }

    #[test]
    fn never_rises_while_workers_wait_for_a_processor() {
        let mut simulation = Simulation::new(Codec::Gzip);
        let fast = GZIP[0].0;
        assert_eq!(simulation.run(30, 5.0, 0.8), vec![fast; 30]);
        assert!(last(&simulation.run(5, 5.0, 1.0)) > fast);
        assert_eq!(last(&simulation.run(5, 5.0, 0.5)), fast, "it gives way to others");
    }

    #[test]
    fn never_rises_while_the_dump_waits_for_a_processor() {
        let mut simulation = Simulation::new(Codec::Gzip);
        let fast = GZIP[0].0;
        for _ in 0..30 {
            assert_eq!(simulation.run(1, 5.0, 1.0), [fast]);
            simulation.dump_waited += INTERVAL.mul_f64(0.3);
        }
        assert!(last(&simulation.run(5, 5.0, 1.0)) > fast, "the waits before count no more");
    }

    #[test]
    fn does_not_swing_between_two_levels() {
        // The next level is four times as slow as the ladder says.
        let mut simulation = Simulation::new(Codec::Zstd);
        let mut changes = 0;
        let mut level = 2;
        for _ in 0..300 {
            let source = if level == 2 { 100.0 } else { 800.0 };
            let next = last(&simulation.run(1, source, 1.0));
            changes += u32::from(next != level);
            level = next;
        }
        assert!((2..30).contains(&changes), "{changes} changes in 300 s");
    }

    #[test]
    fn pipelines_that_share_workers_fall_together_and_do_not_swing() {
        let (mut now, mut work) = (Instant::now(), Work::default());
        let start = |now, work| Levels::new((Codec::Zstd, Level::Auto), THREADS, (now, work));
        let mut shared: Vec<Levels> = Vec::new();
        let mut history: Vec<Vec<u32>> = Vec::new();
        // A slow source alone, then together with a fast one.
        for second in 0..300 {
            if second == 0 || second == 30 {
                shared.push(start(now, work));
            }
            let mut cpu = Duration::ZERO;
            let mut at = Vec::new();
            for (levels, source) in shared.iter_mut().zip([5.0, 200.0]) {
                let level = levels.next(now, work, || Duration::ZERO).level;
                let speed = ZSTD.iter().find(|rung| rung.0 == level).expect("a rung").1;
                cpu += Duration::from_secs_f64(source / speed);
                at.push(level);
            }
            now += INTERVAL;
            work.cpu += cpu.min(INTERVAL * 2);
            work.wall = work.cpu;
            history.push(at);
        }
        let slow: Vec<u32> = history.iter().map(|at| at[0]).collect();
        let fast: Vec<u32> = history[30..].iter().map(|at| at[1]).collect();
        assert_eq!(slow[29], 16);
        let changes = |levels: &[u32]| levels.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes(&slow[30..]) < 30 && changes(&fast) < 30, "{slow:?} {fast:?}");
        // The workers keep up in the end.
        assert!(last(&fast) <= 5, "{fast:?}");
    }

    #[test]
    fn work_for_others_before_its_begin_does_not_hold_a_pipeline_back() {
        let (now, hour) = (Instant::now(), Duration::from_hours(1));
        let mut levels = Levels::new((Codec::Zstd, Level::Auto), THREADS, (now, Work { wall: hour, cpu: hour }));
        let worked = hour + LEAST_WORK;
        assert_eq!(levels.next(now + INTERVAL, Work { wall: worked, cpu: worked }, || Duration::ZERO).level, 5);
    }

    #[test]
    fn waits_for_time_and_for_work() {
        let (start, mut work) = (Instant::now(), Work::default());
        let mut levels = Levels::new((Codec::Zstd, Level::Auto), THREADS, (start, work));
        let mut level_at = |millis: u64, worked: u64| {
            work.wall += Duration::from_millis(worked);
            work.cpu = work.wall;
            levels.next(start + Duration::from_millis(millis), work, || Duration::ZERO).level
        };
        assert_eq!(level_at(0, 0), 2);
        assert_eq!(level_at(900, 10), 2, "less than a second");
        assert_eq!(level_at(1000, 0), 5);
        assert_eq!(level_at(9000, 4), 5, "too little work");
        assert_eq!(level_at(60_000, 1), 6);
        assert_eq!(level_at(60_500, 100), 6);
        let mut fixed = Levels::new((Codec::Gzip, Level::Fixed(4)), THREADS, (start, work));
        assert_eq!(fixed.next(start + INTERVAL * 9, work, || Duration::ZERO).level, 4);
    }

    #[test]
    fn memory_bounds_the_ladder() {
        for (threads, highest) in [(1, 16), (2, 16), (4, 10), (8, 6), (64, 1)] {
            let levels = ladder(Codec::Zstd, threads);
            assert_eq!(levels.last().expect("a rung").0, highest, "{threads} threads");
            let memory = encoder_memory(Codec::Zstd, Level::Auto, threads) * threads as u64;
            assert!(threads == 64 || memory <= MOST_MEMORY, "{threads} threads: {memory}");
        }
        assert_eq!(ladder(Codec::Gzip, 64), GZIP);
    }
}
