//! Plans of small dumps, and of any order in which the jobs end.

use proptest::prelude::*;

use super::data::stages;
use super::*;
use crate::codec::Codec;
use crate::index::{Copy, Entry, Point, VERSION};

const MIB: u64 = 1 << 20;

/// An index with these entries: type, table, bytes.
fn index(entries: &[(&str, &str, u64)], points: &[u64]) -> Index {
    let mut at = 100;
    let entries = entries.iter().map(|&(kind, table, bytes)| {
        let begin = at;
        at += bytes;
        let copy = (kind == "TABLE DATA").then(|| Copy {
            table: table.to_owned(),
            data_at: begin + 10,
            data_bytes: bytes - 20,
            rows: bytes / 10,
            statement: Some(format!("COPY {table} (a) FROM stdin;\n")),
            statement64: None,
        });
        let name = table.split('.').next_back().unwrap_or_default().to_owned();
        Entry { kind: kind.to_owned(), schema: "s".to_owned(), name, at: begin, copy, ..Entry::default() }
    });
    let entries: Vec<_> = entries.collect();
    let points = [0].iter().chain(points).map(|&at| Point { plain_at: at, codec_at: 10 + at, crc32: 0 });
    Index {
        index_version: VERSION,
        run_id: String::new(),
        codec: Codec::Gzip,
        plain_bytes: at,
        codec_bytes: at,
        preamble_bytes: 100,
        trailer_at: at,
        invalid_indexes: None,
        details: None,
        points: points.collect(),
        entries,
    }
}

/// The index of three tables, the last the largest, each in a range of its own.
fn three_tables() -> Index {
    let tables = [("TABLE DATA", "s.a", 5 * MIB), ("TABLE DATA", "s.b", 6 * MIB), ("TABLE DATA", "s.c", 7 * MIB)];
    index(&tables, &[100 + 5 * MIB, 100 + 11 * MIB])
}

fn catalog(texts: &[&str]) -> Catalog {
    let mut catalog = Catalog::default();
    for text in texts {
        catalog.add(text.as_bytes());
    }
    catalog.complete()
}

fn classes(texts: &[&str]) -> Vec<Class> {
    texts.iter().map(|text| class(&statements(text.as_bytes()))).collect()
}

fn plan(index: &Index, catalog: &Catalog, after: &[Class]) -> Schedule {
    let leave_out = LeaveOut::default();
    Contents { index, data: data_section(index), catalog, after, leave_out: &leave_out }.plan()
}

