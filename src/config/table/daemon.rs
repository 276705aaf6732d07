//! The settings of `daemon`, and those of whoever watches backups: metrics and pings. Part of the table.

use super::{BASE, CommandName, Completion, Group, Secrecy, Setting};
use crate::exit_code::ExitCode;

const DAEMON: &[CommandName] = &[CommandName::Daemon];
// Where the one listens, the other asks; `check` judges it.
const LISTENING: &[CommandName] = &[CommandName::Check, CommandName::Daemon, CommandName::Health];
// `check` knows by it when a backup is too old.
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
    help: "when to back up: a cron expression of five fields (six with seconds in front), or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`",
    group: Group::Schedule,
    is_common: true,
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
    help: "time zone of the schedule, of the days, weeks, months and years of retention, and of `--at`, by its IANA name, such as `Europe/Berlin`",
    group: Group::Schedule,
    is_common: true,
    ..BASE
};
/// `BACKUP_RETRY_DELAYS`
pub const BACKUP_RETRY_DELAYS: Setting = Setting {
    variable: "BACKUP_RETRY_DELAYS",
    value: "TIMES",
    default: "`5m,15m,45m`",
    commands: DAEMON,
    help: "how long after a failed backup it is tried again, one time for each attempt, while the schedule's next is further away; or `off`",
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
    help: "address of `/livez`, `/healthz`, `/status` and `/metrics`; `:9187` is that port on all addresses",
    group: Group::Monitoring,
    is_common: true,
    ..BASE
};
/// `METRICS_FILE`
pub const METRICS_FILE: Setting = Setting {
    variable: "METRICS_FILE",
    flag: Some("metrics-file"),
    value: "FILE",
    default: "none",
    help: "file to keep the metrics in, for the textfile collector of Prometheus's node exporter (`NAME.prom`)",
    group: Group::Monitoring,
    is_common: true,
    completion: Completion::File,
    ..BASE
};
/// `PING_URL`
pub const PING_URL: Setting = Setting {
    variable: "PING_URL",
    value: "URL",
    default: "none",
    secrecy: Secrecy::Secret,
    help: "URL to ping in the style of healthchecks.io: `/start` is appended when a backup begins, nothing when it is complete, `/fail` with the error when it failed",
    group: Group::Monitoring,
    ..BASE
};
