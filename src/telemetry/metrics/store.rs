//! The record of one destination's runs, shared by whoever writes and reads it, and its files: `METRICS_FILE`, and the state
//! next to it.
//!
//! A one-shot run reads the state that the run before it left, so that a failure does not hide when the last success was:
//! neither one of this destination nor, where a setting is wrong, one of another. Each file is replaced atomically, since a
//! collector may read at any moment. Nothing here can fail a backup.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    BOTTLENECK, BUILD_INFO, DELETED, DELETED_BYTES, IN_PROGRESS, LAST_DUMP_BYTES, LAST_DURATION, LAST_EXIT_CODE,
    LAST_FAILURE, LAST_RATIO, LAST_RUN, LAST_STORED_BYTES, LAST_SUCCESS, NEXT_RUN, RETENTION_BLOCKED, RETENTION_FAILED,
    RUNS, STORED, STORED_BYTES, Samples, render, state, text,
};

use crate::archive::name::CLOCK_TOLERANCE;
use crate::disk::{Disk, DiskError};
use crate::pipeline::Bottleneck;
use crate::retention::RetentionReport;

/// A collector runs as another user.
const MODE: u32 = 0o644;
/// How long its disk may take: of the 10 s that a run has to stop (SPEC §6), little is left when its end is noted.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct RunResult<'a> {
    /// When.
    pub ended: DateTime<Utc>,
    /// How long it took.
    pub elapsed: Duration,
    /// Its exit code's number.
    pub exit_code: u8,
    /// Plain and stored bytes of the backup; where there is none, nothing.
    pub bytes: Option<(u64, u64)>,
    /// Who held the dump up.
    pub bottleneck: Option<Bottleneck>,
    /// What retention did after it, where a rule is set.
    pub retention: Option<&'a RetentionReport>,
}

impl RunResult<'_> {
    /// Of a run that came to nothing.
    #[must_use]
    pub fn without_backup(ended: DateTime<Utc>, elapsed: Duration, exit_code: u8) -> Self {
        Self { ended, elapsed, exit_code, bytes: None, bottleneck: None, retention: None }
    }
}

/// The record of a destination.
#[derive(Debug)]
pub struct MetricsStore {
    destination: String,
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of this destination.
    record: Samples,
    /// What else the file holds. It stays until there is a backup in this destination: a run that failed may have been
    /// told the wrong one.
    others: BTreeMap<String, Samples>,
}

impl MetricsStore {
    /// Tries whether the file of metrics can be written, without a change to it.
    ///
    /// # Errors
    /// Why not.
    pub fn try_to_write(path: &Path) -> io::Result<()> {
        let file = path.to_owned();
        disk_of(path).call_here(move || try_to_replace(&file)).unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// For a destination, with what its file holds. Where a setting is wrong and nobody knows which destination was meant,
    /// it is the one that the file is of; where that is not known either, the file stays as it is.
    #[must_use]
    pub fn open(destination: Option<&str>, file: Option<PathBuf>) -> Self {
        let (file, mut others) = match file.map(read) {
            Some(Ok((file, records))) => (Some(file), records),
            // Not to be overwritten with less than it holds.
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
        // Of a daemon that is no more.
        record.remove(&NEXT_RUN);
        record.remove(&IN_PROGRESS);
        Self { destination, file, state: Mutex::new(State { record, others }) }
    }

    /// The text for Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        self.with(|record| render(&[(&self.destination, record)]))
    }

    /// When the last success was, as far as is known at this time.
    #[must_use]
    pub fn last_success(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let seconds = self.with(|record| record.get(&LAST_SUCCESS))?;
        #[expect(clippy::cast_possible_truncation, reason = "a time of ours, or out of chrono's range and nothing")]
        let time = DateTime::from_timestamp_millis((seconds * 1000.0) as i64)?;
        (time <= now + CLOCK_TOLERANCE).then_some(time)
    }

    /// A run has ended.
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

    /// A tick came while a backup ran.
    pub fn skipped(&self) {
        self.with(|record| record.add(&RUNS, "skipped", 1.0));
        self.save();
    }

    /// The destination was looked at: so many backups, of so many bytes, the newest of this time.
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

    fn with<T>(&self, work: impl FnOnce(&mut Samples) -> T) -> T {
        work(&mut self.state().record)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the files. The backup is what counts: a file that cannot be written is a warning.
    fn save(&self) {
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

/// A success that lies in the future, by a clock or a name that was wrong, would keep alerts quiet until then.
fn forget_future(record: &mut Samples, now: DateTime<Utc>) {
    if record.get(&LAST_SUCCESS).is_some_and(|success| success > unix(now + CLOCK_TOLERANCE)) {
        record.remove(&LAST_SUCCESS);
    }
}

/// What retention did. Without a rule nothing can be blocked: an alert on an earlier one ends.
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

/// Nothing here may hold a run up that is on its way out.
fn disk_of(path: &Path) -> Disk {
    Disk::of(path).within(PATIENCE)
}

/// What the files hold: the state, or the text where version 1 wrote it and where the state is damaged. A file that is not
/// there, or is another user's, holds nothing.
fn read(path: PathBuf) -> Result<(PathBuf, BTreeMap<String, Samples>), DiskError> {
    let file = path.clone();
    let records = disk_of(&path).call_here(move || {
        let kept = std::fs::read_to_string(state::path_of(&file)).ok();
        let kept = kept.and_then(|kept| state::decode(&kept));
        kept.unwrap_or_else(|| text::parse(&std::fs::read_to_string(&file).unwrap_or_default()))
    })?;
    Ok((path, records))
}

/// Whether such a file can be made next to it, and renamed to it; the file itself stays as it is.
fn try_to_replace(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    let temporary = beside(path);
    let made = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&temporary);
    made.and_then(|_| std::fs::remove_file(&temporary))
}

/// Hidden, and not `.prom`: no collector takes it for one of its files.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = beside(path);
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
