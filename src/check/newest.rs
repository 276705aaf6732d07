//! The newest backup: how old it is, and whether it is what its manifest and the backups before it lead to expect.
//!
//! Called by [`super::Check`] where the destination can be listed. All but `deep` costs one listing, one GET and one HEAD.

use std::time::Duration;

use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use crate::archive::manifest::Manifest;
use crate::archive::name::{BackupName, MANIFEST_SUFFIX};
use crate::archive::{self, BackupStatus, ListedStatus, Listing, SMALLEST_DUMP};
use crate::storage::{Destination, Head, etag_parts};

use super::request::answered;
use super::result::{CheckName, CheckResults, Outcome, Status};
use super::{Thresholds, deep};

/// A listing of a hundred thousand objects is a hundred requests.
const LISTING_DEADLINE: Duration = Duration::from_mins(5);
/// The median of so many before it is what a backup is compared with, as in the freeze rules (SPEC §7).
const BEFORE: usize = 5;
/// Clocks that set themselves may be that far apart.
const FUTURE_NOTICED: TimeDelta = TimeDelta::minutes(1);
const SET_THE_CLOCK: &str =
    "set the clock of the machine that takes the backups, or of this one; delete what was never taken";
const TAKE_ONE: &str = "take a new backup, and look at the store";

/// The newest backup of a destination.
pub(super) struct Freshness<'a> {
    pub destination: &'a Destination,
    pub thresholds: &'a Thresholds,
    /// The database that is backed up to here, where it is known.
    pub database: Option<&'a str>,
    /// Backups are to leave something out, as `PG_DUMP_ARGS` says: a partial one is as good as any.
    pub wants_partial: bool,
    /// For each request with its repetitions.
    pub deadline: Duration,
}

/// A backup in the listing.
struct Listed {
    file_name: String,
    bytes: u64,
}

