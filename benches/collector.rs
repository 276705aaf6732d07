//! The collector's thread alone: speed by its CPU time on stored bytes, for each checksum of a part.
//!
//! `cargo bench --bench collector`. It runs a pipeline over COPY data that do not compress, so that the collector has as many
//! bytes as the reader, and drops the parts. The table also has the thread of the reader, which reads, copies and scans.
//! Compare only the lines of one run.
#![expect(clippy::print_stdout, reason = "the table is what this is for")]

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use pg_s3_backup::codec::Codec;
use pg_s3_backup::pipeline::{
    self, Level, PartChecksum, PartMemory, PartPlan, PartSettings, PipelineInput, PipelineSettings, Workers,
};

/// Bytes of a run.
const BYTES: u64 = 512 << 20;
/// Between two looks at the collector's thread.
const TICK: Duration = Duration::from_millis(50);
const PARTS: PartSettings = PartSettings { base: None, max_parts: 10_000, equal: false, concurrency: 4 };

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!("checksum    collector MB/s   reader MB/s");
    for (name, checksum) in
        [("md5", PartChecksum::Md5), ("crc64nvme", PartChecksum::Crc64Nvme), ("none", PartChecksum::None)]
    {
        runtime.block_on(measure(name, checksum));
    }
}

async fn measure(name: &str, checksum: PartChecksum) {
    let settings = PipelineSettings { codec: Codec::Gzip, level: Level::Fixed(1), threads: 2 };
    let workers = Workers::start(settings.threads).expect("threads");
    let memory = PartMemory::new(&PartPlan::new(&PARTS, BYTES));
    let input = PipelineInput { checksum, ..PipelineInput::of(noise(), memory) };
    let progress = Arc::clone(&input.progress);
    let mut running = pipeline::start(&settings, &workers, input).expect("a pipeline");
    let (mut seen, mut reader) = (Duration::ZERO, Duration::ZERO);
    // It waits at the gate, with everything but its last part done, when it does nothing for a while after the last byte.
    loop {
        while running.parts.try_recv().is_ok() {}
        tokio::time::sleep(TICK).await;
        let now = thread_time("collect").expect("the collector's thread");
        reader = thread_time("read").unwrap_or(reader);
        if now == seen && progress.dumped() == BYTES {
            break;
        }
        seen = now;
    }
    let stored = progress.stored();
    running.gate.open();
    let sealed = async { while running.parts.recv().await.is_some() {} };
    let (collected, ()) = tokio::join!(running.collected, sealed);
    assert_eq!(collected.expect("its end").expect("all bytes").totals.plain_bytes, BYTES);
    let (collector, reader) = (megabytes_per_second(stored, seen), megabytes_per_second(BYTES, reader));
    println!("{name:<12} {collector:>13.0} {reader:>13.0}");
}

#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn megabytes_per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64() / 1e6
}

/// The reading end of a pipe with random bytes.
fn noise() -> File {
    let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
    let write = move || {
        // Deflate looks back 32 KiB: a longer block that comes again is as good as noise.
        let mut block = vec![0; 1 << 20];
        fastrand::Rng::with_seed(7).fill(&mut block);
        let head = b"COPY public.noise (data) FROM stdin;\n";
        block[..head.len()].copy_from_slice(head);
        let mut pipe = File::from(writer);
        (0..BYTES / block.len() as u64).for_each(|_| pipe.write_all(&block).expect("a reader"));
    };
    std::thread::spawn(write);
    File::from(reader)
}

/// The CPU time of this process's thread of that name; `None` if there is none.
fn thread_time(name: &str) -> Option<Duration> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?.filter_map(Result::ok);
    let mut found = threads
        .filter(|thread| std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name));
    let times = std::fs::read_to_string(found.next()?.path().join("schedstat")).ok()?;
    Some(Duration::from_nanos(times.split(' ').next()?.parse().ok()?))
}
