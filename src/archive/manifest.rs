//! The manifest: the facts of a backup, as JSON next to it.
//!
//! `backup` writes it after the commit, `list` reads it. A backup without a manifest is a backup, too.

use std::sync::OnceLock;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::codec::Codec;
use crate::codec::age::Recipients;
use crate::pipeline::Bottleneck;
use crate::pipeline::scanner::TableRows;
use crate::postgres::{Extension, Facts, References, Tools};
use crate::verified_dump::VerifiedDump;

use super::name::{self, BackupName};

/// The prefix of warnings about the globals.
pub(crate) const GLOBALS_WORD: &str = "globals";
/// The prefix of each of `pg_dump`'s warnings.
pub(super) const PG_DUMP_WORD: &str = "pg_dump warned: ";
/// The prefix of each of `pg_dumpall`'s warnings.
pub(super) const PG_DUMPALL_WORD: &str = "globals: pg_dumpall warned: ";

/// The prefix of warnings about the index.
pub(crate) const INDEX_WORD: &str = "index";

/// The version of this format. Version 1 had no number, `missing` for `warnings`, and `character_type` for `ctype`.
const VERSION: u32 = 2;

/// The manifest. It reads every version, and ignores unknown fields, so that later versions may add some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version. An older manifest gets the new names when it is read.
    #[serde(skip_deserializing, default = "version")]
    pub manifest_version: u32,
    /// The backup's file name.
    pub file_name: String,
    /// The object's key.
    pub key: String,
    /// 128 random bits of the run, also in the object's metadata.
    pub run_id: String,
    /// The database.
    pub database: String,
    /// `pg_control_system()`, if the server allows it.
    pub system_identifier: Option<String>,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// The server's version.
    pub server_version: String,
    /// The version of `pg_dump`.
    pub pg_dump_version: String,
    /// The version of this program.
    pub tool_version: String,
    /// The arguments of `pg_dump` without the connection.
    pub pg_dump_arguments: Vec<String>,
    /// Whether the arguments left something out.
    #[serde(default)]
    pub partial: bool,
    /// `pg_database_size` before the dump, in bytes.
    pub database_bytes: u64,
    /// Length of the plain dump in bytes.
    pub dump_bytes: u64,
    /// CRC-32 of the plain dump, in hexadecimal; an encrypted backup's manifest does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dump_crc32: Option<String>,
    /// Size of the object in bytes.
    pub object_bytes: u64,
    /// sha256 of the object, in hexadecimal.
    pub object_sha256: String,
    /// Plain bytes for each stored byte.
    pub compression_ratio: f64,
    /// The codec; earlier versions had gzip alone, and do not say it.
    #[serde(default)]
    pub compression: Codec,
    /// The highest level that was used.
    pub compression_level: u32,
    /// The levels that were used, lowest first; earlier versions had one, and do not list it.
    #[serde(default)]
    pub compression_levels: Vec<u32>,
    /// The bottleneck, in per cent of the dump's duration; earlier versions have none.
    #[serde(default)]
    pub bottleneck: Option<Bottleneck>,
    /// The public keys that the backup is encrypted for. With them the manifest in the bucket names nothing in the
    /// database: see [`Manifest::without_names`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// Size of the first part in bytes.
    pub part_bytes: u64,
    /// Number of parts.
    pub parts: u32,
    /// The database's encoding.
    pub encoding: String,
    /// `datcollate`
    pub collation: Option<String>,
    /// `datctype`
    #[serde(alias = "character_type")]
    pub ctype: Option<String>,
    /// `datlocprovider` from PostgreSQL 15 on: `c`, `i` or `b`.
    #[serde(default)]
    pub locale_provider: Option<String>,
    /// The locale of the providers `i` and `b`.
    #[serde(default)]
    pub locale: Option<String>,
    /// `daticurules` from PostgreSQL 16 on: additional collation rules of the provider `i`.
    #[serde(default)]
    pub icu_rules: Option<String>,
    /// Rows of COPY data in all.
    pub rows: u64,
    /// Rows of each table, in the dump's order. Later versions have them in the index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableRows>,
    /// Number of tables with COPY data; earlier versions list them instead.
    #[serde(default)]
    pub table_count: Option<u64>,
    /// Extensions that the dump creates; of a partial one those of the entire database.
    #[serde(default)]
    pub extensions: Vec<Extension>,
    /// Roles that must exist before the dump is restored; of a partial one those of the entire database.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Tablespaces that must exist before; of a partial one those of the entire database.
    #[serde(default)]
    pub tablespaces: Vec<String>,
    /// Relations that a restore creates: tables with their TOAST tables, indexes, sequences and views. Earlier versions have none.
    #[serde(default)]
    pub relations: Option<u64>,
    /// Large objects that a restore creates; earlier versions have none.
    #[serde(default)]
    pub large_objects: Option<u64>,
    /// The file with the cluster's globals and the database's own settings; `None` without globals.
    #[serde(default)]
    pub globals: Option<GlobalsFile>,
    /// The file with the index of the dump; `None` without one.
    #[serde(default)]
    pub index: Option<IndexFile>,
    /// The restore commands: the lines of one bash script.
    #[serde(default)]
    pub restore: Vec<String>,
    /// What is unknown or was left out, and why: `globals: pg_dumpall failed (exit code 1)`, `pg_dump warned: subscriptions not
    /// dumped because current user is not a superuser`.
    #[serde(default, alias = "missing")]
    pub warnings: Vec<String>,
}

