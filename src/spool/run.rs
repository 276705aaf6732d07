//! One run's files: its journal and its parts, each safe on disk before anything is built on it.
//!
//! A part is written under another name, synchronised, renamed, and only then journalled; a journal line is synchronised
//! before the step it notes counts. The first error gives the spool up: from then on nothing is kept, and `backup` goes
//! on from memory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::disk::{Disk, HeldFile};
use crate::error_chain::Chain;
use crate::pipeline::{PartBuffer, PartDigest, SealedPart};
use crate::proof::VerifiedDump;

use super::journal::{self, Proof, Record, SpooledPart, Start, StartedUpload};
use super::{Journal, SpoolError};

pub(super) const JOURNAL: &str = "journal";
/// What must stay free beside the next part: for the journal, whose longest line has the rows of 20,000 tables twice.
const MARGIN_BYTES: u64 = 8 << 20;

/// The files of one run.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    disk: Disk,
    /// Never held while the disk is at work: anybody may ask.
    keeps: Mutex<Keeps>,
    journal: Mutex<JournalFile>,
    /// Held while a part is written: what is half written cannot be deleted.
    parts: Mutex<()>,
}

#[derive(Debug)]
struct JournalFile {
    /// Empty where half a line stands at its end, behind which nothing may follow.
    file: HeldFile,
    bytes: u64,
}

/// What the files are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeps {
    /// Parts of a dump that has not come to its end.
    Parts,
    /// A complete dump, which the next run can deliver.
    Complete,
    /// Nothing: an error came in between.
    Nothing,
}

/// A part that is to be written.
struct Unwritten {
    number: u32,
    bytes: Bytes,
    digest: PartDigest,
}

// What may be called from anywhere: each call waits for the disk no longer than `disk` allows.
impl Spool {
    /// Where the files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the journal says by now.
    ///
    /// # Errors
    /// Where it cannot be read, or is not what was written.
    pub async fn journal(self: &Arc<Self>) -> Result<Journal, SpoolError> {
        let path = self.path.join(JOURNAL);
        let bytes = self.disk.insist(0, move || fs::read(path)).await?.map_err(SpoolError::Write)?;
        journal::read(&bytes).journal.ok_or(SpoolError::GivenUp)
    }

