//! The metrics of restore drills: those of the daemon, and of `check --restore-to`.

use chrono::{DateTime, Utc};

use super::store::{rounded, unix};
use super::{
    DRILL_IN_PROGRESS, DRILLS, LAST_DRILL, LAST_DRILL_DURATION, LAST_DRILL_RESULT, LAST_DRILL_SUCCESS, MetricsStore,
    NEXT_DRILL, Samples,
};

/// The results that the metrics know.
pub(super) const RESULTS: [&str; 3] = ["ok", "fail", "not_proven"];

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrillSample {
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// `ok`, `fail` or `not_proven`.
    pub result: &'static str,
    /// How long the restore took, in seconds; `None` if the drill could not be run.
    pub duration: Option<f64>,
}

impl MetricsStore {
    /// Records the end of a drill.
    pub fn drilled(&self, drill: &DrillSample) {
        self.with(|record| {
            set(record, drill);
            record.add(&DRILLS, drill.result, 1.0);
        });
        self.save();
    }

    /// Records a drill of an earlier process, unless a later one is known.
    pub fn found_drill(&self, drill: &DrillSample) {
        self.with(|record| {
            if record.get(&LAST_DRILL).is_none_or(|known| known < unix(drill.ended)) {
                set(record, drill);
            }
        });
        self.save();
    }

    /// Records a scheduled drill that was skipped because another one runs.
    pub fn drill_skipped(&self) {
        self.with(|record| record.add(&DRILLS, "skipped", 1.0));
        self.save();
    }

    /// Records whether a drill runs and when the next one is due.
    pub fn drill_planned(&self, running_since: Option<DateTime<Utc>>, next: Option<DateTime<Utc>>) {
        self.with(|record| record.set(&DRILL_IN_PROGRESS, f64::from(u8::from(running_since.is_some()))));
        // Each database has it, too: an alert compares it with the database's own last drill.
        self.with_databases(|record| match next {
            Some(next) => record.set(&NEXT_DRILL, unix(next)),
            None => record.remove(&NEXT_DRILL),
        });
        self.save();
    }
}

fn set(record: &mut Samples, drill: &DrillSample) {
    record.set(&LAST_DRILL, unix(drill.ended));
    for result in RESULTS {
        record.set_for(&LAST_DRILL_RESULT, result, f64::from(u8::from(result == drill.result)));
    }
    if drill.result == RESULTS[0] {
        record.set(&LAST_DRILL_SUCCESS, unix(drill.ended));
        drill.duration.into_iter().for_each(|duration| record.set(&LAST_DRILL_DURATION, rounded(duration)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_drill_keeps_the_last_success() {
        let store = MetricsStore::open(Some("s3://b/"), None);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("in range");
        let sample = |seconds, result| DrillSample { ended: at(seconds), result, duration: Some(1.5) };
        store.found_drill(&sample(900, "ok"));
        store.drilled(&sample(1000, "ok"));
        store.drilled(&sample(2000, "fail"));
        store.found_drill(&sample(1500, "ok"));
        let text = store.render();
        for line in [
            "last_drill_success_timestamp_seconds{destination=\"s3://b/\"} 1000\n",
            "last_drill_success_duration_seconds{destination=\"s3://b/\"} 1.5\n",
            "last_drill_timestamp_seconds{destination=\"s3://b/\"} 2000\n",
            "last_drill_result{destination=\"s3://b/\",result=\"fail\"} 1\n",
            "last_drill_result{destination=\"s3://b/\",result=\"ok\"} 0\n",
            "drills_total{destination=\"s3://b/\",result=\"ok\"} 1\n",
            "drills_total{destination=\"s3://b/\",result=\"fail\"} 1\n",
        ] {
            assert!(text.contains(&format!("pg_s3_backup_{line}")), "{line}{text}");
        }
    }
}
