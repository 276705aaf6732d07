//! Checks the newest backup: its age, and whether it matches its manifest and the backups before it.
//!
//! Called by [`super::Check`] if the destination can be listed. Without `deep` it costs one listing, one GET and one HEAD.

use std::time::Duration;

use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::timeout;

use crate::archive::manifest::Manifest;
use crate::archive::name::{BackupName, MANIFEST_SUFFIX};
use crate::archive::{self, BackupStatus, Listing};
use crate::storage::{Destination, Head, etag_parts};

use super::name::CheckName;
use super::request::answered;
use super::result::{CheckResults, Outcome, Status};
use super::{Keys, Thresholds, deep, encryption};

/// A listing of a hundred thousand objects is a hundred requests.
const LISTING_DEADLINE: Duration = Duration::from_mins(5);
/// A backup is compared with the median of this many before it, as in retention's safety checks.
const BEFORE: usize = 5;
/// Synchronised clocks differ by less.
const FUTURE_NOTICED: TimeDelta = TimeDelta::minutes(1);
const SET_THE_CLOCK: &str =
    "correct the clock of the machine that takes the backups, or of this one; delete the object if its time is wrong";
const TAKE_ONE: &str = "take a new backup, and check the store";

/// The newest backup of a destination.
pub(super) struct Freshness<'a> {
    pub destination: &'a Destination,
    pub thresholds: &'a Thresholds,
    pub keys: &'a Keys,
    /// Whether the settings of the next backup are known.
    pub is_source_known: bool,
    /// The database of the source, if it is known.
    pub database: Option<&'a str>,
    /// The system identifier of the server, if no other server's backups may be here.
    pub server: Option<&'a str>,
    /// Whether `PG_DUMP_ARGS` makes backups partial: then a partial one counts.
    pub wants_partial: bool,
    /// The time limit of each request, with its retries.
    pub deadline: Duration,
}

/// A backup in the listing.
struct Listed {
    file_name: String,
    bytes: u64,
}

impl Freshness<'_> {
    /// Finds it and runs the checks.
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
        // Invalid and partial backups are not compared.
        let before = stored.filter(|(name, _, status)| *name < judged && status.is_none()).map(|(_, bytes, _)| bytes);
        let is_partial = judged == name && manifest.as_ref().is_some_and(|manifest| manifest.partial);
        let before: Vec<u64> = before.take(if is_partial { 0 } else { BEFORE }).collect();
        results.add(CheckName::Freshness, self.judge_age(judged, future, Utc::now()));
        results.add(CheckName::Manifest, verdict);
        results.add(CheckName::Object, self.look(&listed, manifest.as_ref()).await);
        let judged = if archive::is_too_small(name, bytes) { (name, bytes) } else { (judged, judged_bytes) };
        results.add(CheckName::Size, judge_size(self.thresholds, judged, before));
        let next = self.keys.recipients.as_ref();
        if let Some(outcome) = self.is_source_known.then(|| encryption::judge(name, manifest.as_ref(), next)).flatten()
        {
            results.add(CheckName::Encryption, outcome);
        }
        if self.thresholds.deep {
            let identities = self.keys.identities.as_ref();
            deep::read((self.destination, name), manifest.as_ref(), identities, results).await;
        }
    }

    /// The backup for age and size, as `list latest` finds it; `None` if none of the newest is valid. If the newest backup is
    /// valid by its manifest, no further request is needed.
    async fn newest_valid(
        &self,
        listing: &Listing,
        (name, bytes): (BackupName, u64),
        manifest: Option<&Manifest>,
    ) -> Option<(BackupName, u64)> {
        let status = manifest.map(|manifest| BackupStatus::by_manifest(bytes, manifest.object_bytes, manifest.partial));
        if status == Some(BackupStatus::Valid) || status == Some(BackupStatus::Partial) && self.wants_partial {
            return Some((name, bytes));
        }
        let (backup, _) = timeout(LISTING_DEADLINE, listing.latest(None)).await.ok()?.found?;
        let is_valid = matches!(backup.status, BackupStatus::Valid | BackupStatus::Unverified);
        BackupName::parse(&backup.file_name).filter(|_| is_valid).map(|name| (name, backup.file_size))
    }

    fn judge_absence(&self, future: Option<BackupName>) -> Outcome {
        let place = self.destination.url();
        match future {
            Some(name) => Outcome::fail(
                format!("{name} is in the future, and there is no other backup at {place}"),
                SET_THE_CLOCK,
            ),
            None => Outcome::fail(
                format!("there is no backup at {place}"),
                "take one with `backup`, or correct S3_BUCKET and S3_PATH",
            ),
        }
    }

    /// Judges the age of the newest backup.
    fn judge_age(&self, name: BackupName, future: Option<BackupName>, now: DateTime<Utc>) -> Outcome {
        let age = now - name.started();
        let since = words(age.abs());
        if age < -FUTURE_NOTICED {
            return Outcome::warn(format!("{name} is {since} in the future"), SET_THE_CLOCK);
        }
        match self.thresholds.max_age.get() {
            Some(limit) if age > TimeDelta::from_std(limit).unwrap_or(TimeDelta::MAX) => Outcome::fail(
                format!("{name} is {since} old, more than {}", humantime::format_duration(limit)),
                "check the log of the last `backup`, and that its scheduler runs; --max-age sets the limit",
            ),
            _ => match future {
                Some(ahead) => Outcome::warn(
                    format!("{name} is {since} old; {ahead} is in the future, does not count, and blocks retention"),
                    SET_THE_CLOCK,
                ),
                None => Outcome::ok(format!("{name} is {since} old")),
            },
        }
    }

    /// A problem with a manifest is a warning, because the backup can be restored without it; another backup's manifest is a
    /// failure.
    async fn read_manifest(&self, file_name: &str) -> (Outcome, Option<Manifest>) {
        let name = format!("{file_name}{MANIFEST_SUFFIX}");
        let manifest = match answered(self.deadline, self.destination.read_manifest::<Manifest>(&name)).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                let hint = "the backup can be restored, but not verified: check the log of its run";
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
        let Manifest { database, server_version, system_identifier, .. } = manifest;
        if let Some(ours) = self.database.filter(|ours| ours != database) {
            let detail = format!("the newest backup here is of database {database}, not of {ours}");
            return Outcome::fail(
                detail,
                "give each database a path of its own (S3_PATH), or back up with --allow-mixed",
            );
        }
        if let Some((ours, theirs)) =
            self.server.zip(system_identifier.as_deref()).filter(|(ours, theirs)| ours != theirs)
        {
            let detail = format!(
                "the newest backup here is of database {database} on another server (system identifier {theirs}, not {ours})"
            );
            return Outcome::fail(
                detail,
                "give each server its own S3_PATH, or, after an upgrade or a move, back up with --allow-mixed once",
            );
        }
        if manifest.partial {
            let arguments = manifest.pg_dump_arguments.join(" ");
            let detail = format!("it holds only a part of database {database} ({arguments})");
            return Outcome::warn(detail, "take a complete backup if you need all of it");
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
        // Some stores report the size only in the listing.
        if let Some(bytes) = head.bytes.filter(|bytes| *bytes != listed.bytes) {
            let detail = format!("HEAD says {bytes} bytes, the listing {}", listed.bytes);
            return Outcome::fail(detail, "check again, and check the store if it happens again");
        }
        match manifest {
            Some(manifest) => compare(&head, listed.bytes, manifest),
            None => Outcome::ok(format!("{} bytes; no manifest to compare with", listed.bytes)),
        }
    }
}

