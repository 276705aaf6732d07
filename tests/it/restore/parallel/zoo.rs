//! A database in which objects depend on each other in all ways, on tablespaces and access methods of its own.

use crate::support::servers::Postgres;
use crate::support::servers::database::{Database, unique_name};
use crate::support::setup::repository_file;

/// Runs a file of statements in a database, in one transaction.
#[track_caller]
pub fn load(database: &Database, fixture: &str, arguments: &[&str]) {
    let mut psql = database.server().client("psql", &database.name);
    let output = psql.args(["-v", "ON_ERROR_STOP=1", "-1f"]).arg(repository_file(fixture)).args(arguments).output();
    let output = output.expect("psql");
    assert!(output.status.success(), "{fixture}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A database with everything of the fixtures `zoo.sql` and `zoo_storage.sql`, on two tablespaces without a directory of their own.
#[track_caller]
pub fn zoo(server: &Postgres) -> Database {
    let spaces = ["one", "two"].map(unique_name);
    for space in &spaces {
        server.create_in_place_tablespace(space);
    }
    let source = server.create_database("zoo");
    load(&source, "tests/fixtures/zoo.sql", &[]);
    let [one, two] = &spaces;
    load(&source, "tests/fixtures/zoo_storage.sql", &["-v", &format!("one={one}"), "-v", &format!("two={two}")]);
    // What the fixture is for.
    let dump = source.dump().expect("a dump");
    for setting in
        [format!("tablespace = {one};"), format!("tablespace = {two};"), "table_access_method = zoo_heap;".to_owned()]
    {
        assert!(dump.contains(&format!("SET default_{setting}")), "{setting}");
    }
    source
}
