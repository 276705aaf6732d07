//! The levels under made-up loads and clocks.

use super::*;

const THREADS: usize = 2;

/// A pipeline with a made-up clock: a source of so many MB/s, and processors that give a share of themselves.
struct Simulation {
    levels: Levels,
    now: Instant,
    work: Work,
    waits: Waits,
    /// The share of its time in which a part waits for memory.
    part_wait: f64,
}

impl Simulation {
    fn new(codec: Codec) -> Self {
        let now = Instant::now();
        let work = Work::default();
        Self {
            levels: Levels::new((codec, Level::Auto), THREADS, (now, work)),
            now,
            work,
            waits: Waits::default(),
            part_wait: 0.0,
        }
    }

    /// Runs for so many seconds; returns the level of each.
    fn run(&mut self, seconds: u32, source: f64, processors: f64) -> Vec<u32> {
        let mut levels = Vec::new();
        for _ in 0..seconds {
            let Compression { codec, level } = self.levels.next(self.now, self.work, || self.waits);
            levels.push(level);
            let speed = ladder(codec, THREADS).iter().find(|rung| rung.0 == level).expect("a rung").1;
            // The workers never do more than there is time for.
            let cpu = (source / speed).min(processors * 2.0);
            let cpu = Duration::from_secs_f64(cpu);
            self.now += INTERVAL;
            self.work.cpu += cpu;
            self.work.wall += cpu.div_f64(processors);
            self.waits.parts += INTERVAL.mul_f64(self.part_wait);
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
        simulation.waits.dump += INTERVAL.mul_f64(0.3);
    }
    assert!(last(&simulation.run(5, 5.0, 1.0)) > fast, "the waits before count no more");
}

#[test]
fn rises_on_a_slow_link_although_its_own_bursts_fill_the_processors() {
    let mut simulation = Simulation::new(Codec::Gzip);
    let fast = GZIP[0].0;
    let mut levels = Vec::new();
    for _ in 0..10 {
        simulation.part_wait = 0.0;
        simulation.waits.dump += INTERVAL.mul_f64(0.8);
        levels.extend(simulation.run(2, 100.0, 0.5));
        simulation.part_wait = 0.9;
        levels.extend(simulation.run(4, 10.0, 1.0));
    }
    assert!(levels.is_sorted() && levels[0] == fast && last(&levels) > fast, "{levels:?}");
    let levels = simulation.run(20, 50.0, 0.2);
    assert_eq!(last(&levels), fast, "it gives way to others: {levels:?}");
    simulation.part_wait = 0.0;
    simulation.run(20, 100.0, 0.5);
    assert_eq!(last(&simulation.run(20, 100.0, 0.5)), fast, "the waits of a link that was slow count no more");
}

#[test]
fn a_look_after_a_long_wait_counts_as_long_as_that_took() {
    let (mut now, mut work, mut waits) = (Instant::now(), Work::default(), Waits::default());
    let mut levels = Levels::new((Codec::Gzip, Level::Auto), THREADS, (now, work));
    let mut level = || {
        // In a burst of five seconds `pg_dump` waits half of the time, then a part waits for memory.
        for (seconds, dump, parts) in [(1, 0.5, 0.0); 5].into_iter().chain([(8, 0.0, 7.6)]) {
            now += Duration::from_secs(seconds);
            (work.cpu, work.wall) = (work.cpu + LEAST_WORK, work.wall + LEAST_WORK * 2);
            waits.dump += Duration::from_secs_f64(dump);
            waits.parts += Duration::from_secs_f64(parts);
            levels.next(now, work, || waits);
        }
        levels.next(now, work, || waits).level
    };
    let (first, second) = (level(), level());
    assert!(GZIP[0].0 < first && first < second, "{first}, {second}");
}

#[test]
fn pipelines_with_slow_uploads_give_way_to_those_that_share_their_workers() {
    let mut slow = Simulation::new(Codec::Gzip);
    slow.part_wait = 0.9;
    let high = last(&slow.run(10, 5.0, 1.0));
    // The workers have nothing but the work of another pipeline.
    slow.work.wall += INTERVAL.mul_f64(1.9) * 30;
    slow.work.cpu = slow.work.wall;
    slow.waits.parts += INTERVAL.mul_f64(0.9) * 30;
    slow.now += INTERVAL * 30;
    assert!(last(&slow.run(2, 5.0, 1.0)) < high, "{high}");
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
            let level = levels.next(now, work, Waits::default).level;
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
    assert_eq!(levels.next(now + INTERVAL, Work { wall: worked, cpu: worked }, Waits::default).level, 5);
}

#[test]
fn waits_for_time_and_for_work() {
    let (start, mut work) = (Instant::now(), Work::default());
    let mut levels = Levels::new((Codec::Zstd, Level::Auto), THREADS, (start, work));
    let mut level_at = |millis: u64, worked: u64| {
        work.wall += Duration::from_millis(worked);
        work.cpu = work.wall;
        levels.next(start + Duration::from_millis(millis), work, Waits::default).level
    };
    assert_eq!(level_at(0, 0), 2);
    assert_eq!(level_at(900, 10), 2, "less than a second");
    assert_eq!(level_at(1000, 0), 5);
    assert_eq!(level_at(9000, 4), 5, "too little work");
    assert_eq!(level_at(60_000, 1), 6);
    assert_eq!(level_at(60_500, 100), 6);
    let mut fixed = Levels::new((Codec::Gzip, Level::Fixed(4)), THREADS, (start, work));
    assert_eq!(fixed.next(start + INTERVAL * 9, work, Waits::default).level, 4);
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
