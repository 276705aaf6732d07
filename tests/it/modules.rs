//! The house: modules depend one way (docs/architecture.md), and only the commands see the program's own error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::support::setup::repository_file;

/// Each top-level module, and the modules that its code names.
type Dependencies = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_do_not_depend_on_each_other_in_a_circle() {
    let all = dependencies();
    assert!(all.len() > 15 && all["commands"].contains("backup"), "{all:?}");
    assert_no_circle(all);
}

#[test]
fn files_of_a_module_do_not_depend_on_each_other_in_a_circle() {
    for module in ["backup", "pipeline", "spool", "storage"] {
        let all = file_dependencies(module);
        assert!(all.len() > 4 && all.values().any(|needs| !needs.is_empty()), "{all:?}");
        assert_no_circle(all);
    }
}

#[test]
fn only_the_commands_see_the_error_of_the_program() {
    let users = dependencies().into_iter().filter(|(_, needs)| needs.contains("error")).map(|(name, _)| name);
    assert_eq!(users.collect::<Vec<_>>(), ["commands"]);
}

#[test]
fn a_name_in_code_is_a_dependency_and_one_in_a_comment_or_a_test_is_none() {
    let text = "//! crate::a\nuse crate::b::C; // crate::c\nfn d() { crate::e::f() }\n#[cfg(test)]\nmod tests { use crate::g; }";
    assert_eq!(named_in(&code(text)).collect::<Vec<_>>(), ["b", "e"]);
}

/// Removes what depends on nothing that is left, until nothing or a circle remains.
fn assert_no_circle(mut left: Dependencies) {
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

/// Each file of a module, and the files that it names, directly or by what `mod.rs` exports of them. Files in a
/// subdirectory belong to the file that has its name.
fn file_dependencies(module: &str) -> Dependencies {
    let directory = repository_file(&format!("src/{module}"));
    let root = fs::read_to_string(directory.join("mod.rs")).expect("a module");
    let exports: BTreeMap<&str, &str> = root
        .split(';')
        .filter_map(|item| item.split_once("pub use ")?.1.split_once("::"))
        .flat_map(|(file, items)| identifiers(items).map(move |item| (item, file)))
        .collect();
    let mut all = Dependencies::new();
    for entry in fs::read_dir(&directory).expect("a directory").flatten() {
        let name = entry.path().file_stem().expect("a name").to_string_lossy().into_owned();
        let mut texts = Vec::new();
        code_of(&entry.path(), &mut texts);
        let named = texts.iter().flat_map(|text| {
            let after = ["super::".to_owned(), format!("crate::{module}::")];
            let items = after.iter().flat_map(|before| text.split(before.as_str()).skip(1)).map(|rest| {
                let end = if rest.starts_with('{') { rest.find('}') } else { rest.find(|c: char| !is_of_name(c)) };
                &rest[..end.unwrap_or(rest.len())]
            });
            items.flat_map(identifiers).map(|item| (*exports.get(item).unwrap_or(&item)).to_owned()).collect::<Vec<_>>()
        });
        let named: BTreeSet<String> = named.filter(|named| *named != name).collect();
        all.entry(name).or_default().extend(named);
    }
    all.remove("mod");
    all
}

fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_of_name(c)).filter(|item| !item.is_empty())
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
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
    let mut texts = Vec::new();
    code_of(path, &mut texts);
    needs.extend(texts.iter().flat_map(|text| named_in(text)).filter(|named| named != module));
}

/// The code of a file, or of all files below a directory, without comments and tests.
fn code_of(path: &Path, texts: &mut Vec<String>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a directory").flatten();
        entries.for_each(|entry| code_of(&entry.path(), texts));
    } else if path.file_stem().is_some_and(|stem| stem != "tests") && !path.iter().any(|part| part == "tests") {
        texts.push(code(&fs::read_to_string(path).expect("a source file")));
    }
}

fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules that code names by `crate::`.
fn named_in(code: &str) -> impl Iterator<Item = String> {
    let after = code.split("crate::").skip(1);
    let name = |rest: &str| rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
    after.map(name).filter(|name: &String| !name.is_empty())
}
