//! The settings of `restore` and of the drill. Part of [`super`]'s table.

use super::{BASE, CommandName, Group, Secrecy, Setting};
use crate::exit_code::ExitCode;

const RESTORE: &[CommandName] = &[CommandName::Restore];
const RESTORE_AND_DRILL: &[CommandName] = &[CommandName::Check, CommandName::Daemon, CommandName::Restore];
const DRILL: &[CommandName] = &[CommandName::Check, CommandName::Daemon];

/// `RESTORE_CONNECTION_STRING`: a secret with a flag, which [`crate::config`] refuses with a password in it.
pub const RESTORE_CONNECTION_STRING: Setting = Setting {
    variable: "RESTORE_CONNECTION_STRING",
    flag: Some("to"),
    value: "CONNECTION",
    default: "none: to a file or stdout",
    secrecy: Secrecy::Secret,
    commands: RESTORE,
    help: "the database to restore into: a URI or `key=value` words, exactly what libpq accepts; the flag takes no password",
    group: Group::Target,
    ..BASE
};

/// `DRILL_CONNECTION_STRING`: as [`RESTORE_CONNECTION_STRING`].
pub const DRILL_CONNECTION_STRING: Setting = Setting {
    variable: "DRILL_CONNECTION_STRING",
    flag: Some("restore-to"),
    value: "CONNECTION",
    default: "none: no drill",
    secrecy: Secrecy::Secret,
    commands: DRILL,
    help: "the server of the restore drill: the latest backup is restored into a scratch database there; a URI or `key=value` words, exactly what libpq accepts; the flag takes no password",
    group: Group::Checks,
    ..BASE
};

/// `RESTORE_JOBS`
pub const RESTORE_JOBS: Setting = Setting {
    variable: "RESTORE_JOBS",
    flag: Some("jobs"),
    value: "N",
    default: "the CPUs, at most `8`",
    commands: RESTORE_AND_DRILL,
    help: "sessions that restore at once, into a new database (`--create-db`) and in a drill; each needs about 8 MiB of memory; backups without an index are restored by one",
    group: Group::Target,
    ..BASE
};

/// `DRILL_INTERVAL`
pub const DRILL_INTERVAL: Setting = Setting {
    variable: "DRILL_INTERVAL",
    value: "CRON",
    default: "none: the daemon runs no drill",
    commands: DRILL,
    refusal: ExitCode::InvalidCron,
    help: "when the daemon runs the restore drill: a cron expression as in `BACKUP_INTERVAL`; needs `DRILL_CONNECTION_STRING`",
    group: Group::Schedule,
    ..BASE
};
