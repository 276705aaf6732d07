//! The settings of compression. Part of [`super`]'s table.

use super::{BASE, Completion, Setting};

/// `BACKUP_COMPRESSION`
pub const BACKUP_COMPRESSION: Setting = Setting {
    variable: "BACKUP_COMPRESSION",
    flag: Some("compression"),
    value: "CODEC",
    default: "`gzip`",
    help: "`gzip`, or `zstd`: smaller at the same speed, and restored with `zstd -d`",
    completion: Completion::Words(|| vec!["gzip", "zstd"]),
    ..BASE
};
/// `BACKUP_COMPRESSION_LEVEL`
pub const BACKUP_COMPRESSION_LEVEL: Setting = Setting {
    variable: "BACKUP_COMPRESSION_LEVEL",
    flag: Some("compression-level"),
    value: "LEVEL",
    default: "`auto`",
    help: "`auto`, or 1 (fast) to 9 (small), with zstd to 19; `auto` makes backups as small as the time allows",
    completion: Completion::Words(|| vec!["auto"]),
    ..BASE
};
/// `BACKUP_THREADS`
pub const BACKUP_THREADS: Setting = Setting {
    variable: "BACKUP_THREADS",
    flag: Some("threads"),
    value: "N",
    default: "CPUs, at most 8",
    help: "compression threads",
    ..BASE
};
