//! Nothing of the user's is run by `check`, `backup` and `restore`: the owner of a database plants functions, operators, relations and
//! types over everything that this program asks, in each schema of the search_path, and none is run as the superuser that
//! takes the backup, or restores it.
//!
//! What is asked is not written down here a second time: each word of the program's own sources that is a name in pg_catalog
//! is planted over.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::support::program::Program;
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{Postgres, own_postgres, postgres, s3};
use crate::support::setup::{installed_clients, repository_file, s3_program};

/// All words of all sources.
fn words(directory: &Path) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        if entry.path().is_dir() {
            words.append(&mut self::words(&entry.path()));
        } else {
            let text = fs::read_to_string(entry.path()).expect("a source");
            let pieces = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
            words.extend(pieces.filter(|piece| piece.len() > 1).map(str::to_owned));
        }
    }
    words
}

/// Plants all of it, as the database's owner, without other rights. What springs says so in the server's log, with the nonce.
fn plant(database: &Database, nonce: &str) {
    let (server, owner) = (database.server(), unique_name("tenant"));
    let order = format!(
        "CREATE ROLE {owner}; ALTER DATABASE \"{}\" OWNER TO {owner}; GRANT ALL ON SCHEMA public TO {owner}",
        database.name
    );
    database.psql(&order).expect("an owner");
    let words: Vec<String> = words(&repository_file("src")).into_iter().collect();
    let mut psql = server.client("psql", &database.name);
    psql.args(["-v", &format!("words={{{}}}", words.join(",")), "-v", &format!("nonce={nonce}")]);
    psql.args(["-c", &format!("SET ROLE {owner}"), "-f"]).arg(repository_file("tests/it/hijack.sql"));
    let output = psql.stdin(Stdio::null()).output().expect("psql");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let planted = String::from_utf8_lossy(&output.stdout);
    let is_enough = |line: &str| line.split('|').filter_map(|count| count.parse().ok()).all(|count: u32| count > 10);
    assert!(planted.lines().rev().take(2).all(is_enough), "{planted}");
    // Both schemas come before pg_catalog, which is then not searched first.
    let path = format!("ALTER DATABASE \"{}\" SET search_path = public, pg_catalog", database.name);
    database.psql(&format!("SET ROLE {owner}; {path}")).expect("the owner may");
    let path = format!(
        "ALTER ROLE {} IN DATABASE \"{}\" SET search_path = evil, public, pg_catalog",
        server.user, database.name
    );
    database.psql(&path).expect("set");
}

/// The lines of the server's log that mention what was planted.
fn sprung(server: &Postgres, nonce: &str) -> Vec<String> {
    let log = fs::read(server.data_dir.parent().expect("the server's directory").join("log")).expect("its log");
    let needle = format!("sprung {nonce}");
    String::from_utf8_lossy(&log).lines().filter(|line| line.contains(&needle)).map(str::to_owned).collect()
}

fn assert_nothing_is_run(server: &Postgres, prepare: impl Fn(Program) -> Program) {
    let (database, nonce) = (server.create_database("hijack"), unique_name("nonce"));
    plant(&database, &nonce);
    // The traps are open: an unqualified query falls into them.
    let question = "SELECT to_jsonb(d), pg_database_size(oid) FROM pg_database d WHERE datname = 'x'::text LIMIT 1";
    let asked = database.psql(question);
    let open = sprung(server, &nonce).len();
    assert!(open > 0, "no trap is open: {asked:?}");
    let program = prepare(s3_program(&s3().create_bucket("hijack")).env("POSTGRES_CONNECTION_STRING", database.uri()));
    // So that the watch over the dump asks its questions, too, while that runs.
    let program = program.env("BACKUP_MAX_BLOCKING", "500ms");
    // A superuser restores what was planted: from within that database, and into one that finds it at once.
    let (target, name) = (server.create_database("target"), unique_name("restored"));
    target
        .psql(&format!("ALTER DATABASE \"{}\" SET search_path = evil, public, pg_catalog", target.name))
        .expect("set");
    let commands: [(&[&str], &Database); 5] = [
        (&["check"], &database),
        (&["backup"], &database),
        (&["restore"], &target),
        (&["restore", "--create-db", &name], &database),
        (&["restore", "--create-db", &name, "--replace"], &database),
    ];
    for (command, target) in commands {
        let outcome = program.clone().env("RESTORE_CONNECTION_STRING", target.uri()).args(command).run();
        assert!(command == ["check"] || outcome.code == Some(0), "{}", outcome.stderr);
        let run = sprung(server, &nonce).split_off(open);
        assert!(run.is_empty(), "{command:?} ran what was planted: {run:#?}\n{}", outcome.stderr);
    }
}

#[test]
fn nothing_that_a_databases_owner_plants_is_run() {
    assert_nothing_is_run(postgres(), |program| program);
}

#[test]
fn nothing_is_run_on_postgresql_13() {
    assert_nothing_is_run(&own_postgres(&["--major", "13"]), |program| program);
}

#[test]
fn nothing_is_run_on_postgresql_18() {
    let clients = installed_clients("18");
    let path = format!("{}:/usr/bin:/bin", clients.display());
    assert_nothing_is_run(&own_postgres(&["--major", "18"]), |program| program.env("PATH", &path));
}