    /// Whether the next run can deliver what is here.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        *self.keeps() == Keeps::Complete
    }

    /// Whether an error has come in between.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        *self.keeps() == Keeps::Nothing
    }

    /// Takes a part.
    ///
    /// # Errors
    /// Where the disk does not take it; then the spool is given up.
    pub async fn store(self: &Arc<Self>, part: &SealedPart) -> Result<SpooledPart, SpoolError> {
        let part = Unwritten { number: part.number, bytes: part.bytes.clone(), digest: part.digest.clone() };
        let bytes = part.bytes.len() as u64;
        self.on_disk(bytes, move |spool| spool.store_now(&part)).await
    }

    /// Gives a part back, in a buffer of its size. It is waited for longer than anything else: there is no other copy of it.
    ///
    /// # Errors
    /// Where it cannot be read, or is not what was written.
    pub async fn read(self: &Arc<Self>, part: SpooledPart, buffer: PartBuffer) -> Result<Bytes, SpoolError> {
        let (spool, bytes) = (Arc::clone(self), part.bytes);
        self.disk.insist(bytes, move || spool.read_now(&part, buffer)).await?
    }

    /// Notes the upload. Where that cannot be written the spool is given up: what S3 takes could not be told apart.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub async fn started(self: &Arc<Self>, upload: StartedUpload) -> Result<(), SpoolError> {
        self.on_disk(0, move |spool| spool.append(&Record::Started(upload))).await
    }

    /// Notes that S3 has taken a part.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub async fn uploaded(self: &Arc<Self>, part: u32, etag: String) -> Result<(), SpoolError> {
        self.on_disk(0, move |spool| spool.append(&Record::Uploaded { part, etag })).await
    }

    /// Notes the proof, from which on the next run can deliver what is here. All parts must have been stored.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub async fn prove(
        self: &Arc<Self>,
        verified: &VerifiedDump,
        manifest: serde_json::Value,
    ) -> Result<(), SpoolError> {
        let proof = Proof { totals: verified.totals().clone(), scan: verified.scan().clone(), manifest };
        self.on_disk(0, move |spool| {
            spool.append(&Record::Verified(Box::new(proof)))?;
            let mut keeps = spool.keeps();
            // Nothing, where it took too long: then the run has gone on without it.
            if *keeps == Keeps::Parts {
                *keeps = Keeps::Complete;
            }
            Ok(())
        })
        .await
    }

    /// Deletes everything. What cannot be deleted costs room, not a backup: it is logged.
    pub async fn delete(self: &Arc<Self>) {
        self.delete_by(Self::delete_now).await;
    }

    /// Deletes the parts alone, so that the next run still learns from the journal which upload to abort.
    pub async fn delete_parts(self: &Arc<Self>) {
        self.delete_by(Self::delete_parts_now).await;
    }

    /// Where its calls are made.
    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    async fn delete_by(self: &Arc<Self>, delete: fn(&Self) -> io::Result<()>) {
        *self.keeps() = Keeps::Nothing;
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

    /// Says once that this run cannot be resumed. A complete dump stays one: no more than an ETag could not be noted.
    fn give_up(&self, error: &SpoolError) {
        let mut keeps = self.keeps();
        if *keeps == Keeps::Parts {
            *keeps = Keeps::Nothing;
            tracing::warn!(
                error = %Chain(error),
                "the spool takes no more: the backup goes on without it, and cannot be resumed should it be stopped"
            );
        }
    }

    fn keeps(&self) -> MutexGuard<'_, Keeps> {
        self.keeps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// What waits for the disk: called in its threads alone.
impl Spool {
    /// Makes the files of a new run below a destination's directory.
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
        let spool = Self::of(path.clone(), disk, (journal, 0), Keeps::Parts);
        match spool.append(&Record::Start(start)) {
            Ok(()) => Ok(spool),
            Err(error) => {
                report(&path, spool.delete_now());
                Err(error)
            }
        }
    }

    /// Opens the files of an earlier run, whose journal has so many bytes of lines that came to their end.
    pub(super) fn reopen(disk: Disk, path: &Path, line_bytes: u64, journal: &Journal) -> io::Result<Self> {
        let file = private().append(true).open(path.join(JOURNAL))?;
        // What is torn must not stand in front of what is written next.
        file.set_len(line_bytes)?;
        let keeps = if journal.proof.is_some() { Keeps::Complete } else { Keeps::Parts };
        Ok(Self::of(path.to_owned(), disk, (file, line_bytes), keeps))
    }

    fn of(path: PathBuf, disk: Disk, (file, bytes): (File, u64), keeps: Keeps) -> Self {
        let journal = JournalFile { file: HeldFile::new(Some(file)), bytes };
        let (keeps, journal) = (Mutex::new(keeps), Mutex::new(journal));
        Self { path, disk, keeps, journal, parts: Mutex::new(()) }
    }

    fn store_now(&self, part: &Unwritten) -> Result<SpooledPart, SpoolError> {
        let _writing = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_part(part).inspect_err(|error| {
            self.give_up(error);
            // Half a part: its room is wanted.
            let _ = fs::remove_file(self.unfinished(part.number));
        })
    }

    fn write_part(&self, part: &Unwritten) -> Result<SpooledPart, SpoolError> {
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

    /// Writes a file that is there completely or not at all.
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
        // No more than the journal says, and a byte: that the file has more is damage, too.
        let mut read = || File::open(self.finished(number))?.take(part.bytes + 1).read_to_end(buffer.bytes());
        read().map_err(|source| SpoolError::Read { number, source })?;
        let bytes = buffer.seal();
        if bytes.len() as u64 == part.bytes && crc64(&bytes) == part.crc64 {
            Ok(bytes)
        } else {
            Err(SpoolError::Damaged { number })
        }
    }

    /// Appends so many bytes of a part, from an offset on, as they stand on disk; fewer where the file ends.
    pub(super) fn read_piece(&self, number: u32, (from, count): (u64, u64), into: &mut Vec<u8>) -> io::Result<()> {
        let mut file = File::open(self.finished(number))?;
        file.seek(SeekFrom::Start(from))?;
        file.take(count).read_to_end(into).map(drop)
    }

    /// The journal goes first: parts without one are nothing.
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

/// Bytes that an unprivileged user may still write where a path is.
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

/// Makes names in a directory safe.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

/// What cannot be deleted costs room, not a backup.
pub(super) fn report(path: &Path, deleted: io::Result<()>) {
    if let Err(error) = deleted {
        tracing::warn!(path = %path.display(), %error, "files are left behind in the spool: delete them");
    }
}

#[cfg(test)]
pub(super) mod tests;
