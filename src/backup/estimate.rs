//! How much memory a run needs, announced at its start.

use crate::codec::age;

use super::settings::BackupSettings;

/// This process's peak memory in bytes: a base, a codec for each thread, the encryption, and the parts.
pub(super) fn memory_estimate(BackupSettings { pipeline, recipients, .. }: &BackupSettings, parts: u64) -> u64 {
    /// Code, runtime, TLS, listings, two blocks and the largest index (2 MiB), as the kernel counts (`VmHWM`). More than half of
    /// it are the program's and the C library's own pages, which the page cache has anyway. With a small index, 26.5 MiB on an idle
    /// machine and 32 MiB on one that runs all tests at once.
    const BASE: u64 = 35 << 20;
    /// A block and its compressed piece.
    const BLOCK: u64 = 1 << 20;
    let encryption = if recipients.is_some() { age::MEMORY } else { 0 };
    BASE + (BLOCK + pipeline.encoder_memory()) * pipeline.threads as u64 + encryption + parts
}
