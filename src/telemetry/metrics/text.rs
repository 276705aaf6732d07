//! Reads the metrics from the text for Prometheus, if there is no state next to it.
//!
//! Called by [`super::MetricsStore`]. Version 1 had no other state: its last success is kept.

use super::{METRICS, Metric, Records};

/// Names of version 1, and the new ones.
const RENAMED: [(&str, &str); 3] = [
    ("pg_s3_backup_kept_backups", "pg_s3_backup_stored_backups"),
    ("pg_s3_backup_kept_bytes", "pg_s3_backup_stored_bytes"),
    ("pg_s3_backup_retention_frozen", "pg_s3_backup_retention_blocked"),
];

/// Parses the text. Ignores unknown metrics.
pub(super) fn parse(text: &str) -> Records {
    let mut records = Records::new();
    for Sample { destination, database, metric, label, value } in text.lines().filter_map(sample) {
        let record = records.entry(destination).or_default();
        record.database = database;
        record.samples.set_for(metric, &label, value);
    }
    records
}

/// A line.
struct Sample {
    destination: String,
    database: Option<String>,
    metric: &'static Metric,
    /// Empty without a label.
    label: String,
    value: f64,
}

fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = line.split_once('{')?;
    let name = RENAMED.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| *new);
    let metric = METRICS.iter().find(|metric| metric.name == name)?;
    let (destination, rest) = unescaped(rest.strip_prefix("destination=\"")?)?;
    let (database, rest) = match rest.strip_prefix(",database=\"") {
        Some(rest) => unescaped(rest).map(|(database, rest)| (Some(database), rest))?,
        None => (None, rest),
    };
    let (label, rest) = match metric.label {
        Some(own) => unescaped(rest.strip_prefix(',')?.strip_prefix(own)?.strip_prefix("=\"")?)?,
        None => (String::new(), rest),
    };
    let value = rest.strip_prefix("} ")?.parse::<f64>().ok().filter(|value| value.is_finite())?;
    Some(Sample { destination, database, metric, label, value })
}

/// A label's value up to its closing quote, and the rest.
fn unescaped(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{
        LAST_FAILURE, LAST_SUCCESS, RETENTION_BLOCKED, RUNS, Record, STORED, STORED_BYTES, Samples, render,
    };
    use super::*;

    #[test]
    fn reads_what_is_rendered() {
        let mut record = Samples::default();
        record.set(&LAST_SUCCESS, 1_795_000_000.25);
        record.set_for(&LAST_FAILURE, "12", 1_795_000_001.0);
        record.set_for(&LAST_FAILURE, "143", 1.0);
        record.add(&RUNS, "success", 1.0);
        record.add(&RUNS, "success", 1.0);
        let destination = "s3://b/a \"path\" with \\ and } 1";
        let mut other = Samples::default();
        other.add(&RUNS, "success", 5.0);
        let record = Record { database: None, samples: record };
        let other = Record { database: Some("\"an\\other\n".to_owned()), samples: other };
        let records = Records::from([(destination.to_owned(), record), ("s3://b/another".to_owned(), other)]);
        let text = render(&records.iter().collect::<Vec<_>>());
        assert_eq!(parse(&text), records, "{text}");
    }

    #[test]
    fn ignores_damaged_lines() {
        let text = "pg_s3_backup_last_success_timestamp_seconds{destination=\"d\"} NaN\n\
                    pg_s3_backup_runs_total{destination=\"d\"} 3\npg_s3_backup_runs_total{destination=\"d\",result=\"x\n\
                    else{destination=\"d\"} 1\n{} {\n}\npg_s3_backup_kept_backups{destination=\"d\"} 7";
        let mut wanted = Samples::default();
        wanted.set(&STORED, 7.0);
        assert_eq!(parse(text), Records::from([("d".to_owned(), Record { database: None, samples: wanted })]));
    }

    #[test]
    fn reads_version_1_under_todays_names() {
        let records = parse(include_str!("../../../tests/fixtures/version-1/metrics-after-failure.prom"));
        let record = &records["s3://faults-29911-5/app"].samples;
        assert_eq!(record.get(&LAST_SUCCESS), Some(1_795_841_858.056));
        assert_eq!(
            [&STORED, &STORED_BYTES, &RETENTION_BLOCKED].map(|metric| record.get(metric)),
            [Some(3.0), Some(48_021.0), Some(0.0)]
        );
        assert_eq!(record.0[RUNS.name]["failure"].to_bits(), 2.0f64.to_bits());
    }
}
