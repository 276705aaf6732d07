//! One round: a run that is killed, a look at what it left, and the next run. Played by the test of [`super`].

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use super::aim::Aim;
use crate::support::age::Encryption;
use crate::support::client::eventually;
use crate::support::fake_pg_dump::{Body, FakeDump};
use crate::support::faulty::Stage;
use crate::support::process::{self, Process};
use crate::support::program::{Outcome, Program, Running};
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, Seen, StallAt};
use crate::support::servers::s3;
use crate::support::setup::{clear, manifest};
use crate::support::spooled::Spooled;

const SOON: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(1);
/// Two parts.
const BODY: Body = Body::Random(6 << 20);
/// A quarter of a second for the dump, so that instants fall into it.
const PAUSE: Duration = Duration::from_millis(15);

/// While this file is in the directory of `pg_dump`, it writes nothing.
const HELD: &str = "held";

/// How the manifest's key ends.
pub const MANIFEST: &str = ".sql.gz.json";
/// That of an encrypted backup.
const ENCRYPTED_MANIFEST: &str = ".sql.gz.age.json";

/// Whether the runs have a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// From memory.
    Streamed,
    /// Onto the disk first.
    Spooled,
}

/// How far a run had come when it was killed, as S3 saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Landing {
    /// No upload was asked for.
    BeforeUpload,
    /// The upload was asked for, no part yet.
    Started,
    /// Parts were on their way, or taken.
    Parts,
    /// Complete was sent and not answered.
    Completing,
    /// Complete was answered, the manifest not yet.
    Committed,
    /// The manifest was answered: the run was about to end, or had ended.
    Described,
}

/// What became of one round.
#[derive(Clone, Copy, Debug)]
pub struct Fate {
    /// Whether the run was one that encrypts.
    pub encryption: Encryption,
    /// Where the kill landed.
    pub landing: Landing,
    /// The run had ended by itself.
    pub was_over: bool,
    /// The backup of the killed run was visible before the next.
    pub was_visible: bool,
    /// What the spool knew of its dump.
    pub dump: Dump,
}

/// How far the dump of a killed run had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dump {
    /// `pg_dump` was not called.
    NotBegun,
    /// It was, and has ended since; no proof stands in the spool.
    Started,
    /// The proof stands in the spool.
    Verified,
}

/// The rounds of one kind, one after the other, in one bucket.
pub struct Rounds {
    /// Of which kind.
    pub mode: Mode,
    /// How long an undisturbed run lasts: the shortest so far, for the machine may have been busy at the first.
    pub length: Cell<Duration>,
    /// How many requests it sends.
    pub requests: usize,
    /// Whether the runs of the current round encrypt.
    encryption: Cell<Encryption>,
    stage: Spooled,
}

impl Rounds {
    /// Measures an undisturbed run, after one that warms everything up.
    pub fn new(mode: Mode) -> Self {
        let dump = FakeDump::new().body(BODY).pause_between(PAUSE);
        let dump = dump.first(&format!("while [ -e \"$here/{HELD}\" ]; do sleep 0.01; done"));
        let encryption = Cell::new(Encryption::None);
        let rounds = Self { mode, length: Cell::default(), requests: 0, encryption, stage: Spooled::new(dump) };
        rounds.backup().run().assert_code(0);
        let warm_up = rounds.stage.proxy.log().len();
        let calm = rounds.backup().run();
        calm.assert_code(0);
        let requests = rounds.stage.proxy.log().len() - warm_up;
        clear(&rounds.stage.bucket);
        Self { length: Cell::new(calm.elapsed), requests, ..rounds }
    }

    /// Kills a run, and takes the next.
    pub fn play(&self, (aim, encryption): (&Aim, Encryption), case: &str) -> Fate {
        self.encryption.set(encryption);
        let (log_from, dumps_before) = (self.stage.proxy.log().len(), self.stage.dump.pids().len());
        let (killed, log) = self.kill(aim, log_from);
        assert!(killed.signal == Some(9) || killed.code == Some(0), "{case}: {:?} {}", killed.code, killed.stderr);
        self.stage.proxy.clear_rules();
        self.await_end_of_children(&killed, case);
        let dumps = self.stage.dump.pids().len();
        let visible = self.assert_all_visible_backups_are_complete(case);
        let verified = self.verified_in_spool();
        let fate = Fate {
            encryption,
            landing: landing(&log),
            was_over: killed.signal.is_none(),
            was_visible: !visible.is_empty(),
            dump: match &verified {
                Some(_) => Dump::Verified,
                None if dumps > dumps_before => Dump::Started,
                None => Dump::NotBegun,
            },
        };
        let next = self.backup().run();
        let case = format!("{case}\n{fate:?}\nkilled:\n{}\nnext", killed.stderr);
        next.assert_code(0);
        // One more: a complete dump is not dumped again.
        match self.mode {
            Mode::Streamed => self.assert_streamed(&next, (fate, &log), dumps + 1, &case),
            Mode::Spooled => self.assert_spooled(&next, (fate, verified), dumps + 1, &case),
        }
        clear(&self.stage.bucket);
        fate
    }

