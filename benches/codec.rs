//! The codec alone, on one thread: speed by CPU time, ratio and memory of each level, on a file or on rows that are made here.
//!
//! `cargo bench --bench codec` or `cargo bench --bench codec -- FILE` (a plain dump; its first 400 MB). Blocks are of the
//! size that the pipeline uses. Compare only the lines of one run.
#![expect(clippy::print_stdout, reason = "the table is what this is for")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Read as _;
use std::time::Duration;

use pg_s3_backup::codec::gzip::WINDOW_BYTES;
use pg_s3_backup::codec::{Codec, Compression, Encoder};
use pg_s3_backup::pipeline::BLOCK_BYTES;

/// As much as the figures of others are measured with, and no more than a small machine has memory for.
const LIMIT: u64 = 400_000_000;

fn main() {
    // Cargo adds arguments of its own, which begin with a dash.
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let plain = file.map_or_else(rows, |file| {
        let mut plain = Vec::new();
        let file = std::fs::File::open(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        file.take(LIMIT).read_to_end(&mut plain).expect("read");
        plain
    });
    println!("codec level    MB/s   ratio      KiB   ({} bytes)", plain.len());
    for (_, codec) in Codec::WORDS {
        for level in codec.levels() {
            measure(&plain, Compression { codec: *codec, level });
        }
    }
}

fn measure(plain: &[u8], compression: Compression) {
    let mut encoder = Encoder::new(compression).expect("memory");
    let (mut piece, mut bytes, began) = (Vec::new(), 0, cpu_time());
    for begin in (0..plain.len()).step_by(BLOCK_BYTES) {
        piece.clear();
        let window = &plain[begin.saturating_sub(WINDOW_BYTES)..begin];
        let block = &plain[begin..plain.len().min(begin + BLOCK_BYTES)];
        encoder.block(window, block, &mut piece).expect("compressed");
        bytes += black_box(&piece).len();
    }
    let seconds = cpu_time().saturating_sub(began).as_secs_f64();
    let memory = encoder.memory() >> 10;
    let Compression { codec, level } = compression;
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let (plain, bytes) = (plain.len() as f64, bytes as f64);
    println!("{codec} {level:>6} {:>7.0} {:>7.3} {memory:>8}", plain / seconds / 1e6, plain / bytes);
}

/// This thread's CPU time: what others do on the machine matters less.
fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).expect("a time since the start")
}

/// 64 MB of rows with numbers, times, words, hexadecimal digits and JSON.
fn rows() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut text = String::new();
    while text.len() < 64_000_000 {
        let (number, id) = (random.u32(..1_000_000), random.u64(..));
        let words = ["paid", "open", "sent to the customer", "returned"][random.usize(..4)];
        let minute = random.u32(..60);
        writeln!(
            text,
            "{number}\t2026-11-{:02} 02:{minute:02}:00+00\t{words}\t{id:016x}\t{{\"total\": {}, \"note\": \"{words}\"}}",
            number % 28 + 1,
            number % 997,
        )
        .expect("memory");
    }
    text.into_bytes()
}
