//! The metrics of runs with `BACKUP_DATABASES`: one of the run, and one of each database below its destination.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::store::{begin, float, forget_future, last_success, rounded, unix};
use super::{
    BOTTLENECK, DATABASES_EXPECTED, DATABASES_FAILED, LAST_DRILL, LAST_DRILL_DURATION, LAST_DRILL_RESULT,
    LAST_DRILL_SUCCESS, LAST_DUMP_BYTES, LAST_DURATION, LAST_EXIT_CODE, LAST_FAILURE, LAST_RATIO, LAST_RUN,
    LAST_STORED_BYTES, LAST_SUCCESS, Metric, MetricsStore, NEXT_DRILL, RETENTION_BLOCKED, RETENTION_FAILED, RUNS,
    Record, Records, STORED, STORED_BYTES, Samples,
};

/// What a run with several databases has for each of them, and not for itself.
const OF_DATABASES: [&Metric; 12] = [
    &LAST_DUMP_BYTES,
    &LAST_STORED_BYTES,
    &LAST_RATIO,
    &BOTTLENECK,
    &STORED,
    &STORED_BYTES,
    &RETENTION_BLOCKED,
    &RETENTION_FAILED,
    &LAST_DRILL_SUCCESS,
    &LAST_DRILL_DURATION,
    &LAST_DRILL,
    &LAST_DRILL_RESULT,
];

/// How a run that knew its databases ended. A run that failed before is a [`super::RunResult::without_backup`].
#[derive(Clone, Copy, Debug)]
pub struct ServerRun<'a> {
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// Its duration.
    pub elapsed: Duration,
    /// Its exit code.
    pub exit_code: u8,
    /// The name and the destination of each database that it had to back up.
    pub databases: &'a [(&'a str, &'a str)],
    /// How many of them it did not back up.
    pub failed: u64,
}

/// What is known of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDatabase {
    /// Its name.
    pub database: String,
    /// Its destination.
    pub destination: String,
    /// When its last backup was committed.
    pub last_success: Option<DateTime<Utc>>,
    /// Whether there was a run that had to back it up.
    pub had_run: bool,
}

impl MetricsStore {
    /// Records the end of a run with several databases, after the end of each of them. Forgets databases that it did not
    /// find, and after a backup of one of them what concerns another destination.
    pub fn server_ended(&self, run: &ServerRun<'_>) {
        let has_backup = run.failed < run.databases.len() as u64;
        if run.exit_code != 0 || run.failed > 0 {
            self.failed(run.ended, run.exit_code);
        }
        let next_drill = self.with(|record| {
            record_run(record, run);
            if has_backup {
                for metric in OF_DATABASES {
                    record.remove(metric);
                }
            }
            record.get(&NEXT_DRILL)
        });
        let mut records = self.records();
        records.retain(|destination, record| {
            let is_expected = run.databases.iter().any(|(_, expected)| expected == destination);
            let is_gone = self.has_database(destination, record) || has_backup && *destination != self.destination;
            is_expected || !is_gone
        });
        for (database, destination) in run.databases {
            let record = records.entry((*destination).to_owned()).or_default();
            record.database = Some((*database).to_owned());
            begin(&mut record.samples);
            // The run ended before it got there.
            if run.exit_code != 0 && record.samples.get(&LAST_RUN).is_none() {
                record.samples.set(&LAST_RUN, unix(run.ended));
                record.samples.set(&LAST_EXIT_CODE, f64::from(run.exit_code));
            }
            if let Some(next) = next_drill {
                record.samples.set(&NEXT_DRILL, next);
            }
        }
        drop(records);
        self.save();
    }

    /// The databases that the last run found, and those that were seen since then; `None` without several databases.
    #[must_use]
    pub fn databases(&self, now: DateTime<Utc>) -> Option<Vec<KnownDatabase>> {
        let records = self.is_server.then(|| self.records())?;
        let mut databases: Vec<_> = self.below(&records).collect();
        databases.sort_by(|one, other| one.0.cmp(other.0));
        let known = databases.into_iter().map(|(database, destination, samples)| KnownDatabase {
            database: database.to_owned(),
            destination: destination.to_owned(),
            last_success: last_success(samples, now),
            had_run: samples.get(&LAST_RUN).is_some(),
        });
        Some(known.collect())
    }

    /// Whether a record is that of a database below this destination.
    pub(super) fn has_database(&self, destination: &str, record: &Record) -> bool {
        let below = destination.strip_prefix(self.destination.trim_end_matches('/'));
        record.database.is_some() && below.is_some_and(|below| below.starts_with('/'))
    }

    /// The name, the destination and the values of each database below this destination.
    fn below<'a>(&self, records: &'a Records) -> impl Iterator<Item = (&'a str, &'a str, &'a Samples)> {
        let databases = records.iter().filter(|(destination, record)| self.has_database(destination, record));
        databases.filter_map(|(destination, record)| {
            Some((record.database.as_deref()?, destination.as_str(), &record.samples))
        })
    }
}

fn record_run(record: &mut Samples, run: &ServerRun<'_>) {
    let ended = unix(run.ended);
    record.set(&LAST_RUN, ended);
    record.set(&LAST_EXIT_CODE, f64::from(run.exit_code));
    record.set(&DATABASES_EXPECTED, float(run.databases.len() as u64));
    record.set(&DATABASES_FAILED, float(run.failed));
    if run.exit_code == 0 && run.failed == 0 {
        record.set(&LAST_SUCCESS, ended);
        record.set(&LAST_DURATION, rounded(run.elapsed.as_secs_f64()));
        record.add(&RUNS, "success", 1.0);
    } else {
        forget_future(record, run.ended);
        record.set_for(&LAST_FAILURE, &run.exit_code.to_string(), ended);
        record.add(&RUNS, "failure", 1.0);
    }
}

#[cfg(test)]
mod tests;
