//! One cell of the matrix, and the rule for its outcome. The rule is fixed before anything runs: a cell
//! with another outcome fails. Used by [`super::sheet`].

use std::fmt;

use super::faults::{Effect, Injection};
use crate::support::age::Encryption;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb};

/// The command that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scene {
    /// `backup`, streamed, with retention and old backups.
    Streamed,
    /// The same through a spool, without retention.
    Spooled,
    /// `backup` with a `pg_dump` that fails at its end.
    FailedDump,
    /// `prune` with a cleanup of uploads; there are old backups and an abandoned upload.
    Prune,
}

/// The calls of the verb that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// The call of this number.
    Once,
    /// This call and all later ones.
    FromThenOn,
}

/// The number of parts of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// One: a small dump.
    One,
    /// Three.
    Three,
}

/// One cell.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The command that runs.
    pub scene: Scene,
    /// The verb of the failing calls.
    pub verb: S3Verb,
    /// The first call that fails, counted from 1.
    pub call: usize,
    /// The number of calls of a run without a fault.
    pub of: usize,
    /// Whether the fault passes.
    pub span: Span,
    /// The fault.
    pub injection: Injection,
    /// Whether the run encrypts what it stores.
    pub encryption: Encryption,
}

/// The outcome of a run, found or expected.
#[expect(clippy::struct_excessive_bools, reason = "the fields are independent")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The exit code.
    pub code: i32,
    /// The new backup exists and is complete: it is what `pg_dump` wrote.
    pub backup: bool,
    /// The globals are stored with it.
    pub globals: bool,
    /// So is the index.
    pub index: bool,
    /// The manifest is stored with it.
    pub manifest: bool,
    /// Retention deleted every backup that no rule keeps.
    pub pruned: bool,
    /// An upload is left open.
    pub open: bool,
    /// A complete dump is left in the spool.
    pub kept: bool,
}

impl Outcome {
    /// Everything succeeded, and nothing is left over.
    pub const DONE: Self = Self {
        code: 0,
        backup: true,
        globals: true,
        index: true,
        manifest: true,
        pruned: true,
        open: false,
        kept: false,
    };

    /// Nothing was stored, and nothing is left over.
    pub fn failed(code: i32) -> Self {
        Self {
            code,
            backup: false,
            globals: false,
            index: false,
            manifest: false,
            pruned: false,
            open: false,
            kept: false,
        }
    }

    /// Whether the next run has to finish or clean up something.
    pub fn leaves_work(&self, scene: Scene) -> bool {
        self.open || self.kept || (!self.pruned && scene == Scene::Prune)
    }
}

impl Cell {
    /// The rule for the proxy.
    pub fn rule(&self) -> Rule {
        let calls = match self.span {
            Span::Once => Calls::Nth(self.call),
            Span::FromThenOn => Calls::From(self.call),
        };
        Rule::on(self.verb, calls, self.injection.fault.clone())
    }

    /// Several parts if a part fails. But the timeout of a stalled part depends on its size.
    pub fn parts(&self) -> Parts {
        if self.verb == S3Verb::UploadPart && !self.is_stall() { Parts::Three } else { Parts::One }
    }

    /// Whether only a timeout detects the fault.
    pub fn is_stall(&self) -> bool {
        matches!(self.injection.fault, Fault::Stall { .. } | Fault::Late { .. })
    }

    /// The expected outcome.
    pub fn expected(&self) -> Outcome {
        match self.scene {
            Scene::Streamed => self.of_streamed(),
            Scene::Spooled => self.of_spooled(),
            Scene::FailedDump => self.of_failed_dump(),
            Scene::Prune => self.of_prune(),
        }
    }

    /// Whether the fault lasts and differs from a success: the log must name it.
    pub fn hinders(&self) -> bool {
        let is_fault = !matches!(self.injection.effect, Effect::Slow | Effect::Odd);
        self.span == Span::FromThenOn && is_fault && !self.is_mistaken_for_success()
    }

    /// An answer of GetObject with status 200 counts as the object: a damaged manifest.
    fn is_mistaken_for_success(&self) -> bool {
        self.verb == S3Verb::GetObject && matches!(self.injection.fault, Fault::OkWithError { .. })
    }

    /// 400 and 403 without a body mean for HEAD that reading is forbidden; other faults mean that S3 is unavailable.
    fn is_taken_for_refusal(&self) -> bool {
        self.verb == S3Verb::HeadObject && matches!(self.injection.status(), Some(400 | 403))
    }

    /// If the first request is answered like this, the server does not speak S3: a wrong setting.
    fn is_taken_for_no_s3(&self) -> bool {
        self.injection.fault == Fault::bare_404() && self.verb == S3Verb::ListObjects && self.call == 1
    }

    /// An upload was created but its answer was lost: its id is unknown.
    fn leaves_empty_upload(&self) -> bool {
        self.verb == S3Verb::CreateMultipartUpload && self.injection.effect == Effect::Done
    }

    /// Whether the store may still execute a request that it neither executed nor refused.
    fn may_come_late(&self) -> bool {
        self.injection.effect == Effect::Lost && !matches!(self.injection.status(), Some(400 | 403 | 404 | 429 | 503))
    }

