//! Rewrites the output of `pg_dumpall --globals-only` so that it runs on any cluster.
//!
//! Two kinds of statements fail or do harm on another cluster. `CREATE ROLE` fails for an existing role, such as the superuser,
//! and `ALTER ROLE` would then change its password. Since 16, `GRANTED BY` the old bootstrap superuser fails if the new one
//! has another name. The output is enclosed in `\restrict` and `\unrestrict`, where `\gexec` is not allowed, so it uses `DO`.
//!
//! In a database with `standard_conforming_strings` off, `pg_dumpall` turns it off in its output, where `\` in the string of `DO` would
//! be an escape. It is turned on: the literals of `pg_dumpall` mean the same either way (`E'…'` if they have a `\`).

use std::io::{self, Write};

use crate::sql::quoted_name;

/// Around the statement that makes a role, and the one that gives it its attributes.
const BEGIN: &str = "DO 'BEGIN\n";
const INNER: &str = "BEGIN\n";
const INNER_END: &str = "EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING ''%'', SQLERRM;\nEND;\n";
const END: &str = "EXCEPTION WHEN duplicate_object THEN RAISE NOTICE ''%: left as it is'', SQLERRM;\nEND';";

/// Rewrites the output as a stream; at most one statement is in memory.
#[derive(Debug, Default)]
pub(super) struct Rewriter {
    bootstrap: String,
    /// An incomplete piece.
    rest: Vec<u8>,
    /// The scanned length of a statement in `rest`, and the open quote there.
    scanned: usize,
    quote: Option<u8>,
    /// A `CREATE ROLE` before its `ALTER ROLE`.
    created: Option<Vec<u8>>,
}

impl Rewriter {
    /// For a cluster with this bootstrap superuser.
    pub fn new(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned(), ..Self::default() }
    }

    /// Takes the next bytes, and writes the complete pieces.
    pub fn take(&mut self, bytes: &[u8], to: &mut impl Write) -> io::Result<()> {
        self.rest.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(length) = self.piece(taken) {
            let piece = self.rest[taken..taken + length].to_vec();
            taken += length;
            (self.scanned, self.quote) = (0, None);
            self.write(&piece, to)?;
        }
        self.rest.drain(..taken);
        Ok(())
    }

    /// Writes the rest.
    pub fn finish(mut self, to: &mut impl Write) -> io::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.write(&rest, to)?;
        }
        self.created.map_or(Ok(()), |create| to.write_all(&guarded(&create, None)))
    }

    /// The length of the next complete piece after `from`: a statement with its semicolon, white space, a comment, or a psql
    /// command.
    fn piece(&mut self, from: usize) -> Option<usize> {
        let text = self.rest.get(from..)?;
        match text {
            [] | [b'-'] => None,
            [byte, ..] if byte.is_ascii_whitespace() => text.iter().position(|byte| !byte.is_ascii_whitespace()),
            [b'-', b'-', ..] | [b'\\', ..] => text.iter().position(|byte| *byte == b'\n'),
            _ => self.statement(from),
        }
    }

    /// The length up to the semicolon outside quotes. Quotes in quotes are doubled, also in `E''`, so counting is enough.
    fn statement(&mut self, from: usize) -> Option<usize> {
        while let Some(byte) = self.rest.get(from + self.scanned) {
            self.scanned += 1;
            match (self.quote, byte) {
                (None, b';') => return Some(self.scanned),
                (None, b'\'' | b'"') => self.quote = Some(*byte),
                (Some(quote), byte) if quote == *byte => self.quote = None,
                _ => {}
            }
        }
        None
    }

    fn write(&mut self, piece: &[u8], to: &mut impl Write) -> io::Result<()> {
        if let Some(create) = self.created.take() {
            if piece.trim_ascii().is_empty() {
                self.created = Some(create);
                return Ok(());
            }
            let is_same_role = alter_of(&create).is_some_and(|beginning| piece.starts_with(&beginning));
            to.write_all(&guarded(&create, is_same_role.then_some(piece)))?;
            to.write_all(b"\n")?;
            if is_same_role {
                return Ok(());
            }
        }
        if piece.starts_with(b"CREATE ROLE ") {
            self.created = Some(piece.to_vec());
            return Ok(());
        }
        match piece {
            b"SET standard_conforming_strings = off;" => to.write_all(b"SET standard_conforming_strings = on;"),
            _ => to.write_all(&without_grantor(piece, &self.bootstrap)),
        }
    }
}

/// The start of the statement that sets the role's attributes.
fn alter_of(create: &[u8]) -> Option<Vec<u8>> {
    let name = create.strip_prefix(b"CREATE ROLE ")?.strip_suffix(b";")?;
    Some([b"ALTER ROLE ", name, b" WITH "].concat())
}

/// Creates a role unless it exists. On a hosted server the administrator may not set every attribute: then without them.
fn guarded(create: &[u8], alter: Option<&[u8]>) -> Vec<u8> {
    let doubled = |statement: &[u8]| -> Vec<u8> {
        statement.iter().flat_map(|byte| std::iter::repeat_n(*byte, if *byte == b'\'' { 2 } else { 1 })).collect()
    };
    let mut text = [BEGIN.as_bytes(), doubled(create).as_slice(), b"\n"].concat();
    if let Some(alter) = alter {
        text.extend([INNER.as_bytes(), doubled(alter).as_slice(), b"\n", INNER_END.as_bytes()].concat());
    }
    text.extend(END.as_bytes());
    text
}

