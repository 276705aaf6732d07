//! The filter against what `pg_dump` writes, and against dumps that try to reach psql as something else.

use super::super::LeaveOut;
use super::*;
use crate::postgres::Transactions;

fn rules() -> Rules {
    Rules {
        transactions: Transactions::One,
        leave_out: LeaveOut::default(),
        known_settings: None,
        foreign_extensions: [].into(),
        search_path: None,
    }
}

/// What reaches psql, in one block and byte by byte.
fn filtered(dump: &str, rules: &Rules) -> Result<(String, LeftOut), FilterError> {
    let through = |size: usize| {
        let mut filter = Filter::new(Vec::new(), rules.clone());
        if dump.as_bytes().chunks(size).try_for_each(|block| filter.write_all(block)).is_err() {
            return Err(filter.take_failure().expect("why"));
        }
        filter.finish().expect("to memory");
        Ok((String::from_utf8(filter.passage.out).expect("UTF-8"), filter.passage.left_out))
    };
    let (complete, cut): (Result<_, FilterError>, Result<_, FilterError>) = (through(dump.len()), through(1));
    match (&complete, &cut) {
        (Ok(complete), Ok(cut)) => assert_eq!(complete, cut),
        (complete, cut) => assert!(complete.is_err() && cut.is_err(), "{complete:?} {cut:?}"),
    }
    complete
}

fn passed(dump: &str, rules: &Rules) -> String {
    filtered(dump, rules).expect("it passes").0
}

fn refusal(dump: &str) -> String {
    filtered(dump, &rules()).expect_err(dump).to_string()
}

#[test]
fn passes_statements_and_rows_without_comments_and_guards() {
    let dump = concat!(
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict KEY\n\nSET a = on;\n",
        "-- Name: t; Type: TABLE\n\nCREATE TABLE public.t (\n    a text\n);\n\n",
        "COPY public.t (a) FROM stdin;\n\\\\.\nCOMMIT;\n\\N\n\\.\n\n\\unrestrict KEY\n\n",
    );
    let expected = concat!(
        "SET a = on;\nCREATE TABLE public.t (\n    a text\n);\n",
        "COPY public.t (a) FROM stdin;\n\\\\.\nCOMMIT;\n\\N\n\\.\n",
    );
    assert_eq!(passed(dump, &rules()), expected);
}

#[test]
fn drops_the_transaction_around_large_objects_only_within_its_own() {
    let dump = "BEGIN;\nSELECT pg_catalog.lo_create('1');\nCOMMIT;\n";
    assert_eq!(passed(dump, &rules()), "SELECT pg_catalog.lo_create('1');\n");
    assert_eq!(passed(dump, &Rules { transactions: Transactions::Each, ..rules() }), dump);
}

#[test]
fn refuses_every_other_transaction_statement() {
    for statement in [
        "COMMIT ;",
        "commit;",
        "/* a */ Commit;",
        "COMMIT/**/;",
        "COMMIT AND CHAIN;",
        "END;",
        "ROLLBACK;",
        "ABORT;",
        "BEGIN WORK;",
        "START TRANSACTION;",
        "SAVEPOINT a;",
        "RELEASE a;",
        "PREPARE TRANSACTION 'a';",
        "SET TRANSACTION READ ONLY;",
        "-- a\r commit;",
    ] {
        let text = refusal(&format!("SELECT 1;\n{statement}\n"));
        assert!(text.contains("transaction statement"), "{statement}: {text}");
        let each = Rules { transactions: Transactions::Each, ..rules() };
        assert!(filtered(statement, &each).is_err(), "{statement}");
    }
    let long = format!("COMMIT /* {} */;", "x".repeat(MOST_HELD));
    assert!(refusal(&long).contains("transaction statement"));
}

#[test]
fn refuses_what_psql_would_read_otherwise() {
    for (dump, word) in [
        ("\\! id\n", "psql command \\! id"),
        ("SELECT 1 \\g /tmp/x\n;\n", "psql command"),
        ("SELECT 1\n\\restrict KEY\n;\n", "psql command"),
        ("copy t from stdin;\n1\n\\.\n", "no COPY as pg_dump writes it"),
        ("COPY t FROM stdin ;\n1\n\\.\n", "no COPY as pg_dump writes it"),
        ("COPY t FROM PROGRAM 'id';\n", "no COPY as pg_dump writes it"),
        ("SELECT E'a'\n--x\n' \\' '; COMMIT; --'\n;\n", "a string that goes on"),
        ("SELECT 1;\0\n", "NUL"),
        ("SET client_encoding = 'SJIS';\n", "SJIS"),
        ("SET client_encoding = 'UTF8'', false); SELECT (''';\n", "encoding"),
    ] {
        let text = refusal(dump);
        assert!(text.contains(word), "{dump:?}: {text}");
    }
    assert!(refusal("-- Name: a; Type: X\n\n\\q\n").contains("after \"-- Name: a; Type: X\""));
}

