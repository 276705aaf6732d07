//! The record of a drill, a JSON sidecar of its backup: the evidence that the backup was restored, or could not be.
//!
//! `restore` writes it after each drill that has a result, and `list` reads it. It has no server message, which could contain
//! data.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::name::is_in_future;

/// The result of a drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrillResult {
    /// The backup was restored, and holds the rows that were recorded.
    Ok,
    /// It could not be restored, or holds other rows.
    Fail,
}

impl DrillResult {
    /// Its word in JSON and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
        }
    }
}

/// The content of the record. It ignores unknown fields, because later versions may add some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrillRecord {
    /// The version of this format.
    #[serde(default = "DrillRecord::version")]
    pub drill_version: u32,
    /// The backup's file name.
    pub file_name: String,
    /// The backup's key.
    pub key: String,
    /// The run that made the backup, if its manifest says.
    pub run_id: Option<String>,
    /// The result.
    pub result: DrillResult,
    /// The check that failed, in one word.
    pub failed: Option<String>,
    /// When the drill began; RFC 3339, UTC.
    pub drilled_at: String,
    /// When it ended; RFC 3339, UTC.
    pub finished_at: String,
    /// Seconds from the first connection to the last row: the recovery time to expect on such a server.
    pub duration: f64,
    /// The version of the server that it was restored into.
    pub server_version: String,
    /// That server's system identifier; `None` if the role may not read it.
    pub system_identifier: Option<String>,
    /// The version of `psql`.
    pub psql_version: String,
    /// The version of this program.
    pub tool_version: String,
    /// The database that was backed up, from the manifest.
    pub database: Option<String>,
    /// The version of the server that was backed up.
    pub source_server_version: Option<String>,
    /// The system identifier of the server that was backed up.
    pub source_system_identifier: Option<String>,
    /// The version of `pg_dump` that made the backup.
    pub pg_dump_version: Option<String>,
    /// Size of the backup in bytes.
    pub object_bytes: u64,
    /// Its sha256 by the manifest; the restored bytes had the same.
    pub object_sha256: Option<String>,
    /// Whether it is partial: the arguments of its `pg_dump` left something out.
    #[serde(default)]
    pub partial: bool,
    /// Length of the plain dump in bytes.
    pub dump_bytes: Option<u64>,
    /// Rows that the server counted. The manifest has the same number.
    pub rows: Option<u64>,
    /// Tables that have such rows.
    pub tables: Option<usize>,
    /// Queries of `--check-sql` that returned true.
    pub check_sql: usize,
    /// What could not be verified, because the backup has no manifest.
    pub unchecked: Option<String>,
    /// What was left out.
    pub left_out: Vec<String>,
}

impl DrillRecord {
    /// The current version of the format, which is the first.
    #[must_use]
    pub fn version() -> u32 {
        1
    }

    /// When it ended; `None` if that is no time, or one that no clock can have shown yet: it would hide later drills.
    #[must_use]
    pub fn ended(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let ended = DateTime::parse_from_rfc3339(&self.finished_at).ok()?.to_utc();
        (!is_in_future(ended, now)).then_some(ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_in_the_future_is_none() {
        let record = |finished_at: &str| {
            let json = serde_json::json!({
                "file_name": "", "key": "", "result": "ok", "drilled_at": "", "finished_at": finished_at, "duration": 1,
                "server_version": "", "psql_version": "", "tool_version": "", "object_bytes": 1, "check_sql": 0, "left_out": [],
            });
            serde_json::from_value::<DrillRecord>(json).expect("a record")
        };
        let now: DateTime<Utc> = "2026-11-28T02:00:00Z".parse().expect("a time");
        let ended = |text| record(text).ended(now).map(|ended| (now - ended).num_minutes());
        assert_eq!(ended("2026-11-28T01:00:00Z"), Some(60));
        assert_eq!(ended("2026-11-28T03:00:00Z"), Some(-60), "clocks may differ by an hour");
        assert_eq!((ended("2026-11-28T03:00:01Z"), ended("yesterday")), (None, None));
    }
}
