//! Opens the chosen backup for every target, and explains why an object cannot be read (deleted, archived).

use std::io;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::archive::index::IndexFlaw;
use crate::archive::manifest::{Manifest, Place, time_text};
use crate::archive::restore_instructions::restore_request;
use crate::archive::{Mismatch, NoRanges, RangeError, Ranges, Reader, Span, Stored, index, verify_index};
use crate::codec::age::short_list;
use crate::error_chain::Chain;
use crate::storage::StorageError;

use super::{Chosen, Request, RestoreError};

/// How much later an object may have been written than its manifest says. Clocks differ, and completing an upload takes time.
const LATE: TimeDelta = TimeDelta::hours(1);

/// Why sections of a backup cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it has no manifest, or that is ignored")]
    NoManifest,
    #[error("it has no index")]
    NoIndex,
    #[error("its index cannot be used: {}", Chain(.0))]
    Index(IndexFlaw),
    #[error("its index does not agree with its manifest: {0}")]
    OtherIndex(Mismatch),
    #[error("its index does not agree with its size")]
    OtherSize,
    #[error("the store does not send parts of an object")]
    NoRanges,
}

impl Unusable {
    /// Whether something is damaged: this program makes no such backups.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Index(_) | Self::OtherIndex(_) | Self::OtherSize)
    }
}

