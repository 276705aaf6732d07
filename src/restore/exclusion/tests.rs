//! The exclusion against the statements of `pg_dump` 13 to 18.

use super::*;

fn exclusion(tables: &[&str], schemas: &[&str]) -> Exclusion {
    let globs = |patterns: &[&str]| patterns.iter().map(|pattern| Glob::new(pattern)).collect();
    Exclusion::new(&LeaveOut { tables: globs(tables), schemas: globs(schemas), ..LeaveOut::default() })
}

/// The statements that are kept, in the order in which they are sent, and what was left out.
fn kept(exclusion: &mut Exclusion, statements: &[&str]) -> (Vec<String>, LeftOut) {
    let (mut sent, mut left_out) = (Vec::new(), LeftOut::default());
    for statement in statements {
        let (released, fate) = exclusion.judge(statement.as_bytes(), &mut left_out);
        sent.extend(released);
        match fate {
            Fate::Keep => sent.push(statement.as_bytes().to_vec()),
            Fate::Hold => exclusion.hold(statement.as_bytes()),
            Fate::Drop => {}
        }
    }
    sent.extend(exclusion.release());
    (sent.into_iter().map(|text| String::from_utf8(text).expect("UTF-8")).collect(), left_out)
}

#[test]
fn leaves_out_everything_of_a_table() {
    let statements = [
        "CREATE TABLE app.log (\n    id integer NOT NULL\n);",
        "ALTER TABLE app.log OWNER TO a;",
        "COMMENT ON TABLE app.log IS 'x';",
        "COMMENT ON COLUMN app.log.id IS 'x';",
        "SECURITY LABEL FOR dummy ON TABLE app.log IS 'x';",
        "CREATE SEQUENCE app.own_seq\n    START WITH 1;",
        "ALTER SEQUENCE app.own_seq OWNER TO a;",
        "ALTER SEQUENCE app.own_seq OWNED BY app.log.id;",
        "COMMENT ON SEQUENCE app.own_seq IS 'x';",
        "ALTER TABLE app.log ALTER COLUMN n ADD GENERATED ALWAYS AS IDENTITY (\n    SEQUENCE NAME app.identity_seq\n);",
        "ALTER TABLE ONLY app.root ATTACH PARTITION app.log FOR VALUES IN (1);",
        "ALTER TABLE ONLY app.log ATTACH PARTITION app.part FOR VALUES IN (1);",
        "ALTER TABLE ONLY app.log ALTER COLUMN id SET DEFAULT nextval('app.own_seq'::regclass);",
        "COPY app.log (id) FROM stdin;",
        "INSERT INTO app.log VALUES (1);",
        "SELECT pg_catalog.setval('app.own_seq', 1, true);",
        "SELECT pg_catalog.setval('app.identity_seq', 1, false);",
        "SELECT * FROM pg_catalog.pg_restore_relation_stats(\n\t'version', '180000'::integer,\n\t'schemaname', 'app',\n\t'relname', 'log',\n\t'relpages', '1'::integer\n);",
        "ALTER TABLE ONLY app.log\n    ADD CONSTRAINT own_pkey PRIMARY KEY (id);",
        "CREATE UNIQUE INDEX own_index ON ONLY app.log USING btree (id);",
        "ALTER TABLE app.log CLUSTER ON own_index;",
        "ALTER INDEX app.root_pkey ATTACH PARTITION app.own_pkey;",
        "ALTER INDEX app.own_index ATTACH PARTITION app.part_index;",
        "COMMENT ON INDEX app.own_index IS 'x';",
        "CREATE STATISTICS app.own_statistics (ndistinct) ON a, b FROM app.log;",
        "ALTER STATISTICS app.own_statistics OWNER TO a;",
        "CREATE RULE r AS\n    ON INSERT TO app.log DO INSTEAD NOTHING;",
        "CREATE TRIGGER g AFTER INSERT OR UPDATE OF id ON app.log FOR EACH ROW EXECUTE FUNCTION public.f();",
        "COMMENT ON TRIGGER g ON app.log IS 'x';",
        "ALTER TABLE app.log DISABLE TRIGGER g;",
        "ALTER TABLE ONLY app.log\n    ADD CONSTRAINT k FOREIGN KEY (id) REFERENCES public.t(id);",
        "COMMENT ON CONSTRAINT k ON app.log IS 'x';",
        "ALTER TABLE app.log ENABLE ROW LEVEL SECURITY;",
        "CREATE POLICY p ON app.log USING (true);",
        "ALTER PUBLICATION p ADD TABLE ONLY app.log;",
        "GRANT SELECT(id),UPDATE(\"on\") ON TABLE app.log TO b;",
        "GRANT ALL ON SEQUENCE app.own_seq TO b;",
        "REVOKE ALL ON TABLE app.log FROM a;",
        "CREATE CAST (app.log AS text) WITH FUNCTION public.f(app.log);",
        "COMMENT ON CAST (app.log AS text) IS 'x';",
    ];
    for pattern in ["log", "app.l?g"] {
        let (sent, left_out) = kept(&mut exclusion(&[pattern], &[]), &statements);
        assert_eq!(sent, [""; 0]);
        assert_eq!(left_out.phrases(), ["the table app.log"]);
        assert_eq!(left_out.needs, None);
    }
}

