//! The codec alone, on one thread: speed by CPU time, ratio and memory of each level, on a file or on rows that are made here.
//!
//! `cargo bench --bench codec` or `cargo bench --bench codec -- FILE` (a plain dump; its first 400 MB). Blocks are of the
//! size that the pipeline uses. Compare only the lines of one run.
#![expect(clippy::print_stdout, reason = "the table is what this is for")]

#[path = "support/cpu.rs"]
mod cpu;
#[path = "support/rows.rs"]
mod rows;

use std::hint::black_box;
use std::io::Read as _;

use pg_s3_backup::codec::gzip::WINDOW_BYTES;
use pg_s3_backup::codec::{Codec, Compression, Encoder};
use pg_s3_backup::pipeline::BLOCK_BYTES;

use cpu::cpu_time;
use rows::rows;

/// As much as the figures of others are measured with, and no more than a small machine has memory for.
const LIMIT: u64 = 400_000_000;

fn main() {
    // Cargo adds arguments of its own, which begin with a dash.
    let file = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let plain = file.map_or_else(made_rows, |file| {
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

fn made_rows() -> Vec<u8> {
    rows(64_000_000).into_bytes()
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
