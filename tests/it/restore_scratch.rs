//! Scratch databases: made with the recorded locale, closed to others, found when a killed process left one behind, and dropped
//! without a word to a publisher.

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use pg_s3_backup::archive::manifest::Manifest;
use pg_s3_backup::restore::ScratchError;
use pg_s3_backup::restore::abandoned;
use pg_s3_backup::restore::scratch::{Existing, Origin, Purpose, Scratch};

use crate::support::library::{block_on, connection};
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{Postgres, own_postgres, postgres};

const WITHIN: Duration = Duration::from_mins(1);
const ORIGIN: &str = "s3://bucket/it's \"a\" key";

/// 32 hexadecimal digits that no other test has.
pub fn run_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("random");
    crate::support::setup::hex(&bytes)
}

pub fn restore_as(name: &str, existing: Existing) -> Purpose {
    Purpose::Restore { name: name.to_owned(), existing }
}

/// A scratch database on the server of this URI, connected but not made.
pub async fn connected(uri: &str, purpose: Purpose) -> Result<Scratch, ScratchError> {
    let (tools, settings) = connection(uri).await;
    Scratch::connect(&tools, &settings, purpose, Origin { run_id: &run_id(), backup: ORIGIN }).await
}

/// A manifest with these fields, which decide what a database is made with.
pub fn manifest(fields: &[(&str, &str)]) -> Manifest {
    let mut json = serde_json::json!({
        "file_name": "n", "key": "n", "run_id": "1", "database": "shop", "started_at": "", "finished_at": "",
        "server_version": "13", "pg_dump_version": "15", "tool_version": "1", "pg_dump_arguments": [], "database_bytes": 1,
        "dump_bytes": 1, "dump_crc32": "", "object_bytes": 1, "object_sha256": "", "compression_ratio": 1.0,
        "compression_level": 1, "part_bytes": 1, "parts": 1, "encoding": "UTF8", "rows": 0, "tables": [],
    });
    for (name, value) in fields {
        json[*name] = (*value).into();
    }
    serde_json::from_value(json).expect("a manifest")
}

fn exists(server: &Postgres, name: &str) -> bool {
    !server.psql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'")).expect("asked").is_empty()
}

pub fn role(server: &Postgres, options: &str) -> Postgres {
    let user = unique_name("restorer");
    server.psql("postgres", &format!("CREATE ROLE {user} LOGIN PASSWORD 'secret' {options}")).expect("CREATE ROLE");
    Postgres { user, password: "secret".to_owned(), ..server.clone() }
}

#[test]
fn is_closed_to_others_and_dropped_without_a_trace() {
    block_on(async {
        let server = role(postgres(), "CREATEDB");
        let mut scratch = connected(&server.uri("postgres"), Purpose::Drill).await.expect("connected");
        let name = scratch.name().to_owned();
        assert!(name.starts_with("pg_s3_drill_") && name.len() == "pg_s3_drill_".len() + 16, "{name}");
        scratch.create(None).await.expect("made");
        assert_eq!(scratch.settings().conninfo.get("dbname"), Some(&*name));
        let stranger = role(postgres(), "");
        assert!(stranger.psql(&name, "SELECT 1").expect_err("closed").contains("permission denied for database"));
        let comment = format!("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{name}'");
        let comment = postgres().psql("postgres", &comment).expect("asked");
        assert!(comment.starts_with("pg-s3-backup: ") && comment.contains(ORIGIN), "{comment}");
        scratch.discard(WITHIN).await.expect("dropped");
        assert!(!exists(postgres(), &name));
    });
}

#[test]
fn is_kept_where_that_is_wanted_and_it_was_made() {
    block_on(async {
        let scratch = connected(&postgres().uri("postgres"), Purpose::Drill).await.expect("connected");
        scratch.keep().await;
        let mut scratch = connected(&postgres().uri("postgres"), Purpose::Drill).await.expect("connected");
        scratch.create(None).await.expect("made");
        let name = scratch.name().to_owned();
        scratch.keep().await;
        assert!(exists(postgres(), &name));
        postgres().psql("postgres", &format!("DROP DATABASE {name}")).expect("dropped: no session holds it");
    });
}

