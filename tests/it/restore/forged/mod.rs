//! Somebody who can write to the bucket plants an index that does not belong to the dump, and a manifest that says that it does. A
//! restore by several sessions makes what psql makes of the dump, or nothing; a selective one brings a table of the dump as it is there,
//! or nothing. It does not panic, its memory is bounded, and it never runs what stands in rows, strings or the index itself.

mod entries;
mod rows;

use pg_s3_backup::index::{Copy, Entry, Index};

use super::new_database::create;
use super::parallel::sorted;
use super::selective::dumped;
use super::{FAILED, backed_up, empty, restore_program};
use crate::support::planted::{plant, with_points};
use crate::support::program::Outcome;
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::postgres;
use crate::support::setup::{assert_same_dump, index, only_backup, plain, restored_into, s3_program};

/// More than a restore of a few kilobytes needs, and less than an index can ask for.
const MOST_MEMORY: u64 = 320 << 20;
/// `a_text` has rows, and `quoted` a string, that read as statements of a dump. The trigger shows whether rows came after it.
const OBJECTS: &str = r"CREATE TABLE a_text (a text);
    INSERT INTO a_text VALUES ('1'), ('CREATE TABLE public.evil (a int);'), ('DROP TABLE public.keep;'), ('2');
    CREATE TABLE b_pair (x text, y text); INSERT INTO b_pair SELECT 'x' || g, 'y' || g FROM generate_series(1, 200) g;
    CREATE TABLE keep (id int PRIMARY KEY, note text); INSERT INTO keep SELECT g, 'n' || g FROM generate_series(1, 50) g;
    CREATE FUNCTION negate() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := -NEW.id; RETURN NEW; END';
    CREATE TRIGGER negate BEFORE INSERT ON keep FOR EACH ROW EXECUTE FUNCTION negate();
    CREATE TABLE serials (id serial); INSERT INTO serials DEFAULT VALUES;
    CREATE FUNCTION quoted() RETURNS text LANGUAGE sql AS $$SELECT '

--
-- Name: evil; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.evil (a int);


--
-- Name: more; Type: TABLE; Schema: public; Owner: postgres
--

'::text$$;";
const PAIR: &str = "COPY public.b_pair (x, y) FROM stdin;\n";

/// A change to the index of a dump, with restart points at some offsets.
struct Forgery {
    what: &'static str,
    cuts: fn(&str) -> Vec<usize>,
    change: fn(&mut Index, &str),
}

fn at(dump: &str, text: &str) -> u64 {
    dump.find(text).unwrap_or_else(|| panic!("no {text:?} in the dump")) as u64
}

/// The beginning of a row in the middle of `b_pair`.
fn row(dump: &str) -> Vec<usize> {
    vec![dump.find("\nx100\t").expect("a row") + 1]
}

/// A place in the middle of that row.
fn inside_row(dump: &str) -> Vec<usize> {
    row(dump).into_iter().map(|at| at + 2).collect()
}

fn nowhere(_: &str) -> Vec<usize> {
    Vec::new()
}

fn copy<'a>(index: &'a mut Index, table: &str) -> &'a mut Copy {
    let mut copies = index.entries.iter_mut().filter_map(|entry| entry.copy.as_mut());
    copies.find(|copy| copy.table == table).expect("rows")
}

fn number(index: &Index, kind: &str, name: &str) -> usize {
    let is_it = |entry: &Entry| entry.kind == kind && entry.name == name;
    index.entries.iter().position(is_it).expect("an entry")
}

fn statement(index: &mut Index, text: &str) {
    copy(index, "public.b_pair").statement = Some(text.to_owned());
}

/// Adds an entry of a table here, within another one.
fn add(index: &mut Index, kind: &str, at: u64) {
    let entry = Entry {
        kind: kind.to_owned(),
        schema: "public".to_owned(),
        name: "evil".to_owned(),
        owner: "postgres".to_owned(),
        at,
        ..Entry::default()
    };
    let place = index.entries.partition_point(|other| other.at < at);
    index.entries.insert(place, entry);
}

