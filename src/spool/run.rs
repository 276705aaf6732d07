//! One run's files: its journal and its parts, each safe on disk before anything is built on it.
//!
//! A part is written under another name, synchronised, renamed, and only then journalled; a journal line is synchronised
//! before the step it notes counts. The first error gives the spool up: from then on nothing is kept, and `backup` goes
//! on from memory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::error::Chain;
use crate::pipeline::SealedPart;
use crate::proof::WholeDump;

use super::buffers::Buffers;
use super::journal::{self, Begun, Proof, Record, SpooledPart, Start};
use super::{Journal, SpoolError};

pub(super) const JOURNAL: &str = "journal";
const GLOBALS: &str = "globals.sql.gz";
/// What must stay free beside the next part: for the journal, whose longest line has the rows of 20,000 tables twice.
const MARGIN_BYTES: u64 = 8 << 20;

/// The files of one run. Every call blocks on the disk.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    state: Mutex<State>,
    buffers: Buffers,
}

#[derive(Debug)]
struct State {
    /// `None` where half a line stands at its end, behind which nothing may follow.
    journal: Option<File>,
    journal_bytes: u64,
    keeps: Keeps,
}

/// What the files are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeps {
    /// Parts of a dump that has not come to its end.
    Parts,
    /// A whole dump, which the next run can deliver.
    Whole,
    /// Nothing: an error came in between.
    Nothing,
}

impl State {
    /// Says once that this run cannot be resumed. A whole dump stays one: no more than an ETag could not be noted.
    fn give_up(&mut self, error: &SpoolError) {
        if self.keeps == Keeps::Parts {
            self.keeps = Keeps::Nothing;
            tracing::warn!(
                error = %Chain(error),
                "the spool takes no more: the backup goes on without it, and cannot be resumed should it be stopped"
            );
        }
    }
}

impl Spool {
    /// Makes the files of a new run below a destination's directory.
    pub(super) fn create(below: &Path, start: Start) -> Result<Self, SpoolError> {
        let path = below.join(&start.run_id);
        let make = || {
            DirBuilder::new().mode(0o700).create(&path)?;
            let journal = private().append(true).create_new(true).open(path.join(JOURNAL))?;
            sync_dir(&path)?;
            sync_dir(below)?;
            Ok(journal)
        };
        let unusable = |source: io::Error| SpoolError::Unusable { path: path.clone(), source };
        let journal = Some(make().map_err(unusable)?);
        let state = State { journal, journal_bytes: 0, keeps: Keeps::Parts };
        let spool = Self { path: path.clone(), state: Mutex::new(state), buffers: Buffers::default() };
        match spool.append(&Record::Start(start)) {
            Ok(()) => Ok(spool),
            Err(error) => {
                spool.delete();
                Err(error)
            }
        }
    }

