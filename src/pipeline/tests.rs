//! The pipeline from a pipe to sealed parts: the output is one gzip member of the input, for any block sizes.

use std::io::{Read as _, Write as _};

use flate2::read::GzDecoder;

use std::time::{Duration, Instant};

use super::*;
use crate::codec::Decoder;

const DUMP_HEAD: &str = "--\n-- PostgreSQL database dump\n--\n\nCOPY public.t (a) FROM stdin;\n";
const DUMP_TAIL: &str = "\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n";

fn dump(rows: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let row = |_| format!("{}\t{}\n", random.u64(..), "text ".repeat(random.usize(..9)));
    let rows: String = (0..rows).map(row).collect();
    [DUMP_HEAD, &rows, DUMP_TAIL].concat().into_bytes()
}

struct Run {
    object: Vec<u8>,
    parts: Vec<usize>,
    totals: Result<Totals, PipelineError>,
    scan: Result<ScanReport, PipelineError>,
}

/// The bottleneck of a pipeline with `pause` before each 64 KiB of input and each part held for `hold`.
async fn bottleneck(settings: PipelineSettings, pause: Duration, hold: Duration) -> Bottleneck {
    let (reader, mut writer) = std::io::pipe().expect("pipe");
    let memory = PartMemory::new(&PartPlan::new(&PartSettings { concurrency: 1, ..parts_of(1 << 20) }, 0));
    let input = PipelineInput::of(File::from(std::os::fd::OwnedFd::from(reader)), memory);
    let progress = Arc::clone(&input.progress);
    let workers = Workers::start(settings.threads).expect("threads");
    let Pipeline { mut parts, scan, gate, collected } = start(&settings, &workers, input).expect("starts");
    let writing = std::thread::spawn(move || {
        // Paused, sixteen pieces are enough.
        let input = dump(if pause.is_zero() { 600_000 } else { 16_000 });
        for piece in input.chunks(64 << 10) {
            std::thread::sleep(pause);
            writer.write_all(piece).expect("read to the end");
        }
    });
    let taking = tokio::spawn(async move {
        while let Some(part) = parts.recv().await {
            tokio::time::sleep(hold).await;
            drop(part);
        }
    });
    scan.await.expect("reader reports").expect("read");
    gate.open();
    collected.await.expect("collector reports").expect("complete");
    taking.await.expect("all taken");
    writing.join().expect("all written");
    progress.bottleneck()
}

/// Runs a pipeline over `input`, opening the gate only where `open` says so.
async fn run(input: Vec<u8>, threads: usize, settings: PartSettings, open: bool) -> Run {
    run_with((Codec::Gzip, Level::Fixed(2)), input, (threads, settings, open)).await
}

async fn run_with(
    (codec, level): (Codec, Level),
    input: Vec<u8>,
    (threads, settings, open): (usize, PartSettings, bool),
) -> Run {
    let workers = Workers::start(threads).expect("threads");
    let memory = PartMemory::new(&PartPlan::new(&settings, 0));
    finish(started(input, &PipelineSettings { codec, level, threads }, (&workers, memory)), open).await
}

fn started(input: Vec<u8>, settings: &PipelineSettings, (workers, memory): (&Workers, PartMemory)) -> Pipeline {
    let (reader, mut writer) = std::io::pipe().expect("pipe");
    std::thread::spawn(move || writer.write_all(&input));
    let input = PipelineInput::of(File::from(std::os::fd::OwnedFd::from(reader)), memory);
    start(settings, workers, input).expect("starts")
}

async fn finish(pipeline: Pipeline, open: bool) -> Run {
    let Pipeline { mut parts, scan, gate, collected } = pipeline;
    let collecting = tokio::spawn(async move {
        let mut taken: Vec<Vec<u8>> = Vec::new();
        while let Some(part) = parts.recv().await {
            assert_eq!(part.number as usize, taken.len() + 1);
            assert_eq!(part.digest, PartChecksum::Md5.of(&part.bytes), "part {}", part.number);
            taken.push(part.bytes.to_vec());
        }
        taken
    });
    let scan = scan.await.expect("reader reports").map(|scanned| scanned.report);
    if open {
        gate.open();
    } else {
        drop(gate);
    }
    let totals = collected.await.expect("collector reports").map(|collected| collected.totals);
    let parts = collecting.await.expect("collects");
    Run { object: parts.concat(), parts: parts.iter().map(Vec::len).collect(), totals, scan }
}

fn gzip(level: u32, threads: usize) -> PipelineSettings {
    PipelineSettings { codec: Codec::Gzip, level: Level::Fixed(level), threads }
}

