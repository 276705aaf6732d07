//! The dumps that run now, for the status page and `/status`. It only reads the pipeline's counters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::pipeline::Progress;

/// The dumps that run now. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct RunningDumps(Arc<Mutex<Dumps>>);

#[derive(Debug, Default)]
struct Dumps {
    next: u64,
    each: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    database: Option<String>,
    since: DateTime<Utc>,
    progress: Arc<Progress>,
    estimate: u64,
}

/// How far a dump is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningDump {
    /// Its database, if there are several.
    pub database: Option<String>,
    /// When it began.
    pub since: DateTime<Utc>,
    /// Plain bytes that came from `pg_dump`.
    pub dumped: u64,
    /// Compressed bytes that S3 has taken.
    pub uploaded: u64,
    /// The size of the database, which the dump may exceed or not reach.
    pub estimate: u64,
}

/// A dump that runs until this is dropped.
#[derive(Debug)]
pub struct DumpGuard {
    dumps: RunningDumps,
    number: u64,
}

impl RunningDumps {
    /// Adds a dump of about `estimate` bytes.
    #[must_use]
    pub fn begin(&self, database: Option<&str>, progress: Arc<Progress>, estimate: u64) -> DumpGuard {
        let mut dumps = self.dumps();
        let number = dumps.next;
        dumps.next += 1;
        let entry = Entry { database: database.map(str::to_owned), since: Utc::now(), progress, estimate };
        dumps.each.insert(number, entry);
        DumpGuard { dumps: self.clone(), number }
    }

    /// Each dump, the first one first.
    #[must_use]
    pub fn now(&self) -> Vec<RunningDump> {
        let seen = |entry: &Entry| RunningDump {
            database: entry.database.clone(),
            since: entry.since,
            dumped: entry.progress.dumped(),
            uploaded: entry.progress.uploaded(),
            estimate: entry.estimate,
        };
        self.dumps().each.values().map(seen).collect()
    }

    fn dumps(&self) -> MutexGuard<'_, Dumps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DumpGuard {
    fn drop(&mut self) {
        self.dumps.dumps().each.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dump_is_listed_until_its_end() {
        let dumps = RunningDumps::default();
        let first = dumps.begin(Some("app"), Arc::default(), 7);
        let other = dumps.clone().begin(None, Arc::default(), 8);
        let seen = |dumps: &RunningDumps| dumps.now().iter().map(|dump| dump.estimate).collect::<Vec<_>>();
        assert_eq!((dumps.now()[0].database.as_deref(), seen(&dumps)), (Some("app"), vec![7, 8]));
        drop(first);
        assert_eq!(seen(&dumps), [8]);
        drop(other);
        assert!(dumps.now().is_empty());
    }
}
