//! The settings of encryption. Part of [`super`]'s table.

use super::{BASE, CommandName, Group, Secrecy, Setting};

/// The commands that read backups.
const READERS: &[CommandName] = &[CommandName::Check, CommandName::Daemon, CommandName::List, CommandName::Restore];

/// `BACKUP_AGE_RECIPIENTS`
pub const BACKUP_AGE_RECIPIENTS: Setting = Setting {
    variable: "BACKUP_AGE_RECIPIENTS",
    flag: Some("age-recipients"),
    value: "KEYS",
    default: "none: not encrypted",
    help: "age public keys to encrypt for, `age1…`, separated by spaces, commas or lines; each of their identities opens a backup",
    ..BASE
};
/// `BACKUP_AGE_IDENTITY`
pub const BACKUP_AGE_IDENTITY: Setting = Setting {
    variable: "BACKUP_AGE_IDENTITY",
    default: "none",
    secrecy: Secrecy::Secret,
    commands: READERS,
    help: "content of an age identity file (`AGE-SECRET-KEY-1…`), which opens encrypted backups: for `restore`, the drill, `check --deep` and `list NAME`; the host that backs up does not need it",
    group: Group::Storage,
    ..BASE
};
