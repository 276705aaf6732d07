//! The last run of a destination, and the runs that failed, for the status page.
//!
//! The metrics know the last failure with each exit code, also those of earlier processes if there is a `METRICS_FILE`. This process
//! remembers the others, in memory alone.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};

use super::store::{last_success, time_of};
use super::{
    DATABASES_FAILED, DrillSample, LAST_DRILL, LAST_DRILL_DURATION, LAST_DRILL_RESULT, LAST_DRILL_SUCCESS,
    LAST_EXIT_CODE, LAST_FAILURE, LAST_RUN, MetricsStore, RETENTION_BLOCKED, RETENTION_FAILED, STORED, Samples, drills,
};

/// Of a destination so many failures are remembered.
const MOST_FAILURES: usize = 50;

/// A run that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailedRun {
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// Its exit code.
    pub exit_code: u8,
}

/// What the metrics of a destination say about its runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunHistory {
    /// When the last backup was committed.
    pub last_success: Option<DateTime<Utc>>,
    /// When the last run ended.
    pub last_run: Option<DateTime<Utc>>,
    /// Its exit code.
    pub exit_code: Option<u8>,
    /// Whether a safety check blocked the last retention.
    pub is_retention_blocked: bool,
    /// Whether the last retention could not delete everything.
    pub is_retention_failed: bool,
    /// Of a run with several databases, the number of those that it did not back up; `None` if no run has found them.
    pub databases_failed: Option<u64>,
    /// Whether the destination was listed.
    pub is_listed: bool,
    /// The last drill.
    pub drill: Option<DrillSample>,
    /// When the last successful drill ended.
    pub drill_success: Option<DateTime<Utc>>,
    /// The runs that failed, the oldest first.
    pub failures: Vec<FailedRun>,
}

/// Failures of this process, by destination, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<String, VecDeque<FailedRun>>);

impl Failures {
    /// Remembers a failure.
    pub(super) fn add(&mut self, destination: &str, failed: FailedRun) {
        let known = self.0.entry(destination.to_owned()).or_default();
        if known.len() == MOST_FAILURES {
            known.pop_front();
        }
        known.push_back(failed);
    }
}

impl MetricsStore {
    /// The run's destination, as in the label of the metrics.
    #[must_use]
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// The runs of this destination.
    #[must_use]
    pub fn history(&self, now: DateTime<Utc>) -> RunHistory {
        let records = self.records();
        let Some(record) = records.get(&self.destination) else { return RunHistory::default() };
        let own = self.failures().0.get(&self.destination).cloned().unwrap_or_default();
        history(&record.samples, own, now)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a code and a count")]
fn history(samples: &Samples, own: VecDeque<FailedRun>, now: DateTime<Utc>) -> RunHistory {
    let is_set = |metric| samples.get(metric).is_some_and(|value| value > 0.5);
    let known = samples.0.get(LAST_FAILURE.name).into_iter().flatten();
    let known =
        known.filter_map(|(code, ended)| Some(FailedRun { ended: time_of(*ended)?, exit_code: code.parse().ok()? }));
    let mut failures: Vec<FailedRun> = known.chain(own).collect();
    failures.sort_unstable();
    // The metrics round to the millisecond.
    failures.dedup_by_key(|failed| (failed.ended.timestamp(), failed.exit_code));
    let exit_code = samples.get(&LAST_EXIT_CODE).map(|code| code as u8);
    RunHistory {
        last_success: last_success(samples, now),
        last_run: samples.get(&LAST_RUN).and_then(time_of),
        exit_code,
        is_retention_blocked: is_set(&RETENTION_BLOCKED),
        is_retention_failed: is_set(&RETENTION_FAILED),
        databases_failed: samples.get(&DATABASES_FAILED).map(|count| count as u64),
        is_listed: samples.get(&STORED).is_some(),
        drill: drill(samples),
        drill_success: samples.get(&LAST_DRILL_SUCCESS).and_then(time_of),
        failures,
    }
}

fn drill(samples: &Samples) -> Option<DrillSample> {
    let ended = samples.get(&LAST_DRILL).and_then(time_of)?;
    let results = samples.0.get(LAST_DRILL_RESULT.name)?;
    let is_it = |result: &&str| results.get(*result).is_some_and(|value| *value > 0.5);
    let result = drills::RESULTS.into_iter().find(is_it)?;
    let duration = samples.get(&LAST_DRILL_DURATION).filter(|_| result == drills::RESULTS[0]);
    Some(DrillSample { ended, result, duration })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::RunResult;
    use super::*;

    #[test]
    fn failures_are_remembered_once_and_not_for_ever() {
        let store = MetricsStore::open(Some("s3://b/"), None);
        let at = |minute: u32| -> DateTime<Utc> { format!("2026-11-22T02:{minute:02}:00.5Z").parse().expect("a time") };
        let end = |minute, code| store.ended(&RunResult::without_backup(at(minute), Duration::ZERO, code));
        end(1, 12);
        end(2, 12);
        end(3, 10);
        let seen = store.history(at(59));
        let codes: Vec<_> = seen.failures.iter().map(|failed| failed.exit_code).collect();
        assert_eq!((codes, seen.exit_code, seen.last_run), (vec![12, 12, 10], Some(10), Some(at(3))));
        assert_eq!(seen.last_success, None);
        (0..60).for_each(|minute| end(minute, 11));
        let seen = store.history(at(59)).failures;
        assert!(seen.len() <= MOST_FAILURES + 2 && seen.last().map(|failed| failed.ended) == Some(at(59)), "{seen:?}");
    }
}
