//! `check` of several databases: each finding names its database, and what is ok is one line of each.

use serde_json::Value;

use crate::support::program::{Outcome, Program};
use crate::support::servers::{postgres, s3};
use crate::support::stored::put;

use super::{Server, bucket_with, json, program, put_backups};

const CHECK_FAILED: i32 = 14;

/// The findings with this status, each with the database and the check.
fn with<'a>(report: &'a Value, status: &str) -> Vec<(&'a str, &'a str)> {
    let checks = report["checks"].as_array().expect("an array").iter().filter(|check| check["status"] == status);
    checks
        .map(|check| (check["database"].as_str().unwrap_or_default(), check["check"].as_str().expect("a name")))
        .collect()
}

#[track_caller]
fn report(outcome: &Outcome, code: i32) -> Value {
    outcome.assert_code(code);
    json(outcome)
}

#[test]
fn each_database_is_one_line_where_it_is_well() {
    let endings = ["", "_1", "/x \"y\"", "Ü"];
    let server = Server::backed_up(&endings);
    let text = server.program("check").run().assert_code(0).stdout_text();
    for ending in endings {
        let its: Vec<&str> =
            text.lines().filter(|line| line.contains(&format!(" {}: ", server.name(ending)))).collect();
        assert!(its.len() == 1 && its[0].starts_with("ok    database ") && its[0].contains(" old"), "{text}");
    }
    assert_eq!(text.matches("s3_put ").count(), 1, "{text}");
    let report = report(&server.program("check").args(["--json", "--deep"]).run(), 0);
    assert!(with(&report, "fail").is_empty() && with(&report, "warn").is_empty(), "{report:#}");
    let ok = with(&report, "ok");
    for check in ["postgres", "privileges", "schema_dump", "freshness", "manifest", "object", "size", "dump_integrity"]
    {
        for ending in endings {
            let name = server.name(ending);
            assert_eq!(ok.iter().filter(|found| **found == (name.as_str(), check)).count(), 1, "{name} {check}");
        }
    }
    for check in ["pg_dump", "postgres_clock", "s3_list", "s3_multipart"] {
        assert_eq!(ok.iter().filter(|found| **found == ("", check)).count(), 1, "{check}: {report:#}");
    }
}

#[test]
fn each_finding_names_its_database() {
    let mut server = Server::backed_up(&["_closed", "_gone", "_moved", "_well"]);
    server.create("_new");
    let [closed, gone, moved, well, new] = ["_closed", "_gone", "_moved", "_well", "_new"].map(|end| server.name(end));
    // Another server's database of this name.
    let key = format!("{}.json", server.key("_moved"));
    let mut manifest: Value =
        serde_json::from_slice(&s3().get(&server.bucket, &key).expect("the manifest")).expect("JSON");
    manifest["system_identifier"] = "1".into();
    put(&server.bucket, &key, manifest.to_string().as_bytes());
    put_backups(&server.bucket, &format!("{}_else", server.prefix), "another", &[1]);
    server.databases.remove(1);
    let role = format!("{}_reader", server.prefix);
    server.databases[0]
        .psql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'reader'; GRANT pg_read_all_data TO {role}; REVOKE CONNECT ON DATABASE {closed} FROM PUBLIC"))
        .expect("a role");
    let uri = format!("postgres://{role}:reader@{}/postgres", postgres().addr());
    let names = format!("{0}*,{0}_missing", server.prefix);
    let check = |program: Program| program.env("BACKUP_DATABASES", &names).env("POSTGRES_CONNECTION_STRING", &uri);
    let outcome = check(server.program("check")).arg("--json").run();
    let found = report(&outcome, CHECK_FAILED);
    let missing = server.name("_missing");
    let wanted = [
        (missing.as_str(), "database"),
        (closed.as_str(), "database"),
        (moved.as_str(), "manifest"),
        (new.as_str(), "freshness"),
    ];
    assert_eq!(with(&found, "fail"), wanted, "{found:#}");
    assert_eq!(with(&found, "warn"), [(gone.as_str(), "database"), ("", "database")], "{found:#}");
    let text = found.to_string();
    for words in ["GRANT CONNECT ON DATABASE", "on another server", "left alone", "has no database of this name"] {
        assert!(text.contains(words), "{words}: {found:#}");
    }
    let line = found["error"].as_str().expect("why");
    assert!(line.contains(&format!("freshness of {new}")) && !line.contains(&well), "{line}");
    let text = check(server.program("check")).run().assert_code(CHECK_FAILED).stdout_text();
    assert!(text.contains(&format!("fail  freshness       {new}: there is no backup")), "{text}");
    assert!(text.contains(&format!("ok    database        {well}: ")), "{text}");
    let role = format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}");
    postgres().psql("postgres", &role).expect("dropped");
}

#[test]
fn the_bucket_alone_is_checked_by_what_is_in_it() {
    let bucket = bucket_with(&["app", "shop"], &[1, 2]);
    put_backups(&bucket, "elsewhere", "another", &[1]);
    let check = |databases: &str| program(&bucket, databases, "check").args(["--bucket-only", "--json"]);
    let found = report(&check("all").args(["--max-age", "none"]).run(), 0);
    let mut freshness = with(&found, "ok");
    freshness.retain(|(_, check)| *check == "freshness");
    assert_eq!(freshness, [("app", "freshness"), ("shop", "freshness")], "{found:#}");
    assert!(with(&found, "warn").contains(&("", "database")), "the path that is left alone: {found:#}");
    let found = report(&check("app,nosuch").run(), CHECK_FAILED);
    assert_eq!(with(&found, "fail"), [("app", "freshness"), ("nosuch", "freshness")], "{found:#}");
    let found = report(&check("nothing*").run(), CHECK_FAILED);
    assert_eq!(with(&found, "fail"), [("", "database")], "{found:#}");
    assert_eq!(s3().keys(&bucket, "").len(), 10);
}
