//! Rows that are elsewhere, of other tables, or more or fewer than the index says.

use super::{Forgery, PAIR, add, assert_harmless, at, copy, inside_row, nowhere, row, statement};

const OF_ROWS: &[Forgery] = &[
    Forgery { what: "a point in the middle of a row", cuts: inside_row, change: |index, _| statement(index, PAIR) },
    Forgery {
        what: "rows of another table",
        cuts: row,
        change: |index, _| statement(index, "COPY public.a_text (a) FROM stdin;\n"),
    },
    Forgery {
        what: "rows of other columns",
        cuts: row,
        change: |index, _| statement(index, "COPY public.b_pair (y, x) FROM stdin;\n"),
    },
    Forgery {
        what: "a statement before the rows",
        cuts: row,
        change: |index, _| statement(index, &format!("CREATE TABLE public.evil (a int);\n{PAIR}")),
    },
    Forgery {
        what: "the end of the rows and a statement",
        cuts: row,
        change: |index, _| statement(index, &format!("{PAIR}\\.\nCREATE TABLE public.evil (a int);\n{PAIR}")),
    },
    Forgery {
        what: "bytes that are no statement",
        cuts: row,
        change: |index, _| copy(index, "public.b_pair").statement64 = Some("?".to_owned()),
    },
    Forgery {
        what: "another table",
        cuts: nowhere,
        change: |index, _| "public.keep".clone_into(&mut copy(index, "public.b_pair").table),
    },
    Forgery {
        what: "a table that is SQL",
        cuts: nowhere,
        change: |index, _| {
            "public.x; CREATE TABLE public.evil (a int)".clone_into(&mut copy(index, "public.b_pair").table);
        },
    },
    Forgery { what: "fewer rows", cuts: nowhere, change: |index, _| copy(index, "public.b_pair").rows -= 1 },
    Forgery { what: "more rows", cuts: nowhere, change: |index, _| copy(index, "public.keep").rows += 1 },
    Forgery { what: "very many rows", cuts: nowhere, change: |index, _| copy(index, "public.keep").rows = u64::MAX },
    Forgery {
        what: "fewer bytes of rows",
        cuts: nowhere,
        change: |index, _| copy(index, "public.keep").data_bytes -= 2,
    },
    Forgery { what: "rows that begin late", cuts: nowhere, change: |index, _| copy(index, "public.keep").data_at += 1 },
    Forgery {
        what: "an entry in the rows",
        cuts: nowhere,
        change: |index, dump| {
            let begin = at(dump, "CREATE TABLE public.evil (a int);\nDROP");
            let rows = copy(index, "public.a_text");
            (rows.data_bytes, rows.rows) = (begin - rows.data_at, 1);
            add(index, "TABLE DATA", begin);
        },
    },
    Forgery {
        what: "a table in the rows",
        cuts: |dump| vec![dump.find("CREATE TABLE public.evil (a int);\nDROP").expect("a row")],
        change: |index, dump| {
            let begin = at(dump, "CREATE TABLE public.evil (a int);\nDROP");
            let rows = copy(index, "public.a_text");
            (rows.data_bytes, rows.rows) = (begin - rows.data_at, 1);
            add(index, "TABLE", begin);
        },
    },
];

#[test]
fn a_forged_index_of_the_rows_brings_nothing_that_the_dump_does_not_have() {
    assert_harmless(OF_ROWS);
}