#[test]
fn has_psql_read_a_statement_as_it_was_judged() {
    let reading = "SELECT pg_catalog.set_config('standard_conforming_strings', 'on', false), \
                   pg_catalog.set_config('client_encoding', 'UTF8', false);\n";
    for statement in ["SELECT 'a\\';", "SELECT E'\\'; COMMIT; --';", "SELECT 'größe';"] {
        let dump = format!("SET standard_conforming_strings = on;\n{statement}\n");
        let expected = format!("SET standard_conforming_strings = on;\n{reading}{statement}\n");
        assert_eq!(passed(&dump, &rules()), expected);
    }
    let off = passed(
        "SET client_encoding = 'LATIN1';\nSET standard_conforming_strings = off;\nSELECT 'a\\'; COMMIT; --';\n",
        &rules(),
    );
    assert!(off.contains("'standard_conforming_strings', 'off', false)") && off.contains("'LATIN1'"), "{off}");
    // One that is too long to be looked at before it is sent.
    let long = format!("SELECT '{}';\n", "x".repeat(2 * MOST_HELD));
    assert_eq!(passed(&long, &rules()), format!("{reading}{long}"));
}

#[test]
fn leaves_out_what_is_not_wanted() {
    let dump = concat!(
        "SET default_tablespace = '';\n",
        "SET default_tablespace = fast;\n",
        "CREATE TABLE public.t (a text);\n",
        "ALTER TABLE public.t OWNER TO \"a OWNER TO b\";\n",
        "ALTER TABLE public.\"x OWNER TO y\" ADD COLUMN \"a OWNER TO b\" text;\n",
        "COMMENT ON TABLE public.t IS 'GRANT';\n",
        "ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT ALL ON TABLES TO b;\n",
        "SET SESSION AUTHORIZATION a;\nGRANT ALL ON public.t TO b;\nRESET SESSION AUTHORIZATION;\n",
    );
    let leave_out =
        LeaveOut { owner: true, privileges: true, tablespaces: true, comments: true, ..LeaveOut::default() };
    let rules = Rules { leave_out, ..rules() };
    let (text, left_out) = filtered(dump, &rules).expect("it passes");
    let expected = concat!(
        "SET default_tablespace = '';\n",
        "CREATE TABLE public.t (a text);\n",
        "ALTER TABLE public.\"x OWNER TO y\" ADD COLUMN \"a OWNER TO b\" text;\n",
    );
    assert_eq!(text, expected);
    let counted = (left_out.owners, left_out.privileges, left_out.tablespaces, left_out.comments);
    assert_eq!(counted, (1, 4, 1, 1));
}

#[test]
fn leaves_out_what_the_target_cannot_take() {
    let dump = concat!(
        "SET statement_timeout = 0;\nSET transaction_timeout = 0;\n",
        "SELECT pg_catalog.set_config('search_path', '', false);\n",
        "COMMENT ON EXTENSION \"a-b\" IS 'x';\nCOMMENT ON EXTENSION mine IS 'x';\n",
        "SET my.setting = 1;\n",
    );
    let rules = Rules {
        known_settings: Some(["statement_timeout".to_owned()].into()),
        foreign_extensions: ["a-b".to_owned()].into(),
        search_path: Some("public, \"it's\"".to_owned()),
        ..rules()
    };
    let (text, left_out) = filtered(dump, &rules).expect("it passes");
    let expected = concat!(
        "SET statement_timeout = 0;\n",
        "SELECT pg_catalog.set_config('search_path', 'public, \"it''s\"', false);\n",
        "COMMENT ON EXTENSION mine IS 'x';\nSET my.setting = 1;\n",
    );
    assert_eq!(text, expected);
    assert_eq!(
        (left_out.settings, left_out.extension_comments),
        (vec!["transaction_timeout".to_owned()], vec!["a-b".to_owned()])
    );
}

#[test]
fn leaves_out_the_rows_of_chosen_tables() {
    let dump = concat!(
        "COPY public.log (a) FROM stdin;\n1\n\\.\n",
        "COPY app.\"Log 2\" (a) FROM stdin;\n2\n\\.\n",
        "COPY public.t (a) FROM stdin;\n3\n\\.\nSELECT 1;\n",
    );
    let patterns = ["log", "app.Log*"].map(crate::glob::Glob::new);
    let (text, left_out) = filtered(
        dump,
        &Rules { leave_out: LeaveOut { table_data: patterns.into(), ..LeaveOut::default() }, ..rules() },
    )
    .expect("it passes");
    assert_eq!(text, "COPY public.t (a) FROM stdin;\n3\n\\.\nSELECT 1;\n");
    assert_eq!(left_out.table_data, ["public.log", "app.\"Log 2\""]);
    assert_eq!(left_out.rows, 2);
}

