//! Turns flags and environment into the settings of each module.
//!
//! Called by `commands` at the start. All problems are reported together. Nothing here uses the network. Each module gets only
//! its own settings.

mod check;
mod compression;
mod daemon;
mod drill;
mod effective;
mod encryption;
mod given;
pub mod parse;
mod resolve;
mod restore;
mod retention;
mod secrets;
pub mod table;
mod typos;
mod warning;
mod warnings;

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use chrono_tz::Tz;
use secrecy::SecretString;

use crate::backup::BackupSettings;
use crate::codec::age::Identities;
use crate::databases::DatabasePatterns;
use crate::environment::Environment;
use crate::exit_code::ExitCode;
use crate::pipeline::PartSettings;
use crate::postgres::{ClientEnvironment, Conninfo, DumpArguments, PostgresSettings, ServiceFile};
use crate::storage::{AtRest, ChecksumSetting, Encryption, Endpoint, MAX_PARTS, S3Settings, StaticCredentials};
use crate::telemetry::{LogFormat, LogSettings};

pub use check::{CheckConfig, Scope, check};
pub use daemon::{DaemonConfig, Notifications, daemon, health, notifications};
pub use drill::{DrillConfig, DrillSettings, drill};
pub use effective::Effective;
pub use resolve::{Flags, Problem, Problems, Reported, Resolver};
pub use restore::{RestoreConfig, restore};
pub use retention::{PruneConfig, prune};
pub use secrets::secrets;
pub use warning::Warning;
pub use warnings::warnings;

/// The smallest part that S3 accepts, except for the last (AWS: "Amazon S3 multipart upload limits").
const LEAST_PART: ByteSize = ByteSize::mib(5);
/// The largest part that S3 accepts (the same page).
const LARGEST_PART: ByteSize = ByteSize::gib(5);
/// Each takes two or three connections of the server and a `pg_dump`, and memory out of that of one run.
const MOST_DATABASE_JOBS: u32 = 16;
/// Other programs' names of a connection string.
const OF_OTHERS: [&str; 5] = ["DATABASE_URL", "POSTGRES_URL", "POSTGRESQL_URL", "POSTGRES_URI", "DATABASE_URI"];

/// What `backup` needs.
#[derive(Debug)]
pub struct BackupConfig {
    /// What the run needs.
    pub settings: BackupSettings,
    /// The values that are used, without secrets, for the log.
    pub effective: Effective,
}

/// What `list` needs.
#[derive(Debug)]
pub struct ListConfig {
    /// The destination.
    pub s3: S3Settings,
    /// `BACKUP_DATABASES`
    pub databases: Option<DatabasePatterns>,
    /// What opens the index of an encrypted backup.
    pub identities: Option<Identities>,
}

/// Resolves the settings of the log, before all others. The command itself reports their problems.
#[must_use]
pub fn log_settings(flags: &Flags, environment: &Environment) -> LogSettings {
    log(&mut Resolver::new(flags, environment))
}

/// Resolves the settings of `backup`.
///
/// # Errors
/// Every problem at once.
pub fn backup(flags: &Flags, environment: &Environment) -> Result<BackupConfig, Problems> {
    let mut resolver = Resolver::new(flags, environment);
    let zone = retention::zone(&mut resolver);
    let settings = backup_in(&mut resolver, zone);
    finish(resolver, settings).map(|(settings, effective)| BackupConfig { settings, effective })
}

/// The settings that `backup` and `daemon` share.
fn backup_in(resolver: &mut Resolver<'_>, zone: Tz) -> Option<BackupSettings> {
    let s3 = s3(resolver);
    let postgres = postgres(resolver);
    let databases = databases(resolver);
    let jobs = resolver.parse(&table::BACKUP_DATABASE_JOBS, |text| parse::number(text, 1, MOST_DATABASE_JOBS));
    let pipeline = compression::pipeline(resolver);
    let recipients = encryption::recipients(resolver, postgres.as_ref().map(|postgres| &postgres.arguments));
    let parts = parts(resolver, s3.as_ref());
    let spool_dir = resolver.text(&table::BACKUP_SPOOL_DIR).map(PathBuf::from);
    let max_duration = resolver.parse(&table::BACKUP_MAX_DURATION, parse::optional_duration).flatten();
    let max_blocking = resolver.parse(&table::BACKUP_MAX_BLOCKING, parse::optional_duration).flatten();
    let retention = retention::policy(resolver, zone).ok().flatten();
    daemon::notifications_in(resolver);
    log(resolver);
    let (s3, mut postgres) = s3.zip(postgres)?;
    postgres.hides_names = recipients.is_some();
    Some(BackupSettings {
        s3,
        postgres,
        databases,
        database_jobs: jobs.unwrap_or(1) as usize,
        pipeline,
        recipients,
        parts,
        spool_dir,
        max_duration,
        max_blocking,
        retention,
    })
}

