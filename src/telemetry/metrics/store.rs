//! The metrics of one destination and their files: `METRICS_FILE`, and the state next to it.
//!
//! A run reads the state of the run before, so that a failure keeps the time of the last success, also that of another
//! destination if a setting is wrong. Each file is replaced atomically, because a collector may read at any time. Nothing here
//! can fail a backup.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    BOTTLENECK, BUILD_INFO, DELETED, DELETED_BYTES, DRILL_IN_PROGRESS, IN_PROGRESS, LAST_DUMP_BYTES, LAST_DURATION,
    LAST_EXIT_CODE, LAST_FAILURE, LAST_RATIO, LAST_RUN, LAST_STORED_BYTES, LAST_SUCCESS, NEXT_DRILL, NEXT_RUN,
    RETENTION_BLOCKED, RETENTION_FAILED, RUNS, STORED, STORED_BYTES, Samples, render, state, text,
};

use crate::archive::name::CLOCK_TOLERANCE;
use crate::disk::{Disk, DiskError};
use crate::pipeline::Bottleneck;
use crate::retention::RetentionReport;

/// Collectors run as another user.
const MODE: u32 = 0o644;
/// The time limit for the files. A run has 10 s to stop, and most of that is used when it writes them.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct RunResult<'a> {
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// Its duration.
    pub elapsed: Duration,
    /// Its exit code.
    pub exit_code: u8,
    /// Bytes of the dump and of the object; `None` without a backup.
    pub bytes: Option<(u64, u64)>,
    /// The bottleneck of the dump.
    pub bottleneck: Option<Bottleneck>,
    /// The result of retention, if a rule is set.
    pub retention: Option<&'a RetentionReport>,
}

impl RunResult<'_> {
    /// A run without a backup.
    #[must_use]
    pub fn without_backup(ended: DateTime<Utc>, elapsed: Duration, exit_code: u8) -> Self {
        Self { ended, elapsed, exit_code, bytes: None, bottleneck: None, retention: None }
    }
}

/// The metrics of a destination.
#[derive(Debug)]
pub struct MetricsStore {
    destination: String,
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// This destination's values.
    record: Samples,
    /// Other destinations' values in the file. They stay until a backup of this destination succeeds, because a failed run may
    /// have had the wrong destination.
    others: BTreeMap<String, Samples>,
}

impl MetricsStore {
    /// Checks that the file can be written, without changing it.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn try_to_write(path: &Path) -> io::Result<()> {
        let file = path.to_owned();
        disk_of(path).call_here(move || try_to_replace(&file)).unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Opens the metrics of a destination with the file's values. If a wrong setting hides the destination, it is that of the
    /// file; without one the file stays unchanged.
    #[must_use]
    pub fn open(destination: Option<&str>, file: Option<PathBuf>) -> Self {
        let (file, mut others) = match file.map(read) {
            Some(Ok((file, records))) => (Some(file), records),
            // It must not be overwritten with fewer values.
            Some(Err(error)) => {
                tracing::warn!(%error, "METRICS_FILE cannot be read, and is not written from now on");
                (None, BTreeMap::new())
            }
            None => (None, BTreeMap::new()),
        };
        let only = others.keys().next().filter(|_| others.len() == 1).cloned();
        let known = destination.map(str::to_owned).or(only);
        let file = file.filter(|_| known.is_some());
        let destination = known.unwrap_or_default();
        let mut record = others.remove(&destination).unwrap_or_default();
        record.begin_counters();
        forget_future(&mut record, Utc::now());
        record.remove(&BUILD_INFO);
        record.set_for(&BUILD_INFO, env!("CARGO_PKG_VERSION"), 1.0);
        // Values of a daemon that has ended.
        for metric in [&NEXT_RUN, &IN_PROGRESS, &NEXT_DRILL, &DRILL_IN_PROGRESS] {
            record.remove(metric);
        }
        Self { destination, file, state: Mutex::new(State { record, others }) }
    }

