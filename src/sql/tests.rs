//! The lexer against statements that try to fool it, in one piece and in every way of cutting them.

use proptest::prelude::*;

use super::SpanKind::{Comment, CopyBegin, CopyEnd, CopyRows, EntryHead, PsqlCommand, Space, Statement};
use super::*;

/// A span, joined from its pieces, and the text that was kept of it.
#[derive(Debug, PartialEq)]
struct Span {
    kind: SpanKind,
    bytes: Vec<u8>,
    text: Option<Vec<u8>>,
}

fn spans<'a>(blocks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Span> {
    let mut lexer = Lexer::default();
    let mut spans: Vec<Span> = Vec::new();
    let mut take = |Piece { kind, bytes, text, .. }: Piece<'_>| match spans.last_mut() {
        Some(last) if last.text.is_none() && group(last.kind) == group(kind) => {
            last.kind = kind;
            last.bytes.extend_from_slice(bytes);
            last.text = text.map(<[u8]>::to_vec);
        }
        _ => spans.push(Span { kind, bytes: bytes.to_vec(), text: text.map(<[u8]>::to_vec) }),
    };
    blocks.into_iter().for_each(|block| lexer.read(block, &mut take));
    lexer.finish(&mut take);
    spans
}

/// The kind that a span has before its last piece.
fn group(kind: SpanKind) -> SpanKind {
    match kind {
        CopyBegin => Statement,
        EntryHead => Comment,
        other => other,
    }
}

/// Kinds and bytes of all but white space.
fn read(dump: &str) -> Vec<(SpanKind, String)> {
    let spans = spans([dump.as_bytes()]).into_iter().filter(|span| span.kind != Space);
    spans.map(|span| (span.kind, String::from_utf8(span.bytes).expect("UTF-8"))).collect()
}

fn is_one_statement(text: &str) -> bool {
    read(&format!("{text}\nSELECT 1;")) == [(Statement, text.to_owned()), (Statement, "SELECT 1;".to_owned())]
}

#[test]
fn names_each_span_of_a_dump() {
    let dump = concat!(
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict KEY\n\nSET a = on;\n",
        "-- Name: t; Type: TABLE\n\nCREATE TABLE t (\n    a text -- ;\n);\n\n/* b /* ; */ */\n",
        "-- Data for Name: t; Type: TABLE DATA\nCOPY public.t (a) FROM stdin;\n1\n\\N\n\\.\n\n",
        "COPY public.t (a) FROM stdin;\n\\.\n",
    );
    let expected = [
        (Comment, "--\n"),
        (Comment, "-- PostgreSQL database dump\n"),
        (Comment, "--\n"),
        (PsqlCommand, "\\restrict KEY\n"),
        (Statement, "SET a = on;"),
        (EntryHead, "-- Name: t; Type: TABLE\n"),
        (Statement, "CREATE TABLE t (\n    a text -- ;\n);"),
        (Comment, "/* b /* ; */ */"),
        (EntryHead, "-- Data for Name: t; Type: TABLE DATA\n"),
        (CopyBegin, "COPY public.t (a) FROM stdin;\n"),
        (CopyRows, "1\n\\N\n"),
        (CopyEnd, "\\.\n"),
        (CopyBegin, "COPY public.t (a) FROM stdin;\n"),
        (CopyEnd, "\\.\n"),
    ];
    assert_eq!(read(dump), expected.map(|(kind, text)| (kind, text.to_owned())));
    for span in spans([dump.as_bytes()]).iter().filter(|span| !matches!(span.kind, Space | CopyRows | CopyEnd)) {
        assert!(span.bytes.starts_with(span.text.as_deref().expect("it ends")), "{span:?}");
    }
}

