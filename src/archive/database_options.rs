//! Encoding and locale of the database that a backup is of.
//!
//! Used by [`super::restore_instructions`] for `createdb`, and by `restore` for `CREATE DATABASE`, which knows the same
//! options by the same words.

use super::manifest::Manifest;

/// An option of `createdb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseOption<'a> {
    /// Such as `lc-collate`.
    pub name: &'static str,
    /// Its value.
    pub value: &'a str,
}

impl DatabaseOption<'_> {
    /// Its name in `CREATE DATABASE`: `LC_COLLATE`.
    #[must_use]
    pub fn keyword(&self) -> String {
        self.name.replace('-', "_").to_ascii_uppercase()
    }
}

impl Manifest {
    /// The options of an equal empty database. From PostgreSQL 15 on, a locale has a provider, and its default may differ in
    /// another cluster.
    #[must_use]
    pub fn database_options(&self) -> Vec<DatabaseOption<'_>> {
        let locale = self.locale.as_deref();
        let (provider, icu, builtin) = match self.locale_provider.as_deref() {
            Some("c") => (Some("libc"), None, None),
            Some("i") => (Some("icu"), locale, None),
            Some("b") => (Some("builtin"), None, locale),
            _ => (None, None, None),
        };
        let options = [
            ("encoding", Some(self.encoding.as_str())),
            ("locale-provider", provider),
            ("icu-locale", icu),
            ("icu-rules", icu.and(self.icu_rules.as_deref())),
            ("builtin-locale", builtin),
            ("lc-collate", self.collation.as_deref()),
            ("lc-ctype", self.ctype.as_deref()),
        ];
        options.into_iter().filter_map(|(name, value)| Some(DatabaseOption { name, value: value? })).collect()
    }
}
