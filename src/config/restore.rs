//! What `restore` needs: where the backups are, and the database to restore into, where one is named.

use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;

use super::encryption::identities;
use super::retention::zone;
use super::{
    Effective, Environment, Flags, Problems, Resolver, databases, finish, hide_secrets, log, parse, s3, table,
};
use crate::codec::age::Identities;
use crate::databases::DatabasePatterns;
use crate::postgres::{ClientEnvironment, Conninfo, DumpArguments, PostgresSettings};
use crate::storage::S3Settings;

/// The most sessions by default.
const MOST_DEFAULT_JOBS: usize = 8;

/// What `restore` needs.
#[derive(Debug)]
pub struct RestoreConfig {
    /// Where the backups are.
    pub s3: S3Settings,
    /// `BACKUP_DATABASES`: then a database must be named.
    pub databases: Option<DatabasePatterns>,
    /// The database to restore into, if one is named. It never defaults to the database that is backed up.
    pub target: Option<PostgresSettings>,
    /// `RESTORE_JOBS`
    pub jobs: usize,
    /// What opens encrypted backups.
    pub identities: Option<Identities>,
    /// In which a time without an offset is meant.
    pub zone: Tz,
    /// Every value as it is used, without secrets, for the log.
    pub effective: Effective,
}

/// Resolves the settings of `restore`.
///
/// # Errors
/// Every problem at once.
pub fn restore(flags: &Flags, environment: &Environment) -> Result<RestoreConfig, Problems> {
    let mut resolver = Resolver::new(flags, environment);
    let s3 = s3(&mut resolver);
    let databases = databases(&mut resolver);
    let zone = zone(&mut resolver);
    let target = target(&mut resolver, flags, &table::RESTORE_CONNECTION_STRING);
    let jobs = jobs(&mut resolver);
    let identities = identities(&mut resolver);
    log(&mut resolver);
    let (s3, effective) = finish(resolver, s3)?;
    Ok(RestoreConfig { s3, databases, target, jobs, identities, zone, effective })
}

/// The sessions of a restore. More do not make it faster than the CPUs of a usual server.
pub(super) fn jobs(resolver: &mut Resolver<'_>) -> usize {
    let jobs = resolver.parse(&table::RESTORE_JOBS, |text| parse::number(text, 1, 64));
    let jobs = jobs.map_or_else(|| cpus().min(MOST_DEFAULT_JOBS), |jobs| jobs as usize);
    resolver.used(&table::RESTORE_JOBS, jobs);
    jobs
}

/// The CPUs that this process may use.
pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The database that a setting names. Its flag takes no secret.
pub(super) fn target(resolver: &mut Resolver<'_>, flags: &Flags, setting: &table::Setting) -> Option<PostgresSettings> {
    let pg_dump_path = resolver.text(&table::PG_DUMP_PATH).map(PathBuf::from);
    let conninfo = resolver.parse(setting, |text| Conninfo::parse(text).map_err(|why| why.to_string()))?;
    let is_flag = flags.get(setting.variable).is_some_and(|text| !text.is_empty());
    if is_flag && (conninfo.password().is_some() || !conninfo.other_secrets().is_empty()) {
        let variable = setting.variable;
        let why = format!(
            "holds a secret, which everybody on this host could read: set {variable} (or {variable}_FILE) instead, or leave the secret to PGPASSWORD or ~/.pgpass"
        );
        resolver.refuse(setting, &why);
        return None;
    }
    let environment = ClientEnvironment::from_process(resolver.environment());
    let (conninfo, environment) = hide_secrets(resolver, setting, Some(conninfo), environment);
    Some(PostgresSettings {
        variable: setting.variable,
        conninfo: conninfo?,
        environment,
        pg_dump_path,
        arguments: DumpArguments::default(),
        lock_wait: Duration::from_mins(1),
        stall_timeout: Duration::from_mins(30),
        hides_names: false,
        allows_pooler: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

    fn resolved(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<RestoreConfig, Problems> {
        let flags = flag.map(|text| (table::RESTORE_CONNECTION_STRING.variable, text.to_owned()));
        let all = variables.iter().chain(&[("S3_BUCKET", "backups")]);
        restore(&flags.into_iter().collect(), &all.map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn the_source_is_never_the_target() {
        let config = resolved(None, &[("POSTGRES_CONNECTION_STRING", "postgresql://u:p@h/shop"), ("PGDATABASE", "x")]);
        assert!(config.expect("no source is needed").target.is_none());
        let config = resolved(None, &[("RESTORE_CONNECTION_STRING", "postgresql://u:p@h/shop")]).expect("a target");
        assert_eq!(config.target.expect("a target").conninfo.get("dbname"), Some("shop"));
    }

    #[test]
    fn the_flag_takes_no_secret_and_the_refusal_names_the_variable() {
        for text in ["postgresql://u:sentinel@h/shop", "host=h password=sentinel", "host=h sslpassword=sentinel"] {
            let problems = resolved(Some(text), &[]).expect_err("a secret");
            assert_eq!(problems.exit_code(), ExitCode::InvalidSetting);
            let shown = problems.to_string();
            assert!(shown.contains("(--to)") && shown.contains("RESTORE_CONNECTION_STRING_FILE"), "{shown}");
            assert!(!shown.contains("sentinel"), "{shown}");
        }
        assert!(resolved(Some("host=h dbname=shop"), &[]).expect("no secret").target.is_some());
    }
}
