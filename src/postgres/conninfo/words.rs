//! Parses the `key=value` form of a connection string like libpq's `conninfo_parse` (`fe-connect.c`).

use super::{ConninfoError, into_text};

/// C's `isspace` in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Parses words of `key = value`, with a bare or single-quoted value, and backslash escapes.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, ConninfoError> {
    let bytes = text.as_bytes();
    let mut words = Vec::new();
    let mut at = skip_space(bytes, 0);
    while at < bytes.len() {
        let number = words.len() + 1;
        let start = at;
        while at < bytes.len() && bytes[at] != b'=' && !is_space(bytes[at]) {
            at += 1;
        }
        let key = text[start..at].to_owned();
        at = skip_space(bytes, at);
        if bytes.get(at) != Some(&b'=') {
            return Err(ConninfoError::NoEquals(number));
        }
        at = skip_space(bytes, at + 1);
        let (value, end) = if bytes.get(at) == Some(&b'\'') { quoted(bytes, at + 1)? } else { bare(bytes, at)? };
        words.push((key, value));
        at = skip_space(bytes, end);
    }
    Ok(words)
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|byte| is_space(*byte)) {
        at += 1;
    }
    at
}

fn bare(bytes: &[u8], mut at: usize) -> Result<(String, usize), ConninfoError> {
    let mut value = Vec::new();
    while at < bytes.len() && !is_space(bytes[at]) {
        if bytes[at] == b'\\' {
            at += 1;
        }
        value.extend(bytes.get(at));
        at += 1;
    }
    Ok((into_text(value)?, at))
}

fn quoted(bytes: &[u8], mut at: usize) -> Result<(String, usize), ConninfoError> {
    let mut value = Vec::new();
    loop {
        match bytes.get(at) {
            None => return Err(ConninfoError::OpenQuote),
            Some(b'\'') => return Ok((into_text(value)?, at + 1)),
            Some(b'\\') => {
                value.extend(bytes.get(at + 1));
                at += 2;
            }
            Some(byte) => {
                value.push(*byte);
                at += 1;
            }
        }
    }
}