#[test]
fn keeps_a_statement_together_where_psql_does() {
    for text in [
        "SELECT ';', E'\\';', \"a;\"\"b\", $$;$$, $a$ $b$ ; $a$, $1$$ ; $$, a$$;",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO a VALUES (1); DELETE FROM b;);",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END;",
        "create or replace procedure p() begin atomic select 1; end;",
        "CREATE FUNCTION public.begin() RETURNS int LANGUAGE sql AS $$ SELECT 1; $$;",
        "SELECT 1 - 2 / 3 -- ; '\n + 4 /* ; ' */;",
        "CREATE FUNCTION f(begin atomic) RETURNS int AS 'a';",
        "-1;",
        "/;",
    ] {
        assert!(is_one_statement(text), "{text}: {:?}", read(text));
    }
}

#[test]
fn reads_a_continued_string_as_it_began() {
    for text in [
        "SELECT E'a'\n' \\' ;';",
        "SELECT E'a' -- ;\n  -- '\n ' \\' ;';",
        "SELECT 'a'\n' \\', ';';",
        "SELECT E'a',\n' \\', ';';",
        "SELECT E'a'b\n' \\', ';';",
        "SELECT E'a' -\n' \\', ';';",
    ] {
        assert!(is_one_statement(text), "{text}: {:?}", read(text));
    }
    // As the server reads it. psql ends the second one at its first quote, and sends the rest of the line with it.
    assert_eq!(read("SELECT E'a'\n--x\n' \\' '; COMMIT; --'\n;").len(), 4);
    let marked = |text: &str| {
        let mut is_marked = false;
        Lexer::default().read(text.as_bytes(), |piece| is_marked |= piece.reads_two_ways.is_some());
        is_marked
    };
    assert!(marked("SELECT E'a'\n 'b';") && marked("SELECT E'a' -- c\n\t'b'"));
    for text in [
        "SELECT 1; :A COMMIT;",
        "SELECT a[1::A] || :A;",
        "SELECT a[1:'A'];",
        "SELECT a[1:\"A\"];",
        "SELECT a[1:{?a}];",
        "SELECT a[1:a$b$];",
        "SELECT a[1:e'\\''];",
        "CREATE FUNCTION begin() RETURNS int AS 'x';",
        "CREATE FUNCTION begin.atomic() RETURNS int AS 'x'; COMMIT; SELECT 1 AS end;",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 AS case; END; COMMIT; SELECT 1 AS end;",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 AS case; /* */ END; COMMIT; SELECT 1 AS end;",
    ] {
        assert!(marked(text), "{text}");
    }
    for text in [
        "SELECT a[1:n], a[:2], a[1:\"nB\"], 1::TEXT, a[1:CASE WHEN b THEN 1 END], a[1:COALESCE(b, 2)], 'x:A';",
        "CREATE FUNCTION f() RETURNS int\n LANGUAGE sql\n BEGIN ATOMIC\n SELECT CASE WHEN a THEN 1 ELSE 2 END;\n SELECT (b) AS \"end\";\nEND;",
    ] {
        assert!(!marked(text), "{text}");
    }
    assert!(!marked("SELECT E'a', 'b';") && !marked("SELECT E'a'; SELECT 'b';") && !marked("SELECT 'a'\n'b';"));
}

#[test]
fn ends_a_statement_where_psql_does() {
    for text in [
        "SELECT 'a\\'; SELECT ''';';",
        "SELECT fooE'\\'; SELECT ';';",
        "SELECT a$$; SELECT b$$;",
        "SELECT 1 -- a\r; SELECT 2;",
        "CREATE TABLE function_begin_atomic (a int); SELECT 2;",
        "DROP FUNCTION begin; atomic;",
    ] {
        let kinds: Vec<SpanKind> = read(text).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [Statement, Statement], "{text}: {:?}", read(text));
    }
}

#[test]
fn follows_standard_conforming_strings() {
    let text =
        "SET standard_conforming_strings = off;SELECT 'a\\'; b';SET standard_conforming_strings = on;SELECT 'a\\';";
    assert_eq!(read(text).len(), 4, "{:?}", read(text));
}

