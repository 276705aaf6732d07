//! Each table, view and sequence of a database with everything, one by one: `restore --table` brings what `pg_dump -t` does, or
//! says beforehand what it needs.

use std::collections::BTreeSet;

use serde_json::Value;

use super::selective::dumped;
use super::{FAILED, empty, restore_program};
use crate::support::servers::database::Database;
use crate::support::servers::s3;
use crate::support::setup::{backup_program, repository_file};

/// What the fixture lacks.
const MORE: &str = "CREATE SCHEMA zoo; CREATE FUNCTION zoo.next() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; \
    CREATE DOMAIN zoo.small AS int CHECK (VALUE < zoo.next() + 100); CREATE TYPE zoo.row_type AS (a int, b zoo.small); \
    CREATE TABLE zoo.of_type OF zoo.row_type (PRIMARY KEY (a)); \
    CREATE TABLE zoo.uses (id int GENERATED ALWAYS AS IDENTITY, a zoo.small DEFAULT zoo.next(), b int GENERATED ALWAYS AS (zoo.next()) STORED, \
        CONSTRAINT checked CHECK (a <> zoo.next() + 7), EXCLUDE USING gist (int4range(a, a + 1) WITH &&)); \
    INSERT INTO zoo.uses (a) VALUES (1); CREATE SEQUENCE zoo.shared; CREATE TABLE zoo.takes (a int DEFAULT nextval('zoo.shared')); \
    CREATE TABLE zoo.tree (id int, tag text, PRIMARY KEY (id, tag)) PARTITION BY LIST (tag); \
    CREATE TABLE zoo.leaf PARTITION OF zoo.tree FOR VALUES IN ('a'); INSERT INTO zoo.tree VALUES (1, 'a'); \
    CREATE TABLE zoo.refers (id int, tag text, FOREIGN KEY (id, tag) REFERENCES zoo.tree); \
    CREATE STATISTICS zoo.related ON id, tag FROM zoo.refers; COMMENT ON STATISTICS zoo.related IS 'x'";

/// A relation: its schema and name for a pattern, and quoted for `pg_dump -t`.
struct Relation {
    pattern: String,
    quoted: String,
}

fn relations(source: &Database) -> Vec<Relation> {
    let question = "SELECT json_agg(json_build_array(n.nspname, c.relname, format('%I.%I', n.nspname, c.relname)) ORDER BY c.oid) \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') \
        AND n.nspname !~ '^pg_' AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('a', 'i') \
        AND d.refclassid = 'pg_class'::regclass AND c.relkind = 'S')";
    let rows: Vec<[String; 3]> = serde_json::from_str(&source.psql(question).expect("relations")).expect("JSON");
    rows.into_iter().map(|[schema, name, quoted]| Relation { pattern: format!("{schema}.{name}"), quoted }).collect()
}

/// A database with everything that is no relation.
fn base(bucket: &str) -> Database {
    let base = empty("base");
    restore_program(bucket, &base).args(["--schema-only", "--no-analyze"]).run().assert_code(0);
    let drop = "DO $$ DECLARE r record; BEGIN LOOP SELECT format('DROP %s %I.%I CASCADE', CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN \
        'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, n.nspname, c.relname) AS text INTO r \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') \
        AND n.nspname !~ '^pg_' LIMIT 1; EXIT WHEN NOT FOUND; EXECUTE r.text; END LOOP; END $$";
    base.psql(drop).expect("dropped");
    base
}

/// Removes the foreign keys that a restore of these tables leaves out.
fn drop_left_out_keys(source: &Database, chosen: &[&Relation]) {
    let names = chosen.iter().map(|relation| relation.quoted.as_str()).collect::<BTreeSet<_>>();
    let names = serde_json::to_string(&names).expect("JSON");
    let drop = format!(
        "DO $do$ DECLARE r record; BEGIN FOR r IN SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname) AS text \
         FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE k.contype = 'f' \
         AND k.conparentid = 0 AND k.confrelid <> k.conrelid AND NOT format('%I.%I', n.nspname, c.relname) = ANY (SELECT json_array_elements_text($j${names}$j$)) \
         LOOP EXECUTE r.text; END LOOP; END $do$"
    );
    source.psql(&drop).expect("dropped");
}