/// What [`guarded`] made its statement of; `None` if it has not made it.
pub(super) fn unguarded(statement: &str) -> Option<(String, Option<String>)> {
    let body = statement.strip_prefix(BEGIN)?.strip_suffix(END)?.replace("''", "'");
    let inner_end = INNER_END.replace("''", "'");
    let parts = if let Some(both) = body.strip_suffix(&inner_end) {
        // A name may hold anything: the first statement ends where its quotes are closed.
        let mut open = false;
        let end = both.find(|letter| {
            open ^= letter == '"';
            letter == ';' && !open
        })?;
        let alter = both[end + 1..].strip_prefix(&format!("\n{INNER}"))?.strip_suffix('\n')?;
        (both[..=end].to_owned(), Some(alter.to_owned()))
    } else {
        (body.strip_suffix('\n')?.to_owned(), None)
    };
    let again = guarded(parts.0.as_bytes(), parts.1.as_ref().map(String::as_bytes));
    (again == statement.as_bytes()).then_some(parts)
}

/// Takes ` GRANTED BY` the old cluster's first superuser away: it means the new one's, which is the default.
fn without_grantor(statement: &[u8], bootstrap: &str) -> Vec<u8> {
    let quoted = quoted_name(bootstrap);
    let found = [bootstrap, &quoted].into_iter().find_map(|name| {
        let kept = statement.strip_suffix(format!(" GRANTED BY {name};").as_bytes())?;
        (kept.starts_with(b"GRANT ") && !bootstrap.is_empty()).then_some(kept)
    });
    found.map_or_else(|| statement.to_vec(), |kept| [kept, b";"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written_in(text: &str, bootstrap: &str, piece: usize) -> String {
        let (mut output, mut rewriter) = (Vec::new(), Rewriter::new(bootstrap));
        for bytes in text.as_bytes().chunks(piece) {
            rewriter.take(bytes, &mut output).expect("memory takes it");
        }
        rewriter.finish(&mut output).expect("memory takes it");
        String::from_utf8(output).expect("UTF-8")
    }

    /// The output, which must not depend on how the input is split.
    fn written(text: &str, bootstrap: &str) -> String {
        let expected = written_in(text, bootstrap, usize::MAX);
        for piece in [1, 2, 3, 7] {
            assert_eq!(written_in(text, bootstrap, piece), expected, "in pieces of {piece}");
        }
        expected
    }

    #[test]
    fn creates_role_with_attributes_unless_it_exists() {
        let text = "\nCREATE ROLE \"it's;\n\"\"x\"\"\";\nALTER ROLE \"it's;\n\"\"x\"\"\" WITH LOGIN PASSWORD 'a;b';\nALTER ROLE b SET x TO 'y';\n";
        let expected = "\nDO 'BEGIN\nCREATE ROLE \"it''s;\n\"\"x\"\"\";\nBEGIN\nALTER ROLE \"it''s;\n\"\"x\"\"\" WITH LOGIN PASSWORD ''a;b'';\n\
                        EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING ''%'', SQLERRM;\nEND;\n\
                        EXCEPTION WHEN duplicate_object THEN RAISE NOTICE ''%: left as it is'', SQLERRM;\nEND';\n\nALTER ROLE b SET x TO 'y';\n";
        assert_eq!(written(text, "postgres"), expected);
    }

    #[test]
    fn guards_role_without_attributes() {
        let bare = written("CREATE ROLE a;\nCREATE ROLE b;", "postgres");
        assert_eq!(bare.matches("DO 'BEGIN").count(), 2, "{bare}");
        let other = written("CREATE ROLE a;\nALTER ROLE ab WITH LOGIN;\n", "postgres");
        assert!(other.ends_with("END';\nALTER ROLE ab WITH LOGIN;\n"), "{other}");
    }

    #[test]
    fn removes_grantor_that_is_old_superuser() {
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
    fn turns_standard_conforming_strings_on() {
        let text = "SET standard_conforming_strings = off;\nSET escape_string_warning = off;\nCREATE ROLE \"a\\b\";\n";
        let expected = "SET standard_conforming_strings = on;\nSET escape_string_warning = off;\nDO 'BEGIN\nCREATE ROLE \"a\\b\";\n\
                        EXCEPTION WHEN duplicate_object THEN RAISE NOTICE ''%: left as it is'', SQLERRM;\nEND';";
        assert_eq!(written(text, "postgres"), expected);
    }

    #[test]
    fn keeps_other_statements() {
        let text = "--\n-- CREATE ROLE; it's a comment\n--\n\n\\restrict x;'y\nSET a = on;\nCOMMENT ON ROLE b IS E'it''s \\\\; \"\n';\nunfinished 'text;";
        assert_eq!(written(text, "postgres"), text);
    }
}