fn parts_of(bytes: u64) -> PartSettings {
    PartSettings { base: Some(bytes), max_parts: 10_000, equal: false, concurrency: 4 }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gzip_member_comes_out_whatever_the_number_of_threads() {
    let input = dump(200_000);
    assert!(input.len() > 3 << 20, "several blocks");
    for threads in [1, 2, 5] {
        let run = run(input.clone(), threads, parts_of(1 << 20), true).await;
        let mut plain = Vec::new();
        // `GzDecoder` reads one member alone, and checks its CRC and length.
        GzDecoder::new(&run.object[..]).read_to_end(&mut plain).expect("one member");
        assert!(plain == input, "{threads} threads");
        let totals = run.totals.expect("complete");
        assert_eq!((totals.plain_bytes, totals.object_bytes), (input.len() as u64, run.object.len() as u64));
        assert_eq!(totals.parts as usize, run.parts.len());
        assert!(run.parts.iter().rev().skip(1).all(|bytes| *bytes == 1 << 20), "{:?}", run.parts);
        assert_eq!(run.scan.expect("read").flaw, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelines_share_workers_and_one_that_waits_for_s3_stops_no_other() {
    let input = dump(200_000);
    for threads in [1, 3] {
        let workers = Workers::start(threads).expect("threads");
        let memory = || PartMemory::new(&PartPlan::new(&PartSettings { concurrency: 1, ..parts_of(64 << 10) }, 0));
        let blocked = started(input.clone(), &gzip(2, threads), (&workers, memory()));
        let others: Vec<_> = (0..4)
            .map(|_| tokio::spawn(finish(started(input.clone(), &gzip(2, threads), (&workers, memory())), true)))
            .collect();
        let mut runs = Vec::new();
        for other in others {
            runs.push(other.await.expect("ended"));
        }
        // None of its parts was taken until now.
        runs.push(finish(blocked, true).await);
        for run in runs {
            let mut plain = Vec::new();
            GzDecoder::new(&run.object[..]).read_to_end(&mut plain).expect("one member");
            assert!(plain == input, "{threads} threads");
            assert_eq!(run.totals.expect("complete").object_bytes, run.object.len() as u64);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn zstd_frames_come_out_in_order_whatever_the_number_of_threads() {
    let input = dump(200_000);
    for threads in [1, 2, 5] {
        let zstd = (Codec::Zstd, Level::Auto);
        let run = run_with(zstd, input.clone(), (threads, parts_of(1 << 20), true)).await;
        let mut decoder = Decoder::new(Codec::Zstd, Vec::new());
        let end = decoder.unpack(&run.object).and_then(|()| decoder.finish()).expect("complete frames");
        assert!(*decoder.sink() == input, "{threads} threads");
        let totals = run.totals.expect("complete");
        assert_eq!((totals.plain_bytes, totals.object_bytes), (input.len() as u64, run.object.len() as u64));
        let end = end.map(|end| (end.bytes, end.crc32));
        assert_eq!(end, Some((totals.plain_bytes, totals.plain_crc32)), "the last frame");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_ends_with_its_part_has_no_empty_part() {
    let complete = run(dump(10), 1, parts_of(1 << 20), true).await;
    let exact = u64::try_from(complete.object.len()).expect("length");
    let run = run(dump(10), 1, parts_of(exact), true).await;
    assert_eq!(run.parts, [complete.object.len()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_gate_the_object_is_never_ended() {
    let run = run(dump(200_000), 2, parts_of(1 << 20), false).await;
    assert!(matches!(run.totals, Err(PipelineError::GivenUp)));
    let mut plain = Vec::new();
    GzDecoder::new(&run.object[..]).read_to_end(&mut plain).expect_err("no end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_takes_fewer_parts_is_named() {
    let settings = PartSettings { max_parts: 2, equal: true, ..parts_of(1 << 20) };
    let run = run(dump(400_000), 2, settings, true).await;
    assert!(matches!(run.totals, Err(PipelineError::TooManyParts { limit: 2 })));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_dump_is_an_empty_member() {
    let run = run(Vec::new(), 1, parts_of(1 << 20), true).await;
    let mut plain = Vec::new();
    GzDecoder::new(&run.object[..]).read_to_end(&mut plain).expect("one member");
    assert!(plain.is_empty() && run.scan.expect("read").flaw.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bottleneck_is_known() {
    let (none, fast) = (Duration::ZERO, gzip(1, 2));
    // Slow compared with the other stages, however busy the machine is.
    let began = Instant::now();
    bottleneck(fast.clone(), none, none).await;
    let rest = began.elapsed();
    let slow_dump = bottleneck(fast.clone(), (rest / 8).max(Duration::from_millis(50)), none).await;
    assert!(slow_dump.dump > 50 && slow_dump.upload < 20, "{slow_dump:?}");
    let slow_upload = bottleneck(fast, none, (rest / 2).max(Duration::from_millis(300))).await;
    assert_eq!(slow_upload.largest().map(|(stage, _)| stage), Some("upload"), "{slow_upload:?}");
    let slow_compression = bottleneck(gzip(9, 1), none, none).await;
    assert!(slow_compression.compression > slow_compression.upload, "{slow_compression:?}");
}

#[tokio::test]
async fn a_dump_that_has_not_begun_leaves_all_memory_to_the_others() {
    let plan = PartPlan::new(&PartSettings { concurrency: 1, ..parts_of(5 << 20) }, 0);
    let (workers, budget) = (Workers::start(1).expect("threads"), PartBudget::default());
    let (reader, _writer) = std::io::pipe().expect("pipe");
    let input = PipelineInput::of(File::from(std::os::fd::OwnedFd::from(reader)), budget.share(&plan));
    let settings = PipelineSettings { codec: Codec::Gzip, level: Level::Fixed(2), threads: 1 };
    let _waiting = start(&settings, &workers, input).expect("starts");
    // Time enough for its collector to take a part.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let another = budget.share(&plan);
    let first = another.take(5 << 20).await;
    let second = tokio::time::timeout(Duration::from_secs(30), another.take(5 << 20)).await;
    assert!(second.is_ok(), "the dump that waits holds a part");
    drop(first);
}
