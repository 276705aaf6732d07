//! The files of the metrics: `METRICS_FILE`, and the state next to it. [`super::MetricsStore`] reads and writes them.
//!
//! Each file is replaced atomically, because a collector may read at any time. Nothing here can fail a backup.

use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Records, render, state, text};
use crate::disk::{Disk, DiskError};

/// Collectors run as another user.
const MODE: u32 = 0o644;
/// The time limit for the files. A run has 10 s to stop, and most of that is used when it writes them.
const PATIENCE: Duration = Duration::from_secs(1);

/// Checks that the file can be written, without changing it.
///
/// # Errors
/// Why it cannot be written.
pub(super) fn try_to_write(path: &Path) -> io::Result<()> {
    let file = path.to_owned();
    disk_of(path).call_here(move || try_to_replace(&file)).unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Replaces the files. A failure is a warning: the backup is committed.
pub(super) fn write(path: &Path, records: &Records) {
    let (kept, text) = (state::encode(records), render(&records.iter().collect::<Vec<_>>()));
    let file = path.to_owned();
    let replace = move || replace(&state::path_of(&file), &kept).and_then(|()| replace(&file, &text));
    let replaced = disk_of(path).call_here(replace).unwrap_or_else(|error| Err(io::Error::other(error)));
    if let Err(error) = replaced {
        tracing::warn!(path = %path.display(), %error, "METRICS_FILE cannot be written");
    }
}

/// A slow disk must not delay the end of a run.
fn disk_of(path: &Path) -> Disk {
    Disk::of(path).within(PATIENCE)
}

/// The values in the files: those of the state, or of the text if version 1 wrote it or if the state is damaged. A missing or
/// foreign file has none.
pub(super) fn read(path: PathBuf) -> Result<(PathBuf, Records), DiskError> {
    let file = path.clone();
    let records = disk_of(&path).call_here(move || {
        let kept = std::fs::read_to_string(state::path_of(&file)).ok();
        let kept = kept.and_then(|kept| state::decode(&kept));
        kept.unwrap_or_else(|| text::parse(&std::fs::read_to_string(&file).unwrap_or_default()))
    })?;
    Ok((path, records))
}

/// Checks that a file can be created next to it and renamed; the file itself stays unchanged.
fn try_to_replace(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    let temporary = beside(path);
    let made = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&temporary);
    made.and_then(|_| std::fs::remove_file(&temporary))
}

/// A hidden name without `.prom`, which collectors ignore.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = beside(path);
    let written = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&temporary);
    let replaced = written.and_then(|mut file| {
        // The umask may have removed permissions.
        file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, path)
    });
    if replaced.is_err() {
        // It may not exist.
        let _ = std::fs::remove_file(&temporary);
    }
    replaced
}