fn version() -> u32 {
    VERSION
}

/// The globals of the backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GlobalsFile {
    /// Its file name.
    pub file_name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its sha256, in hexadecimal.
    pub sha256: String,
    /// Whether it has the roles' password verifiers.
    pub role_passwords: bool,
}

/// The index of the dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexFile {
    /// Its file name.
    pub file_name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its sha256, in hexadecimal.
    pub sha256: String,
}

/// The facts of a run for its manifest.
#[derive(Debug)]
pub struct RunFacts<'a> {
    /// The run's id.
    pub run_id: &'a str,
    /// The server and the database.
    pub facts: &'a Facts,
    /// The programs used.
    pub tools: &'a Tools,
    /// The codec.
    pub codec: Codec,
    /// Size of the first part in bytes.
    pub part_bytes: u64,
    /// Whether the arguments leave something out.
    pub is_partial: bool,
    /// Whom the backup is encrypted for.
    pub recipients: Option<&'a Recipients>,
    /// `pg_dump`'s arguments, without the connection.
    pub arguments: &'a [String],
    /// What the dump refers to, if the server returned it.
    pub references: Option<&'a References>,
    /// Warnings.
    pub warnings: Vec<String>,
    /// `pg_dump`'s warnings.
    pub pg_dump_warnings: &'a OnceLock<Vec<String>>,
}

impl RunFacts<'_> {
    fn all_warnings(&self) -> Vec<String> {
        let of_pg_dump = self.pg_dump_warnings.get().into_iter().flatten();
        let of_pg_dump = of_pg_dump.map(|warning| format!("{PG_DUMP_WORD}{warning}"));
        self.warnings.iter().cloned().chain(of_pg_dump).collect()
    }
}

/// The location of a backup.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// `s3://bucket/key`
    pub location: &'a str,
    /// The URL of a store other than AWS.
    pub endpoint: Option<&'a str>,
}

