//! The index and the restart points of dumps that a test writes itself.

use std::fmt::Write as _;
use std::io::Read as _;

use flate2::Crc;
use flate2::read::{DeflateDecoder, GzDecoder};
use pg_s3_backup::codec::{Codec, Decoder};
use pg_s3_backup::index::{Index, Range};

use super::support::indexed::{Indexed, indexed};

const HEAD: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict KEY\n\nSET standard_conforming_strings = on;\n\n";
const TAIL: &str = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict KEY\n\n";

/// A dump of a table with this many rows, and of small tables before and after it.
fn dump(rows: usize) -> String {
    let mut random = fastrand::Rng::with_seed(3);
    let mut dump = HEAD.to_owned();
    let head = |dump: &mut String, data: &str, name: &str, kind: &str| {
        write!(dump, "--\n-- {data}Name: {name}; Type: {kind}; Schema: public; Owner: x\n--\n\n").expect("to memory");
    };
    dump += "SET default_tablespace = '';\n\nSET default_table_access_method = heap;\n\n";
    for name in ["a", "big", "z"] {
        head(&mut dump, "", name, "TABLE");
        write!(dump, "CREATE TABLE public.{name} (\n    n text\n);\n\n\n").expect("to memory");
    }
    for (name, rows) in [("a", 3), ("big", rows), ("z", rows / 3)] {
        head(&mut dump, "Data for ", name, "TABLE DATA");
        writeln!(dump, "COPY public.{name} (n) FROM stdin;").expect("to memory");
        for _ in 0..rows {
            writeln!(dump, "{}\t{}", random.u64(..), "text ".repeat(random.usize(..9))).expect("to memory");
        }
        dump += "\\.\n\n\n";
    }
    dump += "SET default_tablespace = \"a b\";\n\n";
    head(&mut dump, "", "big_n", "INDEX");
    dump + "CREATE INDEX big_n ON public.big USING btree (n);\n\n\n" + TAIL
}

/// Inflates one range alone.
fn inflated(object: &[u8], codec: Codec, range: &Range) -> Vec<u8> {
    let offset = |at: u64| usize::try_from(at).expect("in memory");
    let packed = &object[offset(range.point.codec_at)..offset(range.codec_end)];
    let length = range.plain_end - range.point.plain_at;
    let mut plain = Vec::new();
    match codec {
        Codec::Gzip => _ = DeflateDecoder::new(packed).take(length).read_to_end(&mut plain).expect("a deflate stream"),
        Codec::Zstd => {
            let mut decoder = Decoder::new(codec, Vec::new());
            decoder.unpack(packed).expect("frames");
            plain.append(decoder.sink());
        }
    }
    plain
}

fn assert_ranges(index: &Index, object: &[u8], plain: &[u8]) {
    let mut joined = Vec::new();
    for range in index.ranges() {
        let part = inflated(object, index.codec, &range);
        let mut crc = Crc::new();
        crc.update(&part);
        assert_eq!(crc.sum(), range.point.crc32, "{range:?}");
        joined.extend(part);
    }
    assert!(joined == plain, "the ranges are not the dump");
}

#[test]
fn each_range_unpacks_alone_and_together_they_are_the_dump() {
    let plain = dump(1_000_000);
    for codec in Codec::ALL {
        let made = indexed(plain.as_bytes(), codec);
        let index = made.index();
        assert_eq!(index.points.len(), 5, "{:?}", index.points);
        assert_ranges(&index, &made.object, plain.as_bytes());
        let begins = |point: usize| &plain[usize::try_from(index.points[point].plain_at).expect("in memory")..];
        assert!(begins(3).starts_with("--\n-- Data for Name: z; "), "at an entry: {:?}", index.points);
        assert!(begins(4).starts_with("SET default_tablespace = \"a b\";\n"), "with its settings: {:?}", index.points);
        for inside in [1, 2] {
            let before = usize::try_from(index.points[inside].plain_at).expect("in memory") - 1;
            assert_eq!(plain.as_bytes()[before], b'\n', "a row's beginning");
        }
        let statements: Vec<_> =
            index.entries.iter().filter_map(|entry| entry.copy.as_ref()?.statement.as_deref()).collect();
        assert_eq!(statements, ["COPY public.big (n) FROM stdin;\n"], "only where a point is inside");
    }
}

#[test]
fn entries_are_where_they_are_with_what_belongs_to_them() {
    let plain = dump(4);
    let Indexed { object, packed } = indexed(plain.as_bytes(), Codec::Gzip);
    let index = Index::unpacked(&packed.expect("an index")).expect("readable");
    let texts: Vec<&str> = index
        .entries()
        .map(|(entry, end)| &plain[usize::try_from(entry.at).expect("small")..usize::try_from(end).expect("small")])
        .collect();
    let preamble = &plain[..usize::try_from(index.preamble_bytes).expect("small")];
    let trailer = &plain[usize::try_from(index.trailer_at).expect("small")..];
    assert_eq!((preamble, trailer), (HEAD, TAIL));
    assert_eq!([preamble, &texts.concat(), trailer].concat(), plain, "they tile the dump");
    assert!(
        texts[0]
            .starts_with("SET default_tablespace = '';\n\nSET default_table_access_method = heap;\n\n--\n-- Name: a;")
    );
    assert!(texts[6].starts_with("SET default_tablespace = \"a b\";\n\n--\n-- Name: big_n; "), "{}", texts[6]);
    let sets: Vec<_> = index.entries.iter().map(|entry| entry.sets.default_tablespace.as_deref()).collect();
    assert_eq!(sets, [Some("''"), Some("''"), Some("''"), Some("''"), Some("''"), Some("''"), Some("\"a b\"")]);
    for (entry, rows) in index.entries[3..6].iter().zip([3, 4, 1]) {
        let copy = entry.copy.as_ref().expect("data");
        let begin = usize::try_from(copy.data_at).expect("small");
        let data = &plain[begin..begin + usize::try_from(copy.data_bytes).expect("small")];
        assert_eq!((copy.rows, data.lines().count()), (rows, usize::try_from(rows).expect("small")));
        assert!(plain[..begin].ends_with(&format!("COPY {} (n) FROM stdin;\n", copy.table)));
        assert!(plain[begin + data.len()..].starts_with("\\.\n"));
    }
    let mut read = String::new();
    GzDecoder::new(&object[..]).read_to_string(&mut read).expect("one member");
    assert_eq!(read, plain);
}
