//! What the pages refer to: links, headings and make targets exist, every page is in the index, and the README stays short.

use std::path::Path;

use super::blocks::{page, pages};
use crate::support::setup::repository_file;

#[test]
fn every_make_target_that_is_named_exists() {
    let makefile = page("Makefile");
    let mut count = 0;
    for path in pages() {
        let page = page(&path);
        for rest in ["`make ", "\nmake "].iter().flat_map(|mark| page.split(mark).skip(1)) {
            let target: String =
                rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '-').collect();
            assert!(target.is_empty() || makefile.contains(&format!("\n{target}:")), "{path}: make {target}");
            count += 1;
        }
    }
    assert!(count > 8, "{count}");
}

/// The anchors of a page as GitHub makes them: its headings in lower case, spaces as hyphens, without other punctuation.
fn anchors(page: &str) -> Vec<String> {
    let mut in_block = false;
    let headings = page.lines().filter_map(move |line| {
        in_block ^= line.starts_with("```");
        if in_block { None } else { line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()) }
    });
    let anchor = |heading: &str| {
        let kept = heading.to_lowercase().replace(' ', "-");
        kept.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for path in pages() {
        let text = page(&path);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.contains("://")) {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(&path).parent().expect("a folder");
            let target = if target.is_empty() { path.clone() } else { folder.join(target).display().to_string() };
            let file = repository_file(&target);
            assert!(file.exists(), "{path}: {link} leads nowhere");
            if !anchor.is_empty() {
                let anchors = anchors(&std::fs::read_to_string(file).expect("a page"));
                assert!(anchors.iter().any(|known| known == anchor), "{path}: {link}: no such heading");
            }
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}

#[test]
fn every_page_is_in_the_index() {
    let index = page("docs/README.md");
    for path in pages() {
        let name = path.strip_prefix("docs/").filter(|name| *name != "README.md");
        assert!(name.is_none_or(|name| index.contains(&format!("]({name})"))), "docs/README.md does not list {path}");
    }
}

#[test]
fn the_readme_takes_two_minutes() {
    let lines = page("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines");
}
