//! The deleting: each backup that the plan deletes, and then its sidecars; single deletes, several at once.
//!
//! Called by `commands::prune`, by `backup`, and by [`super::named`]. It deletes nothing but complete keys that [`super::inventory`] made out of this
//! tool's own names. A delete that is refused is named, and the rest go on; an outage that outlasts its budget ends it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::archive::Entry;
use crate::archive::name::BackupName;
use crate::error_chain::Chain;
use crate::storage::{Deletion, Destination, StorageError};

use super::inventory::{AT_ONCE, Inventory};

/// How long deletes that are under way may go on once the program was asked to stop.
const GRACE: Duration = Duration::from_secs(5);

/// What was deleted, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Backups that are gone.
    pub backups: usize,
    /// Their own bytes.
    pub backup_bytes: u64,
    /// Their bytes, with what lay beside them.
    pub bytes: u64,
    /// Of these, the bytes that stay as noncurrent versions.
    pub hidden_bytes: u64,
    /// File names that could not be deleted, each with the reason.
    pub failed: Vec<(String, String)>,
    /// Backups that were not tried any more.
    pub remaining: usize,
    /// The program was asked to stop.
    pub is_stopped: bool,
}

/// One backup to be taken away.
#[derive(Clone, Copy)]
pub(super) enum Job {
    /// The backup, and then what lies next to it.
    Backup(BackupName, Entry),
    /// What lies beside a backup that is gone, unless it turns out to be there.
    Orphan(BackupName, Entry),
}

/// What became of one job.
#[derive(Default)]
struct Done {
    backups: usize,
    backup_bytes: u64,
    bytes: u64,
    hidden_bytes: u64,
    failed: Option<(String, StorageError)>,
}

/// Deletes what the inventory's plan says, until it is done or told to stop. Whether something speaks against the plan is the
/// caller's to judge.
pub(super) async fn apply<Waiting: Future<Output = ()>>(
    destination: &Destination,
    inventory: &Inventory,
    stop: impl Fn() -> Waiting,
) -> Deleted {
    let entry = |name: &BackupName| inventory.entries.get(name).copied().unwrap_or_default();
    let to_delete = inventory.plan().deletions().map(|backup| Job::Backup(backup.name, entry(&backup.name)));
    let orphans = inventory.orphans().map(|name| Job::Orphan(name, entry(&name)));
    run(destination, to_delete.chain(orphans).collect(), stop).await
}

/// Does these jobs, the last first, until they are done or told to stop. The newest come first, so that the better ones are
/// left where it is cut short.
pub(super) async fn run<Waiting: Future<Output = ()>>(
    destination: &Destination,
    mut waiting: VecDeque<Job>,
    stop: impl Fn() -> Waiting,
) -> Deleted {
    let mut deleted = Deleted::default();
    let mut running = JoinSet::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(job) = waiting.pop_back()
        {
            let destination = destination.clone();
            running.spawn(async move { job.run(&destination).await });
        }
        let done = tokio::select! {
            done = running.join_next() => done,
            () = stop() => {
                deleted.is_stopped = true;
                break;
            }
        };
        let Some(done) = done else { break };
        if deleted.take_in(done) == Goes::NoFurther {
            break;
        }
    }
    deleted.remaining = waiting.iter().filter(|job| matches!(job, Job::Backup(..))).count();
    let ending = async {
        while let Some(done) = running.join_next().await {
            deleted.take_in(done);
        }
    };
    let _ = timeout(GRACE, ending).await;
    deleted.remaining += running.len();
    deleted.tell();
    deleted
}

/// Whether deleting has a point.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Goes {
    On,
    NoFurther,
}

impl Deleted {
    fn take_in(&mut self, done: Result<Done, JoinError>) -> Goes {
        let done = match done {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        self.backups += done.backups;
        self.backup_bytes += done.backup_bytes;
        self.bytes += done.bytes;
        self.hidden_bytes += done.hidden_bytes;
        let Some((file_name, error)) = done.failed else { return Goes::On };
        let reason = Chain(&error).to_string();
        tracing::warn!(file_name, error = reason, "cannot be deleted");
        self.failed.push((file_name, reason));
        if matches!(error, StorageError::Outage { .. }) { Goes::NoFurther } else { Goes::On }
    }

    fn tell(&self) {
        if self.hidden_bytes > 0 {
            tracing::info!(
                bytes = self.hidden_bytes,
                "the bucket keeps versions: these bytes stay until a lifecycle rule with NoncurrentVersionExpiration ends them"
            );
        }
    }
}

impl Job {
    async fn run(self, destination: &Destination) -> Done {
        let mut done = Done::default();
        if let Err(failed) = self.delete(destination, &mut done).await {
            done.failed = Some(failed);
        }
        done
    }

    async fn delete(self, destination: &Destination, done: &mut Done) -> Result<(), (String, StorageError)> {
        let (name, entry) = match self {
            Self::Backup(name, entry) => {
                let bytes = entry.backup.unwrap_or_default();
                done.delete(destination, name.to_string(), bytes).await?;
                done.backups += 1;
                done.backup_bytes += bytes;
                tracing::info!(file_name = %name, bytes, "backup deleted");
                (name, entry)
            }
            Self::Orphan(name, entry) => {
                if is_there(destination, name).await? {
                    return Ok(());
                }
                (name, entry)
            }
        };
        for (suffix, bytes) in entry.sidecars.iter() {
            done.delete(destination, format!("{name}{suffix}"), bytes).await?;
        }
        Ok(())
    }
}

impl Done {
    async fn delete(
        &mut self,
        destination: &Destination,
        file_name: String,
        bytes: u64,
    ) -> Result<(), (String, StorageError)> {
        match destination.delete(&file_name).await {
            Ok(deletion) => {
                self.bytes += bytes;
                self.hidden_bytes += if deletion == Deletion::Hidden { bytes } else { 0 };
                tracing::debug!(file_name, bytes, ?deletion, "deleted");
                Ok(())
            }
            Err(error) => Err((file_name, error)),
        }
    }
}

/// Whether a backup is there now. The listing may have passed its name a moment before it was committed, and found what
/// lies next to it a moment after.
async fn is_there(destination: &Destination, name: BackupName) -> Result<bool, (String, StorageError)> {
    let wanted = name.to_string();
    let mut is_there = false;
    let listed = destination.list(&wanted, &mut |file_name: &str, _| is_there |= file_name == wanted).await;
    listed.map(|()| is_there).map_err(|error| (wanted, error))
}
