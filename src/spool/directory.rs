//! The spool's directory: one locked subdirectory for each destination, and what earlier runs left in it.
//!
//! `backup` opens it before anything else. The lock excludes a second run of the same destination. Other destinations have
//! their own subdirectories, which a run reads but never changes. A run's files that this version can neither use nor
//! delete are set aside under a name that says why.

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
/// Another process that tests the lock holds it for some microseconds.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Bytes of the sha256 in a subdirectory's name: enough that no two destinations share one.
const ID_BYTES: usize = 16;

/// One destination's subdirectory, locked until this value is dropped.
#[derive(Debug)]
pub struct SpoolDir {
    dir: PathBuf,
    subdirectory: PathBuf,
    destination: String,
    disk: Disk,
    // Dropping it releases the lock.
    _lock: HeldFile,
}

/// The files of an earlier run.
#[derive(Debug)]
pub enum Found {
    /// A verified dump, and damage to its journal that does not affect it.
    Complete(Kept, Option<Damage>),
    /// A dump that was not completed.
    Unfinished(Kept),
    /// A journal with damage that affects the dump, and its valid records.
    Damaged(Damage, Option<Kept>),
    /// Files that this run can neither use nor delete.
    Foreign(PathBuf, SetAside),
    /// Files without a journal, deleted by now.
    Nothing,
}

/// Why a run's files are set aside. The program does not change them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetAside {
    /// The dump cannot be delivered.
    Refused,
    /// A part cannot be read. It may be intact.
    Unreadable,
    /// Another version of this program wrote the journal.
    OfAnotherVersion,
    /// The journal in this destination's subdirectory names another destination.
    OfAnotherDestination,
    /// Its dump was complete, but it is unknown which destination it is for.
    Damaged,
}

impl SetAside {
    const ALL: [Self; 5] =
        [Self::Refused, Self::Unreadable, Self::OfAnotherVersion, Self::OfAnotherDestination, Self::Damaged];

    /// The beginning of the directory's name, before the run's id.
    fn prefix(self) -> &'static str {
        match self {
            Self::Refused => "refused-",
            Self::Unreadable => "unreadable-",
            Self::OfAnotherVersion => "other-version-",
            Self::OfAnotherDestination => "other-destination-",
            Self::Damaged => "damaged-",
        }
    }

    /// The cause, for a message.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Refused => "S3 refuses it",
            Self::Unreadable => "the disk cannot read it",
            Self::OfAnotherVersion => {
                "another version of pg-s3-backup wrote its journal: run that version to deliver it"
            }
            Self::OfAnotherDestination => {
                "its journal names another destination: move this directory there, and run a backup to it"
            }
            Self::Damaged => "its journal is damaged and does not name its database",
        }
    }
}

/// An earlier run: its files and its journal.
#[derive(Debug)]
pub struct Kept {
    /// The files.
    pub spool: Arc<Spool>,
    /// The journal.
    pub journal: Journal,
}

// Each call has a deadline of `Disk`.
impl SpoolDir {
    /// Creates and locks the subdirectory of a destination (endpoint, bucket and path in one text).
    ///
    /// # Errors
    /// [`SpoolError::Busy`] if another run uses it, [`SpoolError::Unusable`] if it cannot be created.
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

    /// Creates the files of a new run.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn create(&self, start: Start) -> Result<Arc<Spool>, SpoolError> {
        let (disk, subdirectory) = (self.disk.clone(), self.subdirectory.clone());
        self.disk.call(0, move || Spool::create(disk, &subdirectory, start).map(Arc::new)).await?
    }

    /// Returns the runs that left files, oldest name first. They have ended, because this value has the lock.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub async fn found(&self) -> Result<Vec<Found>, SpoolError> {
        let (disk, subdirectory, destination) =
            (self.disk.clone(), self.subdirectory.clone(), self.destination.clone());
        self.disk
            .call(0, move || {
                let runs = subdirectories(&subdirectory)
                    .map_err(|source| SpoolError::Unusable { path: subdirectory.clone(), source })?;
                let mut found: Vec<Found> = runs.iter().map(|run| inspect(&disk, run, &destination)).collect();
                found.sort_by_key(|found| match found {
                    Found::Complete(kept, _) | Found::Unfinished(kept) => Some(kept.journal.start.file_name.clone()),
                    Found::Damaged(..) | Found::Foreign(..) | Found::Nothing => None,
                });
                Ok(found)
            })
            .await?
    }

    /// Complete dumps of other destinations that no run is delivering.
    ///
    /// # Errors
    /// If the disk does not answer in time.
    pub async fn complete_dumps_of_others(&self) -> Result<Vec<CompleteDump>, SpoolError> {
        let all = complete_dumps(&self.dir).await?;
        Ok(all.into_iter().filter(|dump| dump.destination != self.destination).collect())
    }

    /// Renames a run's directory, so that later runs ignore it; returns its new path.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn set_aside(&self, run: &Path, why: SetAside) -> Result<PathBuf, SpoolError> {
        let (run, subdirectory) = (run.to_owned(), self.subdirectory.clone());
        let rename = move || {
            let id = run.file_name().unwrap_or_default().to_string_lossy();
            let place = subdirectory.join(format!("{}{id}", why.prefix()));
            fs::rename(&run, &place).and_then(|()| sync_dir(&subdirectory)).map_err(SpoolError::Write)?;
            Ok(place)
        };
        self.disk.call(0, rename).await?
    }

    /// The directories that earlier runs have set aside.
    ///
    /// # Errors
    /// If the disk does not answer in time.
    pub async fn set_aside_runs(&self) -> Result<Vec<PathBuf>, SpoolError> {
        let subdirectory = self.subdirectory.clone();
        let look = move || {
            let is_aside =
                |name: &str| SetAside::ALL.iter().any(|why| name.strip_prefix(why.prefix()).is_some_and(is_id));
            directories(&subdirectory, is_aside).unwrap_or_default()
        };
        Ok(self.disk.call(0, look).await?)
    }
}

