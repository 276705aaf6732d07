//! The fenced blocks of README.md, as a reader would copy them.

use crate::support::setup::repository_file;

/// What README.md says.
pub fn readme() -> String {
    std::fs::read_to_string(repository_file("README.md")).expect("README.md")
}

/// The fenced blocks of a document: each with what stands before it since the last one.
pub fn blocks(document: &str) -> Vec<(&str, &str)> {
    let mut pieces = document.split("\n```");
    let mut blocks = Vec::new();
    while let (Some(before), Some(block)) = (pieces.next(), pieces.next()) {
        // Behind the fence stands the language.
        blocks.push((before, block.split_once('\n').map_or("", |(_, text)| text)));
    }
    blocks
}

/// The first block behind a marker: a heading, or the words in bold that begin a paragraph.
///
/// # Panics
/// Where there is none.
pub fn block_after(marker: &str) -> String {
    let readme = readme();
    let (_, rest) = readme.split_once(marker).unwrap_or_else(|| panic!("README.md has no {marker}"));
    let text = blocks(rest).first().map(|(_, block)| format!("{block}\n"));
    text.unwrap_or_else(|| panic!("README.md has no block behind {marker}"))
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
