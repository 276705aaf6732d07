//! The settings of `restore`. Part of [`super`]'s table.

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
    is_common: true,
    ..BASE
};
