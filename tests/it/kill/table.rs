//! Where the kills landed and what became of the runs, as a table in Markdown; and whether they landed everywhere.

use std::fmt;

use super::round::{Dump, Fate, Landing, Mode};
use crate::support::age::Encryption;

const LANDINGS: [(Landing, &str); 6] = [
    (Landing::BeforeUpload, "before the upload"),
    (Landing::Started, "upload started, no part yet"),
    (Landing::Parts, "during the parts"),
    (Landing::Completing, "Complete sent, not answered"),
    (Landing::Committed, "committed, no manifest yet"),
    (Landing::Described, "manifest written, or over"),
];

/// The fates of all rounds.
#[derive(Debug, Default)]
pub struct Table {
    streamed: Vec<Fate>,
    spooled: Vec<Fate>,
    aborted: usize,
}

impl Table {
    /// Adds those of one kind, and how many open uploads were aborted after them.
    pub fn add(&mut self, mode: Mode, (fates, aborted): (&[Fate], usize)) {
        self.aborted += aborted;
        match mode {
            Mode::Streamed => self.streamed.extend(fates),
            Mode::Spooled => self.spooled.extend(fates),
        }
    }

    /// Kills that all come too early or too late prove nothing.
    pub fn assert_that_kills_landed_everywhere(&self) {
        for (fates, kind) in [(&self.streamed, "streamed"), (&self.spooled, "spooled")] {
            for (landing, name) in LANDINGS {
                assert!(count(fates, |fate| fate.landing == landing) > 0, "{kind}: no kill landed: {name}\n{self}");
            }
            assert!(count(fates, |fate| fate.was_over) < fates.len() / 2, "{kind}: most kills came too late\n{self}");
        }
        for (dump, what) in [(Dump::Verified, "kept and delivered"), (Dump::Started, "cut off")] {
            let is_so = |fate: &Fate| fate.dump == dump && !fate.was_visible;
            let encrypted = |fate: &Fate| fate.encryption == Encryption::Age && is_so(fate);
            assert!(count(&self.spooled, is_so) > 0, "no dump was {what}\n{self}");
            assert!(count(&self.spooled, encrypted) > 0, "no encrypted dump was {what}\n{self}");
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| where SIGKILL landed | streamed | visible, complete | spooled | visible, complete | kept complete, delivered by the next run without a dump |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        let mut row = |name: &str, is_in: &dyn Fn(&Fate) -> bool| {
            let visible = |fates| count(fates, |fate| is_in(fate) && fate.was_visible);
            let kept = count(&self.spooled, |fate| is_in(fate) && fate.dump == Dump::Verified && !fate.was_visible);
            let (streamed, spooled) = (count(&self.streamed, is_in), count(&self.spooled, is_in));
            let (seen, also_seen) = (visible(&self.streamed), visible(&self.spooled));
            writeln!(f, "| {name} | {streamed} | {seen} | {spooled} | {also_seen} | {kept} |")
        };
        for (landing, name) in LANDINGS {
            row(name, &|fate| fate.landing == landing)?;
        }
        row("all", &|_| true)?;
        let encrypted = |fates| count(fates, |fate| fate.encryption == Encryption::Age);
        let encrypted = encrypted(&self.streamed) + encrypted(&self.spooled);
        let aborted = self.aborted;
        writeln!(
            f,
            "\nThe next run succeeded each time. {aborted} uploads were left open, and aborted. {encrypted} runs encrypted."
        )
    }
}

fn count(fates: &[Fate], is_so: impl Fn(&Fate) -> bool) -> usize {
    fates.iter().filter(|fate| is_so(fate)).count()
}
