//! Reads the head of an entry: `-- Name: t; Type: TABLE; Schema: public; Owner: x`.
//!
//! Names in it are not quoted. A head that reads two ways is marked: `restore` goes by the entry's first statement.

use memchr::memmem;

use super::{Entry, Prefix};

const TYPE: &[u8] = b"; Type: ";
const SCHEMA: &[u8] = b"; Schema: ";
const OWNER: &[u8] = b"; Owner: ";
const TABLESPACE: &[u8] = b"; Tablespace: ";
const PREFIXES: [(&[u8], Prefix); 3] = [
    (b"-- Name: ", Prefix::Name),
    (b"-- Data for Name: ", Prefix::Data),
    (b"-- Statistics for Name: ", Prefix::Statistics),
];
/// What is kept of a head that cannot be read, in bytes.
const KEPT: usize = 256;

/// Reads a head up to the end of its line. Its offset and settings are added later.
pub(super) fn read(text: &[u8]) -> Entry {
    let found = PREFIXES.into_iter().find_map(|(prefix, kind)| Some((text.strip_prefix(prefix)?, kind)));
    let (rest, prefix) = found.unwrap_or((text, Prefix::Name));
    parts(rest).map_or_else(
        || Entry {
            kind: "?".to_owned(),
            schema: "-".to_owned(),
            name: text_of(&rest[..rest.len().min(KEPT)]).trim_end().to_owned(),
            prefix,
            ..Entry::default()
        },
        |[name, kind, schema, owner]| Entry {
            kind: text_of(kind),
            schema: text_of(schema),
            name: text_of(name),
            // So pg_dump writes it of a cast.
            owner: if owner == b"-" { String::new() } else { text_of(owner) },
            prefix,
            ambiguous: [TYPE, SCHEMA, OWNER].iter().any(|word| memmem::find_iter(rest, word).nth(1).is_some()),
            ..Entry::default()
        },
    )
}

/// Name, type, schema and owner; `None` if the line is cut, or no head.
fn parts(rest: &[u8]) -> Option<[&[u8]; 4]> {
    let line = rest.strip_suffix(b"\n")?;
    let (name, rest) = split(line, TYPE)?;
    let (kind, rest) = split(rest, SCHEMA)?;
    let (schema, rest) = split(rest, OWNER)?;
    let owner = split(rest, TABLESPACE).map_or(rest, |(owner, _)| owner);
    Some([name, kind, schema, owner])
}

fn split<'a>(text: &'a [u8], word: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = memmem::find(text, word)?;
    Some((&text[..at], &text[at + word.len()..]))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts_of(text: &str) -> (String, String, String, String) {
        let Entry { name, kind, schema, owner, .. } = read(text.as_bytes());
        (name, kind, schema, owner)
    }

    #[test]
    fn reads_the_parts_of_a_head() {
        for (head, name, kind, schema, owner) in [
            ("-- Name: t; Type: TABLE; Schema: public; Owner: x\n", "t", "TABLE", "public", "x"),
            ("-- Data for Name: t; Type: TABLE DATA; Schema: s; Owner: x\n", "t", "TABLE DATA", "s", "x"),
            ("-- Name: t; Type: TABLE; Schema: s; Owner: x; Tablespace: y\n", "t", "TABLE", "s", "x"),
            ("-- Name: s; Type: SCHEMA; Schema: -; Owner: \n", "s", "SCHEMA", "-", ""),
            ("-- Name: CAST (a AS b); Type: CAST; Schema: -; Owner: -\n", "CAST (a AS b)", "CAST", "-", ""),
            ("-- Name: f(a text); Type: FUNCTION; Schema: a; b; Owner: x\n", "f(a text)", "FUNCTION", "a; b", "x"),
        ] {
            let expected = [name, kind, schema, owner].map(str::to_owned);
            assert_eq!(<[String; 4]>::from(parts_of(head)), expected, "{head}");
            assert!(!read(head.as_bytes()).ambiguous, "{head}");
        }
        assert_eq!(
            read(b"-- Statistics for Name: t; Type: STATISTICS DATA; Schema: s; Owner: x\n").prefix,
            Prefix::Statistics
        );
    }

    #[test]
    fn marks_what_reads_two_ways() {
        for head in [
            "-- Name: t; Type: TABLE; Schema: ; Type: TABLE; Schema: public; Owner: x; Owner: y\n",
            "-- Name: t; Type: TABLE; Schema: s; Owner: own; Type: INDEX; Schema: q; Owner: z\n",
            "-- Name: a; Owner: b; Type: TABLE; Schema: s; Owner: x\n",
        ] {
            assert!(read(head.as_bytes()).ambiguous, "{head}");
        }
    }

    #[test]
    fn a_cut_head_has_no_type() {
        let long = format!("-- Name: f({}", "text, ".repeat(20_000));
        let entry = read(long.as_bytes());
        assert_eq!((entry.kind.as_str(), entry.name.len()), ("?", KEPT));
        assert_eq!(read(b"-- Name: t; Type: TABLE\n").kind, "?");
    }
}
