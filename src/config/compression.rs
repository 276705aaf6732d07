//! Codec, level and threads.

use super::restore::cpus;
use super::{Resolver, parse, table};
use crate::codec::Codec;
use crate::pipeline::{Level, PipelineSettings};

/// 8 threads compress faster than `pg_dump` writes: 144 MB/s per core were measured, and 140 MB/s from `pg_dump`.
const MOST_DEFAULT_THREADS: usize = 8;

/// How a dump is compressed.
pub(super) fn pipeline(resolver: &mut Resolver<'_>) -> PipelineSettings {
    let codec = resolver.parse(&table::BACKUP_COMPRESSION, |text| parse::word(text, Codec::WORDS));
    let codec = codec.unwrap_or_default();
    let level = resolver.parse(&table::BACKUP_COMPRESSION_LEVEL, |text| parse::level(text, codec));
    let threads = resolver.parse(&table::BACKUP_THREADS, |text| parse::number(text, 1, 64));
    let threads = threads.map_or(cpus().min(MOST_DEFAULT_THREADS), |threads| threads as usize);
    resolver.used(&table::BACKUP_THREADS, threads);
    PipelineSettings { codec, level: level.unwrap_or(Level::Auto), threads }
}