/// A backup, and what it holds.
struct Honest {
    _source: Database,
    bucket: String,
    key: String,
    dump: String,
    index: Index,
    by_hand: Database,
    expected: String,
}

fn honest() -> Honest {
    let (source, bucket) = backed_up(OBJECTS);
    let key = only_backup(&bucket);
    let (dump, index) = (plain(&bucket, &key), index(&bucket, &key));
    let by_hand = restored_into(empty("by_hand"), &dump);
    let (dump, expected) = (String::from_utf8(dump).expect("UTF-8"), sorted(&by_hand));
    Honest { _source: source, bucket, key, dump, index, by_hand, expected }
}

impl Honest {
    /// Plants what the forgery makes of it.
    fn plant(&self, forgery: &Forgery) {
        let (object, points) = with_points(self.dump.as_bytes(), &(forgery.cuts)(&self.dump));
        let mut index = Index { points, codec_bytes: object.len() as u64, ..self.index.clone() };
        (forgery.change)(&mut index, &self.dump);
        plant(&self.bucket, &self.key, (&object, &index));
    }

    /// All of it, by two sessions.
    fn restore(&self, what: &str) -> bool {
        let name = unique_name("made");
        let outcome = create(&self.bucket, postgres(), &name).args(["--jobs", "2", "--no-analyze"]).run();
        let is_done = judged(&outcome, what);
        if is_done {
            let made = postgres().adopt_database(&name);
            assert_same_dump(self.expected.as_bytes(), sorted(&made).as_bytes());
        } else {
            let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
            assert_eq!(postgres().psql("postgres", &left).as_deref(), Ok("0"), "{what}");
        }
        is_done
    }

    /// A table that is in it.
    fn restore_keep(&self, what: &str) {
        let target = empty("target");
        target.psql("CREATE FUNCTION negate() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'").expect("needed");
        let outcome = restore_program(&self.bucket, &target).args(["--table", "keep", "--no-analyze"]).run();
        if judged(&outcome, what) {
            let flags = ["-t", "public.keep"];
            assert_same_dump(&dumped(&self.by_hand, &flags), &dumped(&target, &flags));
        }
        let count = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'keep'";
        assert_eq!(target.psql(count).as_deref(), Ok("0"), "{what}: {}", outcome.stderr);
    }

    /// A table that is not in it.
    fn restore_evil(&self, what: &str) {
        let program = s3_program(&self.bucket).args(["restore", "--table", "evil", "--output", "evil.sql"]);
        let outcome = program.run();
        assert!(!judged(&outcome, what), "{what}: {}", outcome.stderr);
        assert!(!program.home().join("evil.sql").exists(), "{what}");
    }
}

/// Whether it succeeded. Nothing else but a failed restore may happen.
#[track_caller]
fn judged(outcome: &Outcome, what: &str) -> bool {
    outcome.assert_no_children_left();
    assert!(outcome.code == Some(0) || outcome.code == Some(FAILED), "{what}: {:?}: {}", outcome.code, outcome.stderr);
    assert!(outcome.peak_rss_bytes < MOST_MEMORY, "{what}: {} bytes", outcome.peak_rss_bytes);
    assert!(!outcome.stderr.contains(['\u{1b}', '\u{7}']), "{what}: {:?}", outcome.stderr);
    outcome.code == Some(0)
}

fn assert_harmless(forgeries: &[Forgery]) {
    let honest = honest();
    // The test's own means work.
    let control = Forgery { what: "nothing", cuts: row, change: |index, _| statement(index, PAIR) };
    for forgery in [&control].into_iter().chain(forgeries) {
        let what = forgery.what;
        honest.plant(forgery);
        let is_done = honest.restore(what);
        assert!(is_done || what != control.what, "the control failed");
        honest.restore_keep(what);
        honest.restore_evil(what);
        let contents = s3_program(&honest.bucket).args(["list", "latest", "--contents"]).run();
        judged(&contents, what);
        assert!(!contents.stdout_text().contains(['\u{1b}', '\u{7}']), "{what}");
    }
}
