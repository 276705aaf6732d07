//! The status of a stored backup: the one rule of `list`, `check`, retention and the daemon.
//!
//! Pure: callers pass the facts of the listing, the manifest or the object's metadata.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::name::BackupName;
use crate::codec::age;

use super::entries::Entry;

/// The smallest compressed dump of an empty database, rounded down. Measured in November 2026 on servers 13, 15 and 18 with
/// `pg_dump` 15 and 18 and every option that leaves something out: gzip -9 372, zstd -19 381; 293 without the `\restrict` lines
/// that earlier minors do not write; 215 as `pg_dump` 9.2 wrote it. After a failing `pg_dump`, `pg_dump | gzip` writes 0 or 20
/// bytes (zstd 13), and below 70 with a file name in gzip's header.
const SMALLEST_DUMP: u64 = 200;

/// The status of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupStatus {
    /// It has the size that its manifest says. For retention also: it has no manifest, and is large enough to hold a dump.
    Valid,
    /// It has no manifest to verify it with; only listings use this.
    Unverified,
    /// The arguments of its `pg_dump` left something out.
    Partial,
    /// Its size differs from its manifest's.
    SizeMismatch,
    /// It has no manifest, and is too small to hold a dump.
    Empty,
    /// Its name is in the future, so its age is unknown.
    Future,
    /// Its upload is open; only listings use this.
    Uploading,
}

impl BackupStatus {
    /// The status by the listing alone; `None` if the manifest or the object decides.
    #[must_use]
    pub fn listed(name: BackupName, entry: &Entry, now: DateTime<Utc>) -> Option<Self> {
        if name.is_in_future(now) {
            return Some(Self::Future);
        }
        (!entry.has_manifest() && is_too_small(name, entry.backup.unwrap_or_default())).then_some(Self::Empty)
    }

    /// The status of a backup of this size by its manifest.
    #[must_use]
    pub fn by_manifest(bytes: u64, object_bytes: u64, is_partial: bool) -> Self {
        match (bytes == object_bytes, is_partial) {
            (false, _) => Self::SizeMismatch,
            (true, true) => Self::Partial,
            (true, false) => Self::Valid,
        }
    }

    /// The status of a backup of this size without a readable manifest, by its object.
    #[must_use]
    pub fn without_manifest(name: BackupName, bytes: u64, is_partial: bool) -> Self {
        match (is_too_small(name, bytes), is_partial) {
            (true, _) => Self::Empty,
            (false, true) => Self::Partial,
            (false, false) => Self::Valid,
        }
    }

    /// Why a backup of this size and status is not the latest.
    #[must_use]
    pub fn why_not_latest(self, name: BackupName, bytes: u64) -> String {
        match self {
            Self::Empty => format!(
                "it has no manifest and {bytes} bytes; the smallest possible dump has more than {}: pg_dump failed",
                smallest_dump(name)
            ),
            Self::SizeMismatch => format!("it has {bytes} bytes, and its manifest says otherwise"),
            Self::Partial => "it is partial: arguments of pg_dump left something out".to_owned(),
            Self::Future => "its name is in the future: it is unknown when it was made".to_owned(),
            Self::Valid | Self::Unverified | Self::Uploading => self.words().to_owned(),
        }
    }

    /// Its words in a table: capitals if it needs attention.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unverified => "unverified",
            Self::Partial => "partial",
            Self::SizeMismatch => "SIZE MISMATCH",
            Self::Empty => "EMPTY",
            Self::Future => "FUTURE",
            Self::Uploading => "uploading",
        }
    }
}

/// The smallest object of this name that can hold a dump. An encrypted one may have more recipients than the one that is counted.
#[must_use]
pub fn smallest_dump(name: BackupName) -> u64 {
    if name.is_encrypted() { SMALLEST_DUMP + age::SMALLEST_OVERHEAD } else { SMALLEST_DUMP }
}

/// Whether an object of this name and size is too small for a dump.
#[must_use]
pub fn is_too_small(name: BackupName, bytes: u64) -> bool {
    bytes < smallest_dump(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Codec, Compression, Encoder};

    /// As `pg_dump` 9.2 dumped an empty database: later versions write more.
    const EMPTY_DATABASE: &str = "--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 9.2.24\n\
        -- Dumped by pg_dump version 9.2.24\n\nSET statement_timeout = 0;\nSET client_encoding = 'UTF8';\n\
        SET standard_conforming_strings = on;\nSET check_function_bodies = false;\nSET client_min_messages = warning;\n\n\
        --\n-- PostgreSQL database dump complete\n--\n\n";

    fn name() -> BackupName {
        BackupName::new(DateTime::UNIX_EPOCH)
    }

    /// The size of a stream of one block.
    fn packed(text: &str, compression: Compression) -> u64 {
        let (codec, mut piece, mut crc) = (compression.codec, Vec::new(), flate2::Crc::new());
        Encoder::new(compression)
            .and_then(|mut encoder| encoder.block(&[], text.as_bytes(), &mut piece))
            .expect("memory");
        crc.update(text.as_bytes());
        (codec.header().len() + piece.len() + codec.end(&crc, text.len() as u64).len()) as u64
    }

    #[test]
    fn smallest_dump_is_large_enough_and_an_empty_stream_is_not() {
        for (codec, level) in Codec::ALL.into_iter().flat_map(|codec| codec.levels().map(move |level| (codec, level))) {
            let packed = |text: &str| packed(text, Compression { codec, level });
            for name in [name(), name().encrypted()] {
                let added = if name.is_encrypted() { age::SMALLEST_OVERHEAD } else { 0 };
                let (dump, nothing) = (packed(EMPTY_DATABASE) + added, packed("") + added);
                assert!(!is_too_small(name, dump), "{codec} {level}: {dump}");
                assert!(is_too_small(name, nothing), "{codec} {level}: {nothing}");
            }
        }
        assert!(is_too_small(name(), 0));
    }

    #[test]
    fn status_follows_the_manifest_or_else_the_size() {
        use BackupStatus::{Empty, Partial, SizeMismatch, Valid};
        let by_manifest = |bytes, partial| BackupStatus::by_manifest(bytes, 1, partial);
        assert_eq!([by_manifest(1, false), by_manifest(1, true), by_manifest(2, true)], [Valid, Partial, SizeMismatch]);
        let without = |bytes, partial| BackupStatus::without_manifest(name(), bytes, partial);
        assert_eq!(
            [without(20, false), without(20, true), without(200, true), without(200, false)],
            [Empty, Empty, Partial, Valid]
        );
    }

    #[test]
    fn listing_shows_empty_and_future_backups() {
        let now: DateTime<Utc> = "2026-11-28T02:00:00Z".parse().expect("a time");
        let status = |seconds: i64, backup, manifest: Option<u64>| {
            let mut entry = Entry { backup: Some(backup), ..Entry::default() };
            if let Some(bytes) = manifest {
                entry.sidecars.set(0, bytes);
            }
            BackupStatus::listed(BackupName::new(now + chrono::TimeDelta::seconds(seconds)), &entry, now)
        };
        assert_eq!(status(3601, 1000, Some(9)), Some(BackupStatus::Future));
        assert_eq!(status(3600, 1000, Some(9)), None);
        assert_eq!(status(-60, 20, None), Some(BackupStatus::Empty));
        assert_eq!(status(-60, 20, Some(9)), None, "its manifest decides");
    }
}
