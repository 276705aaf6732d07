//! The result of a restore, as text and as JSON.

use serde::Serialize;

use crate::archive::{VerifiedStream, manifest::time_text};

use super::replace::Finished;
use super::verified::Verified;
use super::{Chosen, Evidence, LeftOut, Selected};

/// What was restored, and where to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The backup's file name.
    pub file_name: String,
    /// `s3://bucket/key`
    pub s3_location: String,
    /// When the backup was started; RFC 3339, UTC.
    pub started_at: String,
    /// The database that was backed up, where the manifest says.
    pub database: Option<String>,
    /// Where it was restored to: a database, a file, or `stdout`.
    pub target: String,
    /// Whether it was a dry run: nothing was restored.
    pub dry_run: bool,
    /// Size of the backup in bytes.
    pub file_size: u64,
    /// Length of the plain dump in bytes, once it was read.
    pub dump_bytes: Option<u64>,
    /// Rows of COPY data that were restored, or written to the file.
    pub rows: Option<u64>,
    /// Tables that have such rows.
    pub tables: Option<usize>,
    /// Stored bytes that a selective restore read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// What a selective restore brings, in the dump's order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected: Option<Vec<Selected>>,
    /// How long it took, in seconds.
    pub duration: f64,
    /// What could not be verified, because the backup has no manifest.
    pub unchecked: Option<String>,
    /// The new name of the replaced database.
    pub replaced: Option<String>,
    /// What was left out.
    pub left_out: Vec<String>,
    /// Whether a manifest is ignored.
    #[serde(skip)]
    pub evidence: Evidence,
}

impl Report {
    /// Starts the report of this backup and target.
    #[must_use]
    pub fn new(chosen: &Chosen, target: String) -> Self {
        let backup = &chosen.backup;
        Self {
            file_name: backup.file_name.clone(),
            s3_location: backup.s3_location.clone(),
            started_at: time_text(backup.started),
            database: chosen.manifest.as_ref().map(|manifest| manifest.database.clone()),
            target,
            dry_run: false,
            file_size: backup.file_size,
            dump_bytes: None,
            rows: None,
            tables: None,
            read_bytes: None,
            selected: None,
            duration: 0.0,
            unchecked: None,
            replaced: None,
            left_out: Vec::new(),
            evidence: chosen.evidence,
        }
    }

    /// Adds what was read.
    #[must_use]
    pub fn with_stream(self, stream: &VerifiedStream) -> Self {
        let scan = stream.scan();
        let (dump_bytes, rows, tables) = (Some(scan.bytes), Some(scan.rows), Some(scan.tables.len()));
        let unchecked = self.evidence.unchecked(stream);
        Self { dump_bytes, rows, tables, unchecked, ..self }
    }

    /// Adds what was read, of all or of a part.
    #[must_use]
    pub(super) fn with_verified(self, verified: &Verified) -> Self {
        match verified {
            Verified::Stream(stream) => self.with_stream(stream),
            Verified::Selected(restored) => {
                let (rows, tables) = (Some(restored.rows), Some(restored.tables));
                Self { rows, tables, read_bytes: Some(restored.ranges.stored_bytes()), ..self }
            }
        }
    }

    /// Adds what was left out, and takes it off the counts of what was read.
    #[must_use]
    pub fn with_left_out(self, left_out: &LeftOut) -> Self {
        let rows = self.rows.map(|rows| rows.saturating_sub(left_out.rows));
        // The list of tables is capped, the one of COPY statements that are left out is not.
        let tables = self.tables.map(|listed| listed - left_out.copies.range(..listed).count());
        Self { rows, tables, left_out: left_out.phrases(), ..self }
    }

    /// Adds the result of the renames.
    #[must_use]
    pub fn with_finished(mut self, finished: &Finished) -> Self {
        self.replaced.clone_from(&finished.replaced);
        self.left_out.extend(finished.left_out.iter().cloned());
        self
    }
}
