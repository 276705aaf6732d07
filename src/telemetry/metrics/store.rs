//! The metrics of a run's destination, and with `BACKUP_DATABASES` those of the databases below it.
//!
//! A run reads the values of the run before from the files, so that a failure keeps the time of the last success, also that of
//! another destination if a setting is wrong.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::history::{FailedRun, Failures};
use super::{
    BOTTLENECK, BUILD_INFO, DATABASES_EXPECTED, DATABASES_FAILED, DELETED, DELETED_BYTES, DRILL_IN_PROGRESS,
    IN_PROGRESS, LAST_DUMP_BYTES, LAST_DURATION, LAST_EXIT_CODE, LAST_FAILURE, LAST_RATIO, LAST_RUN, LAST_STORED_BYTES,
    LAST_SUCCESS, NEXT_DRILL, NEXT_RUN, RETENTION_BLOCKED, RETENTION_FAILED, RUNS, Record, Records, STORED,
    STORED_BYTES, Samples, files, render,
};

use crate::archive::name::{CLOCK_TOLERANCE, is_in_future};
use crate::pipeline::Bottleneck;
use crate::retention::RetentionReport;

/// How often the databases of one run are saved.
const SAVE_EVERY: Duration = Duration::from_secs(5);

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

/// The metrics of a destination: the run's, or that of one database.
#[derive(Debug)]
pub struct MetricsStore {
    pub(super) destination: String,
    /// The database, if this is its destination below the run's.
    database: Option<String>,
    /// Whether the run backs up several databases.
    pub(super) is_server: bool,
    shared: Arc<Shared>,
}

/// What the stores of a run and of its databases share.
#[derive(Debug)]
struct Shared {
    file: Option<PathBuf>,
    /// The values in the file. Those of other destinations stay until a backup of this destination succeeds, because a failed
    /// run may have had the wrong destination.
    records: Mutex<Records>,
    /// Several databases may end at the same time.
    saved: Mutex<Option<Instant>>,
    /// The runs of this process that failed.
    failures: Mutex<Failures>,
}

