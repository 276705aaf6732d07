//! The spool's directory: one locked room for each destination, and what earlier runs left in it.
//!
//! `backup` opens it before anything else. The lock keeps two runs of one destination apart; other destinations have
//! rooms of their own, which are looked at, never touched. What this version cannot use and may not delete is set aside
//! under a name that says why.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::disk::{Disk, HeldFile};

use super::journal::{self, Reading};
use super::run::{JOURNAL, free_bytes, private, report, sync_dir};
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
    subdirectory: PathBuf,
    destination: String,
    disk: Disk,
    // Its lock ends with it.
    _lock: HeldFile,
}

/// What an earlier run left behind.
#[derive(Debug)]
pub enum Found {
    /// A dump that was proved, and what is wrong with its journal beside that.
    Complete(Kept, Option<Damage>),
    /// A dump that never came to its end.
    Unfinished(Kept),
    /// A journal that does not say enough any more; what it says, where that is anything.
    Damaged(Damage, Option<Kept>),
    /// What this run can do nothing with, and may not delete.
    Foreign(PathBuf, Aside),
    /// Files without a journal; deleted already.
    Nothing,
}

/// Why a run's files are set aside: nothing touches them any more until a person has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// The dump cannot be delivered.
    Refused,
    /// The disk does not give a part of it back. It may be intact.
    Unreadable,
    /// Another version of this program wrote the journal.
    OfAnotherVersion,
    /// It is in this destination's room, but another's.
    OfAnotherDestination,
    /// It holds a proof, but does not say any more whose.
    Damaged,
}

impl Aside {
    const ALL: [Self; 5] =
        [Self::Refused, Self::Unreadable, Self::OfAnotherVersion, Self::OfAnotherDestination, Self::Damaged];

    /// What the directory's name has in front of the run's id.
    fn beginning(self) -> &'static str {
        match self {
            Self::Refused => "refused-",
            Self::Unreadable => "unreadable-",
            Self::OfAnotherVersion => "other-version-",
            Self::OfAnotherDestination => "other-destination-",
            Self::Damaged => "damaged-",
        }
    }

    /// What is wrong, for a message.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Refused => "S3 does not take it",
            Self::Unreadable => "the disk does not give it back",
            Self::OfAnotherVersion => {
                "another version of pg-s3-backup wrote its journal: run that version to deliver it"
            }
            Self::OfAnotherDestination => {
                "its journal names another destination: run a backup to that one, with this directory in its place"
            }
            Self::Damaged => "its journal is damaged, and does not say which database it is of",
        }
    }
}

/// An earlier run: its files and what its journal says.
#[derive(Debug)]
pub struct Kept {
    /// The files.
    pub spool: Arc<Spool>,
    /// What they mean.
    pub journal: Journal,
}

// Each call waits for the disk no longer than `Disk` allows.
impl SpoolDir {
    /// Makes and locks the room of a destination (endpoint, bucket and path in one text).
    ///
    /// # Errors
    /// [`SpoolError::Busy`] where another run has it, [`SpoolError::Unusable`] where it cannot be had.
    pub async fn open(dir: &Path, destination: &str) -> Result<Self, SpoolError> {
        let disk = Disk::of(dir);
        let (dir, destination, its_disk) = (dir.to_owned(), destination.to_owned(), disk.clone());
        disk.call(0, move || {
            let subdirectory = dir.join(id_of(&destination));
            let lock = lock(&subdirectory)?;
            Ok(Self { dir, subdirectory, destination, disk: its_disk, _lock: lock })
        })
        .await?
    }

    /// Makes the files of a new run.
    ///
    /// # Errors
    /// Where the disk does not take them.
    pub async fn create(&self, start: Start) -> Result<Arc<Spool>, SpoolError> {
        let (disk, subdirectory) = (self.disk.clone(), self.subdirectory.clone());
        self.disk.call(0, move || Spool::create(disk, &subdirectory, start).map(Arc::new)).await?
    }