/// The configuration and the values for the log, or every problem.
fn finish<T>(resolver: Resolver<'_>, config: Option<T>) -> Result<(T, Effective), Problems> {
    let effective = resolver.finish()?;
    config.map(|config| (config, effective)).ok_or_else(unexplained)
}

/// Whether `BACKUP_DATABASES` is set, whatever is wrong with it or other settings.
#[must_use]
pub fn means_several_databases(flags: &Flags, environment: &Environment) -> bool {
    Resolver::new(flags, environment).given(&table::BACKUP_DATABASES) != Ok(None)
}

/// Resolves the settings of `list`.
///
/// # Errors
/// Every problem at once.
pub fn list(flags: &Flags, environment: &Environment) -> Result<ListConfig, Problems> {
    let mut resolver = Resolver::new(flags, environment);
    let s3 = s3(&mut resolver);
    let databases = databases(&mut resolver);
    let identities = encryption::identities(&mut resolver);
    log(&mut resolver);
    resolver.finish()?;
    s3.map(|s3| ListConfig { s3, databases, identities }).ok_or_else(unexplained)
}

/// A setting is missing without a reported problem. That cannot happen, and must not count as success if it does.
fn unexplained() -> Problems {
    let mut problems = Problems::default();
    problems.push(ExitCode::InvalidSetting, "the settings could not be resolved".to_owned());
    problems
}

/// The databases of the server that are meant; `None` for the connection string's own.
fn databases(resolver: &mut Resolver<'_>) -> Option<DatabasePatterns> {
    resolver.parse(&table::BACKUP_DATABASES, DatabasePatterns::parse)
}

fn s3(resolver: &mut Resolver<'_>) -> Option<S3Settings> {
    let bucket = resolver.required(&table::S3_BUCKET);
    let bucket = bucket.and_then(|text| match parse::bucket(&text) {
        Ok(bucket) => Some(bucket),
        Err(why) => {
            resolver.refuse(&table::S3_BUCKET, &why);
            None
        }
    });
    let prefix = resolver.parse(&table::S3_PATH, parse::prefix);
    if let Some(prefix) = &prefix {
        resolver.used(&table::S3_PATH, prefix);
    }
    let endpoint = endpoint(resolver);
    let region = resolver.parse(&table::S3_REGION, parse::region);
    let credentials = credentials(resolver);
    let path_style = resolver.parse(&table::S3_FORCE_PATH_STYLE, parse::boolean);
    let force_path_style = path_style.unwrap_or(endpoint.is_some());
    resolver.used(&table::S3_FORCE_PATH_STYLE, force_path_style);
    refuse_bucket_in_url(resolver, bucket.as_deref().zip(endpoint.as_ref()), path_style);
    let ca_bundle = resolver.parse(&table::S3_CA_BUNDLE, crate::storage::read_ca_bundle);
    let checksum = resolver.parse(&table::S3_CHECKSUM, |text| parse::word(text, ChecksumSetting::WORDS));
    let at_rest = at_rest(resolver);
    let request_timeout = duration(resolver, &table::S3_REQUEST_TIMEOUT);
    let max_outage = duration(resolver, &table::BACKUP_MAX_UPLOAD_OUTAGE);
    Some(S3Settings {
        bucket: bucket?,
        prefix: prefix.unwrap_or_default(),
        force_path_style,
        endpoint,
        region,
        credentials,
        ca_bundle,
        checksum: checksum.unwrap_or_default(),
        at_rest,
        request_timeout: request_timeout.unwrap_or(Duration::from_secs(30)),
        max_outage: max_outage.unwrap_or(Duration::from_mins(15)),
    })
}

/// The endpoint: `S3_URL`, else the AWS SDK's own variables, with the same consequences.
fn endpoint(resolver: &mut Resolver<'_>) -> Option<Endpoint> {
    match resolver.given(&table::S3_URL) {
        Ok(Some(text)) => match parse::endpoint(&text) {
            Ok(endpoint) => {
                resolver.used(&table::S3_URL, endpoint.url());
                Some(endpoint)
            }
            Err(why) => {
                resolver.refuse(&table::S3_URL, &why);
                None
            }
        },
        Ok(None) => {
            let (variable, text) = aws_endpoint(resolver.environment())?;
            match parse::endpoint(&text) {
                Ok(endpoint) => {
                    resolver.given_elsewhere(&table::S3_URL, endpoint.url());
                    Some(endpoint)
                }
                Err(why) => {
                    resolver.problem(ExitCode::InvalidS3, format!("{variable}: {why}"));
                    None
                }
            }
        }
        Err(Reported) => None,
    }
}