#[test]
fn keeps_everything_else() {
    let statements = [
        "CREATE TABLE other.log (a integer);",
        "CREATE TABLE app.logs (a integer);",
        "CREATE INDEX log ON app.logs USING btree (a);",
        "CREATE TYPE app.log AS ENUM ();",
        "CREATE FUNCTION app.log() RETURNS integer LANGUAGE sql AS 'SELECT 1 FROM app.log';",
        "CREATE SEQUENCE app.a_seq\n    START WITH 1;",
        "ALTER SEQUENCE app.a_seq OWNER TO a;",
        "ALTER SEQUENCE app.a_seq OWNED BY app.logs.a;",
        "CREATE SEQUENCE app.b_seq\n    START WITH 1;",
        "CREATE SEQUENCE app.c_seq\n    START WITH 1;",
        "COPY app.logs (a) FROM stdin;",
        "COMMENT ON COLUMN app.logs.log IS 'app.log';",
        "CREATE TRIGGER log AFTER INSERT ON app.logs FOR EACH ROW EXECUTE FUNCTION app.log();",
        "ALTER TABLE ONLY app.logs\n    ADD CONSTRAINT k FOREIGN KEY (a) REFERENCES other.log(a);",
        "CREATE SCHEMA log;",
        "CREATE EXTENSION IF NOT EXISTS log WITH SCHEMA app;",
        "SELECT pg_catalog.lo_create('1');",
        "GRANT ALL ON SCHEMA log TO a;",
        "CREATE SEQUENCE app.d_seq\n    START WITH 1;",
    ];
    let (sent, left_out) = kept(&mut exclusion(&["app.log"], &["nothing"]), &statements);
    assert_eq!(sent, statements);
    assert_eq!(left_out, LeftOut::default());
}

#[test]
fn reads_odd_names() {
    let statements = [
        "CREATE TABLE \"a.b\".\"c\"\"d\ne;f\" (a integer);",
        "COMMENT ON COLUMN \"a.b\".\"c\"\"d\ne;f\".\"x.y\" IS 'x';",
        "CREATE INDEX \"on\" ON \"a.b\".\"c\"\"d\ne;f\" USING btree (a);",
        "COMMENT ON INDEX \"a.b\".\"on\" IS 'x';",
        "SELECT pg_catalog.setval('\"a.b\".\"c\"\"d\ne;f\"', 1, true);",
        "CREATE TABLE if.text (a integer);",
        "ALTER TABLE ONLY if.text ADD CONSTRAINT a CHECK (true);",
    ];
    let mut exclusion = exclusion(&["c\"d?e;f", "if.text", "no*"], &[]);
    let (sent, left_out) = kept(&mut exclusion, &statements);
    assert_eq!(sent, [""; 0]);
    assert_eq!(left_out.phrases(), ["the tables \"a.b\".\"c\"\"d\ne;f\", if.text"]);
    assert_eq!(exclusion.unmatched().collect::<Vec<_>>(), ["no*"]);
}

