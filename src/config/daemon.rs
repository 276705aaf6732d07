//! Settings of `daemon` and `health`, and of those who are notified of a run.

use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;

use super::drill::{DrillSettings, drill_in};
use super::retention::zone;
use super::{Effective, Environment, Flags, Problems, Reported, Resolver, backup_in, finish, log, parse, table};
use crate::backup::BackupSettings;
use crate::scheduler::Schedule;
use crate::storage::Prefix;
use crate::telemetry::PingUrl;

/// Short enough for a brief outage, and after the third the next scheduled backup is usually near.
const RETRY_DELAYS: [Duration; 3] = [Duration::from_mins(5), Duration::from_mins(15), Duration::from_mins(45)];

/// What `daemon` needs.
#[derive(Debug)]
pub struct DaemonConfig {
    /// What each backup needs, as it is now.
    pub backup: BackupSettings,
    /// When.
    pub schedule: Schedule,
    /// The delays before retries of a failed backup.
    pub retry_delays: Vec<Duration>,
    /// The restore drill.
    pub drill: DrillSettings,
    /// Where to serve health and metrics.
    pub listen: Option<String>,
    /// Every value as it is used, without secrets, for the log.
    pub effective: Effective,
}

/// The receivers of a run's result.
#[derive(Debug)]
pub struct Notifications {
    /// The destination, for labels; `None` if its settings are invalid.
    pub destination: Option<String>,
    /// `METRICS_FILE`
    pub metrics_file: Option<PathBuf>,
    /// `PING_URL`
    pub ping: Option<PingUrl>,
}

/// Resolves the settings of `daemon`.
///
/// # Errors
/// Every problem at once.
pub fn daemon(flags: &Flags, environment: &Environment) -> Result<DaemonConfig, Problems> {
    let mut resolver = Resolver::new(flags, environment);
    let zone = zone(&mut resolver);
    let backup = backup_in(&mut resolver, zone);
    let schedule = schedule(&mut resolver, zone);
    let drill = drill_in(&mut resolver, flags, zone);
    let retry_delays = resolver.parse(&table::BACKUP_RETRY_DELAYS, parse_delays);
    let listen = address(&mut resolver);
    let parts = backup.zip(schedule).map(|(backup, schedule)| DaemonConfig {
        backup,
        schedule,
        retry_delays: retry_delays.unwrap_or_else(|| RETRY_DELAYS.to_vec()),
        drill,
        listen,
        effective: Effective::default(),
    });
    finish(resolver, parts).map(|(config, effective)| DaemonConfig { effective, ..config })
}

/// Resolves the settings of `health`: where the daemon listens.
///
/// # Errors
/// Every problem at once.
pub fn health(flags: &Flags, environment: &Environment) -> Result<String, Problems> {
    let mut resolver = Resolver::new(flags, environment);
    let address = resolver.required(&table::LISTEN).and_then(|text| match parse_asked(&text) {
        Ok(address) => Some(address),
        Err(why) => {
            resolver.refuse(&table::LISTEN, &why);
            None
        }
    });
    log(&mut resolver);
    finish(resolver, address).map(|(address, _)| address)
}

/// Resolves who is notified, whatever is wrong with the other settings: a run that ends with invalid settings is a failed run,
/// too.
#[must_use]
pub fn notifications(flags: &Flags, environment: &Environment) -> Notifications {
    let mut resolver = Resolver::new(flags, environment);
    let bucket = resolver.parse(&table::S3_BUCKET, parse::bucket);
    let prefix = match resolver.given(&table::S3_PATH) {
        Ok(None) => Some(Prefix::default()),
        Ok(Some(text)) => parse::prefix(&text).ok(),
        Err(Reported) => None,
    };
    let destination = bucket.zip(prefix).map(|(bucket, prefix)| format!("s3://{bucket}/{prefix}"));
    let (metrics_file, ping) = notifications_in(&mut resolver);
    Notifications { destination, metrics_file, ping }
}

pub(super) fn notifications_in(resolver: &mut Resolver<'_>) -> (Option<PathBuf>, Option<PingUrl>) {
    let metrics_file = resolver.parse(&table::METRICS_FILE, |text| {
        let path = PathBuf::from(text);
        if path.file_name().is_some() { Ok(path) } else { Err("must be the path of a file".to_owned()) }
    });
    (metrics_file, resolver.parse(&table::PING_URL, PingUrl::parse))
}

fn schedule(resolver: &mut Resolver<'_>, zone: Tz) -> Option<Schedule> {
    let text = resolver.required(&table::BACKUP_INTERVAL);
    schedule_of(resolver, &table::BACKUP_INTERVAL, (text, zone))
}

/// Parses the schedule of a setting, if it has one.
pub(super) fn schedule_of(
    resolver: &mut Resolver<'_>,
    setting: &table::Setting,
    (text, zone): (Option<String>, Tz),
) -> Option<Schedule> {
    match Schedule::parse(&text?, zone) {
        Ok(schedule) => Some(schedule),
        Err(why) => {
            resolver.refuse(setting, &why);
            None
        }
    }
}

fn parse_delays(text: &str) -> Result<Vec<Duration>, String> {
    if parse::is_off(text) {
        return Ok(Vec::new());
    }
    text.split(',').map(|delay| parse::duration(delay.trim())).collect()
}

/// Where a daemon listens.
pub(super) fn address(resolver: &mut Resolver<'_>) -> Option<String> {
    resolver.parse(&table::LISTEN, parse_address)
}

fn parse_address(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("`{text}` is not an address such as `:9187`"))?;
    let is_bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if is_bare_ipv6 || host.contains('/') || port.parse::<u16>().is_err() {
        return Err(format!("`{text}` is not an address such as `:9187`, `127.0.0.1:9187` or `[::1]:9187`"));
    }
    Ok(text.to_owned())
}

/// Parses the address of a running daemon.
fn parse_asked(text: &str) -> Result<String, String> {
    let address = parse_address(text)?;
    if address.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|digit| digit == b'0')) {
        return Err(format!("`{text}` is a random port, which only the daemon knows: set a fixed port"));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_delays_or_off() {
        assert_eq!(parse_delays("5m, 15m,45m"), Ok(RETRY_DELAYS.to_vec()));
        assert_eq!((parse_delays("off"), parse_delays("0")), (Ok(Vec::new()), Ok(Vec::new())));
        for wrong in ["", "5m,", "soon", "5m 15m,x"] {
            assert!(parse_delays(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn requires_a_port_in_an_address() {
        for right in [":9187", "127.0.0.1:0", "[::1]:9187", "localhost:9187"] {
            assert!(parse_address(right).is_ok(), "{right}");
        }
        assert!(parse_asked("127.0.0.1:0").is_err() && parse_asked(":00").is_err() && parse_asked(":10").is_ok());
        for wrong in ["9187", "localhost", "::1:9187", "http://h:9187", "h:99999", "h:", ":x"] {
            assert!(parse_address(wrong).is_err(), "{wrong}");
        }
    }
}
