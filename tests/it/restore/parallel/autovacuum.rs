//! Autovacuum: a session that needs a table does not wait for it.

use std::time::Duration;

use super::create;
use crate::restore::backed_up;
use crate::support::servers::database::unique_name;
use crate::support::servers::{own_postgres, postgres};

/// In a restore waits until autovacuum works on the table `t`.
const IS_VACUUMED: &str = "CREATE FUNCTION is_vacuumed(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN \
    IF current_database() LIKE 'pg_s3_restore_%' THEN \
        FOR i IN 1..1200 LOOP \
            IF EXISTS (SELECT FROM pg_catalog.pg_locks WHERE relation = 'public.t'::regclass \
                AND mode = 'ShareUpdateExclusiveLock' AND granted) THEN RETURN a; END IF; \
            PERFORM pg_catalog.pg_sleep(0.1); \
        END LOOP; \
        RAISE 'autovacuum did not come'; \
    END IF; RETURN a; END $$;";

/// The trigger is created after the index, and locks the table `t`, for which autovacuum takes many minutes.
const TABLES: &str = "CREATE TABLE w (a int); INSERT INTO w VALUES (1); CREATE INDEX ON w (is_vacuumed(a)); \
    CREATE TABLE t AS SELECT 1 AS a, repeat('x', 1000) AS b FROM generate_series(1, 20000); \
    ALTER TABLE t SET (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1); \
    CREATE TRIGGER same BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();";

#[test]
fn a_table_that_autovacuum_holds_is_not_waited_for() {
    let (_source, bucket) = backed_up(&format!("{IS_VACUUMED}{TABLES}"));
    let server = own_postgres(&[]);
    // Where the server decides, who waits for autovacuum calls it off after an hour.
    for setting in ["autovacuum_naptime = 1", "deadlock_timeout = '1h'"] {
        server.psql("postgres", &format!("ALTER SYSTEM SET {setting}")).expect("set");
    }
    server.psql("postgres", "SELECT pg_reload_conf()").expect("read again");
    let restore = create(&bucket, &server, ("made", 2)).args(["--no-analyze"]);
    restore.timeout(Duration::from_mins(3)).run().assert_code(0);
}

#[test]
fn autovacuum_yields_to_analyze_too() {
    // ANALYZE calls it for the index.
    let (_source, bucket) = backed_up(
        "CREATE FUNCTION yields(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN \
            IF current_database() LIKE 'pg_s3_restore_%' AND current_setting('deadlock_timeout') <> '10ms' THEN \
                RAISE 'not set'; \
            END IF; RETURN a; END $$; \
         CREATE TABLE w (a int); INSERT INTO w VALUES (1); CREATE INDEX ON w (yields(a));",
    );
    let name = unique_name("made");
    let outcome = create(&bucket, postgres(), (&name, 2)).run();
    outcome.assert_code(0);
    assert!(!outcome.stderr.contains("ANALYZE failed"), "{}", outcome.stderr);
    drop(postgres().adopt_database(&name));
}