    fn of_streamed(&self) -> Outcome {
        let done = Outcome { open: self.leaves_empty_upload(), ..Outcome::DONE };
        // If the first listing fails, it is unknown which database the backups are of.
        if self.is_taken_for_no_s3() {
            return Outcome { pruned: false, ..done };
        }
        // If no manifest can be read, the backups may be of another database.
        if self.is_mistaken_for_success() && self.call == 1 && self.span == Span::FromThenOn {
            return Outcome { pruned: false, ..done };
        }
        if !self.hinders() || self.is_taken_for_refusal() {
            return done;
        }
        let is_done = self.injection.effect == Effect::Done;
        match self.verb {
            S3Verb::CreateMultipartUpload => Outcome { open: is_done, ..Outcome::failed(12) },
            S3Verb::UploadPart => Outcome::failed(12),
            // If it took effect, HEAD shows it.
            S3Verb::CompleteMultipartUpload if !is_done => {
                Outcome { open: self.may_come_late(), ..Outcome::failed(12) }
            }
            // The run must know whether the name is free; after the commit, S3's own checksum is enough.
            S3Verb::HeadObject if self.call < self.of => Outcome::failed(12),
            // A backup does not fail because of a sidecar.
            S3Verb::PutObject => {
                let [globals, index] = [1, 2].map(|put| is_done || self.call > put);
                Outcome { globals, index, manifest: is_done, ..done }
            }
            // Nothing is deleted while the database or the status of the backups is unknown.
            S3Verb::ListObjects | S3Verb::GetObject => Outcome { pruned: false, ..done },
            S3Verb::DeleteObject => Outcome { pruned: is_done && self.call == self.of, ..done },
            _ => done,
        }
    }

    fn of_spooled(&self) -> Outcome {
        // A complete dump is kept for the next run, and so is its upload if it was created.
        let kept = |open| Outcome { kept: true, open, ..Outcome::failed(12) };
        match Self::of_streamed(self) {
            Outcome { code: 0, open, .. } => Outcome { open, ..Outcome::DONE },
            _ if self.verb == S3Verb::HeadObject => kept(self.call > 1),
            Outcome { open, .. } if self.verb == S3Verb::CreateMultipartUpload => kept(open),
            _ => kept(true),
        }
    }

    fn of_failed_dump(&self) -> Outcome {
        let is_lost = self.span == Span::FromThenOn && self.injection.effect == Effect::Lost;
        Outcome { open: is_lost, ..Outcome::failed(11) }
    }

    fn of_prune(&self) -> Outcome {
        let done = Outcome { backup: false, globals: false, index: false, manifest: false, ..Outcome::DONE };
        let is_done = self.injection.effect == Effect::Done;
        match self.verb {
            // The cleanup tries once, and leaves the upload to a later run.
            S3Verb::ListMultipartUploads | S3Verb::ListParts if self.hinders() || self.outlasts_the_sdk() => {
                Outcome { open: true, ..done }
            }
            S3Verb::AbortMultipartUpload if self.hinders() || self.outlasts_the_sdk() => {
                Outcome { open: !is_done, ..done }
            }
            S3Verb::ListObjects if self.is_taken_for_no_s3() => Outcome { open: true, ..Outcome::failed(3) },
            _ if !self.hinders() => done,
            S3Verb::DeleteObject => Outcome { pruned: is_done && self.call == self.of, ..Outcome::failed(13) },
            // Nothing is deleted if anything is unknown.
            S3Verb::ListObjects | S3Verb::GetObject => Outcome { open: true, ..Outcome::failed(12) },
            _ => done,
        }
    }

    /// Whether the SDK's own three attempts all fail.
    fn outlasts_the_sdk(&self) -> bool {
        matches!(self.injection.status(), Some(429 | 403 | 404)) || self.injection.fault == Fault::GarbageAnswer
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}", self.code)?;
        if self.backup {
            write!(f, ", complete")?;
            match (self.globals, self.manifest) {
                (true, true) => {}
                (true, false) => write!(f, ", no manifest")?,
                (false, true) => write!(f, ", no globals")?,
                (false, false) => write!(f, ", no manifest and globals")?,
            }
        }
        if !self.pruned && matches!(self.code, 0 | 13) {
            write!(f, ", old ones left to the next run")?;
        }
        match (self.open, self.kept) {
            (_, true) => write!(f, ", kept in the spool: the next run delivered it")?,
            (true, _) => write!(f, ", an open upload: the next run aborted it")?,
            _ => {}
        }
        Ok(())
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Streamed => "`backup`, streamed, with retention",
            Self::Spooled => "`backup` through a spool",
            Self::FailedDump => "`backup` with a failing `pg_dump`",
            Self::Prune => "`prune` with a cleanup of uploads",
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Once => "once",
            Self::FromThenOn => "from then on",
        })
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scene, verb, call, of, span, injection, encryption } = self;
        write!(f, "{scene}: {verb:?}, call {call} of {of}, {span}: {}, encryption {encryption:?}", injection.name)
    }
}