#[test]
fn has_the_recorded_encoding_and_locale() {
    let german = [
        ("locale_provider", "i"),
        ("locale", "de-u-co-phonebk"),
        ("collation", "C"),
        ("ctype", "C"),
        ("server_version", "15.18"),
    ];
    let latin = [("encoding", "LATIN1"), ("collation", "C"), ("ctype", "C")];
    let question = "SELECT pg_encoding_to_char(encoding), datlocprovider, daticulocale, datcollate, datctype \
                    FROM pg_database WHERE datname = current_database()";
    for (manifest, expected) in [(manifest(&german), "UTF8|i|de-u-co-phonebk|C|C"), (manifest(&latin), "LATIN1|c||C|C")]
    {
        block_on(async {
            let mut scratch = connected(&postgres().uri("postgres"), Purpose::Drill).await.expect("connected");
            scratch.create(Some(&manifest)).await.expect("made");
            assert_eq!(postgres().psql(scratch.name(), question).expect("asked"), expected);
            scratch.discard(WITHIN).await.expect("dropped");
        });
    }
}

#[test]
fn a_locale_that_the_server_lacks_says_what_to_do_and_leaves_nothing() {
    block_on(async {
        let mut scratch = connected(&postgres().uri("postgres"), Purpose::Drill).await.expect("connected");
        let name = scratch.name().to_owned();
        let lacking = manifest(&[("collation", "tlh_QO.UTF-8"), ("ctype", "tlh_QO.UTF-8")]);
        let said = scratch.create(Some(&lacking)).await.expect_err("refused").to_string();
        assert!(said.contains("tlh_QO.UTF-8") && said.contains("install it"), "{said}");
        scratch.discard(WITHIN).await.expect("nothing to drop");
        assert!(!exists(postgres(), &name));
    });
}

#[test]
fn is_refused_before_anything_is_done() {
    block_on(async {
        let database: Database = postgres().create_database("taken");
        let code = |result: Result<Scratch, ScratchError>| {
            let error = result.map(|scratch| scratch.name().to_owned()).expect_err("refused");
            (error.exit_code().number(), error.to_string())
        };
        let powerless = role(postgres(), "").uri("postgres");
        let (number, said) = code(connected(&powerless, Purpose::Drill).await);
        assert!(number == 15 && said.contains("CREATEDB"), "{said}");
        let (number, said) = code(connected(&database.uri(), restore_as(&database.name, Existing::Refuse)).await);
        assert!(number == 15 && said.contains("--replace"), "{said}");
        let creator = role(postgres(), "CREATEDB").uri("postgres");
        let (number, said) = code(connected(&creator, restore_as(&database.name, Existing::Replace)).await);
        assert!(number == 15 && said.contains("belongs to postgres"), "{said}");
        let (_, said) = code(connected(&creator, restore_as("template1", Existing::Replace)).await);
        assert!(said.contains("template"), "{said}");
    });
}

#[test]
fn a_database_of_the_target_that_does_not_exist_is_passed_over() {
    block_on(async {
        let mut scratch = connected(&postgres().uri("no such database"), Purpose::Drill).await.expect("connected");
        assert_eq!(scratch.server().await.expect("a session").standing().database, "postgres");
        scratch.discard(WITHIN).await.expect("nothing to drop");
        // Nor is one that is to be replaced: its own session would be in the way.
        let database = postgres().create_database("itself");
        let purpose = restore_as(&database.name, Existing::Replace);
        let mut scratch = connected(&database.uri(), purpose).await.expect("connected");
        assert_eq!(scratch.server().await.expect("a session").standing().database, "postgres");
        scratch.discard(WITHIN).await.expect("nothing to drop");
    });
}

/// As a user who copies it into psql.
fn run_by_hand(statement: &str) {
    let mut child = postgres().client("psql", "postgres").stdin(Stdio::piped()).spawn().expect("psql");
    writeln!(child.stdin.take().expect("its input"), "{statement}").expect("written");
    assert!(child.wait().expect("its end").success(), "{statement}");
}

#[test]
fn one_that_a_killed_process_left_behind_is_found_and_one_in_use_is_not() {
    block_on(async {
        let uri = postgres().uri("postgres");
        let mut first = connected(&uri, Purpose::Drill).await.expect("connected");
        first.create(None).await.expect("made");
        let name = first.name().to_owned();
        let mut second = connected(&uri, Purpose::Drill).await.expect("connected");
        let found = |list: &[pg_s3_backup::restore::Abandoned]| list.iter().find(|one| one.name == name).cloned();
        assert_eq!(found(&second.abandoned().await.expect("asked")), None);
        // As a process that is killed: its psql ends with it.
        drop(first);
        let one = loop {
            if let Some(one) = found(&second.abandoned().await.expect("asked")) {
                break one;
            }
        };
        assert!(one.is_marked && one.bytes.is_some_and(|bytes| bytes > 0), "{one:?}");
        postgres().psql("postgres", &one.statement()).expect("dropped by its statement");
        // With a subscription, which the server does not drop with its database.
        for by_statement in [true, false] {
            let mut third = connected(&uri, Purpose::Drill).await.expect("connected");
            third.create(None).await.expect("made");
            let name = third.name().to_owned();
            let subscription =
                "CREATE SUBSCRIPTION \"it's \"\"s\" CONNECTION 'host=/nowhere' PUBLICATION p WITH (connect = false)";
            postgres().psql(&name, subscription).expect("subscribed");
            drop(third);
            let one = loop {
                let list = second.abandoned().await.expect("asked");
                if let Some(one) = list.into_iter().find(|one| one.name == name) {
                    break one;
                }
            };
            if by_statement {
                run_by_hand(&one.statement());
            } else {
                second.drop_abandoned(&one).await.expect("dropped");
            }
            assert!(!exists(postgres(), &name), "{}", one.statement());
        }
        // Killed before it had written its comment.
        let bare = format!("pg_s3_restore_{}", &run_id()[..16]);
        postgres().psql("postgres", &format!("CREATE DATABASE {bare} TEMPLATE template0")).expect("made");
        let list = abandoned(second.server().await.expect("a session")).await.expect("asked");
        assert!(list.iter().any(|one| one.name == bare && !one.is_marked), "{list:?}");
        postgres().psql("postgres", &format!("DROP DATABASE {bare}")).expect("dropped");
        second.discard(WITHIN).await.expect("nothing to drop");
    });
}