/// The endpoint in the AWS SDK's variables, and the name of its variable.
fn aws_endpoint(environment: &Environment) -> Option<(&'static str, String)> {
    let value = |name| environment.get(name)?.to_str().map(str::trim).map(str::to_owned);
    if value("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        return None;
    }
    ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].into_iter().find_map(|name| Some((name, value(name)?)))
}

/// Refuses a bucket in the URL: its name would become part of each key, and `list` would not find the backups. With an explicit
/// path style the URL is accepted, because a server may have the bucket's name.
fn refuse_bucket_in_url(resolver: &mut Resolver<'_>, url: Option<(&str, &Endpoint)>, path_style: Option<bool>) {
    if path_style != Some(true) && url.is_some_and(|(bucket, endpoint)| endpoint.holds_bucket(bucket)) {
        let why = "holds the bucket, which S3_BUCKET names already: take the bucket out of S3_URL (where the server itself has that name, set S3_FORCE_PATH_STYLE=true)";
        resolver.refuse(&table::S3_URL, why);
    }
}

fn at_rest(resolver: &mut Resolver<'_>) -> AtRest {
    let storage_class = resolver.text(&table::S3_STORAGE_CLASS);
    let encryption = resolver.parse(&table::S3_SSE, |text| parse::word(text, Encryption::WORDS));
    let kms_key = resolver.text(&table::S3_SSE_KMS_KEY_ID);
    if kms_key.is_some() && encryption != Some(Encryption::Kms) {
        resolver.refuse(&table::S3_SSE_KMS_KEY_ID, "is used with S3_SSE=aws:kms alone: set that too");
    }
    AtRest { storage_class, encryption, kms_key }
}

fn credentials(resolver: &mut Resolver<'_>) -> Option<StaticCredentials> {
    let access_key = credential(resolver, &table::S3_ACCESS_KEY);
    let secret_key = credential(resolver, &table::S3_SECRET_KEY);
    let session_token = credential(resolver, &table::S3_SESSION_TOKEN).ok().flatten();
    match (access_key, secret_key) {
        (Ok(Some(access_key)), Ok(Some(secret_key))) => {
            Some(StaticCredentials { access_key, secret_key, session_token })
        }
        (Ok(None), Ok(Some(_)) | Err(Reported)) => {
            let text = "S3_ACCESS_KEY is not set, but S3_SECRET_KEY is: set both or neither";
            resolver.problem(ExitCode::MissingSetting, text.to_owned());
            None
        }
        (Ok(Some(_)) | Err(Reported), Ok(None)) => {
            let text = "S3_SECRET_KEY is not set, but S3_ACCESS_KEY is: set both or neither";
            resolver.problem(ExitCode::MissingSetting, text.to_owned());
            None
        }
        // No credentials, or a reported problem: an unreadable value is not a missing one.
        (Ok(None), Ok(None)) | (Err(Reported), _) | (_, Err(Reported)) => None,
    }
}

/// One credential. The SDK panics on characters that an HTTP header cannot hold.
fn credential(resolver: &mut Resolver<'_>, setting: &table::Setting) -> Result<Option<SecretString>, Reported> {
    match resolver.given(setting)? {
        Some(text) if text.chars().any(char::is_control) => {
            resolver.refuse(setting, "must not hold a line break or another control character");
            Err(Reported)
        }
        text => Ok(text.map(SecretString::from)),
    }
}

