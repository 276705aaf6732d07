//! The spool's directory: one locked room for each destination, and what earlier runs left in it.
//!
//! `backup` opens it before anything else. The lock keeps two runs of one destination apart; other destinations have
//! rooms of their own, which are looked at, never touched.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::journal::{self, Reading};
use super::run::{JOURNAL, private, report};
use super::{Damage, Journal, Spool, SpoolError, Start};

const LOCK: &str = "lock";
/// A neighbour that looks whether this room is in use has its lock for some microseconds.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Bytes of a room's name: enough of the sha256 that no two destinations meet.
const ROOM_BYTES: usize = 16;

/// One destination's room, locked for as long as this value lives.
#[derive(Debug)]
pub struct SpoolDir {
    dir: PathBuf,
    room: PathBuf,
    destination: String,
    // Its lock ends with it.
    _lock: File,
}

/// What an earlier run left behind.
#[derive(Debug)]
pub enum Found {
    /// A journal with a proof.
    Whole(Kept),
    /// A dump that never came to its end.
    Unfinished(Kept),
    /// A journal that makes no sense from some line on; what it said before, where that is anything.
    Damaged(Damage, Option<Kept>),
    /// Files without a journal; deleted already.
    Nothing,
}

/// An earlier run: its files and what its journal says.
#[derive(Debug)]
pub struct Kept {
    /// The files.
    pub spool: Arc<Spool>,
    /// What they mean.
    pub journal: Journal,
}

impl SpoolDir {
    /// Makes and locks the room of a destination (endpoint, bucket and path in one text).
    ///
    /// # Errors
    /// [`SpoolError::Busy`] where another run has it, [`SpoolError::Unusable`] where it cannot be had.
    pub fn open(dir: &Path, destination: &str) -> Result<Self, SpoolError> {
        let room = dir.join(id_of(destination));
        let unusable = |source| SpoolError::Unusable { path: room.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&room).map_err(unusable)?;
        let lock = private().write(true).create(true).truncate(false).open(room.join(LOCK)).map_err(unusable)?;
        let mut tries = LOCK_TRIES;
        while let Err(error) = lock.try_lock() {
            tries -= 1;
            match error {
                TryLockError::Error(source) => return Err(unusable(source)),
                TryLockError::WouldBlock if tries == 0 => return Err(SpoolError::Busy { path: room }),
                TryLockError::WouldBlock => std::thread::sleep(LOCK_PAUSE),
            }
        }
        Ok(Self { dir: dir.to_owned(), room, destination: destination.to_owned(), _lock: lock })
    }

    /// Makes the files of a new run.
    ///
    /// # Errors
    /// Where the disk does not take them.
    pub fn create(&self, start: Start) -> Result<Arc<Spool>, SpoolError> {
        Spool::create(&self.room, start).map(Arc::new)
    }

    /// What earlier runs left behind, oldest name first. Nobody else is here: each of them has ended.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn found(&self) -> Result<Vec<Found>, SpoolError> {
        let unusable = |source| SpoolError::Unusable { path: self.room.clone(), source };
        let mut found: Vec<Found> =
            runs(&self.room).map_err(unusable)?.iter().map(|run| look(run, &self.destination)).collect();
        found.sort_by_key(|found| match found {
            Found::Whole(kept) | Found::Unfinished(kept) => Some(kept.journal.start.file_name.clone()),
            Found::Damaged(..) | Found::Nothing => None,
        });
        Ok(found)
    }

    /// Whole dumps of other destinations that nobody is delivering: where they are, and where they were meant to go.
    #[must_use]
    pub fn strangers(&self) -> Vec<(PathBuf, String)> {
        let rooms = subdirectories(&self.dir).unwrap_or_default();
        let others = rooms.into_iter().filter(|room| *room != self.room && !is_locked(room));
        let left = others.flat_map(|room| runs(&room).unwrap_or_default());
        left.filter_map(|run| {
            let journal = read_journal(&run).ok()?.journal?;
            journal.proof.as_ref()?;
            Some((run, journal.start.location))
        })
        .collect()
    }
}

