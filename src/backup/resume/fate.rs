//! What happens to a kept dump that was not delivered: it is kept, set aside, or deleted.
//!
//! Called by [`super`]. Decides by the kind of the error, never by a message's text.

use std::io::ErrorKind;

use crate::spool::{SetAside, SpoolError};
use crate::storage::{FailureKind, StorageError};

use crate::backup::BackupError;

/// What happens to a dump that was not delivered.
pub(super) enum Fate {
    /// It stays. Another run may deliver it: S3 is away or does not accept these credentials, or a signal came.
    Kept,
    /// It is set aside, because S3 refuses it permanently, or the disk cannot read it now.
    SetAside(SetAside),
    /// It is deleted. There is no complete dump any more.
    Dropped,
}

/// What happens to a dump after this error.
pub(super) fn fate(error: &BackupError) -> Fate {
    match error {
        BackupError::Interrupted(_)
        | BackupError::TooLong { .. }
        | BackupError::Storage(StorageError::Outage { .. } | StorageError::NotEncrypted { .. }) => Fate::Kept,
        BackupError::Spool(error) | BackupError::Storage(StorageError::Spool(error)) => match error {
            SpoolError::Damaged { .. } => Fate::Dropped,
            // Only a missing file means damage: after another error the dump may still be intact.
            SpoolError::Read { source, .. } if source.kind() == ErrorKind::NotFound => Fate::Dropped,
            SpoolError::Read { .. } => Fate::SetAside(SetAside::Unreadable),
            _ => Fate::Kept,
        },
        BackupError::Dump(_) => Fate::Dropped,
        BackupError::Storage(StorageError::Refused { .. }) if !is_the_uploads_fault(error) => Fate::Kept,
        _ => Fate::SetAside(SetAside::Refused),
    }
}

/// Whether another upload of the same dump may succeed.
pub(super) fn is_the_uploads_fault(error: &BackupError) -> bool {
    let BackupError::Storage(error) = error else { return false };
    match error {
        StorageError::Refused { failure, first, .. } => {
            !first
                && (failure.is_invalid()
                    || matches!(failure.kind, FailureKind::Conflict | FailureKind::Exists | FailureKind::NoSuchUpload))
        }
        StorageError::UnequalParts { .. }
        | StorageError::Foreign { .. }
        | StorageError::Mismatch { .. }
        | StorageError::Inconsistent { .. }
        | StorageError::Unknown { .. } => true,
        _ => false,
    }
}

/// Whether S3 refuses the parts as they are.
pub(super) fn is_invalid(error: &BackupError) -> bool {
    match error {
        BackupError::Storage(StorageError::UnequalParts { .. }) => true,
        BackupError::Storage(StorageError::Refused { failure, .. }) => failure.is_invalid(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::DumpError;
    use crate::disk::DiskError;
    use crate::storage::Failure;

    fn refused(status: u16, code: &str, kind: FailureKind, first: bool) -> BackupError {
        let code = code.to_owned();
        let failure =
            Failure { kind, code, message: String::new(), status: Some(status), request_id: None, is_from_s3: true };
        StorageError::Refused { action: "try", failure, first }.into()
    }

    #[test]
    fn fate_of_a_dump_follows_from_the_kind_of_the_error() {
        let spool = |error| BackupError::Storage(StorageError::Spool(error));
        let hangs = DiskError::Stuck { path: "p".into(), limit: crate::backup::limits::EXIT_TIME };
        for (error, is_kept, is_set_aside) in [
            (refused(403, "AccessDenied", FailureKind::Refused, false), true, false),
            (refused(400, "InvalidStorageClass", FailureKind::Refused, true), true, false),
            (refused(400, "InvalidArgument", FailureKind::Refused, true), true, false),
            (refused(400, "InvalidPart", FailureKind::Refused, false), false, true),
            (refused(400, "EntityTooSmall", FailureKind::Refused, false), false, true),
            (refused(404, "NoSuchUpload", FailureKind::NoSuchUpload, false), false, true),
            (refused(412, "PreconditionFailed", FailureKind::Exists, false), false, true),
            (StorageError::Foreign { key: "k".to_owned() }.into(), false, true),
            (spool(hangs.into()), true, false),
            (spool(SpoolError::Damaged { number: 1 }), false, false),
            (spool(SpoolError::Read { number: 1, source: ErrorKind::NotFound.into() }), false, false),
            (spool(SpoolError::Read { number: 1, source: std::io::Error::from_raw_os_error(5) }), false, true),
            (spool(SpoolError::Read { number: 1, source: ErrorKind::StaleNetworkFileHandle.into() }), false, true),
            (
                DumpError::IncompleteDump(crate::verified_dump::IncompleteDump::NotKept("it is not")).into(),
                false,
                false,
            ),
        ] {
            let fate = fate(&error);
            assert_eq!(
                (matches!(fate, Fate::Kept), matches!(fate, Fate::SetAside(_))),
                (is_kept, is_set_aside),
                "{error}"
            );
        }
    }
}