    fn backup(&self) -> Program {
        let backup = match self.mode {
            Mode::Streamed => Stage::backup(&self.stage),
            Mode::Spooled => self.stage.backup(),
        };
        match self.encryption.get() {
            Encryption::None => backup,
            Encryption::Age => self.stage.encrypted(backup),
        }
    }

    /// How such a key ends in the current round, by its end without encryption.
    fn end_of_key(&self, plain: &str) -> String {
        match self.encryption.get() {
            Encryption::Age if plain == MANIFEST => ENCRYPTED_MANIFEST.to_owned(),
            Encryption::Age if !plain.is_empty() => format!("{plain}.age"),
            _ => plain.to_owned(),
        }
    }

    /// Gives what the proxy had seen of the run when it was dead.
    fn kill(&self, aim: &Aim, log_from: usize) -> (Outcome, Vec<Seen>) {
        let log = || self.stage.proxy.log().split_off(log_from);
        self.stage.proxy.reset_counts();
        if let Aim::Unanswered(verb, suffix, at) = aim {
            let suffix = self.end_of_key(suffix);
            self.stage.proxy.rule(Rule::on(*verb, Calls::All, Fault::Stall { at: *at }).key_suffix(&suffix));
        }
        let held = self.stage.dump.dir().join(HELD);
        if matches!(aim, Aim::Dumping) {
            fs::write(&held, "").expect("written");
        }
        let dumps = self.stage.dump.pids().len();
        let began = Instant::now();
        let mut running = self.backup().spawn();
        match aim {
            Aim::After(time) => wait(&mut running, Duration::ZERO, || began.elapsed() >= *time),
            Aim::Dumping => wait(&mut running, Duration::ZERO, || self.stage.dump.pids().len() > dumps),
            Aim::Requests(count, time) => wait(&mut running, *time, || log().len() >= *count),
            Aim::Verified(time) => wait(&mut running, *time, || self.verified_in_spool().is_some()),
            Aim::Described => wait(&mut running, Duration::ZERO, || landing(&log()) == Landing::Described),
            Aim::Unanswered(verb, suffix, at) => {
                let suffix = self.end_of_key(suffix);
                let is_it = |seen: &Seen| {
                    let effect = *at == StallAt::BeforeEffect || seen.upstream_status.is_some();
                    seen.verb == *verb && seen.key().ends_with(&suffix) && effect
                };
                wait(&mut running, Duration::ZERO, || log().iter().any(is_it));
            }
        }
        // The number of one that has ended may be another's.
        if running.is_running() {
            running.signal("KILL");
        }
        let killed = running.wait();
        let _ = fs::remove_file(held);
        if matches!(aim, Aim::After(_)) && killed.signal.is_none() {
            self.length.set(self.length.get().min(killed.elapsed));
        }
        (killed, log())
    }

    /// The children of the run notice by themselves that their reader is gone.
    fn await_end_of_children(&self, killed: &Outcome, case: &str) {
        let alive = || (killed.leftover_children(), self.stage.dump.alive(), self.just_started());
        let none = (BTreeSet::new(), Vec::new(), BTreeSet::new());
        eventually(|| alive() == none, || format!("{case}: still there: {:?}", alive()));
    }

    /// A child that the run started at the very end was not seen: a child that still is what it was forked from, or a
    /// `pg_dump` that has not noted its number yet.
    fn just_started(&self) -> BTreeSet<Process> {
        let bucket = format!("S3_BUCKET={}", self.stage.bucket);
        let directory = self.stage.dump.dir().to_string_lossy().into_owned();
        let is_one =
            |process: &Process| process.environ().contains(&bucket) || process.command_line().contains(&directory);
        process::all().into_iter().filter(is_one).collect()
    }

    /// Every backup is exactly what `pg_dump` wrote, and every other object is a sidecar of one.
    fn assert_all_visible_backups_are_complete(&self, case: &str) -> Vec<String> {
        let keys = self.stage.keys();
        let backups = self.stage.backups();
        for key in &backups {
            assert!(self.stage.dump_in(key) == self.stage.dump.output(), "{case}: {key} is not the dump");
        }
        let is_beside_one = |key: &String| backups.iter().any(|backup| key.starts_with(backup.as_str()));
        assert!(keys.iter().all(is_beside_one), "{case}: without a backup: {keys:?}");
        backups
    }

