//! Makes what `pg_dumpall --globals-only` writes fit for any cluster, and leaves everything else as it is.
//!
//! Two kinds of its statements stop or spoil a restore into another cluster: `CREATE ROLE` of a role that exists (as the
//! superuser's own), behind which `ALTER ROLE` would give that role another password; and, from 16 on, `GRANTED BY` the
//! superuser that the old cluster was made with, which the new one refuses where its own has another name. The output
//! stands between `\restrict` and `\unrestrict`, where `\gexec` is not allowed: hence `DO`.

use std::io::{self, Write};

use crate::sql::quoted_name;

/// Around the statement that makes a role, and the one that gives it its attributes.
const BEGIN: &str = "DO 'BEGIN\n";
const INNER: &str = "BEGIN\n";
const INNER_END: &str = "EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING ''%'', SQLERRM;\nEND;\n";
const END: &str = "EXCEPTION WHEN duplicate_object THEN RAISE NOTICE ''%: left as it is'', SQLERRM;\nEND';";

/// Rewrites the output of `pg_dumpall` as it comes: no more of it is in memory than a statement.
#[derive(Debug, Default)]
pub(super) struct Rewriter {
    bootstrap: String,
    /// What is not a complete piece yet.
    rest: Vec<u8>,
    /// How much of a statement in `rest` was looked through, and the quote that is open there.
    scanned: usize,
    quote: Option<u8>,
    /// A `CREATE ROLE` that waits for its `ALTER ROLE`.
    created: Option<Vec<u8>>,
}

impl Rewriter {
    /// For the output of a cluster that was made with this role.
    pub fn new(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_owned(), ..Self::default() }
    }

    /// Takes the next bytes, and writes what is known by now.
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

    /// Writes what is left at the end.
    pub fn finish(mut self, to: &mut impl Write) -> io::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.write(&rest, to)?;
        }
        self.created.map_or(Ok(()), |create| to.write_all(&guarded(&create, None)))
    }

    /// The length of the next complete piece behind `from`: a statement with its semicolon, or what stands between statements:
    /// white space, a comment, a command of psql.
    fn piece(&mut self, from: usize) -> Option<usize> {
        let text = self.rest.get(from..)?;
        match text {
            [] | [b'-'] => None,
            [byte, ..] if byte.is_ascii_whitespace() => text.iter().position(|byte| !byte.is_ascii_whitespace()),
            [b'-', b'-', ..] | [b'\\', ..] => text.iter().position(|byte| *byte == b'\n'),
            _ => self.statement(from),
        }
    }

    /// Up to the semicolon outside quotes. Quotes within quotes are doubled, in `E''` too, so that counting them suffices.
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
            let is_of_the_same = alter_of(&create).is_some_and(|beginning| piece.starts_with(&beginning));
            to.write_all(&guarded(&create, is_of_the_same.then_some(piece)))?;
            to.write_all(b"\n")?;
            if is_of_the_same {
                return Ok(());
            }
        }
        if piece.starts_with(b"CREATE ROLE ") {
            self.created = Some(piece.to_vec());
            return Ok(());
        }
        to.write_all(&without_grantor(piece, &self.bootstrap))
    }
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
    let mut text = [BEGIN.as_bytes(), doubled(create).as_slice(), b"\n"].concat();
    if let Some(alter) = alter {
        text.extend([INNER.as_bytes(), doubled(alter).as_slice(), b"\n", INNER_END.as_bytes()].concat());
    }
    text.extend(END.as_bytes());
    text
}

/// What [`guarded`] made its statement of; `None` where it has not made it.
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

    /// The same, however it is cut.
    fn written(text: &str, bootstrap: &str) -> String {
        let whole = written_in(text, bootstrap, usize::MAX);
        for piece in [1, 2, 3, 7] {
            assert_eq!(written_in(text, bootstrap, piece), whole, "in pieces of {piece}");
        }
        whole
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