impl Freshness<'_> {
    /// Looks for it, and at it.
    pub async fn examine(&self, results: &mut CheckResults<'_>) {
        let listing = match answered(LISTING_DEADLINE, Listing::read(self.destination)).await {
            Ok(listing) => listing,
            Err(trouble) => return results.add(CheckName::Freshness, trouble.verdict(Status::Fail)),
        };
        let is_future = |status: Option<BackupStatus>| status == Some(BackupStatus::Future);
        let future = listing.stored().next().filter(|(.., status)| is_future(*status)).map(|(name, ..)| name);
        let mut stored = listing.stored().skip_while(|(.., status)| is_future(*status));
        let Some((name, bytes, _)) = stored.next() else {
            return results.add(CheckName::Freshness, self.judge_absence(future));
        };
        let listed = Listed { file_name: name.to_string(), bytes };
        let (verdict, manifest) = self.read_manifest(&listed.file_name).await;
        let valid = self.newest_valid(&listing, (name, bytes), manifest.as_ref()).await;
        let (judged, judged_bytes) = valid.unwrap_or((name, bytes));
        // What cannot hold a dump is nothing to compare with, and a part is nothing to compare.
        let before = stored.filter(|(name, _, status)| *name < judged && status.is_none()).map(|(_, bytes, _)| bytes);
        let is_partial = judged == name && manifest.as_ref().is_some_and(|manifest| manifest.partial);
        let before: Vec<u64> = before.take(if is_partial { 0 } else { BEFORE }).collect();
        results.add(CheckName::Freshness, self.judge_age(judged, future, Utc::now()));
        results.add(CheckName::Manifest, verdict);
        results.add(CheckName::Object, self.look(&listed, manifest.as_ref()).await);
        let judged_bytes = if archive::is_too_small(bytes) { bytes } else { judged_bytes };
        results.add(CheckName::Size, judge_size(self.thresholds, judged_bytes, before));
        if self.thresholds.deep {
            deep::read(self.destination, &listed.file_name, manifest.as_ref(), results).await;
        }
    }

    /// The backup that age and size are judged by, as `list latest` finds it; `None` where none of the newest is valid. The
    /// newest backup itself needs no further request where its manifest says that it is valid.
    async fn newest_valid(
        &self,
        listing: &Listing<'_>,
        (name, bytes): (BackupName, u64),
        manifest: Option<&Manifest>,
    ) -> Option<(BackupName, u64)> {
        let status = manifest.map(|manifest| BackupStatus::by_manifest(bytes, manifest.object_bytes, manifest.partial));
        if status == Some(BackupStatus::Valid) || status == Some(BackupStatus::Partial) && self.wants_partial {
            return Some((name, bytes));
        }
        let (backup, _) = timeout(LISTING_DEADLINE, listing.latest(None)).await.ok()??;
        let is_valid = matches!(backup.status, ListedStatus::Valid | ListedStatus::Unverified);
        BackupName::parse(&backup.file_name).filter(|_| is_valid).map(|name| (name, backup.file_size))
    }

    fn judge_absence(&self, future: Option<BackupName>) -> Outcome {
        let place = self.destination.location(&self.destination.key(""));
        match future {
            Some(name) => {
                Outcome::fail(format!("{name} lies in the future, and no other backup is at {place}"), SET_THE_CLOCK)
            }
            None => Outcome::fail(
                format!("there is no backup at {place}"),
                "take one with `backup`, or correct S3_BUCKET and S3_PATH",
            ),
        }
    }

    /// How old the newest backup is. Names that lie further ahead than clocks differ say nothing of that.
    fn judge_age(&self, name: BackupName, future: Option<BackupName>, now: DateTime<Utc>) -> Outcome {
        let age = now - name.started();
        let since = words(age.abs());
        if age < -FUTURE_NOTICED {
            return Outcome::warn(format!("{name} lies {since} in the future"), SET_THE_CLOCK);
        }
        match self.thresholds.max_age.get() {
            Some(limit) if age > TimeDelta::from_std(limit).unwrap_or(TimeDelta::MAX) => Outcome::fail(
                format!("{name} is {since} old, more than {}", humantime::format_duration(limit)),
                "look at the log of the last `backup`, and whether its scheduler runs; --max-age sets the limit",
            ),
            _ => match future {
                Some(ahead) => Outcome::warn(
                    format!(
                        "{name} is {since} old; {ahead} lies in the future, is not counted, and holds up retention"
                    ),
                    SET_THE_CLOCK,
                ),
                None => Outcome::ok(format!("{name} is {since} old")),
            },
        }
    }

    /// A backup without a manifest is a backup: what is wrong with a manifest is a warning, unless it is another's.
    async fn read_manifest(&self, file_name: &str) -> (Outcome, Option<Manifest>) {
        let name = format!("{file_name}{MANIFEST_SUFFIX}");
        let manifest = match answered(self.deadline, self.destination.read_manifest::<Manifest>(&name)).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                let hint = "the backup can be restored, but not compared: look at the log of its run";
                return (Outcome::warn(format!("there is no {name}"), hint), None);
            }
            Err(trouble) => return (trouble.verdict(Status::Warn), None),
        };
        match manifest {
            Ok(manifest) if manifest.file_name == file_name => (self.judge_manifest(&manifest), Some(manifest)),
            Ok(manifest) => {
                let detail = format!("{name} is the manifest of {}", manifest.file_name);
                (Outcome::fail(detail, TAKE_ONE), None)
            }
            Err(error) => (Outcome::warn(format!("{name} cannot be read: {error}"), TAKE_ONE), None),
        }
    }

    fn judge_manifest(&self, manifest: &Manifest) -> Outcome {
        let Manifest { database, server_version, .. } = manifest;
        if let Some(ours) = self.database.filter(|ours| ours != database) {
            let detail = format!("the newest backup here is of database {database}, not of {ours}");
            return Outcome::fail(
                detail,
                "give each database a path of its own (S3_PATH), or back up with --allow-mixed",
            );
        }
        if manifest.partial {
            let arguments = manifest.pg_dump_arguments.join(" ");
            let detail = format!("it holds a part of database {database} only ({arguments})");
            return Outcome::warn(detail, "take a complete backup where all of it is wanted");
        }
        Outcome::ok(format!("of database {database} on PostgreSQL {server_version}"))
    }

    async fn look(&self, listed: &Listed, manifest: Option<&Manifest>) -> Outcome {
        let head = match answered(self.deadline, self.destination.head(&listed.file_name)).await {
            Ok(Some(head)) => head,
            Ok(None) => {
                return Outcome::fail(format!("{} is listed, but HEAD does not find it", listed.file_name), TAKE_ONE);
            }
            Err(trouble) => return trouble.verdict(Status::Warn),
        };
        // Some stores give a size in the listing alone.
        if let Some(bytes) = head.bytes.filter(|bytes| *bytes != listed.bytes) {
            let detail = format!("HEAD says {bytes} bytes, the listing {}", listed.bytes);
            return Outcome::fail(detail, "check again, and look at the store if it says so again");
        }
        match manifest {
            Some(manifest) => compare(&head, listed.bytes, manifest),
            None => Outcome::ok(format!("{} bytes; nothing to compare them with", listed.bytes)),
        }
    }
}

