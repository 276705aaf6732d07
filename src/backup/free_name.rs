//! Starts an upload under the first free name.
//!
//! Called by [`super::upload_target`] and [`super::resume`]. A name is free if no object has it and, if uploads may be
//! listed, no other open upload. Where objects may be listed, a second is one backup's, whatever the suffix.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;

use crate::archive::name::BackupName;
use crate::spool::Spool;
use crate::storage::{Destination, NewUpload, StorageError, Upload};

use super::BackupError;
use super::limits::Limits;

/// Two runs to one path seldom start in the same second: only a store that says yes to everything needs more names.
const MOST_NAMES: u32 = 10;
/// How often the clock is read until its second has passed.
const CLOCK_STEP: Duration = Duration::from_millis(50);

/// Starts an upload under the first free name from `first` on. Waits for the second of each name, so that no name is later
/// than the start time in its manifest.
pub(super) async fn begin_under_free_name(
    destination: &Destination,
    first: BackupName,
    (with, spool): (&NewUpload, Option<&Arc<Spool>>),
    limits: Option<&Limits>,
) -> Result<Upload, BackupError> {
    let mut name = first;
    for attempt in 1..=MOST_NAMES {
        within(limits, async {
            wait_for(name).await;
            Ok(())
        })
        .await?;
        let key = destination.key(&name.to_string());
        if within(limits, async { Ok(destination.is_taken(&key).await?) }).await? {
            name = name.later(1);
            continue;
        }
        let with = NewUpload { key, ..with.clone() };
        let upload = within(limits, async { Ok(destination.begin(with, spool.cloned()).await?) }).await?;
        let is_alone = within(limits, async { Ok(upload.is_alone(&destination.key(&name.second())).await) }).await;
        match is_alone {
            Ok(true) => return Ok(upload),
            Ok(false) => tracing::info!(key = upload.key(), "another run has this second: taking a later one"),
            Err(_) => {}
        }
        upload.abort().await;
        is_alone?;
        // The other run may have seen this one and does the same: a random step keeps the two apart.
        name = name.later(1 + fastrand::u32(..=attempt));
    }
    Err(StorageError::NoFreeName { key: destination.key(&first.to_string()), tried: MOST_NAMES }.into())
}

/// Does some work until it ends, or until a limit, if there are limits.
async fn within<T>(
    limits: Option<&Limits>,
    work: impl Future<Output = Result<T, BackupError>>,
) -> Result<T, BackupError> {
    match limits {
        Some(limits) => limits.within(work).await,
        None => work.await,
    }
}

/// Waits until the second of a name has come.
async fn wait_for(name: BackupName) {
    // An error is a time that has passed.
    if let Ok(time) = (name.started() - Utc::now()).to_std() {
        tokio::time::sleep(time).await;
    }
}

/// The name of a backup that starts now, or a later one if the first was just delivered: write-only credentials
/// cannot see that it is taken.
pub(super) async fn unused_name(delivered: &[BackupName]) -> BackupName {
    loop {
        let name = BackupName::new(Utc::now());
        if delivered.iter().all(|delivered| delivered.started() != name.started()) {
            return name;
        }
        tokio::time::sleep(CLOCK_STEP).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codec;

    #[tokio::test]
    async fn a_backup_never_has_the_name_of_a_backup_just_delivered() {
        // One of the three is that of the current second.
        let now = BackupName::new(Utc::now());
        let delivered = [now, now.later(1).with_codec(Codec::Zstd)];
        let name = unused_name(&delivered).await;
        assert!(name == now.later(1).later(1) && name.started() <= Utc::now(), "{name}");
        assert!(unused_name(&[now]).await > now);
    }
}
