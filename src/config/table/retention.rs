//! The settings of retention. Part of [`super`]'s table.

use super::{BASE, CommandName, Group, Setting};

/// The commands that delete backups, and `check`, which judges their settings.
pub(super) const RETENTION: &[CommandName] =
    &[CommandName::Backup, CommandName::Check, CommandName::Daemon, CommandName::Prune];
const KEEP: Setting = Setting { commands: RETENTION, value: "N", default: "none", group: Group::Retention, ..BASE };

/// `BACKUP_RETENTION_DAYS`
pub const BACKUP_RETENTION_DAYS: Setting = Setting {
    variable: "BACKUP_RETENTION_DAYS",
    flag: Some("retention-days"),
    value: "N",
    default: "none: without a rule nothing is deleted",
    help: "keep the backups of the last N days, counted back from the newest valid one",
    ..KEEP
};
/// `BACKUP_KEEP_LAST`
pub const BACKUP_KEEP_LAST: Setting =
    Setting { variable: "BACKUP_KEEP_LAST", flag: Some("keep-last"), help: "keep the last N backups", ..KEEP };
/// `BACKUP_KEEP_HOURLY`
pub const BACKUP_KEEP_HOURLY: Setting = Setting {
    variable: "BACKUP_KEEP_HOURLY",
    flag: Some("keep-hourly"),
    help: "keep the last N hourly backups: the newest of each hour that has one",
    ..KEEP
};
/// `BACKUP_KEEP_DAILY`
pub const BACKUP_KEEP_DAILY: Setting = Setting {
    variable: "BACKUP_KEEP_DAILY",
    flag: Some("keep-daily"),
    help: "keep the last N daily backups: the newest of each day that has one",
    ..KEEP
};
/// `BACKUP_KEEP_WEEKLY`
pub const BACKUP_KEEP_WEEKLY: Setting = Setting {
    variable: "BACKUP_KEEP_WEEKLY",
    flag: Some("keep-weekly"),
    help: "keep the last N weekly backups: the newest of each ISO week that has one",
    ..KEEP
};
/// `BACKUP_KEEP_MONTHLY`
pub const BACKUP_KEEP_MONTHLY: Setting = Setting {
    variable: "BACKUP_KEEP_MONTHLY",
    flag: Some("keep-monthly"),
    help: "keep the last N monthly backups: the newest of each month that has one",
    ..KEEP
};
/// `BACKUP_KEEP_YEARLY`
pub const BACKUP_KEEP_YEARLY: Setting = Setting {
    variable: "BACKUP_KEEP_YEARLY",
    flag: Some("keep-yearly"),
    help: "keep the last N yearly backups: the newest of each year that has one",
    ..KEEP
};
/// `BACKUP_MIN_KEEP`
pub const BACKUP_MIN_KEEP: Setting = Setting {
    variable: "BACKUP_MIN_KEEP",
    flag: Some("min-keep"),
    default: "`3`",
    help: "keep at least the last N valid backups, whatever the rules say",
    ..KEEP
};