/// What a dump holds, whatever its order: dependencies on what is not chosen change it.
fn blocks(dump: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(dump);
    let is_kept = |line: &&str| {
        !line.starts_with("SET default_") && !line.starts_with("\\restrict ") && !line.starts_with("\\unrestrict ")
    };
    let block = |block: &str| block.lines().filter(is_kept).collect::<Vec<_>>().join("\n").trim().to_owned();
    text.split("\n--\n-- ").map(block).collect()
}

#[test]
fn each_relation_is_restored_or_says_beforehand_what_it_needs() {
    let source = empty("everything");
    let mut psql = source.server().client("psql", &source.name);
    let loaded = psql.args(["-v", "big=0", "-f"]).arg(repository_file("tests/fixtures/everything.sql")).output();
    assert!(loaded.expect("psql").status.success());
    source.psql(MORE).expect("more");
    let bucket = s3().create_bucket("zoo");
    backup_program(&source, &bucket).run().assert_code(0);
    let relations = relations(&source);
    assert!(relations.len() > 40, "{}", relations.len());

    let nothing = empty("nothing");
    let stands_alone = |relation: &&Relation| {
        let outcome = restore_program(&bucket, &nothing).args(["--dry-run", "--table", &relation.pattern]).run();
        if outcome.code == Some(FAILED) {
            assert!(outcome.stderr.contains("the target lacks "), "{}: {}", relation.quoted, outcome.stderr);
            return false;
        }
        outcome.assert_code(0);
        true
    };
    let (alone, needy): (Vec<&Relation>, Vec<&Relation>) = relations.iter().partition(stands_alone);
    assert!(alone.len() > 20 && needy.len() > 10, "{} and {}", alone.len(), needy.len());
    let flags = |some: &[&Relation]| -> Vec<String> {
        some.iter().flat_map(|relation| ["--table".to_owned(), relation.pattern.clone()]).collect()
    };
    let outcome = restore_program(&bucket, &nothing).args(flags(&alone)).arg("--json").run();
    let report: Value = serde_json::from_slice(&outcome.assert_code(0).stdout).expect("JSON");
    assert!(report["rows"].as_u64() > Some(20), "{report}");

    let base = base(&bucket);
    restore_program(&bucket, &base).args(flags(&alone)).run().assert_code(0);
    let mut left = needy.clone();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|relation| {
            let outcome = restore_program(&bucket, &base).args(["--no-analyze", "--table", &relation.pattern]).run();
            let lacks = outcome.code == Some(FAILED) && outcome.stderr.contains("the target lacks ");
            assert!(lacks || outcome.code == Some(0), "{}: {}", relation.quoted, outcome.stderr);
            lacks
        });
        let names: Vec<&str> = left.iter().map(|relation| relation.quoted.as_str()).collect();
        assert!(left.len() < before, "{names:?}");
    }
    // Tables that were restored together have the foreign keys between them, those one by one none to others.
    for (chosen, keys_to, target) in [(&alone, &alone[..], &nothing), (&needy, &[], &base)] {
        drop_left_out_keys(&source, keys_to);
        let tables: Vec<&str> = chosen.iter().flat_map(|relation| ["-t", relation.quoted.as_str()]).collect();
        let [of_source, of_target] = [&source, target].map(|database| blocks(&dumped(database, &tables)));
        let differ =
            |one: &BTreeSet<String>, other: &BTreeSet<String>| one.difference(other).cloned().collect::<Vec<_>>();
        let (lost, added) = (differ(&of_source, &of_target), differ(&of_target, &of_source));
        assert!(lost.is_empty() && added.is_empty(), "{lost:#?}\n{added:#?}");
    }
}
