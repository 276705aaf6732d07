//! Makes what `pg_dumpall --globals-only` writes fit for any cluster, and leaves everything else as it is.
//!
//! Two kinds of its statements stop or spoil a restore into another cluster: `CREATE ROLE` of a role that exists (as the
//! superuser's own), behind which `ALTER ROLE` would give that role another password; and, from 16 on, `GRANTED BY` the
//! superuser that the old cluster was made with, which the new one refuses where its own has another name. The output
//! stands between `\restrict` and `\unrestrict`, where `\gexec` is not allowed: hence `DO`.

use std::io::{self, Write};

/// Writes the output of `pg_dumpall` with these statements rewritten.
pub(super) fn write(output: &[u8], bootstrap: &str, to: &mut impl Write) -> io::Result<()> {
    let mut created: Option<&[u8]> = None;
    for piece in Pieces(output) {
        if let Some(create) = created.take() {
            if piece.trim_ascii().is_empty() {
                created = Some(create);
                continue;
            }
            let is_of_the_same = alter_of(create).is_some_and(|beginning| piece.starts_with(&beginning));
            to.write_all(&guarded(create, is_of_the_same.then_some(piece)))?;
            to.write_all(b"\n")?;
            if is_of_the_same {
                continue;
            }
        }
        if piece.starts_with(b"CREATE ROLE ") {
            created = Some(piece);
        } else {
            to.write_all(&without_grantor(piece, bootstrap))?;
        }
    }
    created.map_or(Ok(()), |create| to.write_all(&guarded(create, None)))
}

/// Statements with their semicolon, and what stands between them: white space, comments, commands of psql.
struct Pieces<'a>(&'a [u8]);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = match self.0 {
            [] => return None,
            [byte, ..] if byte.is_ascii_whitespace() => {
                self.0.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
            }
            [b'-', b'-', ..] | [b'\\', ..] => line_length(self.0),
            _ => statement_length(self.0),
        };
        let (piece, rest) = self.0.split_at(length);
        self.0 = rest;
        Some(piece)
    }
}

fn line_length(text: &[u8]) -> usize {
    text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len())
}

/// Up to the semicolon outside quotes. Quotes within quotes are doubled, in `E''` too, so that counting them suffices.
fn statement_length(text: &[u8]) -> usize {
    let mut open = None;
    for (index, byte) in text.iter().enumerate() {
        match (open, byte) {
            (None, b';') => return index + 1,
            (None, b'\'' | b'"') => open = Some(*byte),
            (Some(quote), byte) if quote == *byte => open = None,
            _ => {}
        }
    }
    text.len()
}

/// How the statement begins that gives a role its attributes.
fn alter_of(create: &[u8]) -> Option<Vec<u8>> {
    let name = create.strip_prefix(b"CREATE ROLE ")?.strip_suffix(b";")?;
    Some([b"ALTER ROLE ", name, b" WITH "].concat())
}

/// Makes a role unless it is there. On a hosted server, whose administrator may not give every attribute, it is made without.
fn guarded(create: &[u8], alter: Option<&[u8]>) -> Vec<u8> {
    let doubled = |statement: &[u8]| -> Vec<u8> {
        statement.iter().flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b'\'' { 2 } else { 1 })).collect()
    };
    let mut text = [b"DO 'BEGIN\n", doubled(create).as_slice(), b"\n"].concat();
    if let Some(alter) = alter {
        text.extend([b"BEGIN\n", doubled(alter).as_slice(), b"\n"].concat());
        text.extend(b"EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING ''%'', SQLERRM;\nEND;\n");
    }
    text.extend(b"EXCEPTION WHEN duplicate_object THEN RAISE NOTICE ''%: left as it is'', SQLERRM;\nEND';");
    text
}

/// Takes ` GRANTED BY` the old cluster's first superuser away: it means the new one's, which is the default.
fn without_grantor(statement: &[u8], bootstrap: &str) -> Vec<u8> {
    let quoted = format!("\"{}\"", bootstrap.replace('"', "\"\""));
    let found = [bootstrap, &quoted].into_iter().find_map(|name| {
        let kept = statement.strip_suffix(format!(" GRANTED BY {name};").as_bytes())?;
        (kept.starts_with(b"GRANT ") && !bootstrap.is_empty()).then_some(kept)
    });
    found.map_or_else(|| statement.to_vec(), |kept| [kept, b";"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, bootstrap: &str) -> String {
        let mut output = Vec::new();
        write(text.as_bytes(), bootstrap, &mut output).expect("memory takes it");
        String::from_utf8(output).expect("UTF-8")
    }

    #[test]
    fn a_role_is_made_with_its_attributes_or_left_as_it_is() {
        let text = "\nCREATE ROLE \"it's;\n\"\"x\"\"\";\nALTER ROLE \"it's;\n\"\"x\"\"\" WITH LOGIN PASSWORD 'a;b';\nALTER ROLE b SET x TO 'y';\n";
        let expected = "\nDO 'BEGIN\nCREATE ROLE \"it''s;\n\"\"x\"\"\";\nBEGIN\nALTER ROLE \"it''s;\n\"\"x\"\"\" WITH LOGIN PASSWORD ''a;b'';\n\
                        EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING ''%'', SQLERRM;\nEND;\n\
                        EXCEPTION WHEN duplicate_object THEN RAISE NOTICE ''%: left as it is'', SQLERRM;\nEND';\n\nALTER ROLE b SET x TO 'y';\n";
        assert_eq!(written(text, "postgres"), expected);
    }

    #[test]
    fn a_role_without_attributes_of_its_own_is_guarded_too() {
        let bare = written("CREATE ROLE a;\nCREATE ROLE b;", "postgres");
        assert_eq!(bare.matches("DO 'BEGIN").count(), 2, "{bare}");
        let other = written("CREATE ROLE a;\nALTER ROLE ab WITH LOGIN;\n", "postgres");
        assert!(other.ends_with("END';\nALTER ROLE ab WITH LOGIN;\n"), "{other}");
    }

    #[test]
    fn the_old_superuser_grants_nothing_in_the_new_cluster() {
        for (bootstrap, text, expected) in [
            ("postgres", "GRANT a TO b WITH ADMIN OPTION GRANTED BY postgres;", "GRANT a TO b WITH ADMIN OPTION;"),
            ("my \"s\"", "GRANT a TO b GRANTED BY \"my \"\"s\"\"\";", "GRANT a TO b;"),
            ("postgres", "GRANT a TO b GRANTED BY other;", "GRANT a TO b GRANTED BY other;"),
            ("postgres", "GRANT a TO \"b GRANTED BY postgres\";", "GRANT a TO \"b GRANTED BY postgres\";"),
            ("x", "COMMENT ON ROLE a IS ' GRANTED BY x;';", "COMMENT ON ROLE a IS ' GRANTED BY x;';"),
            ("", "GRANT a TO b GRANTED BY postgres;", "GRANT a TO b GRANTED BY postgres;"),
        ] {
            assert_eq!(written(text, bootstrap), expected, "{bootstrap}");
        }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let text = "--\n-- CREATE ROLE; it's a comment\n--\n\n\\restrict x;'y\nSET a = on;\nCOMMENT ON ROLE b IS E'it''s \\\\; \"\n';\nunfinished 'text;";
        assert_eq!(written(text, "postgres"), text);
    }
}