#[test]
fn leaves_out_everything_in_a_schema() {
    let statements = [
        "CREATE SCHEMA app;",
        "ALTER SCHEMA app OWNER TO a;",
        "GRANT ALL ON SCHEMA app TO b;",
        "COMMENT ON SCHEMA app IS 'x';",
        "CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA app;",
        "COMMENT ON EXTENSION citext IS 'x';",
        "CREATE TYPE app.kind AS ENUM ();",
        "ALTER TYPE app.kind OWNER TO a;",
        "CREATE DOMAIN app.d AS integer;",
        "COMMENT ON CONSTRAINT c ON DOMAIN app.d IS 'x';",
        "CREATE FUNCTION app.f(x integer) RETURNS integer\n    LANGUAGE sql\n    AS 'SELECT 1';",
        "ALTER FUNCTION app.f(x integer) OWNER TO a;",
        "REVOKE ALL ON FUNCTION app.f(x integer) FROM PUBLIC;",
        "CREATE PROCEDURE app.p() LANGUAGE sql AS 'SELECT 1';",
        "CREATE AGGREGATE app.a(integer) (SFUNC = app.f);",
        "CREATE OPERATOR app.+ (\n    FUNCTION = app.f\n);",
        "ALTER OPERATOR app.+ (integer, integer) OWNER TO a;",
        "CREATE OPERATOR FAMILY app.o USING btree;",
        "ALTER OPERATOR FAMILY app.o USING btree ADD FUNCTION 1 (integer, integer) app.f(integer);",
        "CREATE OPERATOR CLASS app.o FOR TYPE integer USING btree AS STORAGE integer;",
        "CREATE COLLATION app.c (provider = libc, locale = 'C');",
        "CREATE DEFAULT CONVERSION app.c FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;",
        "CREATE TEXT SEARCH CONFIGURATION app.c (PARSER = pg_catalog.\"default\");",
        "ALTER TEXT SEARCH CONFIGURATION app.c ADD MAPPING FOR word WITH simple;",
        "CREATE CAST (app.kind AS integer) WITH FUNCTION public.f(app.kind);",
        "COMMENT ON CAST (app.kind AS integer) IS 'x';",
        "CREATE TRANSFORM FOR app.kind LANGUAGE sql (FROM SQL WITH FUNCTION public.f(internal));",
        "CREATE MATERIALIZED VIEW app.m AS\n SELECT 1\n  WITH NO DATA;",
        "CREATE VIEW app.v AS\n SELECT 1 AS a;",
        "CREATE FOREIGN TABLE app.t (a integer) SERVER s;",
        "CREATE SEQUENCE app.s;",
        "CREATE STATISTICS app.x ON a, b FROM public.t;",
        "ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA app GRANT ALL ON TABLES  TO b;",
        "ALTER PUBLICATION p ADD TABLES IN SCHEMA app;",
        "REFRESH MATERIALIZED VIEW app.m;",
    ];
    let (sent, left_out) = kept(&mut exclusion(&[], &["ap?"]), &statements);
    assert_eq!(sent, [""; 0]);
    assert_eq!(left_out.phrases(), ["the schema app", "the extension citext"]);
    let kept_ones =
        ["ALTER DEFAULT PRIVILEGES FOR ROLE a GRANT ALL ON TABLES  TO b;", "CREATE FOREIGN DATA WRAPPER app;"];
    assert_eq!(kept(&mut exclusion(&[], &["app"]), &kept_ones).0, kept_ones);
}

#[test]
fn leaves_out_a_foreign_key_and_names_what_else_needs_the_table() {
    let statements = [
        "CREATE TABLE app.log (id integer);",
        "CREATE FUNCTION app.f() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM app.log $$;",
        "CREATE VIEW app.v AS\n SELECT l.id FROM app.log l;",
        "ALTER TABLE ONLY app.t\n    ADD CONSTRAINT \"k 1\" FOREIGN KEY (a) REFERENCES app.log(id);",
        "COMMENT ON CONSTRAINT \"k 1\" ON app.t IS 'x';",
    ];
    let (sent, left_out) = kept(&mut exclusion(&["log"], &[]), &statements);
    assert_eq!(sent, statements[1..3]);
    assert_eq!(left_out.phrases(), ["the table app.log", "the foreign key \"k 1\" of app.t"]);
    let hint = left_out.hint("relation \"app.log\" does not exist").expect("a hint");
    assert!(hint.contains("\"CREATE VIEW app.v AS\" needs app.log"), "{hint}");
    assert_eq!(left_out.hint("division by zero"), None);
}

proptest::proptest! {
    #[test]
    fn reads_any_words(words in proptest::collection::vec(proptest::sample::select(vec![
        "CREATE", "ALTER", "TABLE", "COMMENT", "ON", "SELECT", "*", "FROM", ".", "(", "'a'", "\"b\"", "IF", "CAST", "IN", ";",
    ]), 0..12)) {
        let statement = words.join(" ");
        kept(&mut exclusion(&["log"], &["app"]), &[&statement]);
    }
}
