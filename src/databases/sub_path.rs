//! A database's name as the sub-path of its backups.
//!
//! One name has one sub-path and the reverse, so that no database's path meets another's or leaves the prefix. S3 keys tell case.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Every byte but `A-Za-z0-9._-`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-');

/// The sub-path of a database: bytes outside `A-Za-z0-9._-` and a leading dot are percent-encoded.
#[must_use]
pub fn of(database: &str) -> String {
    let encoded = utf8_percent_encode(database, ENCODED).to_string();
    match encoded.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None => encoded,
    }
}

/// The database of a sub-path; `None` if [`of`] does not write it.
#[must_use]
pub fn database(sub_path: &str) -> Option<String> {
    let name = percent_decode_str(sub_path).decode_utf8().ok()?.into_owned();
    (!name.is_empty() && of(&name) == sub_path).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn writes_odd_names_as_safe_sub_paths() {
        for (name, sub_path) in [
            ("app", "app"),
            ("App_1.2-3", "App_1.2-3"),
            ("..", "%2E."),
            (".hidden", "%2Ehidden"),
            ("a/b", "a%2Fb"),
            ("a b", "a%20b"),
            ("100%", "100%25"),
            ("%2E", "%252E"),
            ("größe", "gr%C3%B6%C3%9Fe"),
            ("a\nb\"'", "a%0Ab%22%27"),
            ("~", "%7E"),
        ] {
            assert_eq!((of(name).as_str(), database(sub_path).as_deref()), (sub_path, Some(name)));
        }
    }

    #[test]
    fn rejects_sub_paths_of_others() {
        for other in ["", ".", "..", ".x", "a b", "a%2fb", "%41", "a%", "a%2", "%FF", "größe", "a+b", "a/b"] {
            assert_eq!(database(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(names in proptest::collection::btree_set(".{1,20}", 1..20)) {
            let sub_paths: BTreeSet<String> = names.iter().map(|name| of(name)).collect();
            prop_assert_eq!(sub_paths.len(), names.len());
            for sub_path in &sub_paths {
                prop_assert!(!sub_path.starts_with('.') && !sub_path.contains('/'), "{}", sub_path);
                prop_assert!(database(sub_path).is_some_and(|name| names.contains(&name)), "{}", sub_path);
            }
        }
    }
}
