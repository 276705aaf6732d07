//! The report of a run: one line for people, or one JSON object for programs.
//!
//! Made by [`super::run`], printed by `commands::backup`.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;

use crate::exit_code::ExitCode;
use crate::pipeline::Bottleneck;
use crate::retention::RetentionReport;

use crate::archive::manifest::Manifest;

/// How far a failed run came, for its report.
#[derive(Debug, Default)]
pub struct Attempt {
    file_name: Option<String>,
    location: Option<String>,
}

impl Attempt {
    /// Records the upload.
    pub fn started(&mut self, file_name: &str, location: String) {
        self.file_name = Some(file_name.to_owned());
        self.location = Some(location);
    }
}

/// The JSON report: first the fields of the original `BackupResult`, then the manifest's.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    success: bool,
    file_name: Option<String>,
    /// Bytes.
    file_size: u64,
    s3_location: Option<String>,
    /// Seconds.
    duration: f64,
    error: Option<String>,
    /// The exit code of a database that failed among several.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    /// Its name. That of a backup is in its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<String>,
    /// The result of retention, if a rule is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<RetentionReport>,
    /// Flattened; its `file_name` is the one above.
    #[serde(flatten)]
    manifest: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(skip)]
    dump_bytes: u64,
    #[serde(skip)]
    bottleneck: Option<Bottleneck>,
    /// Codec and levels, for people; the manifest's fields have them, too.
    #[serde(skip)]
    compression: String,
}

impl Report {
    /// The report of a committed backup.
    #[must_use]
    pub fn success(manifest: Manifest, s3_location: String, elapsed: Duration) -> Self {
        let (file_name, file_size, dump_bytes) =
            (manifest.file_name.clone(), manifest.object_bytes, manifest.dump_bytes);
        let (bottleneck, compression) = (manifest.bottleneck, manifest.compression_text());
        let mut fields = match serde_json::to_value(manifest) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        fields.remove("file_name");
        Self {
            success: true,
            file_name: Some(file_name),
            file_size,
            s3_location: Some(s3_location),
            duration: seconds(elapsed),
            error: None,
            exit_code: None,
            database: None,
            retention: None,
            manifest: Some(fields),
            dump_bytes,
            bottleneck,
            compression,
        }
    }

    /// Adds the result of retention.
    #[must_use]
    pub fn with_retention(self, retention: Option<RetentionReport>) -> Self {
        Self { retention, ..self }
    }

    /// The report of a failed run.
    #[must_use]
    pub fn failure(attempt: &Attempt, error: String, elapsed: Duration) -> Self {
        Self {
            success: false,
            file_name: attempt.file_name.clone(),
            file_size: 0,
            s3_location: attempt.location.clone(),
            duration: seconds(elapsed),
            error: Some(error),
            exit_code: None,
            database: None,
            retention: None,
            manifest: None,
            dump_bytes: 0,
            bottleneck: None,
            compression: String::new(),
        }
    }

    /// The report of a database that failed among several.
    #[must_use]
    pub fn of_database(self, database: &str, exit_code: ExitCode) -> Self {
        Self { database: Some(database.to_owned()), exit_code: Some(exit_code.number()), ..self }
    }

    /// Plain bytes for each stored byte, of a backup.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.manifest.as_ref()?.get("compression_ratio")?.as_f64()
    }

    /// Plain and stored bytes of the backup, if there is one.
    #[must_use]
    pub fn bytes(&self) -> Option<(u64, u64)> {
        self.success.then_some((self.dump_bytes, self.file_size))
    }

    /// The result of retention, if a rule is set.
    #[must_use]
    pub fn retention(&self) -> Option<&RetentionReport> {
        self.retention.as_ref()
    }

    /// Which stage held the dump up.
    #[must_use]
    pub fn bottleneck(&self) -> Option<Bottleneck> {
        self.bottleneck
    }

    /// One line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let location = self.s3_location.as_deref().unwrap_or_default();
        let stored = ByteSize(self.file_size).display().iec();
        let plain = ByteSize(self.dump_bytes).display().iec();
        let compression = &self.compression;
        let bottleneck = match self.bottleneck.as_ref().and_then(Bottleneck::largest) {
            Some((stage, percent)) => format!(", bottleneck: {stage} {percent} %"),
            None => String::new(),
        };
        format!(
            "{location}: {stored} ({plain} of dump, {compression}, ratio {:.2}) in {:.1} s{bottleneck}",
            self.ratio().unwrap_or_default(),
            self.duration
        )
    }
}

/// Seconds, rounded to milliseconds.
fn seconds(elapsed: Duration) -> f64 {
    (elapsed.as_secs_f64() * 1000.0).round() / 1000.0
}
