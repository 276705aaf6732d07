//! Deletes the backups that the plan selects and their sidecars: one request per object, several in flight.
//!
//! Called by `commands::prune`, by `backup`, and by [`super::named`]. It deletes only keys of this tool's own names. A refused delete is
//! reported and the others continue; an outage of the outage budget's length ends it.

use std::ops::ControlFlow;
use std::time::Duration;

use bytesize::ByteSize;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::archive::Entry;
use crate::archive::name::BackupName;
use crate::error_chain::Chain;
use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::storage::{Deletion, Destination, StorageError};

use super::review::{MAX_REQUESTS, RetentionReview};

/// How long deletes in flight may continue after a stop request.
const GRACE: Duration = Duration::from_secs(5);

/// What was deleted, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Deleted backups.
    pub backups: usize,
    /// Bytes of the deleted backups.
    pub backup_bytes: u64,
    /// Bytes of the deleted backups and sidecars.
    pub bytes: u64,
    /// Of these, the bytes that stay as noncurrent versions.
    pub hidden_bytes: u64,
    /// File names that could not be deleted, each with the reason.
    pub failed: Vec<(String, String)>,
    /// Backups that were not tried.
    pub remaining: usize,
    /// A stop request ended the deletion.
    pub is_stopped: bool,
}

/// What one job deleted: a backup with its sidecars, or the sidecars of a backup that no longer exists.
#[derive(Default)]
struct Done {
    backups: usize,
    backup_bytes: u64,
    bytes: u64,
    hidden_bytes: u64,
    failed: Option<(String, StorageError)>,
}

/// Deletes what the plan selects, until it is done or `stop` completes. The caller has judged the safety checks.
pub(super) async fn apply<Waiting: Future<Output = ()>>(
    destination: &Destination,
    review: &RetentionReview,
    stop: impl Fn() -> Waiting,
) -> Deleted {
    let names = review.plan().deletions().map(|backup| backup.name).chain(review.orphans());
    // Jobs run from the end, oldest backup first: an interrupted deletion leaves the newest.
    run(destination, names.filter_map(|name| Some((name, *review.entries.get(&name)?))).collect(), stop).await
}

/// Deletes these backups with their sidecars, from the last to the first, until it is done or `stop` completes.
pub(super) async fn run<Waiting: Future<Output = ()>>(
    destination: &Destination,
    mut waiting: Vec<(BackupName, Entry)>,
    stop: impl Fn() -> Waiting,
) -> Deleted {
    let mut deleted = Deleted::default();
    let mut running = JoinSet::new();
    loop {
        while running.len() < MAX_REQUESTS
            && let Some((name, entry)) = waiting.pop()
        {
            let destination = destination.clone();
            let deleting = async move {
                let mut done = Done::default();
                done.failed = done.delete_backup(&destination, name, entry).await.err();
                done
            };
            // Of several databases, two may have a backup of this name.
            running.spawn(deleting.in_current_span());
        }
        let done = tokio::select! {
            done = running.join_next() => done,
            () = stop() => {
                deleted.is_stopped = true;
                break;
            }
        };
        let Some(done) = done else { break };
        if deleted.add(done).is_break() {
            break;
        }
    }
    deleted.remaining = waiting.iter().filter(|(_, entry)| entry.backup.is_some()).count();
    let ending = async {
        while let Some(done) = running.join_next().await {
            _ = deleted.add(done);
        }
    };
    let _ = timeout(GRACE, ending).await;
    deleted.remaining += running.len();
    if deleted.hidden_bytes > 0 {
        tracing::info!(
            bytes = deleted.hidden_bytes,
            "the bucket keeps versions: these bytes stay until a lifecycle rule with NoncurrentVersionExpiration ends them"
        );
    }
    deleted
}

impl Deleted {
    /// Adds a job's result. Breaks at an outage, because further deletes would fail, too.
    fn add(&mut self, done: Result<Done, JoinError>) -> ControlFlow<()> {
        let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        self.backups += done.backups;
        self.backup_bytes += done.backup_bytes;
        self.bytes += done.bytes;
        self.hidden_bytes += done.hidden_bytes;
        let Some((file_name, error)) = done.failed else { return ControlFlow::Continue(()) };
        let reason = Chain(&error).to_string();
        tracing::warn!(file_name, error = reason, "cannot be deleted");
        self.failed.push((file_name, reason));
        if matches!(error, StorageError::Outage { .. }) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Done {
    async fn delete_backup(
        &mut self,
        destination: &Destination,
        name: BackupName,
        entry: Entry,
    ) -> Result<(), (String, StorageError)> {
        if let Some(bytes) = entry.backup {
            self.delete(destination, name.to_string(), bytes).await?;
            self.backups += 1;
            self.backup_bytes += bytes;
            tracing::info!(target: FOR_MACHINES, file_name = %name, bytes, "backup deleted");
            tracing::info!(target: FOR_PEOPLE, "deleted {name} ({})", ByteSize(bytes).display().iec());
        } else if exists(destination, name).await? {
            return Ok(());
        }
        for (suffix, bytes) in entry.sidecars.iter() {
            self.delete(destination, format!("{name}{suffix}"), bytes).await?;
        }
        Ok(())
    }

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

/// Whether a backup exists now: a backup committed during the listing may be listed with its sidecars alone.
async fn exists(destination: &Destination, name: BackupName) -> Result<bool, (String, StorageError)> {
    let wanted = name.to_string();
    let mut exists = false;
    let listed = destination.list(&wanted, &mut |file_name: &str, _| exists |= file_name == wanted).await;
    listed.map(|()| exists).map_err(|error| (wanted, error))
}
