//! `BACKUP_DATABASES`: which databases are meant.

use std::fmt;

use crate::glob::Glob;

/// The word for every database.
const ALL: &str = "all";

/// The databases that are meant: those that an item includes and none excludes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabasePatterns {
    text: String,
    included: Vec<Item>,
    excluded: Vec<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    All,
    Glob(Glob),
    Name(String),
}

impl Item {
    fn matches(&self, database: &str) -> bool {
        match self {
            Self::All => true,
            Self::Glob(glob) => glob.matches(database),
            Self::Name(name) => name == database,
        }
    }
}

impl DatabasePatterns {
    /// Parses `all`, or names and globs separated by commas. `!` in front excludes. A name in double quotes is taken literally;
    /// two double quotes in it are one.
    ///
    /// # Errors
    /// What is wrong with the text, and what to do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut included, mut excluded) = (Vec::new(), Vec::new());
        for part in split(text)? {
            let part = part.trim();
            match part.strip_prefix('!') {
                Some(part) => excluded.push(item(part.trim_start())?),
                None => included.push(item(part)?),
            }
        }
        if included.is_empty() {
            return Err("only excludes databases: begin with `all`".to_owned());
        }
        Ok(Self { text: text.to_owned(), included, excluded })
    }

    /// Every database.
    #[must_use]
    pub fn all() -> Self {
        Self { text: ALL.to_owned(), included: vec![Item::All], excluded: Vec::new() }
    }

    /// Exactly this database.
    #[must_use]
    pub fn only(database: &str) -> Self {
        let text = format!("\"{}\"", database.replace('"', "\"\""));
        Self { text, included: vec![Item::Name(database.to_owned())], excluded: Vec::new() }
    }

    /// Whether a database is meant.
    #[must_use]
    pub fn mean(&self, database: &str) -> bool {
        let matches = |items: &[Item]| items.iter().any(|item| item.matches(database));
        matches(&self.included) && !matches(&self.excluded)
    }

    /// The names that are included literally and not excluded. Each must exist; a glob may match nothing.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.included.iter().filter_map(|item| match item {
            Item::Name(name) => Some(name.as_str()),
            Item::All | Item::Glob(_) => None,
        });
        names.filter(|name| self.mean(name))
    }
}

impl fmt::Display for DatabasePatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The parts between commas that are not in double quotes.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut parts, mut begin, mut is_quoted) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if is_quoted {
        return Err("has a double quote without its pair".to_owned());
    }
    parts.push(&text[begin..]);
    Ok(parts)
}

fn item(part: &str) -> Result<Item, String> {
    if let Some(inner) = part.strip_prefix('"') {
        let inner = inner.strip_suffix('"').filter(|inner| !inner.replace("\"\"", "").contains('"'));
        let name = inner.ok_or_else(|| format!("`{part}`: double quotes must be around a complete name"))?;
        return named(name.replace("\"\"", "\""));
    }
    match part {
        ALL => Ok(Item::All),
        part if part.contains('"') => Err(format!("`{part}`: double quotes must be around a complete name")),
        part if part.contains(['*', '?']) => Ok(Item::Glob(Glob::new(part))),
        part => named(part.to_owned()),
    }
}

fn named(name: String) -> Result<Item, String> {
    if name.is_empty() {
        return Err("has an empty name: separate names by single commas".to_owned());
    }
    Ok(Item::Name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant<'a>(text: &str, databases: &[&'a str]) -> Vec<&'a str> {
        let patterns = DatabasePatterns::parse(text).expect("patterns");
        databases.iter().copied().filter(|database| patterns.mean(database)).collect()
    }

    #[test]
    fn means_what_is_included_and_not_excluded() {
        let all = ["app", "App", "app_test", "scratch_1", "all", "a,b", "say \"x\"", "*", " "];
        assert_eq!(meant("all", &all), all);
        assert_eq!(meant("all, !scratch_*, !app*", &all), ["App", "all", "a,b", "say \"x\"", "*", " "]);
        assert_eq!(meant("!app_test,app*", &all), ["app"], "exclusion wins, whatever its place");
        assert_eq!(meant("app", &all), ["app"]);
        assert_eq!(meant("ap?,\"*\"", &all), ["app", "*"]);
        assert_eq!(meant("\"a,b\",\"say \"\"x\"\"\",\"all\",\" \"", &all), ["all", "a,b", "say \"x\"", " "]);
        assert_eq!(meant("all,!\"all\"", &["all", "x"]), ["x"]);
    }

    #[test]
    fn names_are_literal_and_not_excluded() {
        let patterns = DatabasePatterns::parse("app, \"od*d\", x*, gone, !gone").expect("patterns");
        assert_eq!(patterns.names().collect::<Vec<_>>(), ["app", "od*d"]);
        let only = DatabasePatterns::only("a\",*b");
        assert!(only.mean("a\",*b") && !only.mean("a\",xb"));
        assert_eq!(DatabasePatterns::parse(&only.to_string()).map(|parsed| parsed.included), Ok(only.included));
    }

    #[test]
    fn rejects_what_could_mean_something_else() {
        for wrong in ["", ",", "a,,b", "a,", "!x", "!", "\"a", "\"a\"b", "a\"b\"", "\"\"", "\"a\"b\"", "!\"\""] {
            assert!(DatabasePatterns::parse(wrong).is_err(), "{wrong}");
        }
    }
}
