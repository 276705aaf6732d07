//! What the status page and `/status` show: one set of facts, gathered for each request from what the daemon keeps.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::archive::drill::DrillRecord;
use crate::inventory::{DatabaseSnapshot, InventoryCache, Known, Snapshot};
use crate::scheduler::{DatabaseHealth, Health, Heartbeat};
use crate::telemetry::RunningDump;
use crate::telemetry::metrics::RunHistory;

/// Whether the backups are in order, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The last run failed.
    Failing,
    /// No run failed, and no backup has succeeded since the tick before last.
    Stale,
    /// No backup is known yet.
    NoBackup,
    /// A backup has succeeded since the tick before last, and the last run did not fail.
    Covered,
}

impl State {
    /// Its word for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Failing => "Failing",
            Self::Stale => "Stale",
            Self::NoBackup => "No backup yet",
            Self::Covered => "Covered",
        }
    }

    /// Its name in JSON, and its class on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Stale => "stale",
            Self::NoBackup => "no_backup",
            Self::Covered => "covered",
        }
    }

    fn of(is_fresh: bool, history: &RunHistory, last_success: Option<DateTime<Utc>>) -> Self {
        // Another host may have made a backup since the last run.
        let is_later = last_success.zip(history.last_run).is_some_and(|(success, run)| success > run);
        let has_failed = history.exit_code.is_some_and(|code| code != 0) && !is_later;
        match (has_failed, last_success) {
            (true, _) => Self::Failing,
            (false, None) => Self::NoBackup,
            (false, Some(_)) if is_fresh => Self::Covered,
            (false, Some(_)) => Self::Stale,
        }
    }
}

/// A drill, as the metrics or its record have it.
#[derive(Clone, Debug, PartialEq)]
pub struct DrillFacts {
    /// The database, if there are several.
    pub database: Option<String>,
    /// The backup, if it is known.
    pub file_name: Option<String>,
    /// When it ended.
    pub ended: DateTime<Utc>,
    /// `ok`, `fail` or `not_proven`.
    pub result: &'static str,
    /// How long the restore took, in seconds.
    pub duration: Option<f64>,
}

/// What is known of one of several databases.
#[derive(Clone, Debug)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// Its state; `None` if the last run did not find it on the server.
    pub state: Option<State>,
    /// There was a success since the tick before last, or it is new.
    pub is_healthy: bool,
    /// When its last backup succeeded.
    pub last_success: Option<DateTime<Utc>>,
    /// Its runs.
    pub history: RunHistory,
    /// Its last drill.
    pub drill: Option<DrillFacts>,
}

/// The facts.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When they were gathered.
    pub now: DateTime<Utc>,
    /// `s3://bucket/path`
    pub location: String,
    /// The state of all.
    pub state: State,
    /// Whether backups succeed on schedule.
    pub health: Health,
    /// Whether the loop runs.
    pub is_alive: bool,
    /// The age of its last beat.
    pub heartbeat_age: Duration,
    /// The runs; of several databases the runs of all of them.
    pub history: RunHistory,
    /// The dumps that run now.
    pub dumps: Vec<RunningDump>,
    /// The last drill.
    pub drill: Option<DrillFacts>,
    /// The databases, if there are several.
    pub databases: Option<Vec<DatabaseFacts>>,
    /// The bucket.
    pub bucket: Known,
}

impl Facts {
    /// Gathers them.
    #[must_use]
    pub fn gather(heartbeat: &Heartbeat, inventory: &InventoryCache, now: DateTime<Utc>) -> Self {
        let (health, metrics) = (heartbeat.health(now), heartbeat.metrics());
        let (history, bucket) = (metrics.history(now), inventory.known());
        let snapshot = bucket.snapshot.as_deref();
        let databases = health.databases.as_ref().map(|known| databases(heartbeat, known, snapshot, now));
        let state = match &databases {
            // Before the first run, the bucket alone says which databases there are.
            Some(each) if health.last_success.is_none() && history.last_run.is_none() => {
                each.iter().filter_map(|database| database.state).min().unwrap_or(State::NoBackup)
            }
            _ => State::of(health.is_healthy, &history, health.last_success),
        };
        let recorded = snapshot.iter().flat_map(|snapshot| &snapshot.databases).filter_map(recorded_drill);
        let last = health.drill.last.as_ref().map(|last| DrillFacts {
            database: last.database.as_ref().map(|(name, _)| name.clone()),
            file_name: last.file_name.clone(),
            ended: last.sample.ended,
            result: last.sample.result,
            duration: last.sample.duration,
        });
        let (is_alive, heartbeat_age) = heartbeat.alive();
        let drill = recorded.chain(last).max_by_key(|drill| drill.ended);
        Self {
            now,
            location: metrics.destination().to_owned(),
            state,
            is_alive,
            heartbeat_age,
            dumps: heartbeat.dumps().now(),
            health,
            history,
            drill,
            databases,
            bucket,
        }
    }