#[test]
fn leaves_out_rows_of_a_partition_by_the_comment_of_its_entry() {
    let dump = concat!(
        "-- Data for Name: one; Type: TABLE DATA; Schema: public; Owner: x\n\n-- load via partition root public.root\n\nCOPY public.root (a) FROM stdin;\n1\n\\.\n",
        "-- Data for Name: two; Type: TABLE DATA; Schema: public; Owner: x\n\n-- load via partition root public.root\n\nCOPY public.root (a) FROM stdin;\n2\n\\.\n",
        "-- Data for Name: a two; Type: TABLE DATA; Schema: public; Owner: x\n\nCOPY public.\"a\ntwo\" (a) FROM stdin;\n3\n\\.\n",
        "-- Name: x; Type: TABLE; Schema: public; Owner: x\n\nINSERT INTO public.root VALUES (4);\n",
        "-- Data for Name: two; Type: TABLE DATA; Schema: public; Owner: x\n\n-- load via partition root public.root\n\nINSERT INTO public.root VALUES (5);\n",
    );
    let patterns = ["two", "a two"].map(crate::glob::Glob::new);
    let expected = concat!(
        "COPY public.root (a) FROM stdin;\n1\n\\.\n",
        "COPY public.\"a\ntwo\" (a) FROM stdin;\n3\n\\.\n",
        "INSERT INTO public.root VALUES (4);\n",
    );
    let data = LeaveOut { table_data: patterns.clone().into(), ..LeaveOut::default() };
    let tables = LeaveOut { tables: patterns.into(), ..LeaveOut::default() };
    for leave_out in [data, tables] {
        let (text, left_out) = filtered(dump, &Rules { leave_out, ..rules() }).expect("it passes");
        assert_eq!(text, expected);
        assert_eq!((left_out.rows, left_out.copies), (1, [1].into()));
    }
}

#[test]
fn leaves_out_a_statement_that_is_too_long_to_hold() {
    let long = format!("INSERT INTO app.log VALUES ('{}');\n", "x".repeat(2 * MOST_HELD));
    let patterns = || vec![crate::glob::Glob::new("app.log")];
    let data = LeaveOut { table_data: patterns(), ..LeaveOut::default() };
    let tables = LeaveOut { tables: patterns(), ..LeaveOut::default() };
    for leave_out in [data, tables] {
        let text = passed(&format!("{long}SELECT 1;\n{long}"), &Rules { leave_out, ..rules() });
        assert_eq!(text, "SELECT 1;\n");
    }
}

#[test]
fn says_that_psql_has_ended() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut filter = Filter::new(Closed, rules());
    assert!(filter.write_all(b"SELECT 1;\n").is_err());
    assert!(matches!(filter.take_failure(), Some(FilterError::Write(_))));
}

#[test]
fn among_data_only_data_pass() {
    let state = Filter::new(Vec::new(), rules()).state();
    let passes = |text: &str| {
        let mut filter = Filter::resumed(Vec::new(), &state, Transactions::Each);
        filter.write_all(text.as_bytes()).is_ok()
    };
    for text in [
        "COPY s.t (a) FROM stdin;\nDROP TABLE s.t;\n\\.\n",
        "INSERT INTO s.t VALUES (1);\n",
        "SELECT pg_catalog.setval('s.q', 1, true);\n",
        "BEGIN;\nSELECT pg_catalog.lo_open('1', 131072);\nCOMMIT;\n",
        "SELECT pg_catalog.lo_create('1');\nALTER LARGE OBJECT 1 OWNER TO x;\nCOMMENT ON LARGE OBJECT 1 IS 'x';\n",
        "GRANT ALL ON LARGE OBJECT 1 TO x;\n",
        "SELECT * FROM pg_catalog.pg_restore_relation_stats('schemaname', 's');\n",
    ] {
        assert!(passes(text), "{text}");
    }
    for text in [
        "CREATE TRIGGER g BEFORE INSERT ON s.t FOR EACH ROW EXECUTE FUNCTION s.f();\n",
        "DROP TABLE s.t;\n",
        "GRANT ALL ON TABLE s.t TO x;\n",
        "ALTER TABLE s.t DISABLE TRIGGER ALL;\n",
        "SELECT s.f();\n",
    ] {
        assert!(!passes(text), "{text}");
    }
}
