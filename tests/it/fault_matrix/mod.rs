//! The fault matrix: each verb of S3 with each fault, at the first, the middle and the last call; once, and from then on. After each,
//! the same holds: success means a complete object that restores; a failure has the documented exit code, leaves no object, and
//! the next run finishes or cleans up everything else.
//!
//! `faults` has the columns, `cell` the expected outcome, `stage` runs one cell, `sheet` runs all and writes
//! `target/fault-table.md`.

mod cell;
mod faults;
mod sheet;
mod stage;

use crate::support::proxy::S3Verb;
use cell::Scene;
use sheet::Sheet;

/// The requests of a `backup` with retention.
const OF_STREAMED: [S3Verb; 9] = [
    S3Verb::CreateMultipartUpload,
    S3Verb::UploadPart,
    S3Verb::CompleteMultipartUpload,
    S3Verb::HeadObject,
    S3Verb::PutObject,
    S3Verb::ListObjects,
    S3Verb::GetObject,
    S3Verb::DeleteObject,
    S3Verb::ListMultipartUploads,
];
/// The requests that deliver a dump from the spool.
const OF_SPOOLED: [S3Verb; 4] =
    [S3Verb::CreateMultipartUpload, S3Verb::UploadPart, S3Verb::CompleteMultipartUpload, S3Verb::HeadObject];
/// The requests of a `prune` that cleans up abandoned uploads.
const OF_PRUNE: [S3Verb; 6] = [
    S3Verb::ListObjects,
    S3Verb::GetObject,
    S3Verb::DeleteObject,
    S3Verb::ListMultipartUploads,
    S3Verb::ListParts,
    S3Verb::AbortMultipartUpload,
];
/// The further requests of a failed dump.
const OF_FAILED: [S3Verb; 1] = [S3Verb::AbortMultipartUpload];

#[test]
fn streamed_backup_succeeds_or_leaves_nothing_after_each_fault() {
    Sheet::answers(Scene::Streamed, &OF_STREAMED).run();
}

#[test]
fn spooled_backup_succeeds_or_keeps_dump_after_each_fault() {
    Sheet::answers(Scene::Spooled, &OF_SPOOLED).run();
}

#[test]
fn aborts_failed_dump_after_each_fault() {
    Sheet::answers(Scene::FailedDump, &OF_FAILED).run();
}

#[test]
fn prune_deletes_or_reports_after_each_fault() {
    Sheet::answers(Scene::Prune, &OF_PRUNE).run();
}

#[test]
fn every_stall_ends() {
    std::thread::scope(|scope| {
        scope.spawn(|| Sheet::stalls(Scene::Streamed, &OF_STREAMED).run());
        scope.spawn(|| Sheet::stalls(Scene::Spooled, &OF_SPOOLED).run());
        scope.spawn(|| Sheet::stalls(Scene::FailedDump, &OF_FAILED).run());
        scope.spawn(|| Sheet::stalls(Scene::Prune, &OF_PRUNE).run());
    });
}
