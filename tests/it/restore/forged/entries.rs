//! Entries that are elsewhere or of another kind than the index says, and numbers that ask for much memory.

use pg_s3_backup::index::{Entry, Point};

use super::{Forgery, PAIR, add, assert_harmless, at, nowhere, number, row, statement};

const OF_ENTRIES: &[Forgery] = &[
    Forgery {
        what: "an entry in a string",
        cuts: nowhere,
        change: |index, dump| add(index, "TABLE", at(dump, "--\n-- Name: evil; Type")),
    },
    Forgery {
        what: "two entries in a string",
        cuts: nowhere,
        change: |index, dump| {
            add(index, "TABLE", at(dump, "--\n-- Name: evil; Type"));
            add(index, "TABLE", at(dump, "--\n-- Name: more; Type"));
        },
    },
    Forgery {
        what: "a trigger that is data",
        cuts: nowhere,
        change: |index, _| {
            let trigger = number(index, "TRIGGER", "keep negate");
            let entry = &mut index.entries[trigger];
            (entry.kind, entry.name) = ("TABLE DATA".to_owned(), "b_pair".to_owned());
        },
    },
    Forgery {
        what: "all is data",
        cuts: nowhere,
        change: |index, _| index.entries.iter_mut().for_each(|entry| "TABLE DATA".clone_into(&mut entry.kind)),
    },
    Forgery {
        what: "nothing is data",
        cuts: nowhere,
        change: |index, _| {
            index.entries.iter_mut().for_each(|entry| (entry.kind, entry.copy) = ("TABLE".to_owned(), None));
        },
    },
    Forgery {
        what: "no entries",
        cuts: nowhere,
        change: |index, _| {
            index.entries.clear();
            index.trailer_at = index.preamble_bytes;
        },
    },
    Forgery {
        what: "a preamble with entries",
        cuts: nowhere,
        change: |index, _| {
            index.entries.drain(..2);
            index.preamble_bytes = index.entries[0].at;
        },
    },
    Forgery {
        what: "a trailer with entries",
        cuts: nowhere,
        change: |index, _| index.trailer_at = index.entries.pop().expect("an entry").at,
    },
    Forgery {
        what: "no preamble",
        cuts: nowhere,
        change: |index, _| (index.preamble_bytes, index.entries[0].at) = (0, 0),
    },
    Forgery {
        what: "an entry in another one",
        cuts: nowhere,
        change: |index, _| {
            let table = number(index, "TABLE", "keep");
            index.entries.remove(table);
        },
    },
    Forgery {
        what: "another name",
        cuts: nowhere,
        change: |index, _| {
            let table = number(index, "TABLE", "b_pair");
            "keep".clone_into(&mut index.entries[table].name);
        },
    },
    Forgery {
        what: "another offset",
        cuts: nowhere,
        change: |index, _| {
            let table = number(index, "TABLE", "keep");
            index.entries[table].at += 1;
        },
    },
    Forgery {
        what: "names that control a terminal",
        cuts: nowhere,
        change: |index, _| index.entries.iter_mut().for_each(|entry| entry.name.push_str("\u{1b}]0;x\u{7}\r\nINFO x")),
    },
    Forgery {
        what: "a setting that is SQL",
        cuts: nowhere,
        change: |index, _| {
            for entry in &mut index.entries {
                entry.sets.default_tablespace = Some("''; CREATE TABLE public.evil (a int)".to_owned());
            }
        },
    },
    Forgery { what: "invalid indexes", cuts: nowhere, change: |index, _| index.invalid_indexes = Some(7) },
    Forgery {
        what: "other ranges",
        cuts: row,
        change: |index, _| {
            statement(index, PAIR);
            index.points[1].codec_at -= 1;
        },
    },
    Forgery { what: "another backup's checksum", cuts: nowhere, change: |index, _| index.points[0].crc32 ^= 1 },
    Forgery {
        what: "a very long dump",
        cuts: nowhere,
        change: |index, _| {
            (index.plain_bytes, index.trailer_at) = (u64::MAX, u64::MAX - 9);
        },
    },
    Forgery {
        what: "very many entries",
        cuts: nowhere,
        change: |index, _| {
            let first = index.trailer_at;
            index.entries.extend((0..150_000).map(|n| Entry {
                kind: "TABLE".to_owned(),
                at: first + (n << 20),
                ..Entry::default()
            }));
            (index.trailer_at, index.plain_bytes) = (first + (1 << 50), first + (1 << 50) + 9);
        },
    },
    Forgery {
        what: "very many points",
        cuts: nowhere,
        change: |index, dump| {
            let (first, end) = (index.points[0], index.codec_bytes.min(dump.len() as u64));
            let points = (1..end - 10).map(|n| Point { plain_at: n, codec_at: first.codec_at + n, crc32: 0 });
            index.points.extend(points.take_while(|point| point.codec_at < index.codec_bytes));
        },
    },
];

#[test]
fn a_forged_index_of_the_entries_brings_nothing_that_the_dump_does_not_have() {
    assert_harmless(OF_ENTRIES);
}