impl Manifest {
    /// The manifest of a complete dump with this key. The globals and the restore commands are added later.
    #[must_use]
    pub fn new(run: &RunFacts<'_>, key: &str, verified: &VerifiedDump, finished: DateTime<Utc>) -> Self {
        let (totals, scan) = (verified.totals(), verified.scan());
        let References { extensions, roles, tablespaces, toast_tables, .. } =
            run.references.cloned().unwrap_or_default();
        Self {
            manifest_version: VERSION,
            file_name: name::file_name(key).to_owned(),
            key: key.to_owned(),
            run_id: run.run_id.to_owned(),
            database: run.facts.database.clone(),
            system_identifier: run.facts.system_identifier.clone(),
            started_at: time_text(started(key).unwrap_or(finished)),
            finished_at: time_text(finished),
            server_version: run.facts.server_version.clone(),
            pg_dump_version: run.tools.pg_dump.version.to_string(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            pg_dump_arguments: run.arguments.to_vec(),
            partial: run.is_partial,
            database_bytes: run.facts.size_bytes,
            dump_bytes: totals.plain_bytes,
            dump_crc32: Some(format!("{:08x}", totals.plain_crc32)),
            object_bytes: totals.object_bytes,
            object_sha256: hex::encode(totals.object_sha256),
            compression_ratio: ratio(totals.plain_bytes, totals.object_bytes),
            compression: run.codec,
            compression_level: 0,
            compression_levels: Vec::new(),
            bottleneck: None,
            recipients: run.recipients.map(Recipients::keys).unwrap_or_default(),
            part_bytes: run.part_bytes,
            parts: totals.parts,
            encoding: run.facts.encoding.clone(),
            collation: run.facts.collation.clone(),
            ctype: run.facts.ctype.clone(),
            locale_provider: run.facts.locale_provider.clone(),
            locale: run.facts.locale.clone(),
            icu_rules: run.facts.icu_rules.clone(),
            rows: scan.rows,
            tables: Vec::new(),
            table_count: Some(scan.tables.len() as u64),
            extensions,
            roles,
            tablespaces,
            relations: scan.created.map(|created| created.relations + 2 * toast_tables.min(created.tables)),
            large_objects: scan.created.map(|created| created.large_objects),
            restore: Vec::new(),
            globals: None,
            index: None,
            warnings: run.all_warnings(),
        }
    }

    /// Seconds from the start to the commit.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
    pub fn duration(&self) -> Option<f64> {
        let time = |text: &str| DateTime::parse_from_rfc3339(text).ok();
        let duration = time(&self.finished_at)? - time(&self.started_at)?;
        Some(duration.num_seconds().max(0) as f64)
    }

    /// Adds the bottleneck.
    #[must_use]
    pub fn with_bottleneck(self, bottleneck: Bottleneck) -> Self {
        Self { bottleneck: Some(bottleneck), ..self }
    }

    /// Adds the levels that were used, lowest first.
    #[must_use]
    pub fn with_levels(self, levels: Vec<u32>) -> Self {
        Self { compression_level: levels.last().copied().unwrap_or_default(), compression_levels: levels, ..self }
    }

    /// Codec and levels, for people: `gzip 1 to 5`.
    #[must_use]
    pub fn compression_text(&self) -> String {
        let codec = self.compression;
        match self.compression_levels.as_slice() {
            [] | [_] => format!("{codec} {}", self.compression_level),
            [first, .., last] => format!("{codec} {first} to {last}"),
        }
    }

    /// Adds the globals, or why there are none.
    #[must_use]
    pub fn with_globals(mut self, made: Result<GlobalsFile, String>) -> Self {
        match made {
            Ok(globals) => self.globals = Some(globals),
            Err(why) => {
                self.globals = None;
                self.warnings.push(why);
            }
        }
        self
    }

    /// Adds the index, or why there is none.
    #[must_use]
    pub fn with_index(mut self, made: Result<IndexFile, String>) -> Self {
        match made {
            Ok(index) => self.index = Some(index),
            Err(why) => {
                self.index = None;
                // The spool's manifest may say it, too.
                self.warnings.retain(|warning| *warning != why);
                self.warnings.push(why);
            }
        }
        self
    }

    /// Number of tables with COPY data.
    #[must_use]
    pub fn table_count(&self) -> u64 {
        self.table_count.unwrap_or(self.tables.len() as u64)
    }

    /// Adds `pg_dumpall`'s warnings.
    #[must_use]
    pub fn with_warnings_of_globals(mut self, warnings: &[String]) -> Self {
        self.warnings.extend(warnings.iter().map(|warning| format!("{PG_DUMPALL_WORD}{warning}")));
        self
    }

    /// The manifest of a dump from the spool, uploaded later and perhaps under a later name.
    #[must_use]
    pub fn delivered(self, key: &str, finished: DateTime<Utc>) -> Self {
        let (file_name, key) = (name::file_name(key).to_owned(), key.to_owned());
        let (started_at, finished_at) = (started(&key).map_or(self.started_at, time_text), time_text(finished));
        let is_said = |word: &str| self.warnings.iter().any(|what| what.starts_with(&format!("{word}: ")));
        let lacks_globals = self.globals.is_none() && !is_said(GLOBALS_WORD);
        let lacks_index = self.index.is_none() && !is_said(INDEX_WORD);
        let mut manifest = Self { file_name, key, started_at, finished_at, ..self };
        if lacks_globals {
            let why = format!("{GLOBALS_WORD}: the run that took the dump ended before it had made them");
            manifest = manifest.with_globals(Err(why));
        }
        if lacks_index {
            manifest = manifest.with_index(Err(format!("{INDEX_WORD}: the run that took the dump made none")));
        }
        manifest
    }
}

/// The start time of a key's backup. A run may take a later name than its start, so the name decides.
fn started(key: &str) -> Option<DateTime<Utc>> {
    BackupName::parse(name::file_name(key)).map(|name| name.started())
}

/// RFC 3339 in UTC, to the second.
#[must_use]
pub fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Plain bytes for each stored byte, rounded to two digits.
#[expect(clippy::cast_precision_loss, reason = "a ratio of two digits does not need 53 bits")]
fn ratio(plain: u64, stored: u64) -> f64 {
    if stored == 0 { 0.0 } else { (plain as f64 / stored as f64 * 100.0).round() / 100.0 }
}
