//! The scanner against dumps that try to fool it, as one block and cut everywhere.

use proptest::prelude::*;

use super::*;

const HEAD: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict KEY\n\nSET standard_conforming_strings = on;\n\n";
const TAIL: &str = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict KEY\n\n";
/// The lines at which psql ends the rows of a COPY.
const ENDS_OF_ROWS: [&str; 2] = ["\\.", "\\.\r"];

/// Lines that end a dump elsewhere, and mean nothing where they are here.
const TRAPS: &str = concat!(
    "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $_$\n-- PostgreSQL database dump complete\n--\n\n",
    "COPY t FROM stdin;\n$$ ' \" $x$ /* \\unrestrict KEY\n$_$;\n",
    "COMMENT ON TABLE t IS 'a\n-- PostgreSQL database dump complete\n\\restrict OTHER\nit''s';\n",
    "CREATE VIEW v AS SELECT E'\\'\n-- PostgreSQL database dump complete\n--' AS a, a$1, $1, U&'\\0041';\n",
    "-- Name: it's a \"trap\"; Type: TABLE\n/* COPY x FROM stdin;\n/* nested */ ' */\n",
    "CREATE TABLE \"COPY \"\" FROM stdin;\n-- PostgreSQL database dump complete\" (a text);\n",
    "COPY public.\"od d\"\"( FROM stdin;\" (a, \"b ' $$\") FROM stdin;\n",
    "-- PostgreSQL database dump complete\n--\n\n\\\\.\n\\.x\n'\"$$\n\\.\n\n",
    "COPY public.empty  FROM stdin;\n\\.\n\n",
    "COPY public.none  FROM stdin;\n\n\n\\.\n\n",
    "SELECT pg_catalog.lowrite(0, '\\x2d2d');\n",
);

fn scan(pieces: &[&[u8]]) -> ScanReport {
    let mut scanner = Scanner::default();
    for piece in pieces {
        scanner.scan(piece);
    }
    scanner.finish()
}

fn complete() -> String {
    [HEAD, TRAPS, TAIL].concat()
}

#[test]
fn traps_do_not_end_the_dump_and_rows_are_counted() {
    let report = scan(&[complete().as_bytes()]);
    assert_eq!(report.flaw, None);
    let tables: Vec<(&str, u64)> = report.tables.iter().map(|table| (table.table.as_str(), table.rows)).collect();
    assert_eq!(tables, [("public.\"od d\"\"( FROM stdin;\"", 6), ("public.empty", 0), ("public.none", 2)]);
    assert_eq!((report.rows, report.bytes), (8, complete().len() as u64));
}

#[test]
fn counts_what_a_restore_creates() {
    let entries = concat!(
        "-- Name: a; Type: TABLE; Schema: public; Owner: x\n\nCREATE TABLE public.a (a text);\n",
        "-- Name: x; Type: INDEX; y; Type: MATERIALIZED VIEW; Schema: public; Owner: x\n\nSELECT 1;\n",
        "-- Name: a a_pkey; Type: CONSTRAINT; Schema: public; Owner: x\n\nSELECT 1;\n",
        "-- Name: a a_check; Type: CHECK CONSTRAINT; Schema: public; Owner: x\n\nSELECT 1;\n",
        "-- Data for Name: a; Type: TABLE DATA; Schema: public; Owner: x\n\nCOPY public.a (a) FROM stdin;\n",
        "-- Name: b; Type: TABLE; Schema: public; Owner: x\n\\.\n",
        "-- Name: 7..8; Type: BLOB METADATA; Schema: -; Owner: x\n\n",
        "SELECT pg_catalog.lo_create('7');\nSELECT pg_catalog.lo_create('8');\nSELECT ' pg_catalog.lo_create(';\n",
    );
    let dump = [HEAD, entries, TAIL].concat();
    let expected = Created { tables: 2, relations: 3, large_objects: 2 };
    assert_eq!(scan(&[dump.as_bytes()]).created, Some(expected));
}

