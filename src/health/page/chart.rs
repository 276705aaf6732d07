//! Charts as inline SVG: a bar for each backup, a mark for each run that failed, the oldest first.
//!
//! The bars have equal distances, so that none hides another. Text is HTML outside the SVG, which stretches to its width.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::words::minute;
use crate::archive::{BackupStatus, StoredBackup};
use crate::health::status::result;
use crate::inventory::DatabaseSnapshot;
use crate::telemetry::metrics::FailedRun;

/// A chart is as wide as at least so many bars, so that the first backups are not as wide as the page.
const FEWEST: usize = 30;
/// A bar and the gap after it, in units of the picture.
const SLOT: usize = 10;
const BAR: usize = 7;
const HEIGHT: u64 = 100;
/// A backup that is small beside the others is still seen.
const LEAST_HEIGHT: u64 = 2;
/// A small chart has the newest so many.
const MOST_IN_SMALL: usize = 30;

/// A run on a chart.
enum Run<'a> {
    Backup(&'a StoredBackup),
    Failed(&'a FailedRun),
}

/// The runs of a database, the oldest first.
pub(super) struct Runs<'a>(Vec<(DateTime<Utc>, Run<'a>)>);

/// What a chart shows of a backup.
#[derive(Clone, Copy)]
pub(super) struct Measure {
    /// Its heading.
    pub title: &'static str,
    /// What the bars are, for those who do not see them.
    pub summary: &'static str,
    /// The value; `None` if it is not known.
    pub value: fn(&StoredBackup) -> Option<f64>,
    /// The value as text.
    pub text: fn(f64) -> String,
}

impl<'a> Runs<'a> {
    /// Backups, and the runs that failed since the first of them.
    pub(super) fn new(backups: &'a [StoredBackup], failures: &'a [FailedRun]) -> Self {
        let stored =
            backups.iter().filter(|backup| !matches!(backup.status, BackupStatus::Uploading | BackupStatus::Future));
        let mut runs: Vec<_> = stored.map(|backup| (backup.started, Run::Backup(backup))).collect();
        let first = runs.iter().map(|(started, _)| *started).min();
        let shown = failures.iter().filter(|failed| first.is_none_or(|first| failed.ended >= first));
        runs.extend(shown.map(|failed| (failed.ended, Run::Failed(failed))));
        runs.sort_by_key(|(time, _)| *time);
        Self(runs)
    }

    /// Whether there is nothing to show.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A chart with its heading and its scale.
    pub(super) fn chart(&self, measure: Measure) -> Markup {
        let Measure { title, summary, text, .. } = measure;
        let most = self.most(measure);
        let slots = self.0.len().max(FEWEST);
        let first_slot = slots - self.0.len();
        html! {
            figure.chart {
                figcaption { span { (title) } span.muted { @if most > 0.0 { "up to " (text(most)) } } }
                svg viewBox={"0 0 " (slots * SLOT) " " (HEIGHT)} preserveAspectRatio="none" role="img" aria-label=(summary) {
                    @for (index, (time, run)) in self.0.iter().enumerate() {
                        (bar(((first_slot + index) * SLOT, *time), run, (measure, most)))
                    }
                }
                div.axis.muted.few[self.0.len() < FEWEST] {
                    @for time in ends(self.0.iter().map(|run| run.0)) { span { (time) } }
                }
            }
        }
    }

    /// A small chart: three paths, without hover texts.
    pub(super) fn small(&self, measure: Measure) -> Markup {
        let most = self.most(measure);
        let shown = self.0.iter().rev().take(MOST_IN_SMALL);
        let (mut bars, mut bad, mut failed) = (String::new(), String::new(), String::new());
        for (slot, (_, run)) in shown.enumerate() {
            let x = (MOST_IN_SMALL - 1 - slot) * SLOT;
            match run {
                Run::Backup(backup) => {
                    let height = height((measure.value)(backup), most);
                    let path = if is_wrong(backup.status) { &mut bad } else { &mut bars };
                    // Writing to a String cannot fail.
                    _ = write!(path, "M{x} {HEIGHT}v-{height}h{BAR}v{height}z");
                }
                Run::Failed(_) => _ = write!(failed, "M{x} {HEIGHT}v-{HEIGHT}h{BAR}v{HEIGHT}z"),
            }
        }
        html! {
            svg.small viewBox={"0 0 " (MOST_IN_SMALL * SLOT) " " (HEIGHT)} preserveAspectRatio="none" role="img" aria-label=(measure.summary) {
                title { (measure.title) @if most > 0.0 { ", up to " ((measure.text)(most)) } }
                path.bar d=(bars) {}
                @if !bad.is_empty() { path.bad d=(bad) {} }
                @if !failed.is_empty() { path.failed d=(failed) {} }
            }
        }
    }

    fn most(&self, measure: Measure) -> f64 {
        let values = self.0.iter().filter_map(|(_, run)| match run {
            Run::Backup(backup) => (measure.value)(backup),
            Run::Failed(_) => None,
        });
        values.fold(0.0, f64::max)
    }
}

fn bar((x, time): (usize, DateTime<Utc>), run: &Run<'_>, (measure, most): (Measure, f64)) -> Markup {
    let when = minute(time);
    let (class, height, text) = match run {
        Run::Failed(failed) => {
            let (code, name) = (failed.exit_code, result(failed.exit_code));
            ("failed", HEIGHT, format!("{when} UTC: failed, {name} (exit code {code})"))
        }
        Run::Backup(backup) => {
            let value = (measure.value)(backup);
            let shown = value.map_or_else(|| "not known".to_owned(), measure.text);
            let class = if is_wrong(backup.status) { "bad" } else { "bar" };
            let status = if class == "bad" { format!(", {}", backup.status.words()) } else { String::new() };
            (class, height(value, most), format!("{when} UTC: {shown}{status}"))
        }
    };
    html! {
        g {
            title { (text) }
            rect.hit x=(x) y="0" width=(SLOT) height=(HEIGHT) {}
            rect class=(class) x=(x) y=(HEIGHT - height) width=(BAR) height=(height) {}
        }
    }
}

/// Whether a backup needs attention.
pub(super) fn is_wrong(status: BackupStatus) -> bool {
    matches!(status, BackupStatus::SizeMismatch | BackupStatus::Empty | BackupStatus::Future)
}

/// The newest backup that is complete, as far as the listing and its manifest say.
pub(super) fn newest(stored: &DatabaseSnapshot) -> Option<&StoredBackup> {
    let is_one = |backup: &&StoredBackup| backup.status != BackupStatus::Uploading && !is_wrong(backup.status);
    stored.backups.iter().find(is_one)
}

/// The first and the last time: days, or minutes of one day.
fn ends(mut times: impl Iterator<Item = DateTime<Utc>>) -> Vec<String> {
    let first = times.next();
    let last = times.last();
    let is_one_day = first.zip(last).is_some_and(|(first, last)| first.date_naive() == last.date_naive());
    let text = |time| if is_one_day { minute(time) } else { time.format("%Y-%m-%d").to_string() };
    let mut texts: Vec<String> = first.into_iter().chain(last).map(text).collect();
    texts.dedup();
    texts
}

/// The height of a bar; 0 if its value is not known.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "0 to 100")]
fn height(value: Option<f64>, most: f64) -> u64 {
    let Some(value) = value else { return 0 };
    if most > 0.0 { ((value / most * HEIGHT as f64).round() as u64).clamp(LEAST_HEIGHT, HEIGHT) } else { LEAST_HEIGHT }
}
