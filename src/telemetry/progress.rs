//! Shows the progress of a backup: a bar where the log is for a person at a terminal, else a log line every 30 s.
//!
//! `commands::backup` starts it with the dump and ends it with the run. It only reads the pipeline's counters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::AbortHandle;
use tracing::Instrument as _;

use crate::log_target::{FOR_MACHINES, FOR_PEOPLE};
use crate::pipeline::Progress;
use crate::printable::printable;

use super::LogWriter;

/// Often enough to see a stall, and few enough lines for a log.
const LOG_EVERY: Duration = Duration::from_secs(30);
const DRAW_EVERY: Duration = Duration::from_millis(200);
const STYLE: &str =
    "{spinner} {prefix}{bytes} of about {total_bytes} dumped, {binary_bytes_per_sec}, {wide_bar} {msg}, {eta} left";

const READING: &str = "{spinner} {bytes} of {total_bytes} read, {binary_bytes_per_sec}, {wide_bar} {eta} left";

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressStyleChoice {
    /// A bar if the log is for a person at a terminal.
    Auto,
    /// Only log lines.
    Lines,
}

/// A running display; it ends when this is dropped.
pub struct Display {
    task: AbortHandle,
    bar: Option<ProgressBar>,
}

impl Display {
    /// Starts showing `progress` of a dump of about `estimate` bytes. `database` names it among several.
    #[must_use]
    pub fn start(
        writer: &LogWriter,
        choice: ProgressStyleChoice,
        (progress, estimate): (Arc<Progress>, u64),
        database: Option<&str>,
    ) -> Self {
        if choice == ProgressStyleChoice::Auto && writer.is_for_people() {
            let style = ProgressStyle::with_template(STYLE).unwrap_or_else(|_| ProgressStyle::default_bar());
            let name = database.map(|database| format!("{}: ", printable(database))).unwrap_or_default();
            let bar = writer.bars().add(ProgressBar::new(estimate.max(1)).with_style(style).with_prefix(name));
            let task = tokio::spawn(draw(bar.clone(), progress)).abort_handle();
            return Self { task, bar: Some(bar) };
        }
        // With the span of the database.
        let lines = write_lines(progress, estimate).in_current_span();
        Self { task: tokio::spawn(lines).abort_handle(), bar: None }
    }

    /// Starts showing how far a backup of so many bytes is read.
    #[must_use]
    pub fn of_reading(
        writer: &LogWriter,
        choice: ProgressStyleChoice,
        read: impl Fn() -> u64 + Send + 'static,
        bytes: u64,
    ) -> Self {
        if choice == ProgressStyleChoice::Auto && writer.is_for_people() {
            let style = ProgressStyle::with_template(READING).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = writer.bars().add(ProgressBar::new(bytes.max(1)).with_style(style));
            let drawn = bar.clone();
            let draw = async move {
                loop {
                    tokio::time::sleep(DRAW_EVERY).await;
                    drawn.set_position(read());
                }
            };
            return Self { task: tokio::spawn(draw).abort_handle(), bar: Some(bar) };
        }
        Self { task: tokio::spawn(write_reading(read, bytes)).abort_handle(), bar: None }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

async fn draw(bar: ProgressBar, progress: Arc<Progress>) {
    loop {
        tokio::time::sleep(DRAW_EVERY).await;
        let dumped = progress.dumped();
        if bar.length().is_some_and(|length| length < dumped) {
            bar.set_length(dumped);
        }
        bar.set_position(dumped);
        let stored = ByteSize(progress.uploaded()).display().iec();
        bar.set_message(format!("{stored} stored"));
    }
}

async fn write_lines(progress: Arc<Progress>, estimate: u64) {
    let began = Instant::now();
    loop {
        tokio::time::sleep(LOG_EVERY).await;
        let seconds = began.elapsed().as_secs();
        let dumped = progress.dumped();
        let [size, total, stored] =
            [dumped, estimate, progress.uploaded()].map(|bytes| ByteSize(bytes).display().iec());
        tracing::info!(target: FOR_PEOPLE, "{size} of about {total} dumped, {stored} stored, after {seconds} s");
        tracing::info!(
            target: FOR_MACHINES,
            dumped_bytes = dumped,
            stored_bytes = progress.stored(),
            uploaded_bytes = progress.uploaded(),
            database_bytes = estimate,
            bytes_per_second = dumped / seconds.max(1),
            elapsed_s = seconds,
            "backup in progress"
        );
    }
}

async fn write_reading(read: impl Fn() -> u64, bytes: u64) {
    let began = Instant::now();
    loop {
        tokio::time::sleep(LOG_EVERY).await;
        let (seconds, read) = (began.elapsed().as_secs(), read());
        let bytes_per_second = read / seconds.max(1);
        let [done, total] = [read, bytes].map(|bytes| ByteSize(bytes).display().iec());
        tracing::info!(target: FOR_PEOPLE, "{done} of {total} read, after {seconds} s");
        tracing::info!(
            target: FOR_MACHINES,
            read_bytes = read,
            bytes,
            bytes_per_second,
            elapsed_s = seconds,
            left_s = bytes.saturating_sub(read) / bytes_per_second.max(1),
            "restore goes on"
        );
    }
}
