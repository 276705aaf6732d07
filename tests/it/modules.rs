//! The house: modules depend one way (docs/architecture.md), and only the commands see the program's own error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::support::setup::repository_file;

/// Each top-level module, and the modules that its code names.
type Dependencies = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_do_not_depend_on_each_other_in_a_circle() {
    let mut left = dependencies();
    assert!(left.len() > 15 && left["commands"].contains("backup"), "{left:?}");
    // Takes away what depends on nothing that is left, until nothing or a circle remains.
    loop {
        let names: BTreeSet<String> = left.keys().cloned().collect();
        let before = left.len();
        left.retain(|_, needs| needs.intersection(&names).next().is_some());
        if left.len() == before {
            break;
        }
    }
    assert!(left.is_empty(), "a circle, and what depends on it: {left:#?}");
}

#[test]
fn only_the_commands_see_the_error_of_the_program() {
    let users = dependencies().into_iter().filter(|(_, needs)| needs.contains("error")).map(|(name, _)| name);
    assert_eq!(users.collect::<Vec<_>>(), ["commands"]);
}

#[test]
fn a_name_in_code_is_a_dependency_and_one_in_a_comment_or_a_test_is_none() {
    let text = "//! crate::a\nuse crate::b::C; // crate::c\nfn d() { crate::e::f() }\n#[cfg(test)]\nmod tests { use crate::g; }";
    assert_eq!(named_in(text).collect::<Vec<_>>(), ["b", "e"]);
}

fn dependencies() -> Dependencies {
    let mut dependencies = Dependencies::new();
    for entry in fs::read_dir(repository_file("src")).expect("the sources").flatten() {
        let name = entry.path().file_stem().expect("a name").to_string_lossy().into_owned();
        // Their code is not a module's: they put the modules together.
        if !["lib", "main"].contains(&name.as_str()) {
            collect(&entry.path(), &name, dependencies.entry(name.clone()).or_default());
        }
    }
    dependencies
}

fn collect(path: &Path, module: &str, needs: &mut BTreeSet<String>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a directory").flatten();
        entries.for_each(|entry| collect(&entry.path(), module, needs));
    } else if path.file_stem().is_some_and(|stem| stem != "tests") && !path.iter().any(|part| part == "tests") {
        let text = fs::read_to_string(path).expect("a source file");
        needs.extend(named_in(&text).filter(|named| named != module));
    }
}

/// The modules that a source file names by `crate::`, outside of its comments and its tests.
fn named_in(text: &str) -> impl Iterator<Item = String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    let after = lines.flat_map(|line| line.split("crate::").skip(1));
    let name = |rest: &str| rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
    after.map(name).filter(|name: &String| !name.is_empty())
}
