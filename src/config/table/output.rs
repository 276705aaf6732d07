//! The settings of the log. Part of [`super`]'s table.

use super::{ALL, BASE, Completion, Group, Setting};
use crate::telemetry::{LogFormat, LogSettings};

const OUTPUT: Setting = Setting { commands: ALL, group: Group::Output, ..BASE };

/// `LOG_LEVEL`
pub const LOG_LEVEL: Setting = Setting {
    variable: "LOG_LEVEL",
    flag: Some("log-level"),
    value: "LEVEL",
    default: "`info`",
    help: "least severe messages to log: `error`, `warn`, `info`, `debug` or `trace`",
    completion: Completion::Words(|| LogSettings::LEVELS.iter().map(|(word, _)| *word).collect()),
    ..OUTPUT
};
/// `LOG_FORMAT`
pub const LOG_FORMAT: Setting = Setting {
    variable: "LOG_FORMAT",
    flag: Some("log-format"),
    value: "FORMAT",
    default: "`text`",
    help: "format of the log: `text` or `json`",
    completion: Completion::Words(|| LogFormat::WORDS.iter().map(|(word, _)| *word).collect()),
    ..OUTPUT
};
/// `NO_COLOR`
pub const NO_COLOR: Setting =
    Setting { variable: "NO_COLOR", value: "ANY", default: "unset", help: "any value turns colours off", ..OUTPUT };
