//! What the manifest of an encrypted backup leaves out, because it names what is in the database.

use serde::{Deserialize, Serialize};

use crate::postgres::Extension;

/// The most bytes of JSON: names of more than 10,000 roles.
const MOST_BYTES: usize = 1 << 20;

/// Arguments, references and warnings in full; each field is that of the manifest of a backup that is not encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// The arguments of `pg_dump` with their values, without the connection.
    pub pg_dump_arguments: Vec<String>,
    /// Extensions that the dump creates.
    #[serde(default)]
    pub extensions: Vec<Extension>,
    /// Roles that must exist before the dump is restored.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Tablespaces that must exist before.
    #[serde(default)]
    pub tablespaces: Vec<String>,
    /// What is unknown or was left out, and why.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Details {
    /// Returns them if an index has space for them.
    #[must_use]
    pub fn within_bounds(self) -> Option<Self> {
        let json = serde_json::to_vec(&self).unwrap_or_else(|error| unreachable!("JSON of plain fields: {error}"));
        (json.len() <= MOST_BYTES).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_names_are_left_out() {
        let roles = |count: usize| (0..count).map(|number| format!("{number:063}")).collect();
        let details = |count| Details { roles: roles(count), ..Details::default() };
        assert_eq!(details(10_000).within_bounds(), Some(details(10_000)));
        assert_eq!(details(20_000).within_bounds(), None);
    }
}
