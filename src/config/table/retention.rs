//! The settings of retention. Part of [`super`]'s table.

use super::{BASE, CommandName, Group, Setting};

/// The commands that delete backups, and `check`, which judges their settings.
pub(super) const RETENTION: &[CommandName] =
    &[CommandName::Backup, CommandName::Check, CommandName::Daemon, CommandName::Prune];
const KEEP: Setting =
    Setting { commands: RETENTION, value: "N", default: "none", group: Group::Retention, is_common: true, ..BASE };

/// `BACKUP_RETENTION_DAYS`
pub const BACKUP_RETENTION_DAYS: Setting = Setting {
    variable: "BACKUP_RETENTION_DAYS",
    flag: Some("retention-days"),
    value: "DAYS",
    default: "none: without a rule nothing is deleted",
    help: "keep what is at most this many days older than the newest valid backup",
    ..KEEP
};
/// `BACKUP_KEEP_LAST`
pub const BACKUP_KEEP_LAST: Setting =
    Setting { variable: "BACKUP_KEEP_LAST", flag: Some("keep-last"), help: "keep the last N backups", ..KEEP };
/// `BACKUP_KEEP_HOURLY`
pub const BACKUP_KEEP_HOURLY: Setting = Setting {
    variable: "BACKUP_KEEP_HOURLY",
    flag: Some("keep-hourly"),
    help: "keep the newest backup of each of the last N hours that have one",
    ..KEEP
};
/// `BACKUP_KEEP_DAILY`
pub const BACKUP_KEEP_DAILY: Setting = Setting {
    variable: "BACKUP_KEEP_DAILY",
    flag: Some("keep-daily"),
    help: "keep the newest backup of each of the last N days that have one",
    ..KEEP
};
/// `BACKUP_KEEP_WEEKLY`
pub const BACKUP_KEEP_WEEKLY: Setting = Setting {
    variable: "BACKUP_KEEP_WEEKLY",
    flag: Some("keep-weekly"),
    help: "keep the newest backup of each of the last N ISO weeks that have one",
    ..KEEP
};
/// `BACKUP_KEEP_MONTHLY`
pub const BACKUP_KEEP_MONTHLY: Setting = Setting {
    variable: "BACKUP_KEEP_MONTHLY",
    flag: Some("keep-monthly"),
    help: "keep the newest backup of each of the last N months that have one",
    ..KEEP
};
/// `BACKUP_KEEP_YEARLY`
pub const BACKUP_KEEP_YEARLY: Setting = Setting {
    variable: "BACKUP_KEEP_YEARLY",
    flag: Some("keep-yearly"),
    help: "keep the newest backup of each of the last N years that have one",
    is_common: false,
    ..KEEP
};
/// `BACKUP_MIN_KEEP`
pub const BACKUP_MIN_KEEP: Setting = Setting {
    variable: "BACKUP_MIN_KEEP",
    flag: Some("min-keep"),
    default: "`3`",
    help: "the last N valid backups stay, whatever the rules say",
    ..KEEP
};
