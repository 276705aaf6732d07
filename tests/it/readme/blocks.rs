//! The pages of the documentation, and the fenced blocks in them, as a reader would copy them.

use std::path::Path;

use crate::support::setup::repository_file;

/// What a page of the repository says.
///
/// # Panics
/// Where it is not there.
pub fn page(path: &str) -> String {
    std::fs::read_to_string(repository_file(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// The pages that people read, by their paths in the repository.
pub fn pages() -> Vec<String> {
    let docs = std::fs::read_dir(repository_file("docs")).expect("docs/");
    let names = docs.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let mut pages: Vec<String> = names
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"))
        .map(|name| format!("docs/{name}"))
        .collect();
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md", "k8s/README.md"].map(str::to_owned));
    pages.sort();
    pages
}

/// The fenced blocks of a document: each with what stands before it since the last one.
pub fn blocks(document: &str) -> Vec<(&str, &str)> {
    let mut pieces = document.split("\n```");
    let mut blocks = Vec::new();
    while let (Some(before), Some(block)) = (pieces.next(), pieces.next()) {
        // After the fence stands the language.
        blocks.push((before, block.split_once('\n').map_or("", |(_, text)| text)));
    }
    blocks
}

/// The first block after a marker: a heading, or words of the text.
///
/// # Panics
/// Where there is none.
pub fn block_after(path: &str, marker: &str) -> String {
    let page = page(path);
    let (_, rest) = page.split_once(marker).unwrap_or_else(|| panic!("{path} has no {marker}"));
    let text = blocks(rest).first().map(|(_, block)| format!("{block}\n"));
    text.unwrap_or_else(|| panic!("{path} has no block after {marker}"))
}

/// A file for `/etc/cron.d`: its variables, and its lines as schedule, user and command.
pub struct Crontab {
    /// Set for every line.
    pub variables: Vec<(String, String)>,
    /// The lines.
    pub lines: Vec<(String, String, String)>,
}

impl Crontab {
    /// As cron reads it.
    ///
    /// # Panics
    /// Where cron would not take a line, or not as it is meant.
    pub fn parse(text: &str) -> Self {
        let mut crontab = Self { variables: Vec::new(), lines: Vec::new() };
        for line in text.lines() {
            let is_name =
                |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte == b'3');
            if let Some((name, value)) = line.split_once('=').filter(|(name, _)| is_name(name)) {
                crontab.variables.push((name.to_owned(), value.to_owned()));
                continue;
            }
            // A bare % would end the command.
            assert!(!line.contains('%'), "{line}");
            let mut rest = line;
            let mut word = || {
                let (word, behind) = rest.trim_start().split_once(' ').unwrap_or_else(|| panic!("too short: {line}"));
                rest = behind;
                word
            };
            let schedule = [(); 5].map(|()| word()).join(" ");
            let user = word().to_owned();
            crontab.lines.push((schedule, user, rest.trim_start().to_owned()));
        }
        crontab
    }
}