    /// What earlier runs left behind, oldest name first. Nobody else is here: each of them has ended.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub async fn found(&self) -> Result<Vec<Found>, SpoolError> {
        let (disk, subdirectory, destination) =
            (self.disk.clone(), self.subdirectory.clone(), self.destination.clone());
        self.disk
            .call(0, move || {
                let runs = runs(&subdirectory)
                    .map_err(|source| SpoolError::Unusable { path: subdirectory.clone(), source })?;
                let mut found: Vec<Found> = runs.iter().map(|run| look(&disk, run, &destination)).collect();
                found.sort_by_key(|found| match found {
                    Found::Complete(kept, _) | Found::Unfinished(kept) => Some(kept.journal.start.file_name.clone()),
                    Found::Damaged(..) | Found::Foreign(..) | Found::Nothing => None,
                });
                Ok(found)
            })
            .await?
    }

    /// Whole dumps of other destinations that nobody is delivering: where they are, and where they were meant to go.
    ///
    /// # Errors
    /// Where the disk does not answer.
    pub async fn strangers(&self) -> Result<Vec<(PathBuf, String)>, SpoolError> {
        let (dir, subdirectory) = (self.dir.clone(), self.subdirectory.clone());
        let look = move || {
            let all = subdirectories(&dir).unwrap_or_default();
            let others = all.into_iter().filter(|other| *other != subdirectory && !is_locked(other));
            let left = others.flat_map(|subdirectory| runs(&subdirectory).unwrap_or_default());
            left.filter_map(|run| {
                let journal = read_journal(&run).ok()?.journal?;
                journal.proof.as_ref()?;
                Some((run, journal.start.location))
            })
            .collect()
        };
        Ok(self.disk.call(0, look).await?)
    }

    /// Takes a run's files out of the way of the next runs; gives their new place.
    ///
    /// # Errors
    /// Where the disk does not do it.
    pub async fn set_aside(&self, run: &Path, why: Aside) -> Result<PathBuf, SpoolError> {
        let (run, subdirectory) = (run.to_owned(), self.subdirectory.clone());
        let rename = move || {
            let id = run.file_name().unwrap_or_default().to_string_lossy();
            let place = subdirectory.join(format!("{}{id}", why.beginning()));
            fs::rename(&run, &place).and_then(|()| sync_dir(&subdirectory)).map_err(SpoolError::Write)?;
            Ok(place)
        };
        self.disk.call(0, rename).await?
    }

    /// What earlier runs have set aside.
    ///
    /// # Errors
    /// Where the disk does not answer.
    pub async fn aside(&self) -> Result<Vec<PathBuf>, SpoolError> {
        let subdirectory = self.subdirectory.clone();
        let look = move || {
            let is_aside =
                |name: &str| Aside::ALL.iter().any(|why| name.strip_prefix(why.beginning()).is_some_and(is_id));
            directories(&subdirectory, is_aside).unwrap_or_default()
        };
        Ok(self.disk.call(0, look).await?)
    }
}

/// Whether a complete dump for this destination waits below this spool, and nobody is delivering it. Not where the disk does
/// not answer: a backup will say so.
pub async fn holds_complete_dump(dir: &Path, destination: &str) -> bool {
    let subdirectory = dir.join(id_of(destination));
    let look = move || {
        let is_complete = |run: &PathBuf| {
            let journal = read_journal(run).ok().and_then(|reading| reading.journal);
            journal.is_some_and(|journal| journal.proof.is_some())
        };
        !is_locked(&subdirectory) && runs(&subdirectory).is_ok_and(|runs| runs.iter().any(is_complete))
    };
    Disk::of(dir).call(0, look).await.unwrap_or_default()
}

