//! The state of the metrics, which the next run continues, as JSON next to `METRICS_FILE`.
//!
//! [`super::MetricsStore`] reads and writes it, and makes the text for Prometheus from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{METRICS, Record, Records, Samples};

/// The version of this format.
const VERSION: u32 = 1;
/// Appended to the metrics file's name. Collectors ignore such names.
const SUFFIX: &str = ".state.json";

#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    /// By destination, metric, and label value (empty without a label).
    destinations: BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>,
    /// The databases by destination. Earlier versions have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    databases: BTreeMap<String, String>,
}

/// The path of a metrics file's state.
pub(super) fn path_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// The state as JSON.
pub(super) fn encode(records: &Records) -> String {
    let own = |samples: &Samples| samples.0.iter().map(|(name, values)| ((*name).to_owned(), values.clone())).collect();
    let destinations =
        records.iter().map(|(destination, record)| (destination.clone(), own(&record.samples))).collect();
    let database = |(destination, record): (&String, &Record)| Some((destination.clone(), record.database.clone()?));
    let databases = records.iter().filter_map(database).collect();
    let json = serde_json::to_string_pretty(&State { version: VERSION, destinations, databases });
    // Strings and finite numbers always serialize.
    json.unwrap_or_default() + "\n"
}

/// Parses a state. Ignores unknown metrics; `None` if it is invalid.
pub(super) fn decode(text: &str) -> Option<Records> {
    let State { destinations, mut databases, .. } = serde_json::from_str(text).ok()?;
    let known = |metrics: BTreeMap<String, BTreeMap<String, f64>>| {
        let known = metrics.into_iter().filter_map(|(name, values)| {
            let metric = METRICS.iter().find(|metric| metric.name == name)?;
            Some((metric.name, values))
        });
        Samples(known.collect())
    };
    let record = |(destination, metrics)| {
        let record = Record { database: databases.remove(&destination), samples: known(metrics) };
        (destination, record)
    };
    Some(destinations.into_iter().map(record).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{LAST_FAILURE, LAST_SUCCESS, RUNS};
    use super::*;

    #[test]
    fn reads_what_is_written() {
        let (mut one, mut other) = (Samples::default(), Samples::default());
        one.set(&LAST_SUCCESS, 1_795_000_000.25);
        one.set_for(&LAST_FAILURE, "143", 1.0);
        other.add(&RUNS, "success", 5.0);
        let one = Record { database: None, samples: one };
        let other = Record { database: Some("another".to_owned()), samples: other };
        let records = Records::from([("s3://b/a \"path\"\n".to_owned(), one), ("s3://b/another".to_owned(), other)]);
        assert_eq!(decode(&encode(&records)), Some(records));
    }

    #[test]
    fn ignores_metrics_that_it_does_not_know_and_rejects_what_is_no_state() {
        let newer = r#"{"version": 2, "new": 1, "destinations": {"d": {"else": {"": 1}}}}"#;
        assert_eq!(decode(newer), Some(Records::from([("d".to_owned(), Record::default())])));
        for damaged in ["", "{}", "nonsense", r#"{"version": 1, "destinations": {"d": {"#] {
            assert_eq!(decode(damaged), None, "{damaged}");
        }
    }
}