impl<'a> Request<'a> {
    /// Where its sidecars are, and what decrypts them.
    pub(super) fn stored(&self) -> Stored<'a> {
        (self.destination, self.identities)
    }

    /// A manifest with the name of the backup, which is not the manifest's to say.
    pub(super) fn named(&self, manifest: &'a Manifest) -> (&'a str, &'a Manifest) {
        (&self.chosen.backup.file_name, manifest)
    }

    /// Checks whether there is an identity for an encrypted backup, and whether it belongs to one of the recipients that the
    /// manifest names.
    ///
    /// # Errors
    /// If nothing can open the backup.
    pub(super) fn verify_identity(&self) -> Result<(), RestoreError> {
        let Chosen { backup, manifest, .. } = self.chosen;
        if !backup.encrypted {
            return Ok(());
        }
        let file_name = backup.file_name.clone();
        let recipients = manifest.as_ref().map(|manifest| manifest.recipients.as_slice()).unwrap_or_default();
        let Some(identities) = self.identities else {
            let recipients =
                if recipients.is_empty() { String::new() } else { format!(" for {}", short_list(recipients)) };
            return Err(RestoreError::NoIdentity { file_name, recipients });
        };
        let own = identities.public_keys();
        if recipients.is_empty() || recipients.iter().any(|recipient| own.contains(recipient)) {
            return Ok(());
        }
        let (recipients, own) = (short_list(recipients), short_list(&own));
        Err(RestoreError::WrongIdentity { file_name, recipients, own })
    }

    /// Opens the backup for reading, with a progress display.
    ///
    /// # Errors
    /// If it does not exist, is archived, has another size than its manifest says, or cannot be read.
    pub(super) async fn open(&self) -> Result<Reader, RestoreError> {
        let file_name = &self.chosen.backup.file_name;
        let reader = match Reader::open(self.destination, file_name, self.identities).await {
            Ok(Some(reader)) => reader,
            Ok(None) => return Err(self.gone()),
            Err(error) => return Err(self.refused(error).await),
        };
        self.verify_object(reader.progress().bytes(), reader.last_modified())?;
        (self.show)(reader.progress());
        Ok(reader)
    }

    /// Opens the backup with its index, to read sections of it; an inner error says why they cannot be read.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) async fn ranges(&self) -> Result<Result<Ranges, Unusable>, RestoreError> {
        let Chosen { backup, manifest, .. } = self.chosen;
        let Some(manifest) = manifest else { return Ok(Err(Unusable::NoManifest)) };
        let Some(file) = &manifest.index else { return Ok(Err(Unusable::NoIndex)) };
        let index = match index::verified(self.stored(), self.named(manifest), file).await? {
            Ok(index) => index,
            Err(flaw) => return Ok(Err(Unusable::Index(flaw))),
        };
        if let Err(mismatch) = verify_index(&index, manifest) {
            return Ok(Err(Unusable::OtherIndex(mismatch)));
        }
        let opened = Ranges::open(self.stored(), &backup.file_name, Arc::new(index)).await;
        let ranges = match opened {
            Ok(Ok(ranges)) => ranges,
            Ok(Err(NoRanges::Gone)) => return Err(self.gone()),
            Ok(Err(NoRanges::Unsupported)) => return Ok(Err(Unusable::NoRanges)),
            Ok(Err(NoRanges::Closed { bytes, mismatch })) => {
                return self.verify_object(bytes, None).and_then(|()| Err(self.mismatch(mismatch)));
            }
            Ok(Err(NoRanges::OtherSize { bytes })) => {
                return self.verify_object(bytes, None).map(|()| Err(Unusable::OtherSize));
            }
            Err(error) => return Err(self.refused(error).await),
        };
        self.verify_object(ranges.bytes(), ranges.last_modified())?;
        Ok(Ok(ranges))
    }

    /// Compares an object with its manifest.
    fn verify_object(&self, read: u64, written: Option<DateTime<Utc>>) -> Result<(), RestoreError> {
        let Some(manifest) = &self.chosen.manifest else { return Ok(()) };
        let recorded = manifest.object_bytes;
        if read != recorded {
            return Err(self.mismatch(Mismatch::Size { read, recorded }));
        }
        warn_of_late_object(written, manifest);
        Ok(())
    }

    /// The error of a failed verification of this backup.
    pub(super) fn mismatch(&self, mismatch: Mismatch) -> RestoreError {
        let is_of_object = matches!(mismatch, Mismatch::Range(_) | Mismatch::Encryption(_) | Mismatch::NoIdentity);
        let may_be_the_manifest = self.chosen.manifest.is_some() && !is_of_object;
        let hint = if may_be_the_manifest { " (if only the manifest is wrong: --ignore-manifest)" } else { "" };
        RestoreError::Mismatch { file_name: self.chosen.backup.file_name.clone(), mismatch, hint }
    }

    /// The sink and its error, if a read of sections failed because of it.
    ///
    /// # Errors
    /// If S3 failed, or a range is damaged.
    pub(super) fn sink_error<W>(&self, error: RangeError<W>) -> Result<(io::Error, W), RestoreError> {
        match error {
            RangeError::Storage(error) => Err(error.into()),
            RangeError::Damaged { damage, .. } => Err(self.mismatch(Mismatch::Range(damage))),
            RangeError::Sink { error, sink } => Ok((error, sink)),
        }
    }

    /// Why the filter or psql refused what these sections have: this error, unless one is damaged, which may first look like that.
    /// Reads them again.
    pub(super) async fn explained(&self, error: RestoreError, (ranges, sections): (&Ranges, &[Span])) -> RestoreError {
        let failed = ranges.read(sections, io::sink()).await.err();
        let failed = failed.and_then(|failed| self.sink_error(failed).err());
        failed.filter(|failed| matches!(failed, RestoreError::Mismatch { .. })).unwrap_or(error)
    }

    fn gone(&self) -> RestoreError {
        RestoreError::Gone { file_name: self.chosen.backup.file_name.clone() }
    }

    /// Why the store refuses the backup.
    async fn refused(&self, error: StorageError) -> RestoreError {
        match error {
            StorageError::Refused { failure, .. } if failure.is_archived() => self.archived().await,
            error => error.into(),
        }
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
fn warn_of_late_object(written: Option<DateTime<Utc>>, manifest: &Manifest) {
    let finished = DateTime::parse_from_rfc3339(&manifest.finished_at).ok();
    let Some((written, finished)) = written.zip(finished) else { return };
    if written > finished + LATE {
        tracing::warn!(
            last_modified = time_text(written),
            finished_at = manifest.finished_at,
            hint = "if nobody copied the object, do not trust it: a restore runs the code in the dump",
            "the object was written after its manifest says that the backup was finished"
        );
    }
}
