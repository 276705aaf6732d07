//! The settings of `restore` and of the drill. Part of [`super`]'s table.

use super::{BASE, CommandName, Group, Secrecy, Setting};

const RESTORE: &[CommandName] = &[CommandName::Restore];

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
    commands: &[CommandName::Check],
    help: "the server of the restore drill: the latest backup is restored into a scratch database there; a URI or `key=value` words, exactly what libpq accepts; the flag takes no password",
    group: Group::Checks,
    ..BASE
};
