//! `check` looks at exactly what `pg_dump` reads, as the role that reads it: what stops a dump fails, what a dump would lack or
//! what a restore would stumble over is a warning, and what `pg_dump` does not read is nothing.

use crate::support::servers::s3;
use crate::support::setup::{backup_program, installed_clients, manifest, s3_program};

use super::Checked;
use super::source::Reader;

/// An extension with a table of its own, which it declares as its configuration, or not.
fn extension(of_table: &str, is_configuration: bool) -> String {
    let configuration = if is_configuration {
        "UPDATE pg_extension SET extconfig = ARRAY['clockwork.errand'::regclass::oid, 'clockwork.turn'::regclass::oid], \
         extcondition = ARRAY['', ''] WHERE extname = 'citext'"
    } else {
        ""
    };
    format!(
        "CREATE EXTENSION citext; CREATE SCHEMA clockwork; CREATE SEQUENCE clockwork.turn; \
         CREATE TABLE clockwork.errand (id bigint PRIMARY KEY, who text NOT NULL DEFAULT current_user); \
         ALTER EXTENSION citext ADD SCHEMA clockwork; ALTER EXTENSION citext ADD TABLE clockwork.errand; \
         ALTER EXTENSION citext ADD SEQUENCE clockwork.turn; {of_table}; {configuration}"
    )
}

const POLICY: &str = "ALTER TABLE clockwork.errand ENABLE ROW LEVEL SECURITY; \
                      CREATE POLICY own_errands ON clockwork.errand USING (who = current_user)";

#[test]
fn configuration_tables_of_extensions_are_read_and_their_other_tables_are_not() {
    let reader = Reader::new(&format!("{}; GRANT pg_read_all_data TO ROLE", extension(POLICY, true)));
    reader.assert_printed_statements_fix_it(&["rows of 1 table (clockwork.errand)", "BYPASSRLS"]);
    let reader = Reader::new(&extension("SELECT", true));
    reader.assert_printed_statements_fix_it(&["1 table (clockwork.errand)", "1 sequence (clockwork.turn)", "GRANT"]);
    let reader = Reader::new(&extension(POLICY, false));
    Checked::of(&reader.program()).assert(&[], &[]);
}

#[test]
fn what_pg_dump_reads_in_spite_of_policies_and_grants_is_no_concern() {
    let reader = Reader::new(
        "CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); \
         ALTER TABLE p ENABLE ROW LEVEL SECURITY; GRANT SELECT ON p, p1 TO ROLE; SELECT lo_create(7003); \
         CREATE SCHEMA closed; CREATE VIEW closed.v AS SELECT 1; CREATE MATERIALIZED VIEW closed.m AS SELECT 1",
    );
    let lax = format!("ALTER DATABASE \"{}\" SET lo_compat_privileges = on", reader.database.name);
    reader.database.psql(&lax).expect("set");
    Checked::of(&reader.program()).assert(&[], &[]);
    s3_program(&reader.bucket).env("POSTGRES_CONNECTION_STRING", reader.uri()).arg("backup").run().assert_code(0);
}

/// A subscription, and a user mapping with a password.
const OF_SUPERUSERS: &str = "CREATE SUBSCRIPTION tide CONNECTION 'dbname=nowhere host=127.0.0.1' PUBLICATION p \
    WITH (connect = false, slot_name = NONE); CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; \
    CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (password 'sentinel')";

#[test]
fn what_only_a_superuser_may_dump_is_a_warning_and_stands_in_the_manifest() {
    let reader = Reader::new(&format!("{OF_SUPERUSERS}; GRANT pg_read_all_data TO ROLE"));
    let checked = Checked::of(&reader.program());
    checked.assert(&[], &["privileges", "privileges"]);
    checked.says("privileges", &["leaves out 1 subscription (tide)", "1 user mapping (public at far)"]);
    let without = reader.program().env("PG_DUMP_ARGS", "--no-subscriptions");
    Checked::of(&without).assert(&[], &["privileges"]).says("privileges", &["user mapping"]);

    let bucket = s3().create_bucket("subscription");
    let backup = s3_program(&bucket).env("POSTGRES_CONNECTION_STRING", reader.uri()).arg("backup").run();
    backup.assert_code(0);
    let stored = manifest(&bucket, &s3().keys(&bucket, "").remove(0));
    let warnings = stored["warnings"].to_string();
    for words in ["pg_dump warned: subscriptions not dumped", "options (passwords) of 1 user mapping"] {
        assert!(warnings.contains(words), "{words:?} wanted in {warnings}");
    }
    // A superuser dumps all of it.
    let bucket = s3().create_bucket("subscription");
    backup_program(&reader.database, &bucket).run().assert_code(0);
    let stored = manifest(&bucket, &s3().keys(&bucket, "").remove(0));
    assert_eq!(stored["warnings"].to_string(), "[]");

    // Some managed services close the catalog to all other roles.
    let close = "REVOKE SELECT (subdbid) ON pg_subscription FROM PUBLIC; REVOKE pg_read_all_data FROM";
    reader.database.psql(&format!("{close} {}", reader.role)).expect("closed");
    let closed = Checked::of(&reader.program());
    closed.assert(&["privileges", "schema_dump"], &["privileges"]).says("privileges", &["pg_subscription"]);
    assert_eq!(closed.hint("privileges"), "add --no-subscriptions to PG_DUMP_ARGS");
    Checked::of(&without).assert(&[], &["privileges"]);
    reader.database.psql("DROP SUBSCRIPTION tide").expect("dropped");
}

/// Of the field: rows that are hashed by labels, by what holds labels, and by text; and ranges of text in an order of libc.
const PARTITIONED: &str = "CREATE TYPE hue AS ENUM ('ochre', 'teal'); CREATE TYPE shade AS (h hue, dark bool); \
    CREATE TABLE swatch (h hue NOT NULL) PARTITION BY HASH (h); CREATE TABLE swirl (s shade[] NOT NULL) PARTITION BY HASH (s); \
    CREATE TABLE plain (t text, i int) PARTITION BY HASH (t, i); CREATE TABLE labels (h hue) PARTITION BY LIST (h); \
    CREATE TABLE bytes (t text COLLATE \"C\") PARTITION BY RANGE (t); \
    CREATE COLLATION elsewhere (PROVIDER = libc, LOCALE = 'C.UTF-8'); \
    CREATE TABLE guests (name text COLLATE elsewhere) PARTITION BY RANGE (name); \
    UPDATE pg_collation SET collcollate = 'de_DE.UTF-8' WHERE collname = 'elsewhere'";

#[test]
fn names_partitions_with_moving_rows_and_the_argument_that_helps() {
    let reader = Reader::new(&format!("{PARTITIONED}; GRANT pg_read_all_data TO ROLE"));
    let checked = Checked::of(&reader.program());
    checked.assert(&[], &["privileges", "privileges"]);
    checked.says(
        "privileges",
        &[
            "rows of 2 partitioned tables (public.swatch, public.swirl)",
            "ranges of 1 partitioned table (public.guests)",
        ],
    );
    assert_eq!(checked.hint("privileges"), "add --load-via-partition-root to PG_DUMP_ARGS");
    let remedied = reader.program().env("PG_DUMP_ARGS", "--load-via-partition-root");
    Checked::of(&remedied).assert(&[], &[]);
    // Later ones see a key that is an enum by themselves.
    let later = reader.program().env("PG_DUMP_PATH", installed_clients("18"));
    Checked::of(&later).says("privileges", &["rows of 1 partitioned table (public.swirl)"]);
}
