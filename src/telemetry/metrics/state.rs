//! The state of the metrics, which the next run continues, as JSON next to `METRICS_FILE`.
//!
//! [`super::MetricsStore`] reads and writes it, and makes the text for Prometheus from it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{METRICS, Samples};

/// The version of this format.
const VERSION: u32 = 1;
/// Appended to the metrics file's name. Collectors ignore such names.
const SUFFIX: &str = ".state.json";

#[derive(Serialize, Deserialize)]
struct State {
    version: u32,
    /// By destination, metric, and label value (empty without a label).
    destinations: BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>,
}

/// The path of a metrics file's state.
pub(super) fn path_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

/// The state as JSON.
pub(super) fn encode(records: &[(&str, &Samples)]) -> String {
    let own = |samples: &Samples| samples.0.iter().map(|(name, values)| ((*name).to_owned(), values.clone())).collect();
    let destinations = records.iter().map(|(destination, samples)| ((*destination).to_owned(), own(samples))).collect();
    let json = serde_json::to_string_pretty(&State { version: VERSION, destinations });
    // Strings and finite numbers always serialize.
    json.unwrap_or_default() + "\n"
}

/// Parses a state, by destination. Ignores unknown metrics; `None` if it is invalid.
pub(super) fn decode(text: &str) -> Option<BTreeMap<String, Samples>> {
    let State { destinations, .. } = serde_json::from_str(text).ok()?;
    let known = |metrics: BTreeMap<String, BTreeMap<String, f64>>| {
        let known = metrics.into_iter().filter_map(|(name, values)| {
            let metric = METRICS.iter().find(|metric| metric.name == name)?;
            Some((metric.name, values))
        });
        Samples(known.collect())
    };
    Some(destinations.into_iter().map(|(destination, metrics)| (destination, known(metrics))).collect())
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
        let text = encode(&[("s3://b/a \"path\"\n", &one), ("s3://b/another", &other)]);
        let read = decode(&text).expect("a state");
        assert_eq!(
            read,
            BTreeMap::from([("s3://b/a \"path\"\n".to_owned(), one), ("s3://b/another".to_owned(), other)])
        );
    }

    #[test]
    fn ignores_metrics_that_it_does_not_know_and_rejects_what_is_no_state() {
        let newer = r#"{"version": 2, "new": 1, "destinations": {"d": {"else": {"": 1}}}}"#;
        assert_eq!(decode(newer), Some(BTreeMap::from([("d".to_owned(), Samples::default())])));
        for damaged in ["", "{}", "nonsense", r#"{"version": 1, "destinations": {"d": {"#] {
            assert_eq!(decode(damaged), None, "{damaged}");
        }
    }
}
