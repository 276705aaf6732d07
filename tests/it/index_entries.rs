//! The entries of an index are those that `pg_restore --list` shows of the same database, on several majors.

use std::collections::BTreeMap;
use std::process::Stdio;

use pg_s3_backup::codec::Codec;
use pg_s3_backup::index::Entry;

use super::globals::{clients, locale};
use super::support::indexed::indexed;
use super::support::servers::database::Database;
use super::support::servers::{Postgres, own_postgres};
use super::support::setup::repository_file;

/// What `pg_restore --list` shows, and a plain dump does not have as an entry.
const NOT_IN_PLAIN: [&str; 4] = ["ENCODING ", "STDSTRINGS ", "SEARCHPATH ", "DATABASE "];

/// Names that look like the rest of a head, or that need quotes.
const HOSTILE: &str = r#"
    CREATE ROLE "own; Type: INDEX; Schema: q; Owner: z";
    CREATE SCHEMA "; Type: TABLE; Schema: public; Owner: x";
    CREATE TABLE "; Type: TABLE; Schema: public; Owner: x".t (a int PRIMARY KEY);
    CREATE TABLE public."owned" (a int);
    ALTER TABLE public.owned OWNER TO "own; Type: INDEX; Schema: q; Owner: z";
    CREATE TABLE public."a; Type: TABLE DATA" (a text);
    INSERT INTO public."a; Type: TABLE DATA" VALUES (E'--\n-- Name: x; Type: TABLE; Schema: s; Owner: o\n'), ('\.');
    CREATE TABLE public."line
break -- Name: b; ; Tablespace: c" (a int);
    COMMENT ON TABLE public.owned IS E'\n--\n-- Name: forged; Type: TABLE; Schema: public; Owner: x\n--\n\n';
    CREATE FUNCTION public.f() RETURNS text LANGUAGE sql AS $$
SELECT '
--
-- Name: forged; Type: TABLE; Schema: public; Owner: x
--
SET default_tablespace = forged;
COPY public.forged (a) FROM stdin;
'::text $$;
    CREATE VIEW public."v""; Owner: x" AS SELECT 1 AS ";
-- Name: forged; Type: VIEW; Schema: public; Owner: x
";
"#;

fn everything_and_hostile(server: &Postgres, major: &str) -> Database {
    let database = server.create_database_with("entries", locale(major));
    let mut psql = server.client("psql", &database.name);
    psql.args(["-v", "big=0", "-1", "-f"]).arg(repository_file("tests/fixtures/everything.sql"));
    let output = psql.stdin(Stdio::null()).output().expect("psql");
    assert!(output.status.success(), "{major}: {}", String::from_utf8_lossy(&output.stderr));
    database.psql(HOSTILE).expect("hostile names");
    database
}

/// How often `pg_restore --list` shows each entry: type, schema, name, owner.
fn listed(server: &Postgres, database: &Database) -> BTreeMap<String, usize> {
    let archive = tempfile::NamedTempFile::new().expect("a file");
    let mut dump = server.client("pg_dump", &database.name);
    assert!(dump.args(["-Fc", "-Z0", "-f"]).arg(archive.path()).status().expect("pg_dump").success());
    let mut restore = std::process::Command::new(server.bin.join("pg_restore"));
    let list = restore.arg("--list").arg(archive.path()).output().expect("pg_restore");
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
    let text = String::from_utf8_lossy(&list.stdout);
    let mut all = BTreeMap::new();
    // `215; 1259 16385 TABLE public t owner`
    for line in text.lines().filter(|line| !line.starts_with(';')) {
        let entry = line.splitn(4, ' ').nth(3).expect("an entry").to_owned();
        let is_of_database = ["COMMENT - DATABASE ", "ACL - DATABASE "].iter().any(|word| entry.starts_with(word));
        if !is_of_database && !NOT_IN_PLAIN.iter().any(|word| entry.starts_with(word)) {
            *all.entry(entry).or_default() += 1;
        }
    }
    all
}

fn assert_entries(server: &Postgres, major: &str) {
    let database = everything_and_hostile(server, major);
    let mut dump = server.client("pg_dump", &database.name);
    let plain = dump.output().expect("pg_dump");
    assert!(plain.status.success(), "{major}: {}", String::from_utf8_lossy(&plain.stderr));
    let plain = plain.stdout;
    let index = indexed(&plain, Codec::Gzip).index();
    let offset = |at: u64| usize::try_from(at).expect("in memory");
    let mut joined = plain[..offset(index.preamble_bytes)].to_vec();
    index.entries().for_each(|(entry, end)| joined.extend_from_slice(&plain[offset(entry.at)..offset(end)]));
    joined.extend_from_slice(&plain[offset(index.trailer_at)..]);
    assert!(joined == plain, "{major}: entries do not tile the dump");

    let mut left = listed(server, &database);
    let (ambiguous, sure): (Vec<&Entry>, Vec<&Entry>) = index.entries.iter().partition(|entry| entry.ambiguous);
    for Entry { kind, schema, name, owner, .. } in sure {
        let found = left.get_mut(&format!("{kind} {schema} {name} {owner}")).filter(|count| **count > 0);
        *found.unwrap_or_else(|| panic!("{major}: no {kind} {schema} {name} {owner} in the list")) -= 1;
    }
    left.retain(|_, count| *count > 0);
    let is_hostile = |entry: &String| ["; Type: ", "; Schema: ", "; Owner: "].iter().any(|word| entry.contains(word));
    assert!(left.keys().all(is_hostile), "{major}: not in the index: {left:#?}");
    assert_eq!(left.values().sum::<usize>(), ambiguous.len(), "{major}: {left:#?}\n{ambiguous:#?}");
    assert!(ambiguous.len() > 5, "{major}: {ambiguous:#?}");
    assert_eq!(index.entries.iter().filter(|entry| entry.name.contains("forged")).count(), 0, "{major}");
    let rows: u64 = index.entries.iter().filter_map(|entry| Some(entry.copy.as_ref()?.rows)).sum();
    let lines = "SELECT sum(c) FROM (SELECT (xpath('/row/c/text()', query_to_xml(format('SELECT count(*) AS c FROM ONLY %I.%I', \
                 nspname, relname), false, true, '')))[1]::text::int AS c FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace \
                 WHERE relkind = 'r' AND nspname !~ '^pg_' AND nspname <> 'information_schema') AS counts";
    assert_eq!(rows.to_string(), database.psql(lines).expect("a sum"), "{major}");
}

#[test]
fn entries_are_those_of_pg_restore_on_several_majors() {
    std::thread::scope(|scope| {
        for major in ["13", "15", "18"] {
            scope.spawn(move || {
                let own = own_postgres(&["--major", major]);
                let server = Postgres { bin: clients(major), ..(*own).clone() };
                assert_entries(&server, major);
            });
        }
    });
}
