//! Verifies a backup that was read: against its manifest, or without one by the codec's checksum and the end of the dump.
//!
//! Only this module creates a [`VerifiedStream`], without which nothing is restored. `check --deep` shows each check separately.

use crc_fast::{CrcAlgorithm, checksum_combine};

use crate::codec::Codec;
use crate::codec::age::DecryptError;
use crate::index::Index;
use crate::pipeline::ScanReport;
use crate::pipeline::scanner::{Flaw, MOST_TABLES, TableRows};

use super::contents::{Contents, Dump, Unreadable};
use super::index_check::{IndexMismatch, VerifiedIndex};
use super::manifest::Manifest;
use super::range_contents::{RangeDamage, VerifiedRanges};

/// What cannot be verified without a manifest.
const WITHOUT_MANIFEST: &str = "the object's size and sha256, the dump's length, CRC-32 and rows";

/// A failed verification: the backup differs from what was uploaded, or its dump is incomplete. Each is one line that names the check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The object has another size.
    #[error("size: {read} bytes were read, but {recorded} were uploaded")]
    Size {
        /// Bytes that were read.
        read: u64,
        /// Bytes that the manifest says.
        recorded: u64,
    },
    /// The object has another sha256.
    #[error("sha256: it is {read}, but what was uploaded has {recorded}")]
    Sha256 {
        /// Of what was read.
        read: String,
        /// What the manifest says.
        recorded: String,
    },
    /// A range of it is damaged.
    #[error(transparent)]
    Range(RangeDamage),
    /// It cannot be unpacked.
    #[error("{0}: {1}")]
    Codec(Codec, String),
    /// It cannot be decrypted.
    #[error("age: {0}")]
    Encryption(DecryptError),
    /// It is encrypted, and there is no identity.
    #[error("age: it is encrypted, and BACKUP_AGE_IDENTITY is not set")]
    NoIdentity,
    /// The dump in it is incomplete.
    #[error("dump: it is not complete: {0}")]
    Incomplete(Flaw),
    /// The dump has another length.
    #[error("length: it unpacks to {read} bytes, but {recorded} were dumped")]
    Length {
        /// Bytes that it unpacks to.
        read: u64,
        /// Bytes that the manifest says.
        recorded: u64,
    },
    /// The dump has another CRC-32.
    #[error("CRC-32: what it unpacks to has {read}, but the dump had {recorded}")]
    Crc32 {
        /// Of what it unpacks to.
        read: String,
        /// What the manifest says.
        recorded: String,
    },
    /// The dump has other rows or other tables.
    #[error("rows: it holds {read}, the manifest says {recorded}: {place} differs")]
    Rows {
        /// Rows in all.
        read: u64,
        /// Rows in all, as the manifest says.
        recorded: u64,
        /// The first table that differs.
        place: String,
    },
}

impl Mismatch {
    fn of(codec: Codec, unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Codec(damage) => Self::Codec(codec, damage),
            Unreadable::Encryption(error) => Self::Encryption(error),
            Unreadable::Closed => Self::NoIdentity,
        }
    }
}

/// A backup that was read to its last byte and passed all checks.
#[derive(Debug)]
pub struct VerifiedStream {
    bytes: u64,
    dump: Dump,
    has_manifest: bool,
}

impl VerifiedStream {
    /// Of ranges that were read apart: together they are the complete dump, each byte once.
    ///
    /// # Errors
    /// If bytes are missing, or the index is not of the dump that the manifest describes.
    pub fn of_ranges(index: &Index, manifest: &Manifest, read: VerifiedRanges) -> Result<Self, Mismatch> {
        let crc32 = verify_index(index, manifest)?;
        if read.plain_bytes() != manifest.dump_bytes {
            return Err(Mismatch::Length { read: read.plain_bytes(), recorded: manifest.dump_bytes });
        }
        let (bytes, rows) = (index.plain_bytes, manifest.rows);
        let copies = index.entries.iter().filter_map(|entry| entry.copy.as_ref()).take(MOST_TABLES);
        let tables = copies.map(|copy| TableRows { table: copy.table.clone(), rows: copy.rows }).collect();
        let scan = ScanReport { bytes, rows, tables, created: None, flaw: None };
        Ok(Self { bytes: manifest.object_bytes, dump: Dump { crc32, scan }, has_manifest: true })
    }

    /// Stored bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The plain dump: its length, its rows and its tables.
    #[must_use]
    pub fn scan(&self) -> &ScanReport {
        &self.dump.scan
    }

    /// What could not be verified, for messages; `None` if everything was.
    #[must_use]
    pub fn unchecked(&self) -> Option<&'static str> {
        (!self.has_manifest).then_some(WITHOUT_MANIFEST)
    }
}