#[test]
fn sees_a_psql_command_wherever_psql_does() {
    let text = "SELECT 1 \\! id ; SELECT\n + 2;\n\\q\n";
    let expected =
        [(Statement, "SELECT 1 "), (PsqlCommand, "\\! id ; SELECT\n"), (Statement, " + 2;"), (PsqlCommand, "\\q\n")];
    assert_eq!(read(text), expected.map(|(kind, text)| (kind, text.to_owned())));
    // A word ends before it: the text is one with escapes.
    assert_eq!(read("SELECT a\\x\nE'\\';';").len(), 3);
}

#[test]
fn sees_the_end_of_rows_where_psql_does() {
    let begin = "COPY t FROM stdin;\n";
    for (rows, end) in [("a\n\\\\.\n\\.x\n\\..\n\\.\rx\n.\n\n", "\\.\n"), ("a\n", "\\.\r\n"), ("", "\\.\r\n")] {
        let found = read(&[begin, rows, end].concat());
        let expected = [(CopyBegin, begin), (CopyRows, rows), (CopyEnd, end)];
        let expected = expected.into_iter().filter(|(_, text)| !text.is_empty());
        assert!(found.into_iter().eq(expected.map(|(kind, text)| (kind, text.to_owned()))), "{rows:?} {end:?}");
    }
    // No rows follow a COPY that pg_dump does not write so.
    assert_eq!(
        read("COPY t FROM stdin; \n1\n;"),
        [(Statement, "COPY t FROM stdin;".to_owned()), (Statement, "1\n;".to_owned())]
    );
}

/// What matters to the lexer, to be put together at random.
const FRAGMENTS: [&str; 46] = [
    "--",
    "-",
    "/*",
    "*/",
    "/",
    "*",
    "'",
    "''",
    "E'",
    "\\'",
    "\\",
    "\"",
    "$$",
    "$",
    "$a$",
    "$a",
    "1",
    "a",
    "_",
    "\n",
    "\r",
    " ",
    ";",
    "(",
    ")",
    "COPY t FROM stdin;\n",
    "COPY t FROM stdin;",
    "\\.\n",
    "\n\\.",
    "\n\\.\n",
    "\\.\r\n",
    "\\N\t1\n",
    "SET standard_conforming_strings = off;",
    "SET standard_conforming_strings = on;",
    "CREATE FUNCTION ",
    "CREATE OR REPLACE ",
    "BEGIN ",
    "ATOMIC ",
    "CASE ",
    "END",
    "\n\\restrict K\n",
    "-- Name: a; Type: b\n",
    "\n-- Data for Name: c",
    "é",
    "FROM stdin;\n",
    "row\n",
];

fn dump() -> impl Strategy<Value = Vec<u8>> {
    let fragments = proptest::collection::vec(proptest::sample::select(FRAGMENTS.as_slice()), 0..60);
    fragments.prop_map(|fragments| fragments.concat().into_bytes())
}

fn blocks<'a>(dump: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (dump.len() + 1)).chain([0, dump.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &dump[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn spans_tile_the_dump(dump in dump()) {
        prop_assert_eq!(spans([dump.as_slice()]).into_iter().flat_map(|span| span.bytes).collect::<Vec<u8>>(), dump);
    }

    #[test]
    fn any_blocks_give_the_same_spans(dump in dump(), cuts in proptest::collection::vec(any::<usize>(), 0..40)) {
        let expected = spans([dump.as_slice()]);
        prop_assert_eq!(&spans(blocks(&dump, &cuts)), &expected);
        prop_assert_eq!(&spans(dump.chunks(1)), &expected);
    }

    #[test]
    fn any_bytes_are_tiled(dump in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(spans(dump.chunks(7)).into_iter().flat_map(|span| span.bytes).collect::<Vec<u8>>(), dump);
    }
}