/// Compares HEAD with the manifest. The content is not read.
fn compare(head: &Head, bytes: u64, manifest: &Manifest) -> Outcome {
    if bytes != manifest.object_bytes {
        let detail = format!("it has {bytes} bytes, but {} were uploaded", manifest.object_bytes);
        return Outcome::fail(detail, TAKE_ONE);
    }
    let parts = head.etag.as_deref().and_then(etag_parts);
    match &head.run_id {
        Some(run_id) if *run_id != manifest.run_id => {
            let detail = format!("it was uploaded by run {run_id}, but its manifest is of run {}", manifest.run_id);
            Outcome::fail(detail, TAKE_ONE)
        }
        // Other stores' ETags do not show the number of parts. A different number means that the object was written again.
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

fn judge_size(thresholds: &Thresholds, (name, bytes): (BackupName, u64), before: Vec<u64>) -> Outcome {
    let size = size_text(bytes);
    if archive::is_too_small(name, bytes) {
        let least = archive::smallest_dump(name);
        let detail = format!("{size} is too small for a dump (at least {least} bytes): a failed program left it");
        return Outcome::fail(detail, TAKE_ONE);
    }
    if let Some(least) = thresholds.min_size.map(super::MinSize::get).filter(|least| bytes < *least) {
        let detail = format!("{size} is less than --min-size {}", size_text(least));
        return Outcome::fail(detail, "check whether the database has lost data, and which database this is");
    }
    let Some(median) = archive::median(before) else {
        return Outcome::ok(format!("{size}; no earlier backup to compare with"));
    };
    match thresholds.max_shrink.least(median) {
        Some(least) if bytes < least => Outcome::fail(
            format!(
                "{size} is less than those before by more than {} (median {})",
                thresholds.max_shrink,
                size_text(median)
            ),
            "check whether the database has lost data; if that was intended, raise --max-shrink for a while",
        ),
        _ => Outcome::ok(format!("{size}; those before have {} (median)", size_text(median))),
    }
}

fn size_text(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// Rounded to minutes; below a minute, to seconds.
fn words(time: TimeDelta) -> String {
    let seconds = time.num_seconds().unsigned_abs();
    let seconds = if seconds < 60 { seconds } else { seconds - seconds % 60 };
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}
