//! Foreign keys in circles: sessions that add them at the same time must not wait for each other.

use std::fmt::Write as _;

use super::{create, restored_by};
use crate::restore::backed_up;
use crate::support::servers::database::unique_name;
use crate::support::servers::postgres;

const TABLES: usize = 50;

/// `RESTORE_CIRCLES` is the number of runs (`make test-versions`: 20).
#[test]
fn foreign_keys_in_circles_are_no_deadlock() {
    let mut sql = String::new();
    for table in 0..TABLES {
        write!(sql, "CREATE TABLE c{table} (a int PRIMARY KEY, b int, c int, d int, e int); ").expect("to memory");
        write!(sql, "INSERT INTO c{table} SELECT g, g, g, g, g FROM generate_series(1, 20) g; ").expect("to memory");
    }
    for table in 0..TABLES {
        for (column, distance) in [("b", 1), ("c", 7), ("d", 23), ("e", 49)] {
            let other = (table + distance) % TABLES;
            write!(sql, "ALTER TABLE c{table} ADD FOREIGN KEY ({column}) REFERENCES c{other}; ").expect("to memory");
        }
    }
    let (source, bucket) = backed_up(&sql);
    let runs = std::env::var("RESTORE_CIRCLES").ok().and_then(|runs| runs.parse().ok()).unwrap_or(3);
    let valid = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated";
    let expected = source.psql(valid);
    assert_eq!(expected.as_deref(), Ok("200"));
    for _ in 0..runs {
        assert_eq!(restored_by(&bucket, postgres(), 8).psql(valid), expected);
    }
    // A number of sessions that the server does not have is no failure.
    let name = unique_name("made");
    let role = unique_name("few");
    postgres()
        .psql("postgres", &format!("CREATE ROLE {role} LOGIN CREATEDB CONNECTION LIMIT 4 PASSWORD 'x'"))
        .expect("a role");
    let (host, port) = (&postgres().host, postgres().port);
    let uri = format!("postgresql://{role}:x@{host}:{port}/postgres");
    let program = create(&bucket, postgres(), (&name, 8)).env("RESTORE_CONNECTION_STRING", uri);
    let outcome = program.args(["--no-owner", "--no-privileges"]).run();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains("restoring by fewer"), "{}", outcome.stderr);
    drop(postgres().adopt_database(&name));
    postgres().psql("postgres", &format!("DROP ROLE {role}")).expect("dropped");
}
