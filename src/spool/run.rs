//! One run's files: its journal and its parts, each synchronised before it counts.
//!
//! A part is written under another name, synchronised, renamed, and then recorded in the journal. A journal line is
//! synchronised before the step that it records counts. After the first error the spool is not used any
//! more, and `backup` continues in memory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::disk::{Disk, HeldFile};
use crate::error_chain::Chain;
use crate::pipeline::{PartBuffer, SealedPart};
use crate::verified_dump::VerifiedDump;

use super::journal::{self, Record, SpooledPart, Start, StartedUpload, Verification};
use super::{Journal, SpoolError};

pub(super) const JOURNAL: &str = "journal";
/// Space that stays free besides the next part: for the journal, which has lines with the rows of 20,000 tables twice.
const MARGIN_BYTES: u64 = 8 << 20;

/// The files of one run.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    disk: Disk,
    /// Never held during a disk call, so that reading it does not wait.
    state: Mutex<State>,
    journal: Mutex<JournalFile>,
    /// Held while a part is written, so that a partial file is not deleted under it.
    parts: Mutex<()>,
}

#[derive(Debug)]
struct JournalFile {
    /// Empty if a truncated line could not be removed, so that nothing is appended to it.
    file: HeldFile,
    bytes: u64,
}

/// The state of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Parts of a dump that is not complete yet.
    Incomplete,
    /// A complete dump, which the next run can deliver.
    Complete,
    /// Unusable after an error.
    GivenUp,
}

// Each call has a deadline of `disk`.
impl Spool {
    /// The run's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the journal.
    ///
    /// # Errors
    /// If it cannot be read, or is invalid.
    pub async fn journal(self: &Arc<Self>) -> Result<Journal, SpoolError> {
        let path = self.path.join(JOURNAL);
        let bytes = self.disk.insist(0, move || fs::read(path)).await?.map_err(SpoolError::Write)?;
        journal::read(&bytes).journal.ok_or(SpoolError::GivenUp)
    }

