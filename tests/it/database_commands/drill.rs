//! The drills of several databases: each has its own record, and one that fails stops no other.

use serde_json::Value;

use crate::daemon::YEARLY;
use crate::drill::assert_nothing_left;
use crate::support::client::eventually;
use crate::support::program::Program;
use crate::support::servers::{own_postgres, postgres, s3};
use crate::support::stored::put;

use super::{Server, json};

const CHECK_FAILED: i32 = 14;

#[test]
fn each_database_is_drilled() {
    let (server, target) = (Server::backed_up(&["_a", "/b c", "_d"]), own_postgres(&[]));
    let drill = |program: Program| {
        program.env("DRILL_CONNECTION_STRING", target.uri("postgres")).args(["--bucket-only", "--json"])
    };
    // A backup of the same name, and a damaged one.
    let key = server.key("_a");
    let broken = server.key("_d");
    let bytes = s3().get(&server.bucket, &broken).expect("stored");
    put(&server.bucket, &broken, &vec![b'x'; bytes.len()]);
    let outcome = drill(server.program("check")).run();
    let found = json(outcome.assert_code(CHECK_FAILED));
    let drills = found["drills"].as_array().expect("an array");
    let results: Vec<(&Value, &Value)> = drills.iter().map(|drill| (&drill["database"], &drill["result"])).collect();
    let wanted =
        [("/b c", "ok"), ("_a", "ok"), ("_d", "fail")].map(|(end, result)| (server.name(end).into(), result.into()));
    assert_eq!(
        results,
        wanted.iter().map(|(database, result): &(Value, Value)| (database, result)).collect::<Vec<_>>(),
        "{found:#}"
    );
    assert_nothing_left(&target, &outcome);
    for ending in ["_a", "/b c", "_d"] {
        let record = s3().get(&server.bucket, &format!("{}.drill.json", server.key(ending))).expect("a record");
        let record: Value = serde_json::from_slice(&record).expect("JSON");
        assert_eq!(record["result"], if ending == "_d" { "fail" } else { "ok" });
    }
    let text = server.program("list").run().assert_code(0).stdout_text();
    assert!(text.matches("restored ").count() == 2 && text.contains("DRILL FAILED"), "{text}");

    let url = format!("s3://{}/{key}", server.bucket);
    let found = json(drill(server.program("check")).args(["--backup", &url]).run().assert_code(0));
    assert_eq!(found["drills"].as_array().map(Vec::len), Some(1), "{found:#}");
    let name = key.rsplit('/').next().expect("a name").to_owned();
    put(
        &server.bucket,
        &server.key("/b c").replace(server.key("/b c").rsplit('/').next().expect("a name"), &name),
        b"x",
    );
    let outcome = drill(server.program("check")).args(["--backup", &name]).run();
    let found = json(outcome.assert_code(CHECK_FAILED));
    assert!(found.to_string().contains("--databases"), "an ambiguous name: {found:#}");
}

#[test]
fn the_daemon_drills_each_database() {
    let (server, target) = (Server::backed_up(&["_a", "_b"]), own_postgres(&[]));
    let running = server
        .program("daemon")
        .arg("--catch-up=false")
        .env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres"))
        .env("BACKUP_INTERVAL", YEARLY)
        .env("DRILL_CONNECTION_STRING", target.uri("postgres"))
        .env("DRILL_INTERVAL", "* * * * * *")
        .spawn();
    let records = || s3().keys(&server.bucket, "pg/").iter().filter(|key| key.ends_with(".drill.json")).count();
    // A drill is logged when its record has been written.
    let is_logged = |ending: &str| {
        let (log, name) = (running.stderr_so_far(), server.name(ending));
        log.lines().any(|line| line.contains("drill completed") && line.contains(&name))
    };
    eventually(|| records() == 2 && ["_a", "_b"].into_iter().all(is_logged), || running.stderr_so_far());
}
