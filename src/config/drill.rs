//! The settings of the drill, which `check` and `daemon` run.

use chrono_tz::Tz;

use super::encryption::identities;
use super::restore::{jobs, target};
use super::retention::zone;
use super::{Environment, Flags, Problems, Resolver, daemon, databases, finish, log, s3, table};
use crate::codec::age::Identities;
use crate::databases::DatabasePatterns;
use crate::exit_code::ExitCode;
use crate::postgres::PostgresSettings;
use crate::scheduler::Schedule;
use crate::storage::S3Settings;

/// The settings of the drill itself.
#[derive(Debug)]
pub struct DrillSettings {
    /// The server of the drill; `None` without a drill.
    pub target: Option<PostgresSettings>,
    /// `RESTORE_JOBS`
    pub jobs: usize,
    /// What opens encrypted backups.
    pub identities: Option<Identities>,
    /// When the daemon runs it, from `DRILL_INTERVAL`.
    pub schedule: Option<Schedule>,
}

/// What a drill of the daemon needs.
#[derive(Debug)]
pub struct DrillConfig {
    /// The destination.
    pub s3: S3Settings,
    /// `BACKUP_DATABASES`
    pub databases: Option<DatabasePatterns>,
    /// The drill.
    pub drill: DrillSettings,
}

/// Resolves the settings of a drill.
///
/// # Errors
/// Every problem at once.
pub fn drill(flags: &Flags, environment: &Environment) -> Result<DrillConfig, Problems> {
    let mut resolver = Resolver::new(flags, environment);
    let zone = zone(&mut resolver);
    let s3 = s3(&mut resolver);
    let databases = databases(&mut resolver);
    let drill = drill_in(&mut resolver, flags, zone);
    log(&mut resolver);
    finish(resolver, s3).map(|(s3, _)| DrillConfig { s3, databases, drill })
}

/// The drill's settings. A schedule needs a server.
pub(super) fn drill_in(resolver: &mut Resolver<'_>, flags: &Flags, zone: Tz) -> DrillSettings {
    let (variable, interval) = (table::DRILL_CONNECTION_STRING.variable, &table::DRILL_INTERVAL);
    let text = resolver.text(interval);
    // An invalid server is reported, and is not missing.
    if text.is_some() && matches!(resolver.given(&table::DRILL_CONNECTION_STRING), Ok(None)) {
        let problem = format!("{variable} is not set: {} needs the server of the drill", interval.variable);
        resolver.problem(ExitCode::MissingSetting, problem);
    }
    let target = target(resolver, flags, &table::DRILL_CONNECTION_STRING);
    let jobs = jobs(resolver);
    let identities = identities(resolver);
    DrillSettings { target, jobs, identities, schedule: daemon::schedule_of(resolver, interval, (text, zone)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(variables: &[(&str, &str)]) -> Result<DrillConfig, Problems> {
        let all = variables.iter().chain(&[("S3_BUCKET", "backups")]);
        drill(&Flags::default(), &all.map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn schedule_needs_a_server_and_must_be_cron() {
        let server = ("DRILL_CONNECTION_STRING", "host=h");
        let config = resolved(&[server, ("DRILL_INTERVAL", "@weekly")]).expect("a drill");
        assert!(config.drill.target.is_some() && config.drill.schedule.is_some());
        assert!(resolved(&[server]).expect("no schedule").drill.schedule.is_none());
        let code = |variables: &[(&str, &str)]| resolved(variables).map(drop).map_err(|problems| problems.exit_code());
        assert_eq!(code(&[("DRILL_INTERVAL", "@weekly")]), Err(ExitCode::MissingSetting));
        assert_eq!(code(&[server, ("DRILL_INTERVAL", "weekly")]), Err(ExitCode::InvalidCron));
        let invalid = ("DRILL_CONNECTION_STRING", "postgresql://h:port/d");
        assert_eq!(code(&[invalid, ("DRILL_INTERVAL", "@weekly")]), Err(ExitCode::InvalidSetting));
    }
}
