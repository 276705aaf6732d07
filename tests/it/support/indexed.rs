//! Any dump, compressed and indexed by the real pipeline, without a database and without S3.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use pg_s3_backup::codec::Codec;
use pg_s3_backup::index::Index;
use pg_s3_backup::pipeline::{
    self, Level, PartMemory, PartPlan, PartSettings, Pipeline, PipelineInput, PipelineSettings, Workers,
};

use super::library::block_on;

/// The run id in an index of [`indexed`].
pub const RUN_ID: &str = "00112233445566778899aabbccddeeff";

/// A compressed dump, and its index.
pub struct Indexed {
    /// The object.
    pub object: Vec<u8>,
    /// The sidecar's bytes; `None` without an index.
    pub packed: Option<Vec<u8>>,
}

impl Indexed {
    /// The index, as it is read.
    pub fn index(&self) -> Index {
        Index::unpacked(self.packed.as_ref().expect("an index")).expect("readable")
    }
}

/// Compresses a dump with level 2 by one thread.
pub fn indexed(dump: &[u8], codec: Codec) -> Indexed {
    block_on(run(dump.to_vec(), &PipelineSettings { codec, level: Level::Fixed(2), threads: 1 }))
}

async fn run(dump: Vec<u8>, settings: &PipelineSettings) -> Indexed {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    std::thread::spawn(move || writer.write_all(&dump));
    let parts = PartSettings { base: Some(5 << 20), max_parts: 10_000, equal: false, concurrency: 4 };
    let memory = PartMemory::new(&PartPlan::new(&parts, 0));
    let input = PipelineInput::of(File::from(OwnedFd::from(reader)), memory);
    let workers = Workers::start(settings.threads).expect("threads");
    let Pipeline { mut parts, scan, gate, collected } = pipeline::start(settings, &workers, input).expect("starts");
    let taking = tokio::spawn(async move {
        let mut object = Vec::new();
        while let Some(part) = parts.recv().await {
            object.extend_from_slice(&part.bytes);
        }
        object
    });
    let scanned = scan.await.expect("the reader ends").expect("read");
    gate.open();
    let collected = collected.await.expect("the collector ends").expect("collected");
    let object = taking.await.expect("taken");
    let packed = scanned.entries.map(|entries| entries.complete(collected.stream, RUN_ID, Some(0), None));
    Indexed { object, packed }
}