/// A complete dump that waits to be delivered.
#[derive(Clone, Debug)]
pub struct CompleteDump {
    /// Its directory.
    pub path: PathBuf,
    /// Its destination: endpoint, bucket and path in one text.
    pub destination: String,
    /// `s3://bucket/path`, for people.
    pub location: String,
}

/// The complete dumps in a spool that no run is delivering, of all destinations.
///
/// # Errors
/// If the disk does not answer in time.
pub async fn complete_dumps(dir: &Path) -> Result<Vec<CompleteDump>, SpoolError> {
    let spool = dir.to_owned();
    let look = move || {
        let left =
            subdirectories(&spool).unwrap_or_default().into_iter().filter(|subdirectory| !is_locked(subdirectory));
        let runs = left.flat_map(|subdirectory| subdirectories(&subdirectory).unwrap_or_default());
        let complete = runs.filter_map(|path| {
            let journal = read_journal(&path).ok()?.journal?;
            journal.verification.as_ref()?;
            Some(CompleteDump { path, destination: journal.start.destination, location: journal.start.location })
        });
        complete.collect()
    };
    Ok(Disk::of(dir).call(0, look).await?)
}

/// Whether this spool has a complete dump for this destination, and no run is delivering it. `false` if the disk does not
/// answer in time: a backup reports that.
pub async fn holds_complete_dump(dir: &Path, destination: &str) -> bool {
    let subdirectory = dir.join(id_of(destination));
    let look = move || {
        let is_complete = |run: &PathBuf| {
            let journal = read_journal(run).ok().and_then(|reading| reading.journal);
            journal.is_some_and(|journal| journal.verification.is_some())
        };
        !is_locked(&subdirectory) && subdirectories(&subdirectory).is_ok_and(|runs| runs.iter().any(is_complete))
    };
    Disk::of(dir).call(0, look).await.unwrap_or_default()
}

/// Returns the ids of the uploads in all journals of this spool, of any destination: these are not abandoned.
///
/// # Errors
/// If a journal cannot be read, for example one of another user or version: the list would be incomplete.
pub async fn upload_ids(dir: &Path) -> Result<BTreeSet<String>, SpoolError> {
    let spool = dir.to_owned();
    let look = move || {
        let mut ids = BTreeSet::new();
        for subdirectory in default_if_missing(&spool, subdirectories(&spool))? {
            for run in default_if_missing(&subdirectory, subdirectories(&subdirectory))? {
                let Some(reading) = default_if_missing(&run, read_journal(&run).map(Some))? else { continue };
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

/// A directory that does not exist is empty: no run has used it, or one has just ended.
fn default_if_missing<T: Default>(path: &Path, read: io::Result<T>) -> Result<T, SpoolError> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        read => read.map_err(|source| SpoolError::Unusable { path: path.to_owned(), source }),
    }
}

/// Checks that files can be written in this spool, creates its directory if it does not exist, and returns the free bytes.
///
/// # Errors
/// [`SpoolError::Unusable`] if it cannot be written.
pub async fn check_writable(dir: &Path) -> Result<u64, SpoolError> {
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

/// Creates a subdirectory and locks it.
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
    hex::encode(&digest[..ID_BYTES])
}

/// Returns the spool's subdirectories, or a subdirectory's runs. Directories with other names are ignored.
fn subdirectories(path: &Path) -> io::Result<Vec<PathBuf>> {
    directories(path, is_id)
}

/// 32 hexadecimal digits.
fn is_id(name: &str) -> bool {
    name.len() == 2 * ID_BYTES && name.bytes().all(|byte| byte.is_ascii_hexdigit())
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

fn inspect(disk: &Disk, run: &Path, destination: &str) -> Found {
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
        return Found::Foreign(run.to_owned(), SetAside::OfAnotherVersion);
    }
    let Some(journal) = reading.journal else {
        if reading.has_verification {
            return Found::Foreign(run.to_owned(), SetAside::Damaged);
        }
        report(run, fs::remove_dir_all(run));
        return reading.damage.map_or(Found::Nothing, |damage| Found::Damaged(damage, None));
    };
    if journal.start.destination != destination {
        return Found::Foreign(run.to_owned(), SetAside::OfAnotherDestination);
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
        None if kept.journal.verification.is_some() => Found::Complete(kept, None),
        None => Found::Unfinished(kept),
    }
}

/// Whether a run holds the lock there.
fn is_locked(subdirectory: &Path) -> bool {
    let lock = File::open(subdirectory.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
