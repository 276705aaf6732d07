//! Parses names in a dump's statements: the table of a COPY, and a name without its quotes.
//!
//! Used by `pipeline::scanner` (rows of each table) and `restore` (what is left out).

/// Schema and table of a COPY statement as the dump writes them: `public."My table"`.
#[must_use]
pub fn copied_table(statement: &[u8]) -> String {
    let name = statement.strip_prefix(b"COPY ").unwrap_or(statement);
    let mut is_quoted = false;
    let end = name.iter().position(|byte| {
        is_quoted ^= *byte == b'"';
        !is_quoted && matches!(byte, b' ' | b'(')
    });
    String::from_utf8_lossy(&name[..end.unwrap_or(name.len())]).into_owned()
}

/// Whether a `COPY … FROM stdin;` with the end of its line is as `pg_dump` writes it: a table, its columns, and nothing more.
/// `COPY t FROM 'file' WHERE a IS DISTINCT FROM stdin;` takes no rows from psql.
#[must_use]
pub fn is_plain_copy(statement: &[u8]) -> bool {
    let text = statement.strip_prefix(b"COPY ").and_then(|text| text.strip_suffix(b" FROM stdin;\n"));
    let Some(mut rest) = text.and_then(after_name) else { return false };
    while let Some(part) = rest.strip_prefix(b".") {
        let Some(after) = after_name(part) else { return false };
        rest = after;
    }
    let Some(mut columns) = rest.strip_prefix(b" (") else { return matches!(rest, b"" | b" ") };
    loop {
        match after_name(columns) {
            Some(b")") => return true,
            Some(after) if after.starts_with(b", ") => columns = &after[2..],
            _ => return false,
        }
    }
}

/// What follows the name that a text begins with.
fn after_name(text: &[u8]) -> Option<&[u8]> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
    let length = match text.first()? {
        b'"' => {
            let mut is_quoted = false;
            text.iter()
                .position(|byte| {
                    is_quoted ^= *byte == b'"';
                    !is_quoted && *byte != b'"'
                })
                .unwrap_or(text.len())
        }
        _ => text.iter().take_while(|byte| is_plain(byte)).count(),
    };
    (length > 0).then(|| &text[length..])
}

/// Returns an identifier without its quotes; `None` if the text is not exactly one identifier.
#[must_use]
pub fn identifier(text: &[u8]) -> Option<String> {
    let text = str::from_utf8(text).ok()?;
    if let Some(quoted) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        let is_one = !quoted.is_empty() && !quoted.replace("\"\"", "").contains('"');
        return is_one.then(|| quoted.replace("\"\"", "\""));
    }
    let is_plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '$') || !letter.is_ascii();
    (!text.is_empty() && text.chars().all(is_plain)).then(|| text.to_owned())
}

/// The schema and the table of a qualified name, without quotes.
#[must_use]
pub fn parts(name: &str) -> Option<(String, String)> {
    let mut is_quoted = false;
    let dot = name.find(|letter| {
        is_quoted ^= letter == '"';
        !is_quoted && letter == '.'
    })?;
    let (schema, table) = (&name.as_bytes()[..dot], &name.as_bytes()[dot + 1..]);
    Some((identifier(schema)?, identifier(table)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_table_of_a_copy() {
        for (statement, table) in [
            ("COPY public.t (a) FROM stdin;\n", "public.t"),
            ("COPY public.t  FROM stdin;\n", "public.t"),
            ("COPY \"a b\".\"c(\"\"d\" (a) FROM stdin;\n", "\"a b\".\"c(\"\"d\""),
        ] {
            assert_eq!(copied_table(statement.as_bytes()), table, "{statement}");
        }
    }

    #[test]
    fn knows_a_copy_of_pg_dump() {
        for copy in ["public.t (a, \"B, (\"\" c\")", "public.t ", "\"a b\".\"c(\"\"d\" (a)", "größe (\"ä\")"] {
            assert!(is_plain_copy(format!("COPY {copy} FROM stdin;\n").as_bytes()), "{copy}");
        }
        for copy in
            ["t FROM '/f' WHERE a IS DISTINCT", "t (a) /**/", "(SELECT 1) TO '/f' --", "t (a", "t (a) FROM stdin", ""]
        {
            assert!(!is_plain_copy(format!("COPY {copy} FROM stdin;\n").as_bytes()), "{copy}");
        }
    }

    #[test]
    fn reads_a_name_with_and_without_quotes() {
        let owned = |(schema, table): (&str, &str)| Some((schema.to_owned(), table.to_owned()));
        assert_eq!(parts("public.t"), owned(("public", "t")));
        assert_eq!(parts("\"a.b\".\"c\"\"d\""), owned(("a.b", "c\"d")));
        assert_eq!(parts("t"), None);
        assert_eq!(identifier(b"a b"), None);
        assert_eq!(identifier(b"\"a\" b \"c\""), None);
        assert_eq!(identifier("größe".as_bytes()).as_deref(), Some("größe"));
    }
}