fn postgres(resolver: &mut Resolver<'_>) -> Option<PostgresSettings> {
    let environment = ClientEnvironment::from_process(resolver.environment());
    let named_elsewhere = environment.names_a_database();
    let text =
        if named_elsewhere { resolver.text(&table::POSTGRES_CONNECTION_STRING) } else { required_connection(resolver) };
    let conninfo = match text.as_deref().map(Conninfo::parse) {
        Some(Ok(conninfo)) => Some(conninfo),
        Some(Err(why)) => {
            resolver.refuse(&table::POSTGRES_CONNECTION_STRING, &why.to_string());
            None
        }
        None => named_elsewhere.then(Conninfo::default),
    };
    let (conninfo, environment) = hide_secrets(resolver, &table::POSTGRES_CONNECTION_STRING, conninfo, environment);
    let pg_dump_path = resolver.text(&table::PG_DUMP_PATH).map(PathBuf::from);
    let arguments = resolver.parse(&table::PG_DUMP_ARGS, DumpArguments::parse).unwrap_or_default();
    let lock_wait = duration(resolver, &table::BACKUP_LOCK_WAIT_TIMEOUT);
    let stall_timeout = duration(resolver, &table::BACKUP_STALL_TIMEOUT);
    Some(PostgresSettings {
        variable: table::POSTGRES_CONNECTION_STRING.variable,
        conninfo: conninfo?,
        environment,
        pg_dump_path,
        arguments,
        lock_wait: lock_wait.unwrap_or(Duration::from_mins(1)),
        stall_timeout: stall_timeout.unwrap_or(Duration::from_mins(30)),
        hides_names: false,
        allows_pooler: false,
    })
}

/// The connection string. If it is missing, the error names a variable that other programs use for it.
fn required_connection(resolver: &mut Resolver<'_>) -> Option<String> {
    let setting = &table::POSTGRES_CONNECTION_STRING;
    let text = resolver.given(setting).ok()?;
    if text.is_none() {
        let theirs = OF_OTHERS.iter().find(|name| resolver.environment().get(name).is_some());
        let hint =
            theirs.map_or_else(String::new, |name| format!(" ({name} is set: give its value as {})", setting.variable));
        resolver.problem(ExitCode::MissingSetting, format!("{} is not set{hint}: {}", setting.variable, setting.help));
    }
    text
}

/// Moves secrets without a libpq variable to a service file, where child processes find them.
fn hide_secrets(
    resolver: &mut Resolver<'_>,
    setting: &table::Setting,
    conninfo: Option<Conninfo>,
    environment: ClientEnvironment,
) -> (Option<Conninfo>, ClientEnvironment) {
    let Some(mut conninfo) = conninfo else { return (None, environment) };
    if let Some(service) = environment.get("PGSERVICE").filter(|_| !conninfo.other_secrets().is_empty()) {
        // libpq accepts only one service.
        conninfo.set("service", service.to_string_lossy());
    }
    match ServiceFile::hide(&mut conninfo) {
        Ok(None) => (Some(conninfo), environment),
        Ok(Some(file)) => (Some(conninfo), environment.with_service_file(file)),
        Err(why) => {
            resolver.refuse(setting, &why.to_string());
            (None, environment)
        }
    }
}

fn parts(resolver: &mut Resolver<'_>, s3: Option<&S3Settings>) -> PartSettings {
    let base = resolver.parse(&table::BACKUP_PART_SIZE, |text| {
        if text.eq_ignore_ascii_case("auto") { Ok(None) } else { parse::size(text, LEAST_PART, LARGEST_PART).map(Some) }
    });
    let max_parts = resolver.parse(&table::S3_MAX_PARTS, |text| parse::number(text, 1, MAX_PARTS));
    let equal = resolver.parse(&table::S3_EQUAL_PARTS, parse::boolean);
    let concurrency = resolver.parse(&table::BACKUP_UPLOAD_CONCURRENCY, |text| parse::number(text, 1, 64));
    let max_parts = max_parts.unwrap_or_else(|| s3.map_or(MAX_PARTS, S3Settings::max_parts));
    resolver.used(&table::S3_MAX_PARTS, max_parts);
    let equal = equal.unwrap_or_else(|| s3.is_some_and(S3Settings::wants_equal_parts));
    resolver.used(&table::S3_EQUAL_PARTS, equal);
    PartSettings { base: base.flatten(), max_parts, equal, concurrency: concurrency.unwrap_or(4) }
}

/// A time limit that cannot be turned off: `0` and `off` are invalid.
fn duration(resolver: &mut Resolver<'_>, setting: &table::Setting) -> Option<Duration> {
    let limit = resolver.parse(setting, parse::optional_duration)?;
    if limit.is_none() {
        let text = format!("{}: cannot be off: give a time such as {}", setting.variable, setting.default);
        resolver.problem(ExitCode::InvalidSetting, text);
    }
    limit
}

fn log(resolver: &mut Resolver<'_>) -> LogSettings {
    let level = resolver.parse(&table::LOG_LEVEL, |text| parse::word(text, LogSettings::LEVELS));
    let format = resolver.parse(&table::LOG_FORMAT, |text| parse::word(text, LogFormat::WORDS));
    let no_color = resolver.text(&table::NO_COLOR).is_some();
    LogSettings::new(level, format, no_color)
}
