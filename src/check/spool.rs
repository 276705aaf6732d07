//! The spool: may this user write there, and is there room for a dump.
//!
//! Called by [`super::Check`] where `BACKUP_SPOOL_DIR` is set. A full disk costs no backup, only its being resumable, so it is
//! a warning; a directory that cannot be written ends each run.

use std::path::Path;

use bytesize::ByteSize;

use crate::spool;

use super::result::Outcome;

/// Dumps compress to a third of the database or less as a rule: what the size of parts is planned by, too (SPEC §5).
const RATIO: u64 = 3;

/// Tries to write there, and looks how much more could be written.
pub(super) async fn examine(dir: &Path, database_bytes: Option<u64>) -> Outcome {
    let (free, place) = match spool::check_writable(dir).await {
        Ok(free) => (free, dir.display()),
        Err(error) => return Outcome::error(&error),
    };
    let needed = database_bytes.unwrap_or_default() / RATIO;
    let words = |bytes| ByteSize(bytes).display().iec();
    if free < needed {
        let detail = format!("{} free in {place}, a compressed dump may take {}", words(free), words(needed));
        return Outcome::warn(detail, "free space: a backup that does not fit goes on, but cannot be resumed");
    }
    Outcome::ok(format!("{} free in {place}", words(free)))
}

#[cfg(test)]
mod tests {
    use super::super::result::Status;
    use super::*;

    #[tokio::test]
    async fn room_for_a_dump_is_judged_by_the_databases_size() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = dir.path().join("made/by/the/check");
        assert_eq!(examine(&spool, Some(3)).await.status, Status::Ok);
        assert_eq!(examine(&spool, None).await.status, Status::Ok);
        let huge = examine(&spool, Some(u64::MAX)).await;
        assert!(huge.status == Status::Warn && huge.detail.contains("may take"), "{}", huge.detail);
        assert_eq!(std::fs::read_dir(&spool).expect("it is there").count(), 0, "nothing stays in it");
        std::fs::write(dir.path().join("file"), "").expect("a file");
        assert_eq!(examine(&dir.path().join("file"), None).await.status, Status::Fail);
    }
}