/// What HEAD says against what was uploaded. The bytes themselves are not read.
fn compare(head: &Head, bytes: u64, manifest: &Manifest) -> Outcome {
    if bytes != manifest.object_bytes {
        let detail = format!("it has {bytes} bytes, but {} were uploaded", manifest.object_bytes);
        return Outcome::fail(detail, TAKE_ONE);
    }
    let parts = head.etag.as_deref().and_then(etag_parts);
    match &head.run_id {
        Some(run_id) if *run_id != manifest.run_id => {
            let detail = format!("it was uploaded by run {run_id}, not by {}, whose manifest this is", manifest.run_id);
            Outcome::fail(detail, TAKE_ONE)
        }
        // Stores whose ETags have another shape say nothing by them; one of another number of parts was written again.
        Some(_) if parts.is_none_or(|parts| parts == manifest.parts) => {
            Outcome::ok(format!("{bytes} bytes, as they were uploaded"))
        }
        None if parts == Some(manifest.parts) => {
            Outcome::ok(format!("{bytes} bytes in {} parts, as they were uploaded", manifest.parts))
        }
        Some(_) | None => Outcome::warn(
            "it has the size that was uploaded, but was written by another program since",
            "`check --deep` compares its bytes",
        ),
    }
}

fn judge_size(thresholds: &Thresholds, bytes: u64, before: Vec<u64>) -> Outcome {
    let size = size_text(bytes);
    if archive::is_too_small(bytes) {
        let detail = format!(
            "{size} cannot hold a dump, which has {SMALLEST_DUMP} bytes at least: it is what a program that failed leaves"
        );
        return Outcome::fail(detail, TAKE_ONE);
    }
    if let Some(least) = thresholds.min_size.map(super::MinSize::get).filter(|least| bytes < *least) {
        let detail = format!("{size} is less than --min-size {}", size_text(least));
        return Outcome::fail(detail, "look whether the database has lost data, and which database this backup is of");
    }
    let Some(median) = archive::median(before) else {
        return Outcome::ok(format!("{size}; there is nothing to compare it with"));
    };
    match thresholds.max_shrink.least(median) {
        Some(least) if bytes < least => Outcome::fail(
            format!(
                "{size} is less than those before by more than {} (median {})",
                thresholds.max_shrink,
                size_text(median)
            ),
            "look whether the database has lost data; where it was meant to, raise --max-shrink for a while",
        ),
        _ => Outcome::ok(format!("{size}; those before have {} (median)", size_text(median))),
    }
}

fn size_text(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// To the minute, or to the second where that is all there is.
fn words(time: TimeDelta) -> String {
    let seconds = time.num_seconds().unsigned_abs();
    let seconds = if seconds < 60 { seconds } else { seconds - seconds % 60 };
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
