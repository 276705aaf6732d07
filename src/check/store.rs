//! S3: may these credentials do what a backup needs, and does the store do it.
//!
//! Called by [`super::Check`]. The first thing asked is a listing: a store that does not answer it, or a bucket or key that is
//! wrong, ends the probes, for each further one would only say the same again. DELETE comes before PUT: what may not be
//! deleted is not put, so that nothing stays in a bucket to which only new things may be added.

use std::time::Duration;

use crate::storage::{FirstLook, Probe as Prober};

use super::clock::Clock;
use super::request::{RequestError, answered};
use super::result::{CheckName, CheckResults, Outcome, Status};

/// The probes of one store.
pub(super) struct Store<'a> {
    pub probe: &'a Prober,
    /// For each request with its repetitions.
    pub deadline: Duration,
    /// Whether writing is tried too.
    pub writes: bool,
}

/// Whether there is any use in looking for backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// They can be listed.
    Lists,
    /// They cannot.
    DoesNotList,
}

impl Store<'_> {
    /// Tries everything.
    pub async fn examine(&self, results: &mut CheckResults<'_>) -> Access {
        let look = answered(self.deadline, async { Ok(self.probe.list().await) }).await;
        let (listed, clock_ahead) = match look {
            Ok(FirstLook { listed, clock_ahead }) => (listed.map_err(RequestError::from), clock_ahead),
            Err(trouble) => (Err(trouble), None),
        };
        let is_lost = listed.as_ref().is_err_and(|trouble| !trouble.is_denied);
        let access = if listed.is_ok() { Access::Lists } else { Access::DoesNotList };
        results.add(CheckName::S3List, self.judge_listing(listed));
        if let Some(ahead) = clock_ahead {
            results.add(CheckName::S3Clock, Clock::S3.judge(ahead));
        }
        if self.writes && !is_lost {
            self.try_object(results).await;
            results.add(CheckName::S3Multipart, self.try_upload().await);
        }
        access
    }

    /// A backup can do without; a look at the bucket cannot.
    fn judge_listing(&self, listed: Result<(), RequestError>) -> Outcome {
        match listed {
            Ok(()) => Outcome::ok("backups can be listed"),
            Err(trouble) if self.writes => trouble
                .or_if_denied("a backup needs no listing: look at the newest one with `check --bucket-only` and other credentials")
                .verdict(Status::Warn),
            Err(trouble) => trouble.verdict(Status::Fail),
        }
    }

    async fn try_object(&self, results: &mut CheckResults<'_>) {
        let key = self.probe.key();
        let deleted = answered(self.deadline, self.probe.delete()).await;
        let is_deletable = deleted.is_ok();
        results.add(CheckName::S3Delete, match deleted {
            Ok(()) => Outcome::ok(format!("{key} can be deleted")),
            Err(trouble) => {
                let hint = "a backup needs no DELETE: prune with other credentials; no probe object was put, for it would stay";
                trouble.or_if_denied(hint).verdict(Status::Warn)
            }
        });
        if !is_deletable {
            return;
        }
        let put = answered(self.deadline, self.probe.put()).await;
        let is_there = put.is_ok();
        results.add(
            CheckName::S3Put,
            match put {
                Ok(()) => Outcome::ok(format!("{key} was written")),
                Err(trouble) => trouble.verdict(Status::Fail),
            },
        );
        if is_there {
            results.add(CheckName::S3Head, reading("HEAD", answered(self.deadline, self.probe.head()).await));
            results.add(CheckName::S3Get, reading("GET", answered(self.deadline, self.probe.get()).await));
            if let Err(trouble) = answered(self.deadline, self.probe.delete()).await {
                results.add(CheckName::S3Delete, trouble.verdict(Status::Fail));
            }
        }
    }

    async fn try_upload(&self) -> Outcome {
        let begun = answered(self.deadline, self.probe.begin_upload()).await;
        if let Err(trouble) = begun {
            return trouble.verdict(Status::Fail);
        }
        let sent = answered(self.deadline, self.probe.upload_part()).await;
        let aborted = answered(self.deadline, self.probe.abort_upload()).await;
        match sent.and(aborted) {
            Ok(()) => Outcome::ok("an upload was started, got a part, and was aborted"),
            Err(trouble) => trouble.verdict(Status::Fail),
        }
    }
}

/// Of the probe object that has just been put.
fn reading(verb: &str, read: Result<bool, RequestError>) -> Outcome {
    match read {
        Ok(true) => Outcome::ok(format!("{verb} gives what was written")),
        Ok(false) => Outcome::fail(
            format!("{verb} does not give what was just written"),
            "look at the store: it must show what it has taken; or was another check of this path running?",
        ),
        Err(trouble) => {
            let hint = "a backup can do without: allow it where backups are looked at or restored";
            trouble.or_if_denied(hint).verdict(Status::Warn)
        }
    }
}
