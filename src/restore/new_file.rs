//! A file that gets its name when it is complete. Until then it has a temporary name in the same directory, and is deleted on
//! failure.
//!
//! It never overwrites an existing file. All calls that may hang go through [`Disk`], except the writes of the data.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::disk::{Disk, DiskError};
use crate::random::random_hex;

/// Only the owner may read a dump, because it holds the data of the database.
const MODE: u32 = 0o600;

/// An incomplete file. It is deleted when this is dropped.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    temporary: Temporary,
    disk: Disk,
}

/// A temporary name. It is deleted when this is dropped.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // It may have been renamed already.
        drop(fs::remove_file(&self.0));
    }
}

impl NewFile {
    /// Creates the file under a temporary name.
    pub async fn create(path: &Path) -> Result<(Self, File), FileError> {
        let directory = directory(path).to_owned();
        let temporary = directory.join(format!(".pg-s3-backup-{}.partial", random_hex()?));
        let disk = Disk::of(&directory);
        let made = temporary.clone();
        let create = move || {
            let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&made)?;
            Ok::<_, io::Error>((file, Temporary(made)))
        };
        let (file, temporary) = disk.call(0, create).await??;
        Ok((Self { path: path.to_owned(), temporary, disk }, file))
    }

    /// Syncs the file to disk and renames it.
    pub async fn publish(self, file: File, bytes: u64) -> Result<(), FileError> {
        let Self { path, temporary, disk } = self;
        let publish = move || {
            file.sync_all()?;
            drop(file);
            rename(&temporary.0, &path)?;
            // Some network file systems cannot sync a directory. The file has its name anyway.
            drop(File::open(directory(&path)).and_then(|directory| directory.sync_all()));
            Ok::<_, io::Error>(())
        };
        Ok(disk.insist(bytes, publish).await??)
    }
}

/// Why the file was not created.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The disk does not answer.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The directory of a file.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Renames a file, unless the new name exists.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems lack that call (RENAME_NOREPLACE). Most of them have hard links, which never replace a file.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            Err(_) if to.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[tokio::test]
    async fn a_file_has_its_name_when_it_is_complete_and_only_its_owner_reads_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("dump.sql");
        let (new, mut file) = NewFile::create(&path).await.expect("a file");
        file.write_all(b"dump").expect("written");
        assert!(names(directory.path())[0].ends_with(".partial"));
        new.publish(file, 4).await.expect("published");
        assert_eq!(names(directory.path()), ["dump.sql"]);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, MODE);
    }

    #[tokio::test]
    async fn a_file_that_appeared_meanwhile_stays_and_the_temporary_one_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("dump.sql");
        let (new, file) = NewFile::create(&path).await.expect("a file");
        fs::write(&path, "another").expect("written");
        let refused = new.publish(file, 0).await;
        assert!(matches!(refused, Err(FileError::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists));
        assert_eq!(names(directory.path()), ["dump.sql"]);
        assert_eq!(fs::read(&path).expect("a file"), b"another");
    }

    #[tokio::test]
    async fn what_is_not_published_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let new = NewFile::create(&directory.path().join("dump.sql")).await.expect("a file");
        drop(new);
        assert_eq!(names(directory.path()), [""; 0]);
    }
}