#[test]
fn every_truncation_is_seen() {
    let dump = complete();
    for length in 0..dump.len() {
        assert!(scan(&[&dump.as_bytes()[..length]]).flaw.is_some(), "cut to {length} bytes");
    }
}

#[test]
fn every_cut_into_two_blocks_reads_the_same() {
    let dump = complete();
    let expected = scan(&[dump.as_bytes()]);
    for at in 0..=dump.len() {
        let (left, right) = dump.as_bytes().split_at(at);
        assert_eq!(scan(&[left, right]), expected, "cut at {at}");
    }
}

#[test]
fn anything_after_the_end_is_a_flaw() {
    let twice = complete().repeat(2);
    assert_eq!(scan(&[twice.as_bytes()]).flaw, Some(Flaw::SomethingFollows));
    assert_eq!(scan(&[complete().as_bytes(), b"\n"]).flaw, Some(Flaw::SomethingFollows));
}

#[test]
fn another_key_at_the_end_is_seen() {
    let dump = complete().replace("\\unrestrict KEY", "\\unrestrict KEX");
    assert_eq!(scan(&[dump.as_bytes()]).flaw, Some(Flaw::SomethingFollows));
}

#[test]
fn a_dump_of_an_older_minor_has_no_keys() {
    let dump = complete().replace("\\restrict KEY\n\n", "").replace("\\unrestrict KEY\n\n", "");
    assert_eq!(scan(&[dump.as_bytes()]).flaw, None);
}

#[test]
fn names_the_flaw_of_what_is_no_dump() {
    assert_eq!(scan(&[]).flaw, Some(Flaw::Empty));
    assert_eq!(scan(&[b"hello\n"]).flaw, Some(Flaw::NotADump));
    assert_eq!(scan(&[TAIL.as_bytes()]).flaw, Some(Flaw::NotADump));
    let cut = [HEAD, "COPY public.t (a) FROM stdin;\n1\n2\n3"].concat();
    let flaw = scan(&[cut.as_bytes()]).flaw;
    assert_eq!(flaw, Some(Flaw::InTheMiddleOfData { table: "public.t".to_owned(), rows: 2 }));
}

#[test]
fn backslashes_escape_where_strings_do_not_conform() {
    let dump = [HEAD, "SET standard_conforming_strings = off;\nSELECT 'a\\'; -- ';\n", TAIL].concat();
    assert_eq!(scan(&[dump.as_bytes()]).flaw, None);
    let conforming = [HEAD, "SELECT 'a\\'; -- ';\n", TAIL].concat();
    assert_eq!(scan(&[conforming.as_bytes()]).flaw, None);
}

#[test]
fn rows_end_where_psql_ends_them() {
    for end in ENDS_OF_ROWS {
        let report = scan(&[format!("{HEAD}COPY public.t (a) FROM stdin;\n1\n\\.\r2\n{end}\n\n{TAIL}").as_bytes()]);
        assert_eq!((report.flaw, report.rows), (None, 2), "{end:?}");
    }
}

proptest! {
    #[test]
    fn any_blocks_read_the_same(cuts in proptest::collection::vec(0usize..2000, 0..40)) {
        let dump = complete();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(dump.len())).collect();
        cuts.extend([0, dump.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &dump.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(scan(&pieces), scan(&[dump.as_bytes()]));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        scan(&[HEAD.as_bytes(), &bytes]);
        prop_assert!(scan(&[&bytes]).flaw.is_some());
    }

    #[test]
    fn any_text_in_copy_data_is_data(rows in proptest::collection::vec("[^\n]{0,12}", 0..20)) {
        let rows: Vec<&String> = rows.iter().filter(|row| !ENDS_OF_ROWS.contains(&row.as_str())).collect();
        let data: String = rows.iter().flat_map(|row| [row.as_str(), "\n"]).collect();
        let dump = format!("{HEAD}COPY public.t (a) FROM stdin;\n{data}\\.\n\n{TAIL}");
        let report = scan(&[dump.as_bytes()]);
        prop_assert_eq!((report.flaw, report.rows), (None, rows.len() as u64));
    }
}