/// The ids of all uploads that a journal below this spool knows, whatever their destination: these are not stale.
///
/// # Errors
/// Where a part of it cannot be read, as by another user or another version: nobody knows then which they are.
pub async fn upload_ids(dir: &Path) -> Result<BTreeSet<String>, SpoolError> {
    let spool = dir.to_owned();
    let look = move || {
        let mut ids = BTreeSet::new();
        for subdirectory in unless_gone(&spool, subdirectories(&spool))? {
            for run in unless_gone(&subdirectory, runs(&subdirectory))? {
                let Some(reading) = unless_gone(&run, read_journal(&run).map(Some))? else { continue };
                if reading.is_of_another_version {
                    return Err(SpoolError::OfAnotherVersion { path: run });
                }
                ids.extend(reading.journal.and_then(|journal| Some(journal.started?.upload_id)));
            }
        }
        Ok(ids)
    };
    Disk::of(dir).call(0, look).await?
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
pub async fn room_in(dir: &Path) -> Result<u64, SpoolError> {
    let spool = dir.to_owned();
    let try_it = move || {
        let unusable = |source| SpoolError::Unusable { path: spool.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&spool).map_err(unusable)?;
        let probe = spool.join(format!("probe-{}", std::process::id()));
        private().write(true).create(true).truncate(true).open(&probe).map_err(unusable)?;
        fs::remove_file(&probe).map_err(unusable)?;
        free_bytes(&spool).map_err(unusable)
    };
    Disk::of(dir).call(0, try_it).await?
}

/// Makes a room and locks it.
fn lock(subdirectory: &Path) -> Result<HeldFile, SpoolError> {
    let unusable = |source| SpoolError::Unusable { path: subdirectory.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(subdirectory).map_err(unusable)?;
    let lock = private().write(true).create(true).truncate(false).open(subdirectory.join(LOCK)).map_err(unusable)?;
    let mut tries = LOCK_TRIES;
    while let Err(error) = lock.try_lock() {
        tries -= 1;
        match error {
            TryLockError::Error(source) => return Err(unusable(source)),
            TryLockError::WouldBlock if tries == 0 => return Err(SpoolError::Busy { path: subdirectory.to_owned() }),
            TryLockError::WouldBlock => std::thread::sleep(LOCK_PAUSE),
        }
    }
    Ok(HeldFile::new(Some(lock)))
}

fn id_of(destination: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(destination.as_bytes()).into();
    hex::encode(&digest[..ROOM_BYTES])
}

/// Directories whose names are a room's or a run's. Whatever else lies there is not ours.
fn subdirectories(path: &Path) -> io::Result<Vec<PathBuf>> {
    directories(path, is_id)
}

fn runs(subdirectory: &Path) -> io::Result<Vec<PathBuf>> {
    subdirectories(subdirectory)
}

/// 32 hexadecimal digits.
fn is_id(name: &str) -> bool {
    name.len() == 2 * ROOM_BYTES && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn directories(path: &Path, is_one: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&is_one) && entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn read_journal(run: &Path) -> io::Result<Reading> {
    Ok(journal::read(&fs::read(run.join(JOURNAL))?))
}

fn look(disk: &Disk, run: &Path, destination: &str) -> Found {
    let damaged = |what, kept| Found::Damaged(Damage { line: 1, what }, kept);
    let reading = match read_journal(run) {
        Ok(reading) => reading,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report(run, fs::remove_dir_all(run));
            return Found::Nothing;
        }
        Err(_) => return damaged("cannot be read", None),
    };
    if reading.is_of_another_version {
        return Found::Foreign(run.to_owned(), Aside::OfAnotherVersion);
    }
    let Some(journal) = reading.journal else {
        if reading.has_proof {
            return Found::Foreign(run.to_owned(), Aside::Damaged);
        }
        report(run, fs::remove_dir_all(run));
        return reading.damage.map_or(Found::Nothing, |damage| Found::Damaged(damage, None));
    };
    if journal.start.destination != destination {
        return Found::Foreign(run.to_owned(), Aside::OfAnotherDestination);
    }
    let spool = match Spool::reopen(disk.clone(), run, reading.line_bytes, &journal) {
        Ok(spool) => Arc::new(spool),
        Err(_) => return damaged("cannot be written", None),
    };
    let is_complete = journal.verified().is_ok();
    let kept = Kept { spool, journal };
    match reading.damage {
        damage if is_complete => Found::Complete(kept, damage),
        Some(damage) => Found::Damaged(damage, Some(kept)),
        None if kept.journal.proof.is_some() => Found::Complete(kept, None),
        None => Found::Unfinished(kept),
    }
}

/// Whether a run is at work there.
fn is_locked(subdirectory: &Path) -> bool {
    let lock = File::open(subdirectory.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