    /// The id of the run with a proof in the spool.
    fn verified_in_spool(&self) -> Option<String> {
        let is_verified = |line: &&str| line.contains(" {\"verified\":") && line.ends_with('\n');
        self.stage.kept().into_iter().find_map(|run| {
            let journal = fs::read_to_string(run.join("journal")).ok()?;
            journal.split_inclusive('\n').any(|line| is_verified(&line)).then_some(())?;
            Some(run.file_name()?.to_string_lossy().into_owned())
        })
    }

    /// One more backup.
    fn assert_streamed(&self, next: &Outcome, (fate, log): (Fate, &[Seen]), dumps: usize, case: &str) {
        let backups = self.assert_all_visible_backups_are_complete(case).len();
        let expected = 1 + usize::from(fate.was_visible);
        let may_come_later = fate.landing == Landing::Completing && log.iter().all(|seen| !is_done(seen));
        let is_right = backups == expected || (may_come_later && backups == expected + 1);
        assert!(is_right, "{case}: {backups} backups, {expected} wanted\n{}", next.stderr);
        assert_eq!(self.stage.dump.pids().len(), dumps, "{case}");
    }

    /// Aborts the uploads that killed runs left open, and returns their number. None may stay.
    pub fn clean_up_uploads(&self) -> usize {
        let open = || s3().open_uploads(&self.stage.bucket);
        let left = open().len();
        let prune = self.backup().executed_by(env!("CARGO_BIN_EXE_pg-s3-backup").as_ref());
        let prune = prune.args(["prune", "--sweep-after", "1s", "--keep-last", "9"]);
        eventually(
            || {
                prune.run().assert_code(0);
                open().is_empty()
            },
            || format!("cannot be aborted: {:?}", open()),
        );
        left
    }

    /// A complete dump is delivered without another dump, under its own run's id, and nothing is left.
    fn assert_spooled(&self, next: &Outcome, (fate, verified): (Fate, Option<String>), dumps: usize, case: &str) {
        let backups = 1 + usize::from(fate.was_visible || fate.dump == Dump::Verified);
        // An upload that was started when the run was killed, and not noted yet, has no part; the cleanup aborts it.
        for (key, id) in s3().empty_uploads(&self.stage.bucket, "") {
            s3().request("DELETE", &format!("/{}/{key}?uploadId={id}", self.stage.bucket), b"").expect("aborted");
        }
        self.stage.assert_delivered(next, (backups, dumps), case);
        let run_ids = self.stage.backups().into_iter().map(|key| manifest(&self.stage.bucket, &key)["run_id"].clone());
        let run_ids: Vec<_> = run_ids.collect();
        assert!(verified.is_none_or(|run| run_ids.contains(&run.into())), "{case}: another's: {run_ids:?}");
    }
}

/// Waits until something is so, and then some time more; no longer than the run lasts.
pub fn wait(running: &mut Running, more: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() && running.is_running() {
        assert!(Instant::now() < deadline, "nothing to see:\n{}", running.stderr_so_far());
        std::thread::sleep(POLL);
    }
    std::thread::sleep(more);
}

/// Complete was answered by the server itself, or never came to it.
fn is_done(seen: &Seen) -> bool {
    let never_comes = seen.fault == Some(Fault::Stall { at: StallAt::BeforeEffect });
    seen.verb == S3Verb::CompleteMultipartUpload && (never_comes || seen.upstream_status.is_some())
}

fn landing(log: &[Seen]) -> Landing {
    let of = |verb: S3Verb| log.iter().filter(move |seen| seen.verb == verb);
    let is_answered = |seen: &Seen| seen.status == Some(200);
    let is_manifest = |seen: &&Seen| [MANIFEST, ENCRYPTED_MANIFEST].iter().any(|end| seen.key().ends_with(end));
    if of(S3Verb::PutObject).filter(is_manifest).any(is_answered) {
        Landing::Described
    } else if of(S3Verb::CompleteMultipartUpload).any(is_answered) {
        Landing::Committed
    } else if of(S3Verb::CompleteMultipartUpload).next().is_some() {
        Landing::Completing
    } else if of(S3Verb::UploadPart).next().is_some() {
        Landing::Parts
    } else if of(S3Verb::CreateMultipartUpload).next().is_some() {
        Landing::Started
    } else {
        Landing::BeforeUpload
    }
}