/// Whether a whole dump for this destination waits below this spool, and nobody is delivering it.
#[must_use]
pub fn holds_whole(dir: &Path, destination: &str) -> bool {
    let room = dir.join(id_of(destination));
    let is_whole = |run: &PathBuf| {
        let journal = read_journal(run).ok().and_then(|reading| reading.journal);
        journal.is_some_and(|journal| journal.proof.is_some())
    };
    !is_locked(&room) && runs(&room).is_ok_and(|runs| runs.iter().any(is_whole))
}

/// The ids of all uploads that a journal below this spool knows, whatever their destination: these are not stale.
///
/// # Errors
/// [`SpoolError::Unusable`] where a part of it cannot be read, as by another user: nobody knows then which they are.
pub fn upload_ids(dir: &Path) -> Result<BTreeSet<String>, SpoolError> {
    let mut ids = BTreeSet::new();
    for room in unless_gone(dir, subdirectories(dir))? {
        for run in unless_gone(&room, runs(&room))? {
            let reading = unless_gone(&run, read_journal(&run).map(Some))?;
            ids.extend(reading.and_then(|reading| Some(reading.journal?.begun?.upload_id)));
        }
    }
    Ok(ids)
}

/// What is not there holds nothing: no run has been here yet, or one has just ended.
fn unless_gone<T: Default>(path: &Path, read: io::Result<T>) -> Result<T, SpoolError> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        read => read.map_err(|source| SpoolError::Unusable { path: path.to_owned(), source }),
    }
}

/// Tries whether files can be written below this spool, which is made where it is not there; gives the bytes that may still
/// be written. Leaves nothing but the directory.
///
/// # Errors
/// [`SpoolError::Unusable`] where it cannot be written.
pub fn room_in(dir: &Path) -> Result<u64, SpoolError> {
    let unusable = |source| SpoolError::Unusable { path: dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
    let probe = dir.join(format!("probe-{}", std::process::id()));
    private().write(true).create(true).truncate(true).open(&probe).map_err(unusable)?;
    fs::remove_file(&probe).map_err(unusable)?;
    super::run::free_bytes(dir).map_err(unusable)
}

fn id_of(destination: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(destination.as_bytes()).into();
    crate::storage::hex(&digest[..ROOM_BYTES])
}

/// Directories whose names are a room's or a run's: 32 hexadecimal digits. Whatever else lies there is not ours.
fn subdirectories(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_id = name.len() == 2 * ROOM_BYTES && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
        if is_id && entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn runs(room: &Path) -> io::Result<Vec<PathBuf>> {
    subdirectories(room)
}

fn read_journal(run: &Path) -> io::Result<Reading> {
    Ok(journal::read(&fs::read(run.join(JOURNAL))?))
}

fn look(run: &Path, destination: &str) -> Found {
    let damaged = |what, kept| Found::Damaged(Damage { line: 1, what }, kept);
    let reading = match read_journal(run) {
        Ok(reading) => reading,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report(run, fs::remove_dir_all(run));
            return Found::Nothing;
        }
        Err(_) => return damaged("cannot be read", None),
    };
    let Some(journal) = reading.journal else {
        report(run, fs::remove_dir_all(run));
        return reading.damage.map_or(Found::Nothing, |damage| Found::Damaged(damage, None));
    };
    let spool = match Spool::reopen(run, reading.sound_bytes, &journal) {
        Ok(spool) => Arc::new(spool),
        Err(_) => return damaged("cannot be written", None),
    };
    let is_ours = journal.start.destination == destination;
    let kept = Kept { spool, journal };
    match reading.damage {
        Some(damage) => Found::Damaged(damage, Some(kept)),
        None if !is_ours => damaged("is of another destination", Some(kept)),
        None if kept.journal.proof.is_some() => Found::Whole(kept),
        None => Found::Unfinished(kept),
    }
}

/// Whether a run is at work there.
fn is_locked(room: &Path) -> bool {
    let lock = File::open(room.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
