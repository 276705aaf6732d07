//! Settings of retention for `backup`, `daemon` and `prune`, and the other settings of `prune`.

use std::path::PathBuf;
use std::str::FromStr as _;

use chrono_tz::Tz;

use super::{Effective, Environment, Flags, Problems, Reported, Resolver, databases, finish, log, parse, s3, table};
use crate::databases::DatabasePatterns;
use crate::exit_code::ExitCode;
use crate::retention::{RetentionPolicy, Rules};
use crate::storage::S3Settings;

/// The rules. Without a rule nothing is deleted.
const RULES: [&table::Setting; 7] = [
    &table::BACKUP_RETENTION_DAYS,
    &table::BACKUP_KEEP_LAST,
    &table::BACKUP_KEEP_HOURLY,
    &table::BACKUP_KEEP_DAILY,
    &table::BACKUP_KEEP_WEEKLY,
    &table::BACKUP_KEEP_MONTHLY,
    &table::BACKUP_KEEP_YEARLY,
];
/// A larger number is a mistake: this is a hundred years of daily backups.
const MOST_KEPT: u32 = 36_500;
const DEFAULT_MIN_KEEP: u32 = 3;

/// What `prune` needs.
#[derive(Debug)]
pub struct PruneConfig {
    /// The destination.
    pub s3: S3Settings,
    /// `BACKUP_DATABASES`
    pub databases: Option<DatabasePatterns>,
    /// The policy.
    pub retention: RetentionPolicy,
    /// The spool. The uploads of its dumps are not abandoned.
    pub spool_dir: Option<PathBuf>,
    /// Every value as it is used, without secrets, for the log.
    pub effective: Effective,
}

/// The rules by period, which depend on the time zone.
pub(super) fn calendar_rules() -> impl Iterator<Item = &'static table::Setting> {
    RULES.into_iter().filter(|rule| rule.variable != table::BACKUP_KEEP_LAST.variable)
}

/// Resolves the settings of `prune`.
///
/// # Errors
/// Every problem at once; a missing rule is one.
pub fn prune(flags: &Flags, environment: &Environment) -> Result<PruneConfig, Problems> {
    let mut resolver = Resolver::new(flags, environment);
    let s3 = s3(&mut resolver);
    let databases = databases(&mut resolver);
    let zone = zone(&mut resolver);
    let retention = policy(&mut resolver, zone);
    if retention == Ok(None) {
        let off: Vec<&str> =
            RULES.iter().filter(|rule| resolver.text(rule).is_some()).map(|rule| rule.variable).collect();
        let off =
            if off.is_empty() { String::new() } else { format!(" ({} is off: `0` turns a rule off)", off.join(", ")) };
        let names: Vec<&str> = RULES.iter().map(|rule| rule.variable).collect();
        let text = format!("no retention rule is set{off}: set one of {}", names.join(", "));
        resolver.problem(ExitCode::MissingSetting, text);
    }
    let spool_dir = resolver.text(&table::BACKUP_SPOOL_DIR).map(PathBuf::from);
    log(&mut resolver);
    let parts = s3.zip(retention.ok().flatten());
    let ((s3, retention), effective) = finish(resolver, parts)?;
    Ok(PruneConfig { s3, databases, retention, spool_dir, effective })
}

/// The time zone of the schedule and of the periods of retention.
pub(super) fn zone(resolver: &mut Resolver<'_>) -> Tz {
    let zone = resolver.parse(&table::BACKUP_TIMEZONE, |text| {
        Tz::from_str(text).map_err(|_| format!("`{text}` is not a time zone such as `Europe/Berlin` or `UTC`"))
    });
    zone.unwrap_or_default()
}

/// The policy; `None` without a rule.
pub(super) fn policy(resolver: &mut Resolver<'_>, zone: Tz) -> Result<Option<RetentionPolicy>, Reported> {
    let [days, last, hourly, daily, weekly, monthly, yearly] = RULES.map(|setting| rule(resolver, setting));
    let min_keep = kept(resolver, &table::BACKUP_MIN_KEEP);
    let (hourly, daily, weekly, monthly, yearly) = (hourly?, daily?, weekly?, monthly?, yearly?);
    let rules = Rules { days: days?, last: last?, hourly, daily, weekly, monthly, yearly };
    Ok(RetentionPolicy::new(rules, min_keep?.unwrap_or(DEFAULT_MIN_KEEP), zone))
}

/// The number that a rule keeps; `0` and `off` mean no rule.
fn rule(resolver: &mut Resolver<'_>, setting: &table::Setting) -> Result<Option<u32>, Reported> {
    if resolver.given(setting)?.is_some_and(|text| parse::is_off(&text)) { Ok(None) } else { kept(resolver, setting) }
}

/// A number of backups to keep. Not 0, because the newest backup always stays.
fn kept(resolver: &mut Resolver<'_>, setting: &table::Setting) -> Result<Option<u32>, Reported> {
    let Some(text) = resolver.given(setting)? else { return Ok(None) };
    parse::number(&text, 1, MOST_KEPT).map(Some).map_err(|why| {
        resolver.refuse(setting, &why);
        Reported
    })
}
