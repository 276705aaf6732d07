//! The fault matrix: each verb of S3, each fault, at the first, the middle and the last call; once, and from then on. After each
//! the same must hold: success means a complete object that restores, anything else the documented exit code with no object and
//! nothing left that the next run does not finish or clean up.
//!
//! `faults` has the columns, `cell` the rule for each outcome, `stage` runs one, `sheet` runs all and writes
//! `target/fault-table.md`.

mod cell;
mod faults;
mod sheet;
mod stage;

use crate::support::proxy::S3Verb;
use cell::Scene;
use sheet::Sheet;

/// What a `backup` with retention asks of S3.
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
/// Of these, what a dump in the spool waits for.
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
fn a_streamed_backup_outlives_every_answer_or_leaves_nothing() {
    Sheet::answers(Scene::Streamed, &OF_STREAMED).run();
}

#[test]
fn a_spooled_backup_outlives_every_answer_or_keeps_the_dump() {
    Sheet::answers(Scene::Spooled, &OF_SPOOLED).run();
}

#[test]
fn a_failed_dump_is_aborted_whatever_s3_answers() {
    Sheet::answers(Scene::FailedDump, &OF_FAILED).run();
}

#[test]
fn a_prune_deletes_what_it_should_or_says_so() {
    Sheet::answers(Scene::Prune, &OF_PRUNE).run();
}

#[test]
fn no_stall_holds_anything_up_for_ever() {
    std::thread::scope(|scope| {
        scope.spawn(|| Sheet::stalls(Scene::Streamed, &OF_STREAMED).run());
        scope.spawn(|| Sheet::stalls(Scene::Spooled, &OF_SPOOLED).run());
        scope.spawn(|| Sheet::stalls(Scene::FailedDump, &OF_FAILED).run());
        scope.spawn(|| Sheet::stalls(Scene::Prune, &OF_PRUNE).run());
    });
}
