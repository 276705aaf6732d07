//! The effective configuration: the value that each setting has, for the log and for `check`.
//!
//! [`super::Resolver`] fills it. The commands log it once all settings are valid.

use std::collections::BTreeMap;
use std::fmt;

use super::table::{self, Secrecy, Setting};
use crate::log_target::FOR_PEOPLE;

/// Each setting that a command uses, with its value; never a secret.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    values: BTreeMap<&'static str, ResolvedSetting>,
}

#[derive(Clone, Debug)]
struct ResolvedSetting {
    value: Value,
    is_default: bool,
}

/// A value with its JSON type.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Switch(bool),
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Switch(switch) => write!(f, "{switch}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Value {
    fn of(text: &str) -> Self {
        match (text.parse(), text.parse()) {
            (Ok(number), _) => Self::Number(number),
            (_, Ok(switch)) => Self::Switch(switch),
            _ => Self::Text(text.to_owned()),
        }
    }

    fn field(&self) -> &dyn tracing::Value {
        match self {
            Self::Number(number) => number,
            Self::Switch(switch) => switch,
            Self::Text(text) => text,
        }
    }
}

impl Effective {
    /// Records the value that was given for a setting, or its default.
    pub(super) fn note(&mut self, setting: &Setting, given: Option<&str>) {
        let value = match (given, setting.secrecy) {
            (None, _) => Value::of(default_value(setting)),
            (Some(_), Secrecy::Secret) => Value::Text("set".to_owned()),
            (Some(text), Secrecy::Public) => Value::of(text),
        };
        self.values.insert(setting.variable, ResolvedSetting { value, is_default: given.is_none() });
    }

    /// Records the value that is used for a public setting.
    pub(super) fn used(&mut self, setting: &Setting, value: &str) {
        if let Some(shown) = self.values.get_mut(setting.variable) {
            shown.value = Value::of(value);
        }
    }

    /// The settings that are not at their defaults, with their values.
    pub fn changed(&self) -> impl Iterator<Item = (&'static str, String)> {
        let changed = self.values.iter().filter(|(_, shown)| !shown.is_default);
        changed.map(|(variable, shown)| (*variable, shown.value.to_string()))
    }

    /// Logs the settings that are not at their defaults at INFO, the others at DEBUG: one event each, with a field per setting.
    /// A terminal gets the former at DEBUG, one line each.
    pub fn announce(&self) {
        let values = |is_default: bool| {
            move |setting: &Setting| {
                let shown = self.values.get(setting.variable).filter(|shown| shown.is_default == is_default)?;
                Some(shown.value.field())
            }
        };
        for (variable, value) in self.changed() {
            tracing::debug!(target: FOR_PEOPLE, "{variable}={value}");
        }
        table::log_values(false, "settings", values(false));
        table::log_values(true, "settings at their defaults", values(true));
    }
}

/// The default value in backticks; a default without one is its description.
fn default_value(setting: &Setting) -> &str {
    let value = setting.default.strip_prefix('`').and_then(|text| text.split_once('`'));
    value.map_or(setting.default, |(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(effective: &Effective, setting: &Setting) -> (Value, bool) {
        let ResolvedSetting { value, is_default } = effective.values[setting.variable].clone();
        (value, is_default)
    }

    #[test]
    fn records_used_values_without_secrets() {
        let mut effective = Effective::default();
        effective.note(&table::S3_SECRET_KEY, Some("sentinel"));
        assert_eq!(value(&effective, &table::S3_SECRET_KEY), (Value::Text("set".to_owned()), false));
        effective.note(&table::BACKUP_THREADS, None);
        effective.used(&table::BACKUP_THREADS, "4");
        assert_eq!(value(&effective, &table::BACKUP_THREADS), (Value::Number(4), true));
        effective.note(&table::BACKUP_MAX_BLOCKING, None);
        assert_eq!(value(&effective, &table::BACKUP_MAX_BLOCKING), (Value::Text("off".to_owned()), true));
        effective.note(&table::S3_PATH, Some("/app/"));
        effective.used(&table::S3_PATH, "app");
        assert_eq!(value(&effective, &table::S3_PATH), (Value::Text("app".to_owned()), false));
    }
}