    /// The snapshot of the bucket.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.bucket.snapshot.as_ref()
    }

    /// The last success in one sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        reason(&self.health)
    }
}

/// Each database of the last run, and each that has backups alone.
fn databases(
    heartbeat: &Heartbeat,
    known: &[DatabaseHealth],
    snapshot: Option<&Snapshot>,
    now: DateTime<Utc>,
) -> Vec<DatabaseFacts> {
    let metrics = heartbeat.metrics();
    let had_run = metrics.history(now).last_run.is_some();
    let destinations = metrics.databases(now).unwrap_or_default();
    let mut all: Vec<DatabaseFacts> = Vec::new();
    for DatabaseHealth { name, is_healthy, last_success } in known {
        let destination = destinations.iter().find(|known| known.database == *name);
        let history = destination.map(|known| metrics.of_database(name, &known.destination).history(now));
        let history = history.unwrap_or_default();
        let stored = snapshot.and_then(|snapshot| snapshot.database(Some(name)));
        let own = history.drill.map(|sample| DrillFacts {
            database: Some(name.clone()),
            file_name: None,
            ended: sample.ended,
            result: sample.result,
            duration: sample.duration,
        });
        let drill = own.into_iter().chain(stored.and_then(recorded_drill)).max_by_key(|drill| drill.ended);
        let state = Some(State::of(*is_healthy, &history, *last_success));
        let (name, is_healthy, last_success) = (name.clone(), *is_healthy, *last_success);
        all.push(DatabaseFacts { name, state, is_healthy, last_success, history, drill });
    }
    for stored in snapshot.iter().flat_map(|snapshot| &snapshot.databases) {
        let Some(name) = stored.name.clone() else { continue };
        if known.iter().any(|known| known.name == name) {
            continue;
        }
        let is_healthy = stored.newest.is_some_and(|newest| heartbeat.is_fresh(newest, now));
        let history = RunHistory::default();
        let state = State::of(is_healthy, &history, stored.newest);
        let (state, last_success, drill) = ((!had_run).then_some(state), stored.newest, recorded_drill(stored));
        all.push(DatabaseFacts { name, state, is_healthy, last_success, history, drill });
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

fn recorded_drill(stored: &DatabaseSnapshot) -> Option<DrillFacts> {
    let DrillRecord { file_name, finished_at, result, duration, .. } = stored.drill.as_ref()?;
    Some(DrillFacts {
        database: stored.name.clone(),
        file_name: Some(file_name.clone()),
        ended: DateTime::parse_from_rfc3339(finished_at).ok()?.to_utc(),
        result: result.word(),
        duration: Some(*duration),
    })
}

fn reason(health: &Health) -> String {
    let all = health.databases.as_deref().unwrap_or_default();
    let late = all.iter().filter(|database| !database.is_healthy).count();
    match (health.is_healthy, health.last_success) {
        (true, _) if !all.is_empty() => "each database has a backup since the tick before last".to_owned(),
        (true, _) => "there is a backup since the tick before last".to_owned(),
        (false, _) if late > 0 => {
            let (all, has) = (all.len(), if late == 1 { "has" } else { "have" });
            format!("{late} of {all} databases {has} no backup since the tick before last")
        }
        (false, Some(_)) => "no backup since the tick before last".to_owned(),
        (false, None) => "no backup is known yet".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_that_of_the_last_run_and_of_the_last_success() {
        let time = Some(DateTime::UNIX_EPOCH);
        let state = |is_fresh, exit_code, success| {
            State::of(is_fresh, &RunHistory { exit_code, ..RunHistory::default() }, success)
        };
        assert_eq!(state(false, None, None), State::NoBackup);
        assert_eq!(state(false, Some(12), None), State::Failing, "the first run failed");
        assert_eq!(state(true, Some(12), time), State::Failing, "the backup before is fresh");
        assert_eq!(state(true, Some(0), time), State::Covered);
        assert_eq!(state(true, None, time), State::Covered, "another process took it");
        assert_eq!(state(false, Some(0), time), State::Stale);
        let failed = RunHistory { exit_code: Some(12), last_run: time, ..RunHistory::default() };
        let later = time.map(|time| time + chrono::TimeDelta::hours(1));
        assert_eq!(State::of(true, &failed, later), State::Covered, "another host made one after the failure");
        assert_eq!(State::of(true, &failed, time), State::Failing);
        assert!(State::Failing < State::Stale && State::Stale < State::NoBackup && State::NoBackup < State::Covered);
    }
}
