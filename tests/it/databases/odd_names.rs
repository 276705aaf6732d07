//! Names that are hard to quote, to encode and to tell apart; databases that cannot be backed up.

use std::collections::BTreeSet;

use crate::support::servers::{postgres, s3};
use crate::support::setup::{plain, s3_program};

use super::server::{ODD_NAMES, backup_of, create, identifier, key_of, keys, longest_name, reports, server_with};

#[test]
fn backs_up_each_database_whatever_its_name_and_its_neighbours_failures() {
    let (server, bucket, longest) = (server_with(&ODD_NAMES), s3().create_bucket("odd"), longest_name());
    create(&server, &longest);
    for (name, sql) in [
        ("no connect", "REVOKE CONNECT ON DATABASE \"no connect\" FROM PUBLIC"),
        ("closed", "ALTER DATABASE closed ALLOW_CONNECTIONS false"),
        ("full", "ALTER DATABASE \"full\" CONNECTION LIMIT 0"),
        ("shape", "ALTER DATABASE shape IS_TEMPLATE true"),
    ] {
        create(&server, name);
        server.psql("postgres", sql).expect("changed");
    }
    create(&server, "broken");
    server.psql("broken", "CREATE TABLE lost (a int); INSERT INTO lost VALUES (1)").expect("filled");
    server.psql("broken", "UPDATE pg_class SET relfilenode = 4242424 WHERE relname = 'lost'").expect("broken");
    server.psql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'r' IN ROLE pg_read_all_data").expect("a role");
    let uri = server.uri("postgres").replacen(&format!("{}:{}", server.user, server.password), "reader:r", 1);
    let backup = backup_of(&server, &bucket, "all,!postgres").env("POSTGRES_CONNECTION_STRING", uri);
    let outcome = backup.arg("--json").run();
    outcome.assert_code(10).assert_no_children_left();

    let reports = reports(&outcome.stdout);
    let (done, failed): (Vec<_>, Vec<_>) = reports.iter().partition(|(_, report)| report["success"] == true);
    let all: BTreeSet<&str> = ODD_NAMES.iter().copied().chain([&*longest]).collect();
    assert_eq!(done.iter().map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>(), all, "{}", outcome.stderr);
    let failures: Vec<_> = failed.iter().map(|(name, report)| (name.as_str(), report["exit_code"].as_u64())).collect();
    assert_eq!(failures, [("broken", Some(11)), ("full", Some(10)), ("no connect", Some(10))], "{}", outcome.stderr);
    let mut objects = 0;
    for (name, report) in done {
        let key = key_of(&bucket, report);
        let dump = String::from_utf8(plain(&bucket, key)).expect("UTF-8");
        assert!(
            dump.contains(&format!("COPY public.own_name (name) FROM stdin;\n{}\n\\.", copied(name))),
            "{name}: {dump}"
        );
        assert!(key.starts_with("srv/") && key.matches('/').count() == 2 && !key.contains("/."), "{key}");
        objects += 4;
    }
    assert_eq!(keys(&bucket).len(), objects, "an object and its three sidecars each: {:?}", keys(&bucket));
    assert_eq!(s3().open_uploads(&bucket), [""; 0]);
    for name in ["broken", "full", "no connect"] {
        assert!(outcome.stderr.contains(name), "{name} is not named: {}", outcome.stderr);
    }
    assert!(identifier("a").len() == 3 && !outcome.stderr.contains("closed"), "{}", outcome.stderr);
}

#[test]
fn no_name_adds_a_row_to_the_table() {
    let database = postgres().create_database("row\nforged 1 ok\u{1b}[2K");
    let bucket = s3().create_bucket("rows");
    let backup = s3_program(&bucket).env("POSTGRES_CONNECTION_STRING", postgres().uri("postgres")).arg("backup");
    let outcome = backup.env("BACKUP_DATABASES", format!("\"{}\"", database.name)).run();
    let table = outcome.assert_code(0).stdout_text();
    assert_eq!(table.lines().count(), 3, "heading, row and summary: {table}");
    assert!(table.lines().nth(1).is_some_and(|row| row.starts_with("row\\nforged")), "{table}");
}

/// A value as COPY writes it.
fn copied(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}
