//! Warns of valid settings that may not do what the user expects, in the log at the start and in `check`.
//!
//! Called by [`crate::run`] and by `check`. Invalid settings are the commands' problem.

use std::str::FromStr as _;

use chrono::{DateTime, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

use super::retention::calendar_rules;
use super::table::{self, CommandName, Setting};
use super::typos::typos;
use super::warning::Warning;
use super::{Environment, Flags, Resolver, aws_endpoint, parse};

/// All warnings for a command.
#[must_use]
pub fn warnings(command: CommandName, flags: &Flags, environment: &Environment) -> Vec<Warning> {
    let is_set = |setting: &Setting| Resolver::new(flags, environment).text(setting).is_some();
    let uses = |setting: &Setting| setting.commands.contains(&command);
    let mut warnings = typos(environment, is_set);
    if uses(&table::S3_URL) && !is_set(&table::S3_URL) {
        warnings.extend(aws_endpoint(environment).map(|(variable, _)| of_endpoint(variable)));
    }
    let is_on = |setting: &Setting| {
        let text = Resolver::new(flags, environment).text(setting);
        uses(setting) && text.is_some_and(|text| !parse::is_off(&text))
    };
    let is_zone_used = is_on(&table::BACKUP_INTERVAL) || calendar_rules().any(is_on);
    if is_zone_used && !is_set(&table::BACKUP_TIMEZONE) {
        warnings.extend(environment.get("TZ").and_then(|zone| of_zone(&zone.to_string_lossy(), Utc::now())));
    }
    warnings
}

fn of_endpoint(variable: &str) -> Warning {
    Warning {
        what: format!("{variable} is taken as the endpoint, because S3_URL is not set"),
        hint: "set S3_URL, which only this program reads".to_owned(),
    }
}

/// `TZ` is the C library's variable; this program does not use it.
fn of_zone(text: &str, now: DateTime<Utc>) -> Option<Warning> {
    let name = text.trim_start_matches(':');
    let name = name.split_once("zoneinfo/").map_or(name, |(_, name)| name);
    let zone = Tz::from_str(name).ok();
    // A zone that equals UTC all year, or POSIX's `UTC0`.
    let is_utc = zone.map_or(matches!(name, "UTC0" | "GMT0"), |zone| {
        let offset = |month: i64| zone.offset_from_utc_datetime(&(now + TimeDelta::days(30 * month)).naive_utc()).fix();
        (0..12).all(|month| offset(month).local_minus_utc() == 0)
    });
    let value = zone.map_or("the name of that zone, such as Europe/Berlin", |zone| zone.name());
    (!is_utc).then(|| Warning {
        what: format!("TZ is {text}, but BACKUP_TIMEZONE is not set: schedule and retention follow UTC"),
        hint: format!("set BACKUP_TIMEZONE to {value}, or to UTC"),
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn warned(command: CommandName, variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        warnings(command, &Flags::new(), &variables.collect()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn warns_of_tz_without_backup_timezone() {
        let (zone, daily) = (("TZ", "America/Los_Angeles"), ("BACKUP_INTERVAL", "@daily"));
        let warnings = warned(CommandName::Daemon, &[zone, daily]);
        assert!(
            warnings.len() == 1 && warnings[0].contains("set BACKUP_TIMEZONE to America/Los_Angeles"),
            "{warnings:?}"
        );
        assert_eq!(warned(CommandName::Prune, &[zone, ("BACKUP_RETENTION_DAYS", "14")]).len(), 1);
        for (command, variables) in [
            (CommandName::Daemon, [zone, daily, ("BACKUP_TIMEZONE", "UTC")].as_slice()),
            (CommandName::Backup, &[zone, daily]),
            (CommandName::Prune, &[zone, ("BACKUP_KEEP_LAST", "14"), ("BACKUP_KEEP_DAILY", "0")]),
            (CommandName::List, &[zone, ("BACKUP_RETENTION_DAYS", "14")]),
        ] {
            assert_eq!(warned(command, variables), [""; 0], "{variables:?}");
        }
        for (zone, is_other) in [
            (":Europe/London", true),
            ("/usr/share/zoneinfo/Asia/Tokyo", true),
            ("CET-1CEST", true),
            ("UTC", false),
            ("Etc/UTC", false),
            ("UTC0", false),
            ("Africa/Abidjan", false),
        ] {
            assert_eq!(warned(CommandName::Daemon, &[("TZ", zone), daily]).len(), usize::from(is_other), "{zone}");
        }
    }

    #[test]
    fn warns_of_an_endpoint_of_the_aws_sdk_in_use() {
        let theirs = ("AWS_ENDPOINT_URL", "https://s3.example.com");
        let warnings = warned(CommandName::List, &[theirs]);
        assert!(
            warnings.len() == 1 && warnings[0].contains("AWS_ENDPOINT_URL") && warnings[0].contains("set S3_URL"),
            "{warnings:?}"
        );
        for more in [("S3_URL", "https://other.example.com"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")] {
            assert_eq!(warned(CommandName::List, &[theirs, more]), [""; 0]);
        }
    }
}
