//! Backups of a primary or its standby, by the connection string, and warnings of a standby's limits.

use std::time::{Duration, Instant};

use crate::support::program::Outcome;
use crate::support::servers::{OwnPostgres, Postgres, own_postgres, own_standby, s3};
use crate::support::setup::{manifest, only_backup, plain, s3_program};

/// Both servers log every statement.
struct Pair {
    primary: OwnPostgres,
    standby: OwnPostgres,
}

impl Pair {
    fn start() -> Self {
        let primary = own_postgres(&["--log-statement"]);
        let standby = own_standby(&primary);
        Self { primary, standby }
    }

    /// Runs SQL on the primary and waits until the standby has replayed it.
    fn psql(&self, sql: &str) {
        // Otherwise the commit is on its way a little longer.
        let sql = format!("SET synchronous_commit = on; {sql}");
        self.primary.psql("postgres", &sql).expect("run on the primary");
        let at = self.primary.psql("postgres", "SELECT pg_current_wal_flush_lsn()").expect("its place");
        self.await_standby(&format!("SELECT pg_last_wal_replay_lsn() >= '{at}'"));
    }

    /// Waits until the standby says yes to a question.
    fn await_standby(&self, question: &str) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.standby.psql("postgres", question) != Ok("t".to_owned()) {
            assert!(Instant::now() < deadline, "the standby still says no to {question}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A backup with the standby named first and these words of the connection string.
    fn backup(&self, bucket: &str, words: &str) -> Outcome {
        let (host, password) = (&self.primary.host, &self.primary.password);
        let connection = format!(
            "host={host},{host} port={},{} user=postgres dbname=postgres password={password} {words}",
            self.standby.port, self.primary.port
        );
        s3_program(bucket).arg("backup").env("POSTGRES_CONNECTION_STRING", connection).run()
    }
}

/// Whether `pg_dump` has read this table on that server.
fn was_dumped(server: &Postgres, table: &str) -> bool {
    let log = server.data_dir.parent().expect("the server's directory").join("log");
    std::fs::read_to_string(log).expect("its log").contains(&format!("COPY public.{table} "))
}

#[test]
fn target_session_attrs_selects_server() {
    let pair = Pair::start();
    for (attributes, is_standby) in [
        ("any", true),
        ("read-write", false),
        ("primary", false),
        ("standby", true),
        ("read-only", true),
        ("prefer-standby", true),
    ] {
        let table = format!("t_{}", attributes.replace('-', "_"));
        pair.psql(&format!("CREATE TABLE {table} AS SELECT generate_series(1, 100) AS n"));
        let bucket = s3().create_bucket("attributes");
        let outcome = pair.backup(&bucket, &format!("target_session_attrs={attributes}"));
        outcome.assert_code(0).assert_no_children_left();
        assert!(outcome.stderr.contains(&format!("standby={is_standby}")), "{attributes}: {}", outcome.stderr);
        let dumped = [was_dumped(&pair.standby, &table), was_dumped(&pair.primary, &table)];
        assert_eq!(dumped, [is_standby, !is_standby], "{attributes}");
        let dump = plain(&bucket, &only_backup(&bucket));
        assert!(String::from_utf8_lossy(&dump).contains(&format!("COPY public.{table} ")), "{attributes}");
    }
}

#[test]
fn warns_of_limits_of_standby() {
    let pair = Pair::start();
    pair.psql("CREATE TABLE logged AS SELECT 1 AS n; CREATE UNLOGGED TABLE sessions AS SELECT 2 AS n");
    let bucket = s3().create_bucket("standby");
    let outcome = pair.backup(&bucket, "target_session_attrs=standby");
    outcome.assert_code(0);
    for words in [
        "a standby has no rows of unlogged tables: 1 table (public.sessions)",
        "cancels queries that conflict with replay after 30000 ms",
        "hot_standby_feedback",
    ] {
        assert!(outcome.stderr.contains(words), "{words:?} wanted in:\n{}", outcome.stderr);
    }
    let warnings = &manifest(&bucket, &only_backup(&bucket))["warnings"];
    assert!(warnings[0].as_str().is_some_and(|text| text.contains("unlogged tables")), "{warnings}");
    // With feedback it is not warned of.
    pair.standby.psql("postgres", "ALTER SYSTEM SET hot_standby_feedback = on").expect("set");
    pair.standby.psql("postgres", "SELECT pg_reload_conf()").expect("reloaded");
    pair.await_standby("SELECT current_setting('hot_standby_feedback') = 'on'");
    let outcome = pair.backup(&s3().create_bucket("standby"), "target_session_attrs=standby");
    outcome.assert_code(0);
    assert!(!outcome.stderr.contains("conflict with replay"), "{}", outcome.stderr);
}