    /// Whether the next run can deliver the dump.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self.state() == State::Complete
    }

    /// Whether an error has ended the spool.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        *self.state() == State::GivenUp
    }

    /// Stores a part.
    ///
    /// # Errors
    /// If the disk fails; then the spool is not used any more.
    pub async fn store(self: &Arc<Self>, part: &SealedPart) -> Result<SpooledPart, SpoolError> {
        let (part, bytes) = (part.clone(), part.bytes.len() as u64);
        self.on_disk(bytes, move |spool| spool.store_now(&part)).await
    }

    /// Reads a part into a buffer of its size. It waits longer than any other call, because there is no other copy.
    ///
    /// # Errors
    /// If it cannot be read, or has changed.
    pub async fn read(self: &Arc<Self>, part: SpooledPart, buffer: PartBuffer) -> Result<Bytes, SpoolError> {
        let (spool, bytes) = (Arc::clone(self), part.bytes);
        self.disk.insist(bytes, move || spool.read_now(&part, buffer)).await?
    }

    /// Records the upload. A failed write ends the spool: the next run could not tell which upload has which parts.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn started(self: &Arc<Self>, upload: StartedUpload) -> Result<(), SpoolError> {
        self.on_disk(0, move |spool| spool.append(&Record::Started(upload))).await
    }

    /// Records that S3 has accepted a part.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn uploaded(self: &Arc<Self>, part: u32, etag: String) -> Result<(), SpoolError> {
        self.on_disk(0, move |spool| spool.append(&Record::Uploaded { part, etag })).await
    }

    /// Records that the dump is verified; from then on the next run can deliver it. All parts must have been stored.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn record_verified(
        self: &Arc<Self>,
        verified: &VerifiedDump,
        manifest: serde_json::Value,
    ) -> Result<(), SpoolError> {
        let verification = Verification { totals: verified.totals().clone(), scan: verified.scan().clone(), manifest };
        self.on_disk(0, move |spool| {
            spool.append(&Record::Verified(Box::new(verification)))?;
            let mut state = spool.state();
            // If the write took too long, the run continues without the spool.
            if *state == State::Incomplete {
                *state = State::Complete;
            }
            Ok(())
        })
        .await
    }

    /// Deletes all files. What cannot be deleted is logged.
    pub async fn delete(self: &Arc<Self>) {
        self.delete_by(Self::delete_now).await;
    }

    /// Deletes only the parts, so that the next run can abort the upload that the journal names.
    pub async fn delete_parts(self: &Arc<Self>) {
        self.delete_by(Self::delete_parts_now).await;
    }

    /// The disk for its calls.
    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    async fn delete_by(self: &Arc<Self>, delete: fn(&Self) -> io::Result<()>) {
        *self.state() = State::GivenUp;
        let spool = Arc::clone(self);
        match self.disk.call(0, move || delete(&spool)).await {
            Ok(deleted) => report(&self.path, deleted),
            Err(error) => report(&self.path, Err(io::Error::other(error))),
        }
    }

    async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        bytes: u64,
        call: impl FnOnce(&Self) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        if self.is_given_up() {
            return Err(SpoolError::GivenUp);
        }
        let spool = Arc::clone(self);
        let done = self.disk.call(bytes, move || call(&spool)).await;
        done.unwrap_or_else(|error| {
            let error = SpoolError::from(error);
            self.give_up(&error);
            Err(error)
        })
    }

    /// Stops using the spool and logs it once. A complete dump stays complete: if an ETag is not recorded, the part is only sent
    /// again.
    fn give_up(&self, error: &SpoolError) {
        let mut state = self.state();
        if *state == State::Incomplete {
            *state = State::GivenUp;
            tracing::warn!(
                error = %Chain(error),
                "the spool failed: the backup continues without it, and cannot be resumed if it is stopped"
            );
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Blocking: called only in the threads of `disk`.
impl Spool {
    /// Creates the files of a new run in a destination's directory.
    pub(super) fn create(disk: Disk, below: &Path, start: Start) -> Result<Self, SpoolError> {
        let path = below.join(&start.run_id);
        let make = || {
            DirBuilder::new().mode(0o700).create(&path)?;
            let journal = private().append(true).create_new(true).open(path.join(JOURNAL))?;
            sync_dir(&path)?;
            sync_dir(below)?;
            Ok(journal)
        };
        let unusable = |source: io::Error| SpoolError::Unusable { path: path.clone(), source };
        let journal = make().map_err(unusable)?;
        let spool = Self::of(path.clone(), disk, (journal, 0), State::Incomplete);
        match spool.append(&Record::Start(start)) {
            Ok(()) => Ok(spool),
            Err(error) => {
                report(&path, spool.delete_now());
                Err(error)
            }
        }
    }

    /// Opens the files of an earlier run; `line_bytes` is the length of the journal's complete lines.
    pub(super) fn reopen(disk: Disk, path: &Path, line_bytes: u64, journal: &Journal) -> io::Result<Self> {
        let file = private().append(true).open(path.join(JOURNAL))?;
        // Removes a truncated line before anything is appended.
        file.set_len(line_bytes)?;
        let state = if journal.verification.is_some() { State::Complete } else { State::Incomplete };
        Ok(Self::of(path.to_owned(), disk, (file, line_bytes), state))
    }

    fn of(path: PathBuf, disk: Disk, (file, bytes): (File, u64), state: State) -> Self {
        let journal = JournalFile { file: HeldFile::new(Some(file)), bytes };
        let (state, journal) = (Mutex::new(state), Mutex::new(journal));
        Self { path, disk, state, journal, parts: Mutex::new(()) }
    }

    fn store_now(&self, part: &SealedPart) -> Result<SpooledPart, SpoolError> {
        let _writing = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_part(part).inspect_err(|error| {
            self.give_up(error);
            // Frees the space of the partial file.
            let _ = fs::remove_file(self.unfinished(part.number));
        })
    }

    fn write_part(&self, part: &SealedPart) -> Result<SpooledPart, SpoolError> {
        if self.is_given_up() {
            return Err(SpoolError::GivenUp);
        }
        let (free, needed) =
            (free_bytes(&self.path).map_err(SpoolError::Write)?, part.bytes.len() as u64 + MARGIN_BYTES);
        if free < needed {
            return Err(SpoolError::Full { free, needed });
        }
        self.write_file(&part.bytes, &self.unfinished(part.number), &self.finished(part.number))?;
        let stored = SpooledPart {
            number: part.number,
            bytes: part.bytes.len() as u64,
            digest: part.digest.clone(),
            crc64: crc64(&part.bytes),
        };
        self.append(&Record::Part(stored.clone()))?;
        Ok(stored)
    }

    /// Writes a file atomically.
    pub(super) fn write_file(&self, bytes: &[u8], unfinished: &Path, finished: &Path) -> Result<(), SpoolError> {
        let write = || {
            let mut file = private().write(true).create(true).truncate(true).open(unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(unfinished, finished)?;
            sync_dir(&self.path)
        };
        write().map_err(SpoolError::Write)
    }

    fn read_now(&self, part: &SpooledPart, mut buffer: PartBuffer) -> Result<Bytes, SpoolError> {
        let number = part.number;
        // Reads one byte more than the recorded size, because a longer file is damaged, too.
        let mut read = || File::open(self.finished(number))?.take(part.bytes + 1).read_to_end(buffer.bytes());
        read().map_err(|source| SpoolError::Read { number, source })?;
        let bytes = buffer.seal();
        if bytes.len() as u64 == part.bytes && crc64(&bytes) == part.crc64 {
            Ok(bytes)
        } else {
            Err(SpoolError::Damaged { number })
        }
    }

    /// Appends this many bytes of a part, from an offset on; fewer at the end of the file.
    pub(super) fn read_piece(&self, number: u32, (from, count): (u64, u64), into: &mut Vec<u8>) -> io::Result<()> {
        let mut file = File::open(self.finished(number))?;
        file.seek(SeekFrom::Start(from))?;
        file.take(count).read_to_end(into).map(drop)
    }

    /// Deletes the journal first: parts without one are worthless.
    fn delete_now(&self) -> io::Result<()> {
        let _nobody_writes = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        fs::remove_file(self.path.join(JOURNAL))?;
        sync_dir(&self.path)?;
        fs::remove_dir_all(&self.path)
    }

    fn delete_parts_now(&self) -> io::Result<()> {
        let _nobody_writes = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() != JOURNAL {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn append(&self, record: &Record) -> Result<(), SpoolError> {
        let line = journal::encode(record).map_err(|error| SpoolError::Write(error.into()))?;
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let before = journal.bytes;
        let Some(file) = journal.file.as_mut().filter(|_| !self.is_given_up()) else {
            return Err(SpoolError::GivenUp);
        };
        match file.write_all(&line).and_then(|()| file.sync_data()) {
            Ok(()) => {
                journal.bytes += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                if file.set_len(before).is_err() {
                    journal.file = HeldFile::new(None);
                }
                let error = SpoolError::Write(error);
                self.give_up(&error);
                Err(error)
            }
        }
    }

    fn finished(&self, number: u32) -> PathBuf {
        self.path.join(format!("part-{number:05}"))
    }

    fn unfinished(&self, number: u32) -> PathBuf {
        self.path.join(format!("part-{number:05}.unfinished"))
    }
}

/// Bytes that an unprivileged user may still write on the path's file system.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Files for this user alone.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Makes a directory's entries durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

/// Logs files that could not be deleted.
pub(super) fn report(path: &Path, deleted: io::Result<()>) {
    if let Err(error) = deleted {
        tracing::warn!(path = %path.display(), %error, "files are left behind in the spool: delete them");
    }
}

#[cfg(test)]
pub(super) mod tests;
