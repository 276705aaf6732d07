//! Metrics for Prometheus: their table, their values, and the text format.
//!
//! `commands` updates them after each run. `health` serves them (`/metrics`), and node_exporter's textfile collector reads them
//! (`METRICS_FILE`, see [`MetricsStore`]). `state` keeps the values between runs as JSON next to that file. The format is the
//! plain exposition format, because that collector does not read OpenMetrics, which the client libraries write. Each sample has
//! the label `destination`, because a host may write several files. With `BACKUP_DATABASES` each database has a destination
//! below the run's, and its samples have the label `database`, too.

mod drills;
mod files;
mod history;
mod server;
mod state;
mod store;
mod text;

use std::collections::BTreeMap;
use std::fmt::Write as _;

pub use drills::DrillSample;
pub use history::{FailedRun, RunHistory};
pub use server::{KnownDatabase, ServerRun};
pub use store::{MetricsStore, RunResult};

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// May increase and decrease.
    Gauge,
    /// Only increases.
    Counter,
}

impl Kind {
    /// Its word in the text format.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, with its unit.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its label besides `destination` and `database`.
    pub label: Option<&'static str>,
    /// The label values that a counter has from the start; one empty value without a label.
    pub counted: &'static [&'static str],
    /// Its description, one sentence without a full stop.
    pub help: &'static str,
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, label: None, counted: &[], help }
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, label: None, counted: &[""], help }
}

/// The version of the program.
pub const BUILD_INFO: Metric = Metric {
    label: Some("version"),
    ..gauge("pg_s3_backup_build_info", "Always 1; the version of pg-s3-backup is in the label")
};
/// The time of the last backup.
pub const LAST_SUCCESS: Metric =
    gauge("pg_s3_backup_last_success_timestamp_seconds", "When the last backup was committed, in Unix time");
/// Its duration.
pub const LAST_DURATION: Metric =
    gauge("pg_s3_backup_last_success_duration_seconds", "How long the last successful run took");
/// Bytes of its dump.
pub const LAST_DUMP_BYTES: Metric =
    gauge("pg_s3_backup_last_success_dump_bytes", "Size of the last backup's plain dump");
/// Bytes of its object.
pub const LAST_STORED_BYTES: Metric =
    gauge("pg_s3_backup_last_success_stored_bytes", "Size of the last backup's object in S3");
/// Their ratio.
pub const LAST_RATIO: Metric =
    gauge("pg_s3_backup_last_success_compression_ratio", "Plain bytes for each stored byte of the last backup");
/// Its bottleneck.
pub const BOTTLENECK: Metric = Metric {
    label: Some("stage"),
    ..gauge(
        "pg_s3_backup_last_success_bottleneck_ratio",
        "Share of the last dump's duration, 0 to 1, that was waited for a stage: dump, compression, or upload",
    )
};
/// The time of the last run.
pub const LAST_RUN: Metric = gauge("pg_s3_backup_last_run_timestamp_seconds", "When the last run ended, in Unix time");
/// Its exit code.
pub const LAST_EXIT_CODE: Metric = gauge("pg_s3_backup_last_run_exit_code", "Exit code of the last run; 0 is a backup");
/// The last failure by exit code.
pub const LAST_FAILURE: Metric = Metric {
    label: Some("exit_code"),
    ..gauge("pg_s3_backup_last_failure_timestamp_seconds", "When the last run with this exit code ended, in Unix time")
};
/// The number of runs.
pub const RUNS: Metric = Metric {
    label: Some("result"),
    counted: &["success", "failure", "skipped"],
    ..counter("pg_s3_backup_runs_total", "Runs by result: success, failure, or skipped (a tick while a backup ran)")
};
/// The number of databases.
pub const DATABASES_EXPECTED: Metric = gauge(
    "pg_s3_backup_databases_expected",
    "Databases that the last run with BACKUP_DATABASES found and had to back up",
);
/// The number of those without a backup.
pub const DATABASES_FAILED: Metric =
    gauge("pg_s3_backup_databases_failed", "Databases that the last run with BACKUP_DATABASES did not back up");
