//! `restore --create-db --jobs`: several sessions restore what one restores, or nothing.

mod ahead;
mod autovacuum;
mod circles;
mod extension;
mod faults;
mod same;
mod workers;
mod zoo;

pub use zoo::zoo;

use std::time::Duration;

use crate::restore::{empty, new_database};
use crate::support::program::{Outcome, Program};
use crate::support::servers::Postgres;
use crate::support::servers::database::{Database, unique_name};

/// `restore --create-db` by so many sessions.
fn create(bucket: &str, server: &Postgres, (name, jobs): (&str, usize)) -> Program {
    new_database::create(bucket, server, name).args(["--jobs", &jobs.to_string()])
}

/// Restores by so many sessions, and not by fewer.
#[track_caller]
pub fn restored_by(bucket: &str, server: &Postgres, jobs: usize) -> Database {
    let name = unique_name("made");
    // Thousands of tables take one session minutes on a slow machine.
    let outcome = create(bucket, server, (&name, jobs)).timeout(Duration::from_mins(10)).run();
    outcome.assert_code(0).assert_no_children_left();
    assert_several(&outcome);
    server.adopt_database(&name)
}

/// Several sessions restored it.
#[track_caller]
fn assert_several(outcome: &Outcome) {
    for words in ["restored by one session", "restoring by fewer"] {
        assert!(!outcome.stderr.contains(words), "{}", outcome.stderr);
    }
}

/// A table with ranges inside its rows, and others.
fn large() -> Database {
    let source = empty("large");
    source
        .psql(
            "CREATE TABLE big AS SELECT g AS a, repeat(md5(g::text), 4) AS b, E'x\\t\\\\\\n' || g AS c FROM generate_series(1, 300000) g; \
             ALTER TABLE big ADD PRIMARY KEY (a); CREATE INDEX ON big (c); \
             CREATE TABLE small AS SELECT g AS a FROM generate_series(1, 9) g; \
             CREATE TABLE other AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 100000) g",
        )
        .expect("tables");
    source
}

/// A dump of a database with the rows of each table in order: several sessions load them in any.
pub fn sorted(database: &Database) -> String {
    let dump = database.dump().expect("a dump");
    let (mut lines, mut rows) = (Vec::new(), None::<Vec<&str>>);
    for line in dump.lines() {
        match (&mut rows, line) {
            (Some(sorted), "\\.") => {
                sorted.sort_unstable();
                lines.append(sorted);
                lines.push(line);
                rows = None;
            }
            (Some(sorted), _) => sorted.push(line),
            (None, _) => {
                lines.push(line);
                if line.starts_with("COPY ") && line.ends_with(" FROM stdin;") {
                    rows = Some(Vec::new());
                }
            }
        }
    }
    lines.join("\n")
}
