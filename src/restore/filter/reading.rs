//! The settings with which psql parses a statement as the lexer does.

use super::{Refusal, shown};

/// Client-only encodings: the second byte of a character may be `\` or a quote
/// (PostgreSQL's "Character Set Support", PG_ENCODING_BE_LAST in `pg_wchar.h`),
/// with their other names (`encnames.c`), as the server compares them: letters and digits alone.
const UNSAFE_ENCODINGS: [&str; 17] = [
    "SJIS",
    "SHIFTJIS2004",
    "SHIFTJIS",
    "MSKANJI",
    "WIN932",
    "WINDOWS932",
    "BIG5",
    "WIN950",
    "WINDOWS950",
    "GBK",
    "WIN936",
    "WINDOWS936",
    "UHC",
    "WIN949",
    "WINDOWS949",
    "GB18030",
    "JOHAB",
];

/// The settings that the dump has chosen.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    conforming: &'static str,
    encoding: String,
}

impl Default for Reading {
    fn default() -> Self {
        Self { conforming: "on", encoding: "UTF8".to_owned() }
    }
}

impl Reading {
    /// Records a setting that the dump changes.
    pub fn follow(&mut self, statement: &[u8]) -> Result<(), Refusal> {
        match statement {
            b"SET standard_conforming_strings = on;" => self.conforming = "on",
            b"SET standard_conforming_strings = off;" => self.conforming = "off",
            _ => {
                let encoding =
                    statement.strip_prefix(b"SET client_encoding = '").and_then(|rest| rest.strip_suffix(b"';"));
                let Some(encoding) = encoding else { return Ok(()) };
                let encoding = shown(encoding).to_ascii_uppercase();
                let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
                let plain: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
                if UNSAFE_ENCODINGS.contains(&plain.as_str()) || !encoding.bytes().all(is_name) {
                    return Err(Refusal::Encoding(encoding));
                }
                self.encoding = encoding;
            }
        }
        Ok(())
    }

    /// Whether `\` is an ordinary byte in a string.
    pub fn is_conforming(&self) -> bool {
        self.conforming == "on"
    }

    /// The statement that sets them.
    pub fn statement(&self) -> String {
        let Self { conforming, encoding } = self;
        format!(
            "SELECT pg_catalog.set_config('standard_conforming_strings', '{conforming}', false), \
             pg_catalog.set_config('client_encoding', '{encoding}', false);\n"
        )
    }
}