    /// The text for Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        self.with(|record| render(&[(&self.destination, record)]))
    }

    /// The time of the last success before this time.
    #[must_use]
    pub fn last_success(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let seconds = self.with(|record| record.get(&LAST_SUCCESS))?;
        #[expect(clippy::cast_possible_truncation, reason = "a time of ours, or out of chrono's range and nothing")]
        let time = DateTime::from_timestamp_millis((seconds * 1000.0) as i64)?;
        (time <= now + CLOCK_TOLERANCE).then_some(time)
    }

    /// Records the end of a run.
    pub fn ended(&self, run: &RunResult<'_>) {
        self.with(|record| {
            let ended = unix(run.ended);
            record.set(&LAST_RUN, ended);
            record.set(&LAST_EXIT_CODE, f64::from(run.exit_code));
            let Some((dump_bytes, stored_bytes)) = run.bytes else {
                forget_future(record, run.ended);
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
            record.remove(&BOTTLENECK);
            for (stage, percent) in run.bottleneck.iter().flat_map(Bottleneck::shares) {
                record.set_for(&BOTTLENECK, stage, f64::from(percent) / 100.0);
            }
            if record.get(&STORED).is_some() {
                record.add(&STORED, "", 1.0);
                record.add(&STORED_BYTES, "", float(stored_bytes));
            }
            retained(record, run.retention);
        });
        if run.bytes.is_some() {
            self.state().others.clear();
        }
        self.save();
    }

    /// Records a scheduled backup that was skipped because another one runs.
    pub fn skipped(&self) {
        self.with(|record| record.add(&RUNS, "skipped", 1.0));
        self.save();
    }

    /// Records the destination's backups: their number, their bytes, and the time of the newest.
    pub fn looked(&self, backups: u64, bytes: u64, newest: Option<DateTime<Utc>>) {
        self.with(|record| {
            forget_future(record, Utc::now());
            record.set(&STORED, float(backups));
            record.set(&STORED_BYTES, float(bytes));
            if let Some(newest) = newest.map(unix)
                && record.get(&LAST_SUCCESS).is_none_or(|known| known < newest)
            {
                record.set(&LAST_SUCCESS, newest);
            }
        });
        self.save();
    }

    /// Records whether a backup runs and when the next one is due.
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

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Samples) -> T) -> T {
        work(&mut self.state().record)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the files. A failure is a warning: the backup is committed.
    pub(super) fn save(&self) {
        let Some(path) = &self.file else { return };
        let (kept, text) = {
            let state = self.state();
            let others = state.others.iter().map(|(destination, record)| (destination.as_str(), record));
            let records: Vec<_> = std::iter::once((self.destination.as_str(), &state.record)).chain(others).collect();
            (state::encode(&records), render(&records))
        };
        let (disk, file) = (disk_of(path), path.clone());
        let replace = move || replace(&state::path_of(&file), &kept).and_then(|()| replace(&file, &text));
        let replaced = disk.call_here(replace).unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = replaced {
            tracing::warn!(path = %path.display(), %error, "METRICS_FILE cannot be written");
        }
    }
}

/// Ignores a success in the future, which would silence alerts until then.
fn forget_future(record: &mut Samples, now: DateTime<Utc>) {
    if record.get(&LAST_SUCCESS).is_some_and(|success| success > unix(now + CLOCK_TOLERANCE)) {
        record.remove(&LAST_SUCCESS);
    }
}

/// Records the result of retention. Without a rule nothing is blocked, and an earlier alert ends.
fn retained(record: &mut Samples, report: Option<&RetentionReport>) {
    let Some(report) = report else {
        record.remove(&RETENTION_BLOCKED);
        record.remove(&RETENTION_FAILED);
        return;
    };
    record.set(&RETENTION_BLOCKED, f64::from(u8::from(report.blocked)));
    record.set(&RETENTION_FAILED, f64::from(u8::from(report.is_failed())));
    record.add(&DELETED, "", float(report.deleted as u64));
    record.add(&DELETED_BYTES, "", float(report.deleted_bytes));
    if report.knows_what_is_stored() {
        record.set(&STORED, float(report.retained as u64));
        record.set(&STORED_BYTES, float(report.retained_bytes));
    }
}

/// A slow disk must not delay the end of a run.
fn disk_of(path: &Path) -> Disk {
    Disk::of(path).within(PATIENCE)
}

