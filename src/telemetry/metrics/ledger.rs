//! The record of one destination's runs, shared by whoever writes and reads it, and its file (`METRICS_FILE`).
//!
//! A one-shot run reads the file that the run before it left, so that a failure does not hide when the last success was.
//! The file is replaced whole, since a collector may read it at any moment. Nothing here can fail a backup.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    BUILD_INFO, IN_PROGRESS, KEPT, KEPT_BYTES, LAST_DUMP_BYTES, LAST_DURATION, LAST_EXIT_CODE, LAST_FAILURE,
    LAST_RATIO, LAST_RUN, LAST_STORED_BYTES, LAST_SUCCESS, NEXT_RUN, RUNS, Record,
};

/// A collector runs as another user.
const MODE: u32 = 0o644;

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct RunResult {
    /// When.
    pub ended: DateTime<Utc>,
    /// How long it took.
    pub elapsed: Duration,
    /// Its exit code's number.
    pub exit_code: u8,
    /// Plain and stored bytes of the backup; where there is none, nothing.
    pub bytes: Option<(u64, u64)>,
}

/// The record of a destination.
#[derive(Debug)]
pub struct Ledger {
    destination: String,
    file: Option<PathBuf>,
    record: Mutex<Record>,
}

impl Ledger {
    /// For a destination, with what its file holds.
    #[must_use]
    pub fn open(destination: &str, file: Option<PathBuf>) -> Self {
        let text = file.as_deref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let mut record = Record::parse(&text, destination);
        record.remove(&BUILD_INFO);
        record.set_for(&BUILD_INFO, env!("CARGO_PKG_VERSION"), 1.0);
        // Of a daemon that is no more.
        record.remove(&NEXT_RUN);
        record.remove(&IN_PROGRESS);
        Self { destination: destination.to_owned(), file, record: Mutex::new(record) }
    }

    /// The text for Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        self.with(|record| record.render(&self.destination))
    }

    /// When the last success was, as far as is known.
    #[must_use]
    pub fn last_success(&self) -> Option<DateTime<Utc>> {
        let seconds = self.with(|record| record.get(&LAST_SUCCESS))?;
        #[expect(clippy::cast_possible_truncation, reason = "a time of ours, or out of chrono's range and nothing")]
        DateTime::from_timestamp_millis((seconds * 1000.0) as i64)
    }

    /// A run has ended.
    pub fn ended(&self, run: &RunResult) {
        self.with(|record| {
            let ended = unix(run.ended);
            record.set(&LAST_RUN, ended);
            record.set(&LAST_EXIT_CODE, f64::from(run.exit_code));
            let Some((dump_bytes, stored_bytes)) = run.bytes else {
                record.set_for(&LAST_FAILURE, &run.exit_code.to_string(), ended);
                record.add(&RUNS, "failure", 1.0);
                return;
            };
            record.set(&LAST_SUCCESS, ended);
            record.set(&LAST_DURATION, rounded(run.elapsed.as_secs_f64()));
            record.set(&LAST_DUMP_BYTES, float(dump_bytes));
            record.set(&LAST_STORED_BYTES, float(stored_bytes));
            record.set(&LAST_RATIO, rounded(float(dump_bytes) / float(stored_bytes.max(1))));
            record.add(&RUNS, "success", 1.0);
            if record.get(&KEPT).is_some() {
                record.add(&KEPT, "", 1.0);
                record.add(&KEPT_BYTES, "", float(stored_bytes));
            }
        });
        self.save();
    }

    /// A tick came while a backup ran.
    pub fn skipped(&self) {
        self.with(|record| record.add(&RUNS, "skipped", 1.0));
        self.save();
    }

    /// The destination was looked at: so many backups, of so many bytes, the newest of this time.
    pub fn looked(&self, backups: u64, bytes: u64, newest: Option<DateTime<Utc>>) {
        self.with(|record| {
            record.set(&KEPT, float(backups));
            record.set(&KEPT_BYTES, float(bytes));
            if let Some(newest) = newest.map(unix)
                && record.get(&LAST_SUCCESS).is_none_or(|known| known < newest)
            {
                record.set(&LAST_SUCCESS, newest);
            }
        });
        self.save();
    }

    /// The daemon's plans: whether a backup runs, and when the next one is due.
    pub fn planned(&self, running_since: Option<DateTime<Utc>>, next: Option<DateTime<Utc>>) {
        self.with(|record| {
            record.set(&IN_PROGRESS, f64::from(u8::from(running_since.is_some())));
            match next {
                Some(next) => record.set(&NEXT_RUN, unix(next)),
                None => record.remove(&NEXT_RUN),
            }
        });
        self.save();
    }

    fn with<T>(&self, work: impl FnOnce(&mut Record) -> T) -> T {
        work(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the file. The backup is what counts: a file that cannot be written is a warning.
    fn save(&self) {
        let Some(path) = &self.file else { return };
        if let Err(error) = replace(path, &self.render()) {
            tracing::warn!(path = %path.display(), %error, "METRICS_FILE cannot be written");
        }
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Hidden, and not `.prom`: no collector takes it for one of its files.
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&temporary);
    let replaced = written.and_then(|mut file| {
        // The umask may have taken something from it.
        file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, path)
    });
    if replaced.is_err() {
        // May not be there.
        let _ = std::fs::remove_file(&temporary);
    }
    replaced
}

/// Unix time in seconds, to the millisecond.
#[expect(clippy::cast_precision_loss, reason = "milliseconds fit into 53 bits for 285,000 years")]
fn unix(time: DateTime<Utc>) -> f64 {
    time.timestamp_millis() as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "8 PiB are exact, and beyond that a byte is no matter")]
fn float(count: u64) -> f64 {
    count as f64
}

/// To three digits.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