/// What a job does, in words.
fn words(job: &Job) -> String {
    match &job.work {
        Work::Load(loads) => {
            let pieces = loads.iter().flat_map(|load| &load.pieces);
            format!("load {}", pieces.map(|piece| piece.entry.to_string()).collect::<Vec<_>>().join(" "))
        }
        Work::Run(entries) => format!("run {}", entries.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")),
    }
}

/// All jobs that may begin at the same time, until all have ended.
fn waves(mut schedule: Schedule) -> Vec<Vec<String>> {
    let mut waves = Vec::new();
    while !schedule.is_complete() {
        let begun: Vec<_> = std::iter::from_fn(|| schedule.next()).collect();
        assert!(!begun.is_empty(), "nothing may begin");
        waves.push(begun.iter().map(|(_, job)| words(job)).collect());
        for (number, _) in begun {
            schedule.finish(number);
        }
    }
    waves
}

const TABLES: [&str; 3] =
    ["CREATE TABLE s.a (a integer);", "CREATE TABLE s.b (a integer);", "CREATE TABLE s.c (a integer);"];

#[test]
fn a_large_table_is_cut_between_rows_and_small_ones_share_a_job() {
    let index = index(
        &[
            ("TABLE", "s.a", 100),
            ("TABLE DATA", "s.a", 40 * MIB),
            ("TABLE DATA", "s.b", MIB),
            ("TABLE DATA", "s.c", MIB),
            ("SEQUENCE SET", "s.q", 100),
            ("BLOBS", "", 100),
        ],
        &[200, 16 * MIB, 32 * MIB, 40 * MIB + 200],
    );
    let stages = stages(&index, data_section(&index), (&catalog(&TABLES), &LeaveOut::default()));
    let [stage] = stages.as_slice() else { panic!("{stages:?}") };
    let spans = stage.beside.iter().map(|load| load.pieces.iter().map(|piece| (piece.entry, piece.span.clone())));
    let spans: Vec<Vec<_>> = spans.map(Iterator::collect).collect();
    assert_eq!(
        spans,
        [
            vec![(1, 200..16 * MIB)],
            vec![(1, 16 * MIB..32 * MIB)],
            vec![(1, 32 * MIB..40 * MIB + 200)],
            vec![(2, 40 * MIB + 200..41 * MIB + 200), (3, 41 * MIB + 200..42 * MIB + 200)],
        ]
    );
    let rows = stage.beside.iter().map(|load| (load.pieces[0].begins_in_rows, load.pieces[0].ends_in_rows));
    assert_eq!(rows.collect::<Vec<_>>(), [(false, true), (true, true), (true, false), (false, false)]);
    let [load] = stage.in_order.as_slice() else { panic!("{stage:?}") };
    assert_eq!((load.commit, load.pieces.len()), (Commit::AsWritten, 2));
}

#[test]
fn a_range_of_many_tables_makes_several_jobs() {
    let names: Vec<_> = (0..250).map(|number| format!("s.t{number}")).collect();
    let entries: Vec<_> = names.iter().map(|name| ("TABLE DATA", name.as_str(), 100)).collect();
    let texts: Vec<_> = names.iter().map(|name| format!("CREATE TABLE {name} (a integer);")).collect();
    let (index, catalog) = (index(&entries, &[]), catalog(&texts.iter().map(String::as_str).collect::<Vec<_>>()));
    let stages = stages(&index, data_section(&index), (&catalog, &LeaveOut::default()));
    let counts: Vec<_> = stages[0].beside.iter().map(|load| load.pieces.len()).collect();
    assert_eq!(counts, [100, 100, 50]);
}

#[test]
fn a_barrier_waits_for_all_before_it_and_all_after_it_wait() {
    let index = index(
        &[
            ("TABLE DATA", "s.a", 5 * MIB),
            ("TABLE DATA", "s.b", 5 * MIB),
            ("TABLE DATA", "s.c", 5 * MIB),
            ("SEQUENCE SET", "s.q", 100),
        ],
        &[100 + 5 * MIB, 100 + 7 * MIB, 100 + 10 * MIB],
    );
    let catalog = catalog(&[TABLES[0], "CREATE TABLE s.b (a integer, CONSTRAINT c CHECK (s.f(a)));", TABLES[2]]);
    let waves = waves(plan(&index, &catalog, &[]));
    assert_eq!(waves, [vec!["load 0"], vec!["load 1"], vec!["load 3", "load 2"]]);
}

#[test]
fn what_is_not_known_to_be_a_table_of_the_dump_is_loaded_in_order() {
    let mut index = index(
        &[("TABLE DATA", "s.ext", 100), ("TABLE DATA", "s.a", 100), ("COMMENT", "s.a", 50), ("TABLE DATA", "s.x", 100)],
        &[],
    );
    assert_eq!(waves(plan(&index, &catalog(&TABLES), &[])), [["load 0 2 3", "load 1"]]);
    // Without COPY the name is only the comment's; a name that is no UTF-8 may be that of any table.
    index.entries[3].copy = None;
    assert_eq!(waves(plan(&index, &catalog(&TABLES), &[])), [vec!["load 0 2", "load 1"], vec!["load 3"]]);
    index.entries[0].copy.as_mut().expect("rows").table = "s.\u{fffd}".to_owned();
    assert_eq!(waves(plan(&index, &catalog(&TABLES), &[])), [vec!["load 0"], vec!["load 2", "load 1"], vec!["load 3"]]);
}

#[test]
fn indexes_begin_when_their_table_is_loaded_and_what_follows_another_statement_after_all() {
    let index = three_tables();
    let after = classes(&[
        "ALTER TABLE ONLY s.a ADD CONSTRAINT a PRIMARY KEY (a);",
        "ALTER TABLE ONLY s.c ADD CONSTRAINT c PRIMARY KEY (a);",
        "COMMENT ON TABLE s.a IS 'x';",
        "CREATE INDEX i ON s.b USING btree (s.f(a));",
        "CREATE INDEX j ON s.c USING btree (a);",
        "CREATE INDEX k ON s.c USING btree (a);",
        "ALTER INDEX s.i ATTACH PARTITION s.j;",
        "REFRESH MATERIALIZED VIEW s.m;",
        "ALTER TABLE ONLY s.a ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES s.c(a);",
        "ALTER TABLE ONLY s.b ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES s.b(a);",
        "ALTER TABLE ONLY s.c ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES s.a(a);",
        "ALTER TABLE ONLY s.b ADD CONSTRAINT g FOREIGN KEY (a) REFERENCES s.a(a);",
    ]);
    let mut schedule = plan(&index, &catalog(&TABLES), &after);
    let loads: Vec<_> = (0..3).map(|_| schedule.next().expect("a load")).collect();
    assert_eq!(loads.iter().map(|(_, job)| words(job)).collect::<Vec<_>>(), ["load 2", "load 1", "load 0"]);
    assert_eq!(schedule.next(), None);
    schedule.finish(loads[0].0);
    let (constraint, job) = schedule.next().expect("a constraint");
    assert_eq!(words(&job), "run 1");
    // It locks the table, and nothing else may begin.
    assert_eq!(schedule.next(), None);
    // Beside its 7 MiB two tables are being loaded, and one of them gets a constraint: 6, 5 and 5 MiB.
    assert_eq!([0, 1, 2, 3].map(|others| schedule.has_work_beside(constraint, others)), [true, true, true, false]);
    schedule.finish(constraint);
    let [one, other] = [0, 1].map(|_| schedule.next().expect("an index"));
    assert_eq!([words(&one.1), words(&other.1)], ["run 4", "run 5"]);
    for number in [one.0, other.0, loads[2].0] {
        schedule.finish(number);
    }
    assert_eq!(words(&schedule.next().expect("a constraint").1), "run 0");
    schedule.finish(loads[1].0);
    // The index that calls a function waits for all data.
    let (foreign, job) = schedule.next().expect("an index");
    assert_eq!((words(&job), schedule.next()), ("run 3".to_owned(), None));
    assert!(!schedule.has_work_beside(foreign, 1), "the other index has fewer rows");
    schedule.finish(foreign);
    assert_eq!(schedule.next(), None, "another index is being created");
    schedule.finish(foreign - 1);
    assert_eq!(waves(schedule), [vec!["run 6 7"], vec!["run 8 10", "run 9"], vec!["run 11"], vec!["run 2"]]);
}

#[test]
fn sessions_load_different_tables_while_there_are_any() {
    let index = index(
        &[("TABLE DATA", "s.a", 5 * MIB), ("TABLE DATA", "s.b", 30 * MIB), ("TABLE DATA", "s.c", 5 * MIB)],
        &[100 + 5 * MIB, 100 + 20 * MIB, 100 + 35 * MIB],
    );
    assert_eq!(waves(plan(&index, &catalog(&TABLES), &[])), [["load 1", "load 0", "load 2", "load 1"]]);
}

#[test]
fn what_two_tables_wait_for_is_loaded_first() {
    let index = index(
        &[("TABLE DATA", "s.a", 30 * MIB), ("TABLE DATA", "s.b", 20 * MIB)],
        &[100 + 10 * MIB, 100 + 20 * MIB, 100 + 40 * MIB],
    );
    assert_eq!(waves(plan(&index, &catalog(&TABLES), &[])), [["load 0 1", "load 0", "load 0", "load 1"]]);
}

#[test]
fn a_foreign_key_begins_when_its_tables_are_loaded_and_have_their_indexes() {
    let index = three_tables();
    let after = classes(&[
        "ALTER TABLE ONLY s.a ADD CONSTRAINT a PRIMARY KEY (a);",
        "CREATE INDEX i ON s.b USING btree (a);",
        "ALTER TABLE ONLY s.b ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES s.a(a);",
        "ALTER TABLE ONLY s.c ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES s.a(a);",
    ]);
    let begun = |tables: &[&str]| {
        let mut schedule = plan(&index, &catalog(tables), &after);
        let loads: Vec<_> = (0..3).map(|_| schedule.next().expect("a load").0).collect();
        schedule.finish(loads[1]);
        schedule.finish(loads[2]);
        let [one, other] = [0, 1].map(|_| schedule.next().expect("an index"));
        assert_eq!(([words(&one.1), words(&other.1)], schedule.next()), (["run 1", "run 0"].map(str::to_owned), None));
        schedule.finish(one.0);
        assert_eq!(schedule.next(), None, "the other table has no index yet");
        schedule.finish(other.0);
        schedule.next().map(|(_, job)| words(&job))
    };
    assert_eq!(begun(&TABLES).as_deref(), Some("run 2"));
    // A function may read any table.
    assert_eq!(begun(&[TABLES[0], TABLES[1], TABLES[2], "CREATE DOMAIN s.d AS text CHECK (s.f(VALUE));"]), None);
}

#[test]
fn comments_are_written_before_an_event_trigger() {
    let after = classes(&[
        "COMMENT ON TABLE s.a IS 'x';",
        "CREATE TRIGGER t AFTER INSERT ON s.a FOR EACH ROW EXECUTE FUNCTION s.f();",
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION s.f();",
        "COMMENT ON EVENT TRIGGER e IS 'x';",
    ]);
    let index = index(&[("TABLE DATA", "s.a", 100)], &[]);
    assert_eq!(waves(plan(&index, &catalog(&TABLES), &after)), [["load 0"], ["run 1 0 2"], ["run 3"]]);
}

#[test]
fn indexes_of_small_tables_share_jobs() {
    let names: Vec<_> = (0..120).map(|number| format!("s.t{number}")).collect();
    let tables: Vec<_> = names.iter().map(|name| format!("CREATE TABLE {name} (a integer);")).collect();
    let keys: Vec<_> =
        names.iter().map(|name| format!("ALTER TABLE ONLY {name} ADD CONSTRAINT c PRIMARY KEY (a);")).collect();
    let [tables, keys] = [&tables, &keys].map(|texts| texts.iter().map(String::as_str).collect::<Vec<_>>());
    let index = index(&[("TABLE DATA", "s.t0", 100)], &[]);
    let waves = waves(plan(&index, &catalog(&tables), &classes(&keys)));
    // The first batch waits for the table with data.
    assert_eq!(waves.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn a_session_goes_on_with_its_table_and_nothing_else() {
    let tables = [("TABLE DATA", "s.a", 40 * MIB), ("TABLE DATA", "s.b", 5 * MIB), ("TABLE DATA", "s.c", 6 * MIB)];
    let index = index(&tables, &[16 * MIB, 32 * MIB, 40 * MIB + 100, 45 * MIB + 100]);
    let mut schedule = plan(&index, &catalog(&TABLES), &classes(&["CREATE INDEX i ON s.c USING btree (a);"]));
    let mut next = || schedule.next().expect("a load").0;
    let (large, small) = (next(), next());
    let begin = |load: Load| load.pieces[0].span.start;
    // That of another table has not ended, so what follows it may not begin.
    assert_eq!(schedule.go_on(large).map(begin), Some(16 * MIB));
    assert_eq!(schedule.go_on(small), None, "the other table is complete");
    schedule.finish(small);
    assert_eq!(schedule.go_on(large), None, "an index may begin");
    let (created, job) = schedule.next().expect("the index");
    assert_eq!(words(&job), "run 0");
    assert!(schedule.has_work_beside(large, 1), "what it has loaded before does not count");
    schedule.finish(created);
    assert_eq!(schedule.go_on(large).map(begin), Some(32 * MIB));
    assert_eq!(schedule.go_on(large), None, "the next is of another table");
    let (last, job) = schedule.next().expect("that table");
    assert_eq!((words(&job), schedule.go_on(last)), ("load 1".to_owned(), None));
    schedule.finish(last);
    assert!(!schedule.is_complete());
    schedule.finish(large);
    assert!(schedule.is_complete());
}

#[test]
fn the_server_may_refuse_a_row_after_at_most_512_mib() {
    let points: Vec<_> = (1..80).map(|number| 16 * number * MIB).collect();
    let index = index(&[("TABLE DATA", "s.a", 1280 * MIB)], &points);
    let mut schedule = plan(&index, &catalog(&TABLES), &[]);
    let mut of_one_job = || {
        let (number, _) = schedule.next().expect("a load");
        1 + std::iter::from_fn(|| schedule.go_on(number)).count()
    };
    assert_eq!([of_one_job(), of_one_job(), of_one_job()], [32, 32, 16]);
}

#[test]
fn after_the_end_of_a_small_table_its_indexes_come_before_the_rest_of_a_large_one() {
    let index = index(&[("TABLE DATA", "s.b", MIB), ("TABLE DATA", "s.a", 40 * MIB)], &[16 * MIB, 32 * MIB]);
    let mut schedule = plan(&index, &catalog(&TABLES), &classes(&["CREATE INDEX i ON s.b USING btree (a);"]));
    let (both, job) = schedule.next().expect("a load");
    assert_eq!((words(&job), schedule.go_on(both)), ("load 0 1".to_owned(), None));
    schedule.finish(both);
    assert_eq!(words(&schedule.next().expect("the index").1), "run 0");
}

/// Statements of random tables, so that any two may have to do with each other.
fn entries_after() -> impl Strategy<Value = Vec<String>> {
    let statement = (0..6_usize, "[abcp]", "[abcp]").prop_map(|(kind, table, other)| match kind {
        0 => format!("CREATE INDEX i ON s.{table} USING btree (a);"),
        1 => format!("ALTER TABLE ONLY s.{table} ADD CONSTRAINT c PRIMARY KEY (a);"),
        2 => format!("ALTER TABLE ONLY s.{table} ADD CONSTRAINT c FOREIGN KEY (a) REFERENCES s.{other}(a);"),
        3 => format!("COMMENT ON TABLE s.{table} IS 'x';"),
        4 => format!("CREATE INDEX i ON s.{table} USING btree (s.f(a));"),
        _ => "REFRESH MATERIALIZED VIEW s.m;".to_owned(),
    });
    proptest::collection::vec(statement, 0..30)
}

proptest! {
    #[test]
    fn each_entry_runs_once_and_nothing_overtakes_what_it_may_need(
        after in entries_after(),
        endings in proptest::collection::vec(any::<prop::sample::Index>(), 0..200),
        sessions in 1..5_usize,
    ) {
        let index = index(
            &[("TABLE DATA", "s.a", 5 * MIB), ("TABLE DATA", "s.b", 100), ("TABLE DATA", "s.x", 100), ("TABLE DATA", "s.c", 100)],
            &[2 * MIB, 4 * MIB],
        );
        let catalog = catalog(&[TABLES[0], TABLES[1], TABLES[2], "CREATE TABLE s.p (a integer) PARTITION BY RANGE (a);",
            "ALTER TABLE ONLY s.p ATTACH PARTITION s.b FOR VALUES FROM (1) TO (2);"]);
        let classes = classes(&after.iter().map(String::as_str).collect::<Vec<_>>());
        let mut schedule = plan(&index, &catalog, &classes);
        let (mut running, mut ended, mut endings) = (Vec::new(), Vec::new(), endings.into_iter());
        loop {
            while running.len() < sessions && let Some((number, job)) = schedule.next() {
                if let Work::Run(entries) = &job.work {
                    for entry in entries {
                        for before in (0..*entry).filter(|before| must_precede(&classes[*before], &classes[*entry])) {
                            let is_in_job = entries.contains(&before);
                            prop_assert!(is_in_job || ended.contains(&before), "{before} before {entry} of {after:?}");
                        }
                    }
                }
                running.push((number, job));
            }
            if running.is_empty() {
                break;
            }
            let at = endings.next().map_or(0, |index| index.index(running.len()));
            let (number, job) = running.remove(at);
            while schedule.go_on(number).is_some() {}
            schedule.finish(number);
            if let Work::Run(entries) = job.work {
                ended.extend(entries);
            }
        }
        prop_assert!(schedule.is_complete());
        ended.sort_unstable();
        let expected: Vec<_> = (0..classes.len()).filter(|entry| classes[*entry] != Class::Nothing).collect();
        prop_assert_eq!(ended, expected);
    }
}

/// Whether an entry must have run before one that follows it.
fn must_precede(before: &Class, entry: &Class) -> bool {
    match (before, entry) {
        (Class::Held, _) | (Class::Index(_), Class::Index(_)) | (Class::ForeignKey(..), Class::ForeignKey(..)) => false,
        (Class::Index(index), Class::ForeignKey(table, other)) => [table, other].contains(&&index.table),
        _ => true,
    }
}
