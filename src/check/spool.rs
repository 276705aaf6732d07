//! Checks that the spool can be written and has enough free space for a dump.
//!
//! Called by [`super::Check`] if `BACKUP_SPOOL_DIR` is set. A full disk is a warning: the backup succeeds, but cannot be
//! resumed. A directory that cannot be written ends each run.

use std::path::Path;

use bytesize::ByteSize;

use crate::spool;

use super::result::Outcome;

/// Compressed dumps usually have at most a third of the database's size; part sizes are planned by the same ratio.
const RATIO: u64 = 3;

/// Writes a file there and compares the free space with the dump's expected size.
pub(super) async fn examine(dir: &Path, database_bytes: Option<u64>) -> Outcome {
    let (free, place) = match spool::check_writable(dir).await {
        Ok(free) => (free, dir.display()),
        Err(error) => return Outcome::error(&error),
    };
    let needed = database_bytes.unwrap_or_default() / RATIO;
    let words = |bytes| ByteSize(bytes).display().iec();
    if free < needed {
        let detail = format!("{} free in {place}, a compressed dump may take {}", words(free), words(needed));
        return Outcome::warn(detail, "free space: without it the backup succeeds, but cannot be resumed");
    }
    Outcome::ok(format!("{} free in {place}", words(free)))
}

#[cfg(test)]
mod tests {
    use super::super::result::Status;
    use super::*;

    #[tokio::test]
    async fn compares_free_space_with_the_databases_size() {
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
