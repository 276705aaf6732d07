//! Patterns of names with `*` and `?`. Used by `databases` and `restore`.
//!
//! Only `*` and `?` are special. A crate for globs would also interpret `/`, `**`, classes and braces, which names of tables and
//! databases may contain.

use std::fmt;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<char>);

impl Glob {
    /// Parses a pattern.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.chars().collect())
    }

    /// Whether the pattern matches a table. Without a dot it is one of names in any schema; with a dot, of a schema and a name, and
    /// neither half matches beyond the dot.
    #[must_use]
    pub fn matches_table(&self, schema: &str, name: &str) -> bool {
        let dots = self.0.iter().enumerate().filter(|(_, letter)| **letter == '.').map(|(at, _)| at);
        let halves: Vec<_> = dots.map(|at| (Self(self.0[..at].to_vec()), Self(self.0[at + 1..].to_vec()))).collect();
        if halves.is_empty() {
            return self.matches(name);
        }
        halves.iter().any(|(left, right)| left.matches(schema) && right.matches(name))
    }

    /// Whether the pattern matches the complete name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut pattern) = (0, 0);
        // Where the last `*` stands, and how much of the name it takes so far.
        let mut star: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.0.get(pattern) {
                Some('*') => {
                    star = Some((pattern, at));
                    pattern += 1;
                }
                Some(letter) if *letter == '?' || *letter == name[at] => {
                    (at, pattern) = (at + 1, pattern + 1);
                }
                _ => {
                    let Some((place, taken)) = star else { return false };
                    star = Some((place, taken + 1));
                    (at, pattern) = (taken + 1, place + 1);
                }
            }
        }
        self.0[pattern..].iter().all(|letter| *letter == '*')
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{letter}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_a_schema_and_a_name_apart() {
        let fits = |pattern: &str, schema: &str, name: &str| Glob::new(pattern).matches_table(schema, name);
        assert!(fits("p*", "public", "pets") && fits("public.p*", "public", "pets") && fits("*.a", "logs", "a"));
        assert!(fits("a.b.c", "a.b", "c") && fits("a.b.c", "a", "b.c"));
        assert!(
            !fits("p*", "public", "orders") && !fits("log*", "logs", "a") && !fits("public.*", "other", "public.x")
        );
        assert!(!fits("*.pets", "public", "orders.pets.old") && !fits("public.pets", "x", "public.pets"));
    }

    #[test]
    fn fits_all_of_a_name() {
        let fits = |pattern: &str, name: &str| Glob::new(pattern).matches(name);
        for (pattern, name) in
            [("a", "a"), ("*", ""), ("a*", "a"), ("*_log", "x_log_log"), ("a?c*d", "abcxd"), ("größ?", "größe")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("a?", "a"), ("*b", "abc"), ("[a]", "a"), ("A", "a")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
