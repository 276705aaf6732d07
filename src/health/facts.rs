//! What the status page and `/status` show: one set of facts, gathered for each request from what the daemon keeps.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::archive::drill::DrillResult;
use crate::archive::name::is_in_future;
use crate::inventory::{DatabaseSnapshot, InventoryCache, Known, RecordedDrill, Snapshot};
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
    /// There is no backup yet.
    NoBackup,
    /// No backup is known, and the bucket has not been listed.
    Unknown,
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
            Self::Unknown => "Unknown",
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
            Self::Unknown => "unknown",
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

    /// Without a backup: whether there is none, or nothing is known.
    fn if_listed(self, is_listed: bool) -> Self {
        if self == Self::NoBackup && !is_listed { Self::Unknown } else { self }
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
    /// Whether it counts: the server has it, or that is not known yet of any.
    pub is_expected: bool,
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
    /// When the last successful drill ended.
    pub drill_success: Option<DateTime<Utc>>,
    /// The databases, if there are several.
    pub databases: Option<Vec<DatabaseFacts>>,
    /// The bucket.
    pub bucket: Known,
}

impl Facts {
    /// Gathers them.
    #[must_use]
    pub fn gather(heartbeat: &Heartbeat, inventory: &InventoryCache, now: DateTime<Utc>) -> Self {
        let (mut health, metrics) = (heartbeat.health(now), heartbeat.metrics());
        let (history, bucket) = (metrics.history(now), inventory.known());
        let snapshot = bucket.snapshot.as_deref();
        let databases = health.databases.as_ref().map(|known| databases(heartbeat, known, (snapshot, &history), now));
        let is_none_known = health.databases.as_ref().is_some_and(Vec::is_empty);
        if let Some(each) = databases.as_ref().filter(|_| is_none_known && history.databases_failed.is_none()) {
            // No run has found the databases yet: the bucket alone says which there are.
            health.last_success = each.iter().filter_map(|database| database.last_success).min();
            health.is_healthy = !each.is_empty() && each.iter().all(|database| database.is_healthy);
        }
        let is_listed = snapshot.is_some() || history.is_listed || databases.is_some() && !is_none_known;
        let state = State::of(health.is_healthy, &history, health.last_success).if_listed(is_listed);
        let recorded = snapshot.iter().flat_map(|snapshot| &snapshot.databases).filter_map(recorded_drill);
        let last = health.drill.last.as_ref().map(|last| DrillFacts {
            database: last.database.as_ref().map(|(name, _)| name.clone()),
            file_name: last.file_name.clone(),
            ended: last.sample.ended,
            result: last.sample.result,
            duration: last.sample.duration,
        });
        let (is_alive, heartbeat_age) = heartbeat.alive();
        let drills: Vec<DrillFacts> = recorded.chain(last).filter(|drill| !is_in_future(drill.ended, now)).collect();
        let succeeded = drills.iter().filter(|drill| drill.result == DrillResult::Ok.word()).map(|drill| drill.ended);
        let of_databases = databases.iter().flatten().filter_map(|database| database.history.drill_success);
        let succeeded = succeeded.chain(history.drill_success).chain(of_databases);
        let drill_success = succeeded.filter(|ended| !is_in_future(*ended, now)).max();
        Self {
            now,
            location: metrics.destination().to_owned(),
            state,
            is_alive,
            heartbeat_age,
            dumps: heartbeat.dumps().now(),
            health,
            history,
            drill: drills.into_iter().max_by_key(|drill| drill.ended),
            drill_success,
            databases,
            bucket,
        }
    }

    /// The snapshot of the bucket.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.bucket.snapshot.as_ref()
    }

    /// Of several databases, the number of those that count, and of those of them without a fresh backup.
    #[must_use]
    pub fn late_databases(&self) -> (usize, usize) {
        let expected = || self.databases.iter().flatten().filter(|database| database.is_expected);
        (expected().count(), expected().filter(|database| !database.is_healthy).count())
    }

    /// The last success in one sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        let (all, late) = self.late_databases();
        match (self.health.is_healthy, self.health.last_success) {
            (true, _) if all > 0 => "each database has a backup since the tick before last".to_owned(),
            (true, _) => "there is a backup since the tick before last".to_owned(),
            (false, _) if late > 0 => {
                let has = if late == 1 { "has" } else { "have" };
                format!("{late} of {all} databases {has} no backup since the tick before last")
            }
            (false, Some(_)) => "no backup since the tick before last".to_owned(),
            (false, None) => "no backup is known yet".to_owned(),
        }
    }
}

/// Each database of the last run, and each that has backups alone.
fn databases(
    heartbeat: &Heartbeat,
    known: &[DatabaseHealth],
    (snapshot, run): (Option<&Snapshot>, &RunHistory),
    now: DateTime<Utc>,
) -> Vec<DatabaseFacts> {
    let metrics = heartbeat.metrics();
    // A run that failed before it knew the databases says nothing about them.
    let has_found = run.databases_failed.is_some();
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
        let drills = own.into_iter().chain(stored.and_then(recorded_drill));
        let drill = drills.filter(|drill| !is_in_future(drill.ended, now)).max_by_key(|drill| drill.ended);
        let is_listed = snapshot.is_some() || history.is_listed;
        let state = Some(State::of(*is_healthy, &history, *last_success).if_listed(is_listed));
        let (name, is_healthy, last_success) = (name.clone(), *is_healthy, *last_success);
        all.push(DatabaseFacts { name, state, is_expected: true, is_healthy, last_success, history, drill });
    }
    for stored in snapshot.iter().flat_map(|snapshot| &snapshot.databases) {
        let Some(name) = stored.name.clone() else { continue };
        if known.iter().any(|known| known.name == name) {
            continue;
        }
        let is_healthy = stored.newest.is_some_and(|newest| heartbeat.is_fresh(newest, now));
        let history = RunHistory::default();
        let state = State::of(is_healthy, &history, stored.newest);
        let (state, last_success) = ((!has_found).then_some(state), stored.newest);
        let drill = recorded_drill(stored).filter(|drill| !is_in_future(drill.ended, now));
        let is_expected = known.is_empty() && !has_found;
        all.push(DatabaseFacts { name, state, is_expected, is_healthy, last_success, history, drill });
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

fn recorded_drill(stored: &DatabaseSnapshot) -> Option<DrillFacts> {
    let RecordedDrill { file_name, ended, result, duration } = stored.drill.clone()?;
    let (database, result, duration) = (stored.name.clone(), result.word(), Some(duration));
    Some(DrillFacts { database, file_name: Some(file_name), ended, result, duration })
}

#[cfg(test)]
mod tests;
