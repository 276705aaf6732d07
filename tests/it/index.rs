//! The index and the restart points of dumps that a test writes itself.

use std::fmt::Write as _;
use std::io::Read as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Crc;
use flate2::read::{DeflateDecoder, GzDecoder};
use pg_s3_backup::codec::{Codec, Decoder};
use pg_s3_backup::index::{Builder, Index, Point, Range, Stream};
use pg_s3_backup::pipeline::scanner::Scanner;

use super::readers::{Files, GZIP_READERS, stream};
use super::support::indexed::{Indexed, RUN_ID, indexed};
use super::support::setup::sha256;

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
fn every_reader_of_gzip_reads_restart_points_and_they_cost_next_to_nothing() {
    let plain = dump(400_000);
    let object = indexed(plain.as_bytes(), Codec::Gzip).object;
    let (without, _) = stream(Codec::Gzip, &[2], plain.as_bytes());
    let (with, without) = (object.len(), without.len());
    assert!(with < without + without / 2000, "{with} bytes, {without} without restart points");
    let mut files = Files::new();
    files.add("restart points.gz", &object, Some(sha256(plain.as_bytes())));
    files.are_read_by(GZIP_READERS);
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

/// The index of a dump that comes in these blocks; `None` without one.
fn scanned<'a>(blocks: impl IntoIterator<Item = &'a [u8]>) -> Option<Index> {
    let mut scanner = Scanner::indexing(Builder::default());
    blocks.into_iter().for_each(|block| scanner.scan(block));
    let points = vec![Point::from((0, 10, 0))];
    let stream = Stream { codec: Codec::Gzip, codec_bytes: 11, points };
    let packed = scanner.finish_indexing().1?.complete(stream, RUN_ID, None, None);
    Some(Index::unpacked(&packed).expect("consistent"))
}

#[test]
fn verbose_comments_belong_to_the_entry_that_follows() {
    let entry = |number: u32| {
        format!(
            "--\n-- TOC entry {number} (class 1259 OID 16385)\n-- Dependencies: 3 4\n-- Name: t{number}; Type: TABLE; \
             Schema: s; Owner: x; Tablespace: y\n--\n\nCREATE TABLE s.t{number} ();\n\n\n"
        )
    };
    let (one, two) = (entry(1), entry(2));
    let dump = format!("{HEAD}{one}{two}-- Completed on 2026-11-28\n\n{TAIL}");
    let index = scanned([dump.as_bytes()]).expect("an index");
    let begins = [HEAD.len(), HEAD.len() + one.len(), HEAD.len() + one.len() + two.len()].map(|at| at as u64);
    assert_eq!((index.entries[0].at, index.entries[1].at, index.trailer_at), (begins[0], begins[1], begins[2]));
    assert_eq!((index.entries[1].name.as_str(), index.entries[1].owner.as_str()), ("t2", "x"));
}

#[test]
fn there_is_no_index_rather_than_one_that_lacks_something() {
    let entry =
        |number: usize| format!("--\n-- Name: t{number}; Type: TABLE; Schema: public; Owner: x\n--\n\nSELECT 1;\n\n\n");
    let entries = |count: usize| HEAD.to_owned() + &(0..count).map(entry).collect::<String>() + TAIL;
    assert_eq!(scanned([entries(100_000).as_bytes()]).expect("an index").entries.len(), 100_000);
    assert_eq!(scanned([entries(300_000).as_bytes()]), None, "more JSON than the bound");
    let random = |_| {
        format!("--\n-- Name: {:x}{:x}; Type: T; Schema: s; Owner: x\n--\n\n", fastrand::u128(..), fastrand::u128(..))
    };
    let dump = HEAD.to_owned() + &(0..80_000).map(random).collect::<String>() + TAIL;
    assert_eq!(scanned([dump.as_bytes()]), None, "more packed bytes than the bound");
    let rows = format!("{HEAD}COPY public.t (a) FROM stdin;\n1\n\\.\n\n{TAIL}");
    assert_eq!(scanned([rows.as_bytes()]), None, "rows before the first entry");
    let not_utf8 = [HEAD.as_bytes(), b"SET default_tablespace = \xe9;\n\n", TAIL.as_bytes()].concat();
    assert_eq!(scanned([not_utf8.as_slice()]), None, "a setting that JSON cannot hold");
}

#[test]
fn a_statement_that_is_not_utf8_is_kept_in_base64() {
    let head = "--\n-- Data for Name: t; Type: TABLE DATA; Schema: s; Owner: x\n--\n\nCOPY s.t (";
    let rows = "0123456789abcdef\n".repeat(2 << 20);
    let dump =
        [HEAD.as_bytes(), head.as_bytes(), b"\xe9) FROM stdin;\n", rows.as_bytes(), b"\\.\n\n\n", TAIL.as_bytes()]
            .concat();
    let index = indexed(&dump, Codec::Gzip).index();
    let copy = index.entries[0].copy.as_ref().expect("data");
    assert_eq!((copy.rows, copy.statement.as_deref()), (2 << 20, None));
    let statement = BASE64_STANDARD.decode(copy.statement64.as_ref().expect("a statement")).expect("base64");
    assert_eq!(statement, b"COPY s.t (\xe9) FROM stdin;\n");
}

/// What an index reads, to be put together at random.
const FRAGMENTS: [&str; 16] = [
    "--\n",
    "-- Name: t; Type: TABLE; Schema: public; Owner: x\n",
    "-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: x\n",
    "-- Name: x\n",
    "-- TOC entry 1\n",
    "-- Dependencies: 2\n",
    "\n",
    "COPY public.t (a) FROM stdin;\n",
    "1\n",
    "\\.\n",
    "SELECT 1;",
    "SET default_tablespace = 'a';\n",
    "SET default_table_access_method = heap;\n",
    "\\restrict K\n",
    "'",
    "-- PostgreSQL database dump complete\n",
];

proptest::proptest! {
    #[test]
    fn any_blocks_give_the_same_index(
        fragments in proptest::collection::vec(proptest::sample::select(FRAGMENTS.as_slice()), 1..60),
        step in 1_usize..50,
    ) {
        let dump = fragments.concat();
        let index = scanned([dump.as_bytes()]);
        proptest::prop_assert_eq!(&scanned(dump.as_bytes().chunks(step)), &index);
        proptest::prop_assert_eq!(&scanned(dump.as_bytes().chunks(1)), &index);
    }
}