#[test]
fn a_create_that_is_broken_off_leaves_nothing_once_discarded() {
    block_on(async {
        for pause in [0, 5, 20, 60, 120] {
            let mut scratch = connected(&postgres().uri("postgres"), Purpose::Drill).await.expect("connected");
            let name = scratch.name().to_owned();
            let broken_off = tokio::time::timeout(Duration::from_millis(pause), scratch.create(None)).await;
            drop(broken_off);
            scratch.discard(WITHIN).await.expect("dropped");
            assert!(!exists(postgres(), &name), "after {pause} ms");
        }
    });
}

#[test]
fn a_session_of_a_role_that_becomes_another_is_ended() {
    let server = own_postgres(&[]);
    let roles = "CREATE ROLE owner CREATEDB; CREATE ROLE login LOGIN PASSWORD 'secret' IN ROLE owner; ALTER ROLE login SET role TO owner";
    server.psql("postgres", roles).expect("roles");
    let login = Postgres { user: "login".to_owned(), password: "secret".to_owned(), ..server.clone() };
    block_on(async {
        let mut scratch = connected(&login.uri("postgres"), Purpose::Drill).await.expect("connected");
        let name = scratch.name().to_owned();
        let broken_off = tokio::time::timeout(Duration::from_millis(1), scratch.create(None)).await;
        assert!(broken_off.is_err(), "the session is busy");
        scratch.discard(WITHIN).await.expect("dropped");
        assert!(!exists(&server, &name));
        let left = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'login' AND query LIKE 'CREATE DATABASE%'";
        assert_eq!(server.psql("postgres", left).as_deref(), Ok("0"));
    });
}

#[test]
fn a_subscription_is_cut_off_its_publisher_whose_slot_lives() {
    let (publisher, subscriber) = std::thread::scope(|scope| {
        let other = scope.spawn(|| own_postgres(&[]));
        (own_postgres(&[]), other.join().expect("a server"))
    });
    publisher.psql("postgres", "ALTER SYSTEM SET wal_level = logical").expect("set");
    let restarted = Restarted(&publisher);
    restarted.stop(Shutdown::Fast);
    restarted.start();
    publisher
        .psql("postgres", "CREATE TABLE t (a int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t")
        .expect("published");
    publisher.psql("postgres", "SELECT pg_create_logical_replication_slot('the_slot', 'pgoutput')").expect("a slot");
    let slots = || publisher.psql("postgres", "SELECT slot_name FROM pg_replication_slots").expect("asked");
    block_on(async {
        let mut scratch = connected(&subscriber.uri("postgres"), Purpose::Drill).await.expect("connected");
        scratch.create(None).await.expect("made");
        let name = scratch.name().to_owned();
        // Enabled, with a table whose first copy has its own slot: more than pg_dump writes.
        let subscription = format!(
            "CREATE TABLE t (a int PRIMARY KEY); \
             CREATE SUBSCRIPTION \"it's \"\"s\" CONNECTION 'host={} port={} user={} password={} dbname=postgres' \
             PUBLICATION p WITH (create_slot = false, slot_name = 'the_slot')",
            publisher.host, publisher.port, publisher.user, publisher.password
        );
        for statement in subscription.split_inclusive("; ") {
            subscriber.psql(&name, statement).expect("subscribed");
        }
        scratch.discard(WITHIN).await.expect("dropped");
        assert!(!exists(&subscriber, &name));
    });
    assert!(slots().lines().any(|slot| slot == "the_slot"), "{}", slots());
}