/// The values in the files: those of the state, or of the text if version 1 wrote it or if the state is damaged. A missing or
/// foreign file has none.
fn read(path: PathBuf) -> Result<(PathBuf, BTreeMap<String, Samples>), DiskError> {
    let file = path.clone();
    let records = disk_of(&path).call_here(move || {
        let kept = std::fs::read_to_string(state::path_of(&file)).ok();
        let kept = kept.and_then(|kept| state::decode(&kept));
        kept.unwrap_or_else(|| text::parse(&std::fs::read_to_string(&file).unwrap_or_default()))
    })?;
    Ok((path, records))
}

/// Checks that a file can be created next to it and renamed; the file itself stays unchanged.
fn try_to_replace(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    let temporary = beside(path);
    let made = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&temporary);
    made.and_then(|_| std::fs::remove_file(&temporary))
}

/// A hidden name without `.prom`, which collectors ignore.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = beside(path);
    let written = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&temporary);
    let replaced = written.and_then(|mut file| {
        // The umask may have removed permissions.
        file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&temporary, path)
    });
    if replaced.is_err() {
        // It may not exist.
        let _ = std::fs::remove_file(&temporary);
    }
    replaced
}

/// Unix time in seconds, to the millisecond.
#[expect(clippy::cast_precision_loss, reason = "milliseconds fit into 53 bits for 285,000 years")]
pub(super) fn unix(time: DateTime<Utc>) -> f64 {
    time.timestamp_millis() as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "8 PiB are exact, and beyond that a byte is no matter")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Rounded to three digits.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::Metric;
    use super::*;

    fn backup(retention: Option<&RetentionReport>) -> RunResult<'_> {
        let run = RunResult::without_backup(Utc::now(), Duration::ZERO, 0);
        let bottleneck = Some(Bottleneck { dump: 83, compression: 10, upload: 0 });
        RunResult { bytes: Some((1000, 100)), bottleneck, retention, ..run }
    }

    fn values(store: &MetricsStore, metrics: [&Metric; 6]) -> [Option<f64>; 6] {
        metrics.map(|metric| store.with(|record| record.get(metric)))
    }

    #[test]
    fn what_is_kept_is_counted_and_after_retention_known() {
        let store = MetricsStore::open(Some("s3://b/"), None);
        let seen = || {
            values(&store, [&STORED, &STORED_BYTES, &DELETED, &DELETED_BYTES, &RETENTION_BLOCKED, &RETENTION_FAILED])
        };
        store.ended(&backup(None));
        let none_deleted = [None, None, Some(0.0), Some(0.0), None, None];
        assert_eq!(seen(), none_deleted, "nobody has looked");
        store.looked(3, 300, None);
        store.ended(&backup(None));
        assert_eq!(seen(), [Some(4.0), Some(400.0), Some(0.0), Some(0.0), None, None]);

        let report = RetentionReport {
            retained: 3,
            retained_bytes: 290,
            deleted: 2,
            deleted_bytes: 230,
            ..RetentionReport::default()
        };
        store.ended(&backup(Some(&report)));
        assert_eq!(seen(), [3.0, 290.0, 2.0, 230.0, 0.0, 0.0].map(Some));
        store.ended(&backup(Some(&RetentionReport::failed("denied".to_owned()))));
        assert_eq!(seen(), [4.0, 390.0, 2.0, 230.0, 0.0, 1.0].map(Some), "nobody knows: counted on");
        let problems = vec!["a gap".to_owned()];
        let blocked =
            RetentionReport { retained: 5, retained_bytes: 490, blocked: true, problems, ..RetentionReport::default() };
        store.ended(&backup(Some(&blocked)));
        store.ended(&RunResult::without_backup(Utc::now(), Duration::ZERO, 12));
        assert_eq!(seen(), [5.0, 490.0, 2.0, 230.0, 1.0, 0.0].map(Some), "a failure changes nothing");
        store.ended(&backup(None));
        assert_eq!(seen()[4..], [None; 2], "without a rule nothing is blocked");
        assert!(store.render().contains("_bottleneck_ratio{destination=\"s3://b/\",stage=\"dump\"} 0.83\n"));
    }
}