/// Whether a backup is running.
pub const IN_PROGRESS: Metric = gauge("pg_s3_backup_run_in_progress", "1 while the daemon takes a backup, else 0");
/// The time of the next backup.
pub const NEXT_RUN: Metric =
    gauge("pg_s3_backup_next_run_timestamp_seconds", "When the daemon takes its next backup, in Unix time");
/// The number of stored backups.
pub const STORED: Metric = gauge("pg_s3_backup_stored_backups", "Backups in the destination at the last listing");
/// Their bytes.
pub const STORED_BYTES: Metric =
    gauge("pg_s3_backup_stored_bytes", "Stored bytes of all backups in the destination at the last listing");
/// The number of backups that retention deleted.
pub const DELETED: Metric =
    counter("pg_s3_backup_retention_deleted_backups_total", "Backups that retention deleted after a backup");
/// Their bytes.
pub const DELETED_BYTES: Metric = counter(
    "pg_s3_backup_retention_deleted_bytes_total",
    "Stored bytes that retention deleted after a backup, with the backups' sidecars",
);
/// Whether a safety check blocked retention.
pub const RETENTION_BLOCKED: Metric =
    gauge("pg_s3_backup_retention_blocked", "1 if a safety check blocked the last retention, else 0");
/// Whether retention failed.
pub const RETENTION_FAILED: Metric = gauge(
    "pg_s3_backup_retention_failed",
    "1 if the last retention could not delete everything that the rules say, else 0",
);
/// The time of the last successful drill.
pub const LAST_DRILL_SUCCESS: Metric = gauge(
    "pg_s3_backup_last_drill_success_timestamp_seconds",
    "When the last successful restore drill ended, in Unix time",
);
/// The duration of its restore.
pub const LAST_DRILL_DURATION: Metric = gauge(
    "pg_s3_backup_last_drill_success_duration_seconds",
    "How long the restore of the last successful drill took: the recovery time to expect",
);
/// The time of the last drill.
pub const LAST_DRILL: Metric =
    gauge("pg_s3_backup_last_drill_timestamp_seconds", "When the last restore drill ended, in Unix time");
/// Its result.
pub const LAST_DRILL_RESULT: Metric = Metric {
    label: Some("result"),
    ..gauge(
        "pg_s3_backup_last_drill_result",
        "1 for the result of the last restore drill, else 0: ok, fail, or not_proven (it could not be run)",
    )
};
/// The number of drills.
pub const DRILLS: Metric = Metric {
    label: Some("result"),
    counted: &["ok", "fail", "not_proven", "skipped"],
    ..counter(
        "pg_s3_backup_drills_total",
        "Restore drills by result: ok, fail, not_proven, or skipped (a tick while a drill ran)",
    )
};
/// Whether a drill is running.
pub const DRILL_IN_PROGRESS: Metric =
    gauge("pg_s3_backup_drill_in_progress", "1 while the daemon runs a restore drill, else 0");
/// The time of the next drill.
pub const NEXT_DRILL: Metric =
    gauge("pg_s3_backup_next_drill_timestamp_seconds", "When the daemon runs its next restore drill, in Unix time");
/// Every metric, in the order of the text.
pub const METRICS: &[&Metric] = &[
    &BUILD_INFO,
    &LAST_SUCCESS,
    &LAST_DURATION,
    &LAST_DUMP_BYTES,
    &LAST_STORED_BYTES,
    &LAST_RATIO,
    &BOTTLENECK,
    &LAST_RUN,
    &LAST_EXIT_CODE,
    &LAST_FAILURE,
    &RUNS,
    &DATABASES_EXPECTED,
    &DATABASES_FAILED,
    &IN_PROGRESS,
    &NEXT_RUN,
    &STORED,
    &STORED_BYTES,
    &DELETED,
    &DELETED_BYTES,
    &RETENTION_BLOCKED,
    &RETENTION_FAILED,
    &LAST_DRILL_SUCCESS,
    &LAST_DRILL_DURATION,
    &LAST_DRILL,
    &LAST_DRILL_RESULT,
    &DRILLS,
    &DRILL_IN_PROGRESS,
    &NEXT_DRILL,
];

/// The values of the metrics, by name and label value (empty without a label).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(BTreeMap<&'static str, BTreeMap<String, f64>>);

impl Samples {
    /// Sets a metric without a label.
    pub fn set(&mut self, metric: &Metric, value: f64) {
        self.set_for(metric, "", value);
    }

