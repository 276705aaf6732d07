//! Quotes identifiers and strings for SQL.

/// Quotes an identifier.
#[must_use]
pub fn quoted_name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Quotes a string. The literal does not depend on `standard_conforming_strings`.
#[must_use]
pub fn literal(text: &str) -> String {
    let escape = if text.contains('\\') { "E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_can_be_quoted() {
        assert_eq!(quoted_name("a \"b\"; --"), "\"a \"\"b\"\"; --\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"\'; --"), r"E'\\''; --'");
    }
}
