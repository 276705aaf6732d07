//! The settings of `daemon` and of monitoring: metrics and pings. Part of the table.

use super::{BASE, CommandName, Completion, Group, Secrecy, Setting};
use crate::exit_code::ExitCode;

const DAEMON: &[CommandName] = &[CommandName::Daemon];
// The daemon listens there, `health` asks it, and `check` verifies it.
const LISTENING: &[CommandName] = &[CommandName::Check, CommandName::Daemon, CommandName::Health];
// `check` derives the largest age of a backup from it.
const SCHEDULED: &[CommandName] = &[CommandName::Check, CommandName::Daemon];

// Whatever counts days, and `restore`, which takes a local time.
const ZONED: &[CommandName] =
    &[CommandName::Backup, CommandName::Check, CommandName::Daemon, CommandName::Prune, CommandName::Restore];

/// `BACKUP_INTERVAL`
pub const BACKUP_INTERVAL: Setting = Setting {
    variable: "BACKUP_INTERVAL",
    flag: Some("interval"),
    value: "CRON",
    default: "required by `daemon`",
    commands: SCHEDULED,
    refusal: ExitCode::InvalidCron,
    help: "when to back up: a cron expression of five fields (six with seconds first), or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`",
    group: Group::Schedule,
    completion: Completion::Words(|| vec!["@hourly", "@daily", "@weekly", "@monthly", "@yearly"]),
    ..BASE
};
/// `BACKUP_TIMEZONE`
pub const BACKUP_TIMEZONE: Setting = Setting {
    variable: "BACKUP_TIMEZONE",
    flag: Some("timezone"),
    value: "ZONE",
    default: "`UTC`",
    commands: ZONED,
    help: "IANA time zone of the schedule, retention and `--at`, such as `Europe/Berlin`",
    group: Group::Schedule,
    ..BASE
};
/// `BACKUP_RETRY_DELAYS`
pub const BACKUP_RETRY_DELAYS: Setting = Setting {
    variable: "BACKUP_RETRY_DELAYS",
    value: "TIMES",
    default: "`5m,15m,45m`",
    commands: DAEMON,
    help: "delays before a failed backup is retried, one per attempt, unless the next scheduled backup comes first; or `off`",
    group: Group::Schedule,
    ..BASE
};
/// `LISTEN`
pub const LISTEN: Setting = Setting {
    variable: "LISTEN",
    flag: Some("listen"),
    value: "HOST:PORT",
    default: "none",
    commands: LISTENING,
    help: "address of the HTTP server: the status page at `/`, `/livez`, `/healthz`, `/status` and `/metrics`; `:9187` listens on all addresses",
    group: Group::Monitoring,
    ..BASE
};
/// `METRICS_FILE`
pub const METRICS_FILE: Setting = Setting {
    variable: "METRICS_FILE",
    flag: Some("metrics-file"),
    value: "FILE",
    default: "none",
    help: "file to write metrics to, for the textfile collector of Prometheus's node exporter (`NAME.prom`)",
    group: Group::Monitoring,
    completion: Completion::File,
    ..BASE
};
/// `PING_URL`
pub const PING_URL: Setting = Setting {
    variable: "PING_URL",
    value: "URL",
    default: "none",
    secrecy: Secrecy::Secret,
    help: "URL to ping as healthchecks.io defines: `/start` is appended when a backup starts, nothing when it succeeds, `/fail` with the error as body when it fails",
    group: Group::Monitoring,
    ..BASE
};