impl MetricsStore {
    /// Checks that the file can be written, without changing it.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn try_to_write(path: &Path) -> io::Result<()> {
        files::try_to_write(path)
    }

    /// Opens the metrics of a run's destination with the file's values. If a wrong setting hides the destination, it is that of
    /// the file; without one the file stays unchanged.
    #[must_use]
    pub fn open(destination: Option<&str>, file: Option<PathBuf>) -> Self {
        let (file, mut records) = match file.map(files::read) {
            Some(Ok((file, records))) => (Some(file), records),
            // It must not be overwritten with fewer values.
            Some(Err(error)) => {
                tracing::warn!(%error, "METRICS_FILE cannot be read, and is not written from now on");
                (None, Records::new())
            }
            None => (None, Records::new()),
        };
        let known = destination.map(str::to_owned).or_else(|| only_run(&records));
        let file = file.filter(|_| known.is_some());
        for record in records.values_mut() {
            forget_future(&mut record.samples, Utc::now());
            // Values of a daemon that has ended.
            for metric in [&NEXT_RUN, &IN_PROGRESS, &NEXT_DRILL, &DRILL_IN_PROGRESS] {
                record.samples.remove(metric);
            }
        }
        let shared = Shared { file, records: Mutex::new(records), saved: Mutex::default(), failures: Mutex::default() };
        let destination = known.unwrap_or_default();
        let store = Self { destination, database: None, is_server: false, shared: Arc::new(shared) };
        store.with(|_| {});
        store
    }

    /// The same for a run that backs up several databases.
    #[must_use]
    pub fn of_server(self) -> Self {
        Self { is_server: true, ..self }
    }

    /// The metrics of a database, which has a destination below this one.
    #[must_use]
    pub fn of_database(&self, database: &str, destination: &str) -> Self {
        let (destination, database) = (destination.to_owned(), Some(database.to_owned()));
        Self { destination, database, is_server: false, shared: Arc::clone(&self.shared) }
    }

    /// The text for Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        let records = self.records();
        render(&records.iter().filter(|(destination, record)| self.has(destination, record)).collect::<Vec<_>>())
    }

    /// The time of the last success before this time.
    #[must_use]
    pub fn last_success(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        last_success(&self.records().get(&self.destination)?.samples, now)
    }

    /// Records the end of a run.
    pub fn ended(&self, run: &RunResult<'_>) {
        if run.bytes.is_none() {
            self.failed(run.ended, run.exit_code);
        }
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
            for metric in [&BOTTLENECK, &DATABASES_EXPECTED, &DATABASES_FAILED] {
                record.remove(metric);
            }
            for (stage, percent) in run.bottleneck.iter().flat_map(Bottleneck::shares) {
                record.set_for(&BOTTLENECK, stage, f64::from(percent) / 100.0);
            }
            if record.get(&STORED).is_some() {
                record.add(&STORED, "", 1.0);
                record.add(&STORED_BYTES, "", float(stored_bytes));
            }
            retained(record, run.retention);
        });
        if run.bytes.is_some() && self.database.is_none() {
            self.records().retain(|destination, _| *destination == self.destination);
        }
        self.save_unless_just_saved();
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

    /// Changes this destination's values.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Samples) -> T) -> T {
        let mut records = self.records();
        let record = records.entry(self.destination.clone()).or_default();
        record.database.clone_from(&self.database);
        begin(&mut record.samples);
        work(&mut record.samples)
    }

    /// Changes the values of this destination and of the databases below it.
    pub(super) fn with_databases(&self, work: impl Fn(&mut Samples)) {
        let mut records = self.records();
        let own = records.iter_mut().filter(|(destination, record)| self.has(destination, record));
        own.for_each(|(_, record)| work(&mut record.samples));
    }

    pub(super) fn records(&self) -> MutexGuard<'_, Records> {
        self.shared.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a run that failed.
    pub(super) fn failed(&self, ended: DateTime<Utc>, exit_code: u8) {
        self.failures().add(&self.destination, FailedRun { ended, exit_code });
    }

    pub(super) fn failures(&self) -> MutexGuard<'_, Failures> {
        self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a record is about this destination, or about a database below it.
    fn has(&self, destination: &str, record: &Record) -> bool {
        destination == self.destination || self.is_server && self.has_database(destination, record)
    }

    /// Writes the files.
    pub(super) fn save(&self) {
        let Some(path) = &self.shared.file else { return };
        let mut saved = self.shared.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let records = self.records().clone();
        files::write(path, &records);
        *saved = Some(Instant::now());
    }

    /// Writes the files, but those of hundreds of small databases not after each of them: the end of their run does.
    fn save_unless_just_saved(&self) {
        let saved = *self.shared.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if self.database.is_none() || saved.is_none_or(|saved| saved.elapsed() > SAVE_EVERY) {
            self.save();
        }
    }
}

/// The destination of the only run in a file.
fn only_run(records: &Records) -> Option<String> {
    let mut runs = records.iter().filter(|(_, record)| record.database.is_none());
    runs.next().filter(|_| runs.next().is_none()).map(|(destination, _)| destination.clone())
}

/// Sets what each destination has from the start.
pub(super) fn begin(record: &mut Samples) {
    record.begin_counters();
    record.remove(&BUILD_INFO);
    record.set_for(&BUILD_INFO, env!("CARGO_PKG_VERSION"), 1.0);
}

/// The time of the last success before this time.
pub(super) fn last_success(record: &Samples, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let time = time_of(record.get(&LAST_SUCCESS)?)?;
    (!is_in_future(time, now)).then_some(time)
}

/// The time of a metric.
#[expect(clippy::cast_possible_truncation, reason = "a time of ours, or out of chrono's range and nothing")]
pub(super) fn time_of(seconds: f64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis((seconds * 1000.0).round() as i64)
}

/// Ignores a success in the future, which would silence alerts until then.
pub(super) fn forget_future(record: &mut Samples, now: DateTime<Utc>) {
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

/// Unix time in seconds, to the millisecond.
#[expect(clippy::cast_precision_loss, reason = "milliseconds fit into 53 bits for 285,000 years")]
pub(super) fn unix(time: DateTime<Utc>) -> f64 {
    time.timestamp_millis() as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "8 PiB are exact, and beyond that a byte is no matter")]
pub(super) fn float(count: u64) -> f64 {
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