    /// Sets a metric for a value of its label.
    pub fn set_for(&mut self, metric: &Metric, label: &str, value: f64) {
        self.0.entry(metric.name).or_default().insert(label.to_owned(), value);
    }

    /// Adds to a counter, for a label value (empty without a label).
    pub fn add(&mut self, metric: &Metric, label: &str, count: f64) {
        *self.0.entry(metric.name).or_default().entry(label.to_owned()).or_default() += count;
    }

    /// Forgets a metric.
    pub fn remove(&mut self, metric: &Metric) {
        self.0.remove(metric.name);
    }

    /// The value of a metric without a label.
    #[must_use]
    pub fn get(&self, metric: &Metric) -> Option<f64> {
        self.0.get(metric.name)?.get("").copied()
    }

    /// Initialises missing counters to 0 for each label value, so that Prometheus sees their first increase.
    pub fn begin_counters(&mut self) {
        for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Counter) {
            for label in metric.counted {
                self.add(metric, label, 0.0);
            }
        }
    }
}

/// The values of one destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The database, if `BACKUP_DATABASES` gave it this destination.
    pub database: Option<String>,
    /// Its values.
    pub samples: Samples,
}

/// The records by destination.
pub type Records = BTreeMap<String, Record>;

/// The text for Prometheus: each metric once, with the samples of all destinations.
#[must_use]
pub fn render(records: &[(&String, &Record)]) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let Metric { name, kind, help, .. } = metric;
        let mut is_headed = false;
        for (destination, record) in records {
            let database = record.database.iter().map(|database| format!(",database=\"{}\"", escaped(database)));
            let labels = format!("destination=\"{}\"", escaped(destination)) + &database.collect::<String>();
            for (label, value) in record.samples.0.get(name).into_iter().flatten() {
                // Writing to a String cannot fail.
                if !std::mem::replace(&mut is_headed, true) {
                    let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {}", kind.word());
                }
                let own = metric.label.map(|name| format!(",{name}=\"{}\"", escaped(label))).unwrap_or_default();
                let _ = writeln!(text, "{name}{{{labels}{own}}} {value}");
            }
        }
    }
    text
}

/// A label's value, escaped for the format.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_each_metric_once_with_escaped_labels() {
        let (mut one, mut other) = (Samples::default(), Samples::default());
        one.set(&LAST_SUCCESS, 1_795_000_000.25);
        one.add(&RUNS, "success", 2.0);
        other.add(&RUNS, "success", 5.0);
        let one = Record { database: None, samples: one };
        let other = Record { database: Some("of \"others\"".to_owned()), samples: other };
        let records = [("s3://b/a \"path\" with \\ and } 1".to_owned(), one), ("s3://b/another".to_owned(), other)];
        let text = render(&Records::from(records).iter().collect::<Vec<_>>());
        assert_eq!(text.matches("# TYPE pg_s3_backup_runs_total counter\n").count(), 1, "{text}");
        assert!(text.contains("_last_success_timestamp_seconds{destination=\"s3://b/a \\\"path\\\" with"), "{text}");
        assert!(text.contains(" 1795000000.25\n"), "{text}");
        let labels = "{destination=\"s3://b/another\",database=\"of \\\"others\\\"\",result=\"success\"} 5\n";
        assert!(text.contains(labels), "{text}");
    }

    #[test]
    fn every_counter_begins_at_zero_and_goes_on_where_it_was() {
        let mut record = Samples::default();
        record.add(&RUNS, "failure", 3.0);
        record.begin_counters();
        let counts = ["success", "failure", "skipped"].map(|result| record.0[RUNS.name].get(result).copied());
        assert_eq!(counts, [0.0, 3.0, 0.0].map(Some));
        assert_eq!([&DELETED, &DELETED_BYTES].map(|metric| record.get(metric)), [Some(0.0); 2]);
        for metric in METRICS {
            assert_eq!(metric.counted.is_empty(), metric.kind == Kind::Gauge, "{}", metric.name);
        }
    }

    #[test]
    fn names_follow_the_rules() {
        for metric in METRICS {
            assert!(metric.name.starts_with("pg_s3_backup_") && !metric.help.ends_with('.'), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        }
    }
}
