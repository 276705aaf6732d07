//! Checks that S3 allows these credentials what a backup needs, and that it works.
//!
//! Called by [`super::Check`]. The listing comes first: if S3 does not answer, or if the bucket or the key is wrong, each further
//! check would fail for the same reason, so they are skipped. DELETE comes before PUT: where these credentials may not delete,
//! nothing is written, so that no object stays behind.

use std::time::Duration;

use crate::storage::{FirstLook, Probe as Prober};

use super::clock::Clock;
use super::name::CheckName::{self, S3Delete, S3Get, S3Head, S3List, S3Multipart, S3Put};
use super::request::{RequestError, answered};
use super::result::{CheckResults, Outcome, Status};

/// The checks of one destination.
pub(super) struct Store<'a> {
    pub probe: &'a Prober,
    /// The time limit of each request, with its retries.
    pub deadline: Duration,
    /// Whether to check writing, too.
    pub writes: bool,
}

/// Whether backups can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// They can be listed.
    Lists,
    /// They cannot.
    DoesNotList,
}

impl Store<'_> {
    /// Runs the checks.
    pub async fn examine(&self, results: &mut CheckResults<'_>) -> Access {
        let look = answered(self.deadline, async { Ok(self.probe.list().await) }).await;
        let (listed, clock_ahead) = match look {
            Ok(FirstLook { listed, clock_ahead }) => (listed.map_err(RequestError::from), clock_ahead),
            Err(error) => (Err(error), None),
        };
        let is_lost = listed.as_ref().is_err_and(|error| !error.is_denied);
        let access = if listed.is_ok() { Access::Lists } else { Access::DoesNotList };
        results.add(S3List, self.judge_listing(listed));
        if let Some(ahead) = clock_ahead {
            results.add(CheckName::S3Clock, Clock::S3.judge(ahead));
        }
        if self.writes && is_lost {
            skip(results, &[S3Delete, S3Put, S3Head, S3Get, S3Multipart], S3List);
        } else if self.writes {
            self.try_object(results).await;
            results.add(S3Multipart, self.try_upload().await);
        }
        if access == Access::DoesNotList {
            skip(results, &[CheckName::Freshness], S3List);
        }
        access
    }

    /// A backup needs no listing; `--bucket-only` does.
    fn judge_listing(&self, listed: Result<(), RequestError>) -> Outcome {
        match listed {
            Ok(()) => Outcome::ok("backups can be listed"),
            Err(error) if self.writes => error
                .or_if_denied("a backup needs no listing: check the latest backup with `check --bucket-only` and other credentials")
                .verdict(Status::Warn),
            Err(error) => error.verdict(Status::Fail),
        }
    }

    async fn try_object(&self, results: &mut CheckResults<'_>) {
        let key = self.probe.key();
        let deleted = answered(self.deadline, self.probe.delete()).await;
        let is_deletable = deleted.is_ok();
        results.add(S3Delete, match deleted {
            Ok(()) => Outcome::ok(format!("{key} can be deleted")),
            Err(error) => {
                let hint = "a backup needs no DELETE: prune with other credentials; no probe object was put, for it would stay";
                error.or_if_denied(hint).verdict(Status::Warn)
            }
        });
        if !is_deletable {
            return skip(results, &[S3Put, S3Head, S3Get], S3Delete);
        }
        let put = answered(self.deadline, self.probe.put()).await;
        let is_put = put.is_ok();
        results.add(
            S3Put,
            match put {
                Ok(()) => Outcome::ok(format!("{key} was written")),
                Err(error) => error.verdict(Status::Fail),
            },
        );
        if !is_put {
            return skip(results, &[S3Head, S3Get], S3Put);
        }
        results.add(S3Head, reading("HEAD", answered(self.deadline, self.probe.head()).await));
        results.add(S3Get, reading("GET", answered(self.deadline, self.probe.get()).await));
        if let Err(error) = answered(self.deadline, self.probe.delete()).await {
            results.add(S3Delete, error.verdict(Status::Fail));
        }
    }

    async fn try_upload(&self) -> Outcome {
        let begun = answered(self.deadline, self.probe.begin_upload()).await;
        if let Err(error) = begun {
            return error.verdict(Status::Fail);
        }
        let sent = answered(self.deadline, self.probe.upload_part()).await;
        let aborted = answered(self.deadline, self.probe.abort_upload()).await;
        match sent.and(aborted) {
            Ok(()) => Outcome::ok("an upload was started, got a part, and was aborted"),
            Err(error) => error.verdict(Status::Fail),
        }
    }
}

/// Names the checks that do not run because another one did not pass.
fn skip(results: &mut CheckResults<'_>, skipped: &[CheckName], because: CheckName) {
    for check in skipped {
        results.add(*check, Outcome::skip(format!("not checked, because {} did not pass", because.word())));
    }
}

/// The outcome of reading the probe object, which was just put.
fn reading(verb: &str, read: Result<bool, RequestError>) -> Outcome {
    match read {
        Ok(true) => Outcome::ok(format!("{verb} returns what was written")),
        Ok(false) => Outcome::fail(
            format!("{verb} does not return what was just written"),
            "check the store, or whether another check of this path was running",
        ),
        Err(error) => {
            let hint = "a backup needs no such request: allow it for `check`, `list` and restores";
            error.or_if_denied(hint).verdict(Status::Warn)
        }
    }
}