    /// Opens the files of an earlier run, whose journal has so many sound bytes.
    pub(super) fn reopen(path: &Path, sound_bytes: u64, journal: &Journal) -> io::Result<Self> {
        let file = private().append(true).open(path.join(JOURNAL))?;
        // What is torn must not stand in front of what is written next.
        file.set_len(sound_bytes)?;
        let keeps = if journal.proof.is_some() { Keeps::Whole } else { Keeps::Parts };
        let state = State { journal: Some(file), journal_bytes: sound_bytes, keeps };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state), buffers: Buffers::default() })
    }

    /// Where the files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the next run can deliver what is here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.state().keeps == Keeps::Whole
    }

    /// Whether an error has come in between.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.state().keeps == Keeps::Nothing
    }

    /// Takes a part.
    ///
    /// # Errors
    /// Where the disk does not take it; then the spool is given up.
    pub fn store(&self, part: &SealedPart) -> Result<SpooledPart, SpoolError> {
        self.write_part(part).inspect_err(|error| {
            self.state().give_up(error);
            // Half a part: its room is wanted.
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

    /// Takes the globals, which are sent after the object.
    ///
    /// # Errors
    /// Where the disk does not take them. That gives nothing up: the dump is worth more.
    pub fn store_globals(&self, script: &[u8]) -> Result<(), SpoolError> {
        if self.is_given_up() {
            return Err(SpoolError::GivenUp);
        }
        let unfinished = self.path.join(format!("{GLOBALS}.unfinished"));
        self.write_file(script, &unfinished, &self.path.join(GLOBALS)).inspect_err(|_| {
            // Half a file: its room is wanted.
            let _ = fs::remove_file(&unfinished);
        })
    }

    /// Gives the globals back; `None` where they are not there in this length, or cannot be read.
    #[must_use]
    pub fn read_globals(&self, bytes: u64) -> Option<Vec<u8>> {
        let path = self.path.join(GLOBALS);
        let has_length = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == bytes);
        has_length.then(|| fs::read(path).ok()).flatten()
    }

    /// Writes a file that is there whole or not at all.
    fn write_file(&self, bytes: &[u8], unfinished: &Path, finished: &Path) -> Result<(), SpoolError> {
        let write = || {
            let mut file = private().write(true).create(true).truncate(true).open(unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(unfinished, finished)?;
            sync_dir(&self.path)
        };
        write().map_err(SpoolError::Write)
    }

    /// Gives a part back.
    ///
    /// # Errors
    /// Where it cannot be read, or is not what was written.
    pub fn read(&self, part: &SpooledPart) -> Result<Bytes, SpoolError> {
        let number = part.number;
        let read = || {
            let mut file = File::open(self.finished(number))?;
            // What the file has, not what the journal says: that is not trusted with memory.
            let mut bytes = self.buffers.take(usize::try_from(file.metadata()?.len()).unwrap_or_default());
            file.read_to_end(&mut bytes)?;
            Ok(self.buffers.lend(bytes))
        };
        let bytes = read().map_err(|source| SpoolError::Read { number, source })?;
        if bytes.len() as u64 == part.bytes && crc64(&bytes) == part.crc64 {
            Ok(bytes)
        } else {
            Err(SpoolError::Damaged { number })
        }
    }

    /// Notes the upload. Where that cannot be written the spool is given up: what S3 takes could not be told apart.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn begun(&self, begun: Begun) -> Result<(), SpoolError> {
        self.append(&Record::Begun(begun))
    }

    /// Notes that S3 has taken a part.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn taken(&self, part: u32, etag: &str) -> Result<(), SpoolError> {
        self.append(&Record::Taken { part, etag: etag.to_owned() })
    }

    /// Notes the proof, from which on the next run can deliver what is here. All parts must have been stored.
    ///
    /// # Errors
    /// Where the disk does not take it.
    pub fn prove(&self, whole: &WholeDump, manifest: serde_json::Value) -> Result<(), SpoolError> {
        let proof = Proof { totals: whole.totals().clone(), scan: whole.scan().clone(), manifest };
        self.append(&Record::Whole(Box::new(proof)))?;
        self.state().keeps = Keeps::Whole;
        Ok(())
    }

    /// Deletes everything, the journal first: parts without one are nothing.
    pub fn delete(&self) {
        let delete = || {
            fs::remove_file(self.path.join(JOURNAL))?;
            sync_dir(&self.path)?;
            fs::remove_dir_all(&self.path)
        };
        report(&self.path, delete());
    }

    /// Deletes the parts alone, so that the next run still learns from the journal which upload to abort.
    pub fn delete_parts(&self) {
        let delete = || {
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                if entry.file_name() != JOURNAL {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        report(&self.path, delete());
    }

    fn append(&self, record: &Record) -> Result<(), SpoolError> {
        let line = journal::encode(record).map_err(|error| SpoolError::Write(error.into()))?;
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(journal) = state.journal.as_mut().filter(|_| state.keeps != Keeps::Nothing) else {
            return Err(SpoolError::GivenUp);
        };
        match journal.write_all(&line).and_then(|()| journal.sync_data()) {
            Ok(()) => {
                state.journal_bytes += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                if journal.set_len(state.journal_bytes).is_err() {
                    state.journal = None;
                }
                let error = SpoolError::Write(error);
                state.give_up(&error);
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

fn crc64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes)
}

/// What cannot be deleted costs room, not a backup.
pub(super) fn report(path: &Path, deleted: io::Result<()>) {
    if let Err(error) = deleted {
        tracing::warn!(path = %path.display(), %error, "files are left behind in the spool: delete them");
    }
}

#[cfg(test)]
mod tests;
