//! Opens the chosen backup for every target, and explains why an object cannot be read (deleted, archived).

use chrono::{DateTime, TimeDelta};

use crate::archive::manifest::{Manifest, Place, time_text};
use crate::archive::restore_instructions::restore_request;
use crate::archive::{Mismatch, Reader};
use crate::storage::StorageError;

use super::{Request, RestoreError};

/// How much later an object may have been written than its manifest says. Clocks differ, and completing an upload takes time.
const LATE: TimeDelta = TimeDelta::hours(1);

impl Request<'_> {
    /// Opens the backup for reading, with a progress display.
    ///
    /// # Errors
    /// If it does not exist, is archived, has another size than its manifest says, or cannot be read.
    pub(super) async fn open(&self) -> Result<Reader, RestoreError> {
        let file_name = &self.chosen.backup.file_name;
        let reader = match Reader::open(self.destination, file_name).await {
            Ok(Some(reader)) => reader,
            Ok(None) => return Err(RestoreError::Gone { file_name: file_name.clone() }),
            Err(StorageError::Refused { failure, .. }) if failure.is_archived() => return Err(self.archived().await),
            Err(error) => return Err(error.into()),
        };
        if let Some(manifest) = &self.chosen.manifest {
            let (read, recorded) = (reader.progress().bytes(), manifest.object_bytes);
            if read != recorded {
                return Err(self.mismatch(Mismatch::Size { read, recorded }));
            }
            warn_of_late_object(&reader, manifest);
        }
        (self.show)(reader.progress());
        Ok(reader)
    }

    /// The error of a failed verification of this backup.
    pub(super) fn mismatch(&self, mismatch: Mismatch) -> RestoreError {
        let has_manifest = self.chosen.manifest.is_some();
        let hint = if has_manifest { " (if only the manifest is wrong: --ignore-manifest)" } else { "" };
        RestoreError::Mismatch { file_name: self.chosen.backup.file_name.clone(), mismatch, hint }
    }

    async fn archived(&self) -> RestoreError {
        let backup = &self.chosen.backup;
        // If the request fails, the message has no storage class.
        let head = self.destination.head(&backup.file_name).await.ok().flatten().unwrap_or_default();
        let file_name = backup.file_name.clone();
        if head.is_being_restored {
            return RestoreError::BeingUnarchived { file_name };
        }
        let place = Place { location: &backup.s3_location, endpoint: self.destination.endpoint() };
        let command = restore_request(&place, head.storage_class.as_deref());
        let class = head.storage_class.unwrap_or_else(|| "an archive".to_owned());
        RestoreError::Archived { file_name, class, command }
    }
}

/// Warns if the object was written after its manifest: everyone who can write to the bucket can replace a dump, and a restore runs
/// the code in it.
fn warn_of_late_object(reader: &Reader, manifest: &Manifest) {
    let finished = DateTime::parse_from_rfc3339(&manifest.finished_at).ok();
    let Some((written, finished)) = reader.last_modified().zip(finished) else { return };
    if written > finished + LATE {
        tracing::warn!(
            last_modified = time_text(written),
            finished_at = manifest.finished_at,
            hint = "if nobody copied the object, do not trust it: a restore runs the code in the dump",
            "the object was written after its manifest says that the backup was finished"
        );
    }
}