/// Compares an index with the manifest: the length and the CRC-32 of all ranges together, and the rows of the tables. Returns the
/// CRC-32.
///
/// # Errors
/// What differs.
pub fn verify_index(index: &Index, manifest: &Manifest) -> Result<u32, Mismatch> {
    let crc32 = index.ranges().fold(0, |crc32, range| {
        let (next, bytes) = (range.point.crc32.into(), range.plain_end - range.point.plain_at);
        checksum_combine(CrcAlgorithm::Crc32IsoHdlc, crc32, next, bytes)
    });
    let crc32 = u32::try_from(crc32).unwrap_or_default();
    if index.plain_bytes != manifest.dump_bytes {
        return Err(Mismatch::Length { read: index.plain_bytes, recorded: manifest.dump_bytes });
    }
    let read = format!("{crc32:08x}");
    // The manifest of an encrypted backup has none.
    if let Some(recorded) = manifest.dump_crc32.clone().filter(|recorded| *recorded != read) {
        return Err(Mismatch::Crc32 { read, recorded });
    }
    let copies = index.entries.iter().filter_map(|entry| entry.copy.as_ref());
    let mut pairs = copies.clone().zip(&manifest.tables);
    let other = pairs.find(|(copy, table)| (&copy.table, copy.rows) != (&table.table, table.rows));
    let rows = copies.map(|copy| copy.rows).sum();
    if other.is_none() && rows == manifest.rows {
        return Ok(crc32);
    }
    let place = other.map_or_else(|| "the list of tables".to_owned(), |(copy, _)| copy.table.clone());
    Err(Mismatch::Rows { read: rows, recorded: manifest.rows, place })
}

impl Contents {
    /// The codec that its name says.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Whether the index is that of the object; `None` if it was not compared.
    #[must_use]
    pub fn index(&self) -> Option<&Result<VerifiedIndex, IndexMismatch>> {
        self.index.as_ref()
    }

    /// Verifies everything.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn verify(self, manifest: Option<&Manifest>) -> Result<VerifiedStream, Mismatch> {
        self.verify_object(manifest)?;
        self.verify_stream()?.verify(manifest)?;
        let codec = self.codec;
        let dump = self.dump.map_err(|unreadable| Mismatch::of(codec, unreadable))?;
        let bytes = self.stored.map_or(0, |(bytes, _)| bytes);
        Ok(VerifiedStream { bytes, dump, has_manifest: manifest.is_some() })
    }

    /// Verifies the stored bytes. If reading ended at damage, that is the error.
    ///
    /// # Errors
    /// What differs.
    pub fn verify_object(&self, manifest: Option<&Manifest>) -> Result<u64, Mismatch> {
        let Some((bytes, sha256)) = &self.stored else { return self.verify_stream().map(|_| 0) };
        let Some(Manifest { object_bytes, object_sha256, .. }) = manifest else { return Ok(*bytes) };
        if bytes != object_bytes {
            return Err(Mismatch::Size { read: *bytes, recorded: *object_bytes });
        }
        if sha256 != object_sha256 {
            return Err(Mismatch::Sha256 { read: sha256.clone(), recorded: object_sha256.clone() });
        }
        Ok(*bytes)
    }

    /// Returns the unpacked dump.
    ///
    /// # Errors
    /// If it cannot be decrypted or unpacked.
    pub fn verify_stream(&self) -> Result<&Dump, Mismatch> {
        self.dump.as_ref().map_err(|unreadable| Mismatch::of(self.codec, unreadable.clone()))
    }
}

impl Dump {
    /// Verifies the plain dump.
    ///
    /// # Errors
    /// What differs.
    pub fn verify(&self, manifest: Option<&Manifest>) -> Result<&ScanReport, Mismatch> {
        let (scan, crc32) = (&self.scan, format!("{:08x}", self.crc32));
        if let Some(flaw) = &scan.flaw {
            return Err(Mismatch::Incomplete(flaw.clone()));
        }
        let Some(manifest) = manifest else { return Ok(scan) };
        if scan.bytes != manifest.dump_bytes {
            return Err(Mismatch::Length { read: scan.bytes, recorded: manifest.dump_bytes });
        }
        if let Some(recorded) = manifest.dump_crc32.as_ref().filter(|recorded| **recorded != crc32) {
            return Err(Mismatch::Crc32 { read: crc32, recorded: recorded.clone() });
        }
        // Only earlier versions list the tables.
        let has_tables = manifest.tables.is_empty() || scan.tables == manifest.tables;
        if has_tables && scan.rows == manifest.rows {
            return Ok(scan);
        }
        let mut pairs = scan.tables.iter().zip(&manifest.tables);
        let other = pairs.find(|(found, recorded)| found != recorded).map(|(found, _)| found.table.clone());
        let place = if manifest.tables.is_empty() { "their number" } else { "the list of tables" };
        let place = other.unwrap_or_else(|| place.to_owned());
        Err(Mismatch::Rows { read: scan.rows, recorded: manifest.rows, place })
    }
}
