//! The end of a restore: whatever fails and whoever is connected, one database has the name, and the old one is not lost.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use pg_s3_backup::postgres::globals::DatabaseSettings;
use pg_s3_backup::restore::ScratchError;
use pg_s3_backup::restore::replace::Finished;
use pg_s3_backup::restore::scratch::{Existing, Scratch};

use crate::restore_scratch::{connected, restore_as, role};
use crate::support::library::block_on;
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{Postgres, postgres};
use crate::support::session::Session;
use crate::support::tcp_proxy::TcpProxy;

/// As a superuser, whatever role restores.
fn asked(sql: &str) -> String {
    postgres().psql("postgres", sql).expect("asked")
}

fn literal(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A scratch database with the row `new`, on the way to this name.
async fn restored(server: &Postgres, name: &str, existing: Existing) -> Scratch {
    let mut scratch = connected(&server.uri("postgres"), restore_as(name, existing)).await.expect("connected");
    scratch.create(None).await.expect("made");
    server.psql(scratch.name(), "CREATE TABLE t AS SELECT 'new' AS age").expect("restored");
    scratch
}

/// A database with the row `old`, of this role.
fn old_database(hint: &str, owner: &str) -> Database {
    let database = postgres().create_database(hint);
    database.psql("CREATE TABLE t AS SELECT 'old' AS age; GRANT SELECT ON t TO PUBLIC").expect("filled");
    asked(&format!("ALTER DATABASE {} OWNER TO {owner}", quoted(&database.name)));
    database
}

fn age(name: &str) -> String {
    postgres().psql(name, "SELECT age FROM t").expect("the database of that name can be read")
}

fn allows_connections(name: &str) -> String {
    asked(&format!("SELECT datallowconn FROM pg_database WHERE datname = {}", literal(name)))
}

fn drop_all(names: &[&str]) {
    for name in names {
        let _ = postgres().psql("postgres", &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name)));
    }
}

/// The old database is as it was, and the restored one is kept.
#[track_caller]
fn assert_not_replaced(error: &ScratchError, old: &Database, scratch: &str) {
    assert!(matches!(error, ScratchError::NotRenamed { .. }) && error.exit_code().number() == 15, "{error}");
    let said = error.to_string();
    assert!(said.contains(&format!("RENAME TO {}", quoted(&old.name))), "{said}");
    assert_eq!((age(&old.name).as_str(), allows_connections(&old.name).as_str()), ("old", "t"), "{said}");
    assert_eq!(age(scratch), "new", "{said}");
}

#[test]
fn any_name_can_be_given_and_postgres_defaults_with_it() {
    let odd = ["it's \"odd\"; -- \\ 漢", "-x", "dbname=postgres host=nowhere", "postgres://h/d", "Ünï code"];
    let longest = "ü".repeat(31) + "x";
    for name in odd.into_iter().chain([longest.as_str()]) {
        let name = if name.len() > 50 { name.to_owned() } else { unique_name(name) };
        block_on(async {
            let mut scratch = restored(postgres(), &name, Existing::Refuse).await;
            let finished = scratch.finish(None).await.expect("named");
            assert_eq!(finished, Finished { name: name.clone(), ..Finished::default() });
            scratch.discard(Duration::from_mins(1)).await.expect("there is nothing to drop");
        });
        assert_eq!(age(&name), "new");
        let state = format!(
            "SELECT has_database_privilege('public', oid, 'CONNECT'), has_database_privilege('public', oid, 'TEMPORARY'), \
             has_database_privilege('public', oid, 'CREATE'), shobj_description(oid, 'pg_database') IS NULL \
             FROM pg_database WHERE datname = {}",
            literal(&name)
        );
        assert_eq!(asked(&state), "t|t|f|t", "{name}");
        drop_all(&[&name]);
    }
}

#[test]
fn the_database_is_replaced_under_load_and_the_old_one_is_kept() {
    let old = old_database("busy", "postgres");
    let (ended, read) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let mut held = Session::open(&old);
        held.run("BEGIN; SELECT * FROM t");
        for _ in 0..2 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    // Refused for a moment, or not; never a database of that name that is half there.
                    if let Ok(age) = old.psql("SELECT age FROM t") {
                        assert!(["old", "new"].contains(&age.as_str()), "{age}");
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let finished = block_on(async {
            let mut scratch = restored(postgres(), &old.name, Existing::Replace).await;
            scratch.finish(None).await
        });
        ended.store(true, Ordering::Relaxed);
        let finished = finished.expect("replaced");
        let before = finished.replaced.expect("it is named");
        assert!(before.starts_with(&format!("{}_before_2", old.name)), "{before}");
        assert_eq!((age(&old.name).as_str(), allows_connections(&before).as_str()), ("new", "f"));
        asked(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", quoted(&before)));
        assert_eq!(age(&before), "old");
        drop_all(&[&before]);
    });
    assert!(read.into_inner() > 0);
}

#[test]
fn the_name_of_the_old_database_is_cut_to_what_a_name_can_be() {
    let name = format!("{}{}", "漢".repeat(17), unique_name("x"));
    let name = &name[..name.floor_char_boundary(63)];
    drop_all(&[name]);
    asked(&format!("CREATE DATABASE {} TEMPLATE template0", quoted(name)));
    let before = block_on(async {
        let mut scratch = restored(postgres(), name, Existing::Replace).await;
        scratch.finish(None).await.expect("replaced").replaced.expect("named")
    });
    assert!(before.len() <= 63 && before.contains("漢_before_2"), "{before}");
    assert_eq!(allows_connections(&before), "f");
    drop_all(&[name, &before]);
}

#[test]
fn a_session_that_may_not_be_ended_leaves_the_old_database_as_it_was() {
    let server = role(postgres(), "CREATEDB");
    let old = old_database("held", &server.user);
    let (scratch, said) = block_on(async {
        let mut scratch = restored(&server, &old.name, Existing::Replace).await;
        let mut held = Session::open(&old);
        held.run("SELECT 1");
        let error = scratch.finish(None).await.expect_err("a superuser is connected");
        assert_not_replaced(&error, &old, scratch.name());
        let name = scratch.name().to_owned();
        scratch.discard(Duration::from_mins(1)).await.expect("kept");
        (name, error.to_string())
    });
    assert!(said.contains("of postgres"), "who is in the way: {said}");
    // What is printed finishes the restore.
    let statements = said.split_once(": run ").expect("statements").1;
    for statement in statements.split_inclusive("; ") {
        server.psql("postgres", statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    assert_eq!(age(&old.name), "new");
    let before = asked(&format!("SELECT datname FROM pg_database WHERE starts_with(datname, '{}_before_')", old.name));
    drop_all(&[&before, &scratch]);
}

#[test]
fn a_scratch_database_in_use_does_not_cost_the_old_one_its_name() {
    let server = role(postgres(), "CREATEDB");
    let old = old_database("second", &server.user);
    let scratch = block_on(async {
        let mut scratch = restored(&server, &old.name, Existing::Replace).await;
        let name = scratch.name().to_owned();
        let mut psql = postgres().client("psql", &name);
        let mut held = psql.stdin(std::process::Stdio::piped()).spawn().expect("psql");
        while asked(&format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")) == "0" {}
        let error = scratch.finish(None).await.expect_err("a superuser is connected");
        held.kill().expect("killed");
        held.wait().expect("its end");
        assert_not_replaced(&error, &old, &name);
        name
    });
    drop_all(&[&scratch]);
}

#[test]
fn a_name_or_a_right_that_is_lost_meanwhile_leaves_both_databases() {
    let server = role(postgres(), "CREATEDB");
    let old = old_database("lost", &server.user);
    let (scratch, other) = block_on(async {
        let mut scratch = restored(&server, &old.name, Existing::Replace).await;
        asked(&format!("ALTER DATABASE {} OWNER TO postgres", quoted(&old.name)));
        let error = scratch.finish(None).await.expect_err("not its owner any more");
        assert_not_replaced(&error, &old, scratch.name());
        let free = unique_name("free");
        let mut second = restored(&server, &free, Existing::Refuse).await;
        let taken = old_database("x", "postgres");
        asked(&format!("ALTER DATABASE {} RENAME TO {}", quoted(&taken.name), quoted(&free)));
        let error = second.finish(None).await.expect_err("taken");
        assert!(matches!(error, ScratchError::NotRenamed { .. }) && error.to_string().contains("meanwhile"), "{error}");
        assert_eq!((age(&free).as_str(), age(second.name()).as_str()), ("old", "new"));
        drop_all(&[&free]);
        (scratch.name().to_owned(), second.name().to_owned())
    });
    drop_all(&[&scratch, &other]);
}

#[test]
fn wherever_it_is_killed_one_database_has_the_name() {
    let old = old_database("killed", "postgres");
    let mut replaced = Vec::new();
    for pause in [0, 10, 20, 30, 40, 60, 80, 120, 200] {
        let scratch = block_on(async {
            let mut scratch = restored(postgres(), &old.name, Existing::Replace).await;
            let broken_off = tokio::time::timeout(Duration::from_millis(pause), scratch.finish(None)).await;
            if let Ok(finished) = broken_off {
                replaced.extend(finished.expect("replaced").replaced);
            }
            scratch.name().to_owned()
        });
        // Its sessions end with it, and what they did not commit is undone.
        while asked(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_s3_restore_%' AND pid <> pg_backend_pid()",
        ) != "0"
        {}
        let is_left = !asked(&format!("SELECT 1 FROM pg_database WHERE datname = '{scratch}'")).is_empty();
        let marked =
            format!("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{scratch}'");
        assert_eq!(asked(&marked).starts_with("pg-s3-backup: "), is_left, "an abandoned one is known as such");
        assert_eq!(allows_connections(&old.name), "t", "after {pause} ms");
        assert!(["old", "new"].contains(&age(&old.name).as_str()));
        drop_all(&[&scratch]);
    }
    let names = asked(&format!("SELECT datname FROM pg_database WHERE starts_with(datname, '{}_before_')", old.name));
    assert!(replaced.iter().all(|name| names.lines().any(|known| known == name)), "{names}: {replaced:?}");
    drop_all(&names.lines().collect::<Vec<_>>());
}

#[test]
fn wherever_the_connection_breaks_down_the_truth_is_told() {
    let old = old_database("cut", "postgres");
    let proxy = TcpProxy::start(&postgres().addr());
    let through = Postgres { host: proxy.host(), port: proxy.port(), ..postgres().clone() };
    let mut outcomes = [0, 0];
    // The first is not cut, and says how much there is to cut: its last bytes are the answer to the COMMIT.
    let mut all = 0;
    for round in 0..9 {
        let bytes = match round {
            0 => u64::MAX / 2,
            1..=4 => all - [1, 9, 17, 25][round - 1],
            _ => all * (round as u64 - 4) / 5,
        };
        let (scratch, finished) = block_on(async {
            let purpose = restore_as(&old.name, Existing::Replace);
            let mut scratch = connected(&through.uri("postgres"), purpose).await.expect("connected");
            scratch.create(None).await.expect("made");
            postgres().psql(scratch.name(), "CREATE TABLE t AS SELECT 'new' AS age").expect("restored");
            asked(&format!("COMMENT ON DATABASE {} IS 'before'", quoted(&old.name)));
            let before = proxy.bytes_to_client();
            proxy.cut_after_bytes(bytes);
            let finished = scratch.finish(None).await;
            if round == 0 {
                all = proxy.bytes_to_client() - before;
            }
            (scratch.name().to_owned(), finished)
        });
        let is_there = !asked(&format!("SELECT 1 FROM pg_database WHERE datname = '{scratch}'")).is_empty();
        assert_eq!(allows_connections(&old.name), "t");
        match finished {
            Ok(finished) => {
                outcomes[0] += 1;
                assert!(!is_there && age(&old.name) == "new", "{bytes}");
                drop_all(&[&finished.replaced.expect("replaced")]);
            }
            Err(error) => {
                outcomes[1] += 1;
                assert!(matches!(error, ScratchError::NotRenamed { .. }), "{bytes}: {error}");
                let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname =";
                assert_eq!(asked(&format!("{comment} {}", literal(&old.name))), "before", "{bytes}: {error}");
                assert!(is_there && age(&scratch) == "new", "{bytes}: {error}");
                drop_all(&[&scratch]);
            }
        }
    }
    // Those whose answer to the COMMIT alone was lost, and the one that lost nothing.
    assert!(outcomes[0] >= 4, "{outcomes:?}");
}

#[test]
fn the_databases_own_is_applied_last_and_what_cannot_be_is_named() {
    let reader = role(postgres(), "").user;
    let owner = role(postgres(), "").user;
    let own: DatabaseSettings = serde_json::from_value(serde_json::json!({
        "owner": owner, "connection_limit": 7, "is_template": true, "comment": "it's the shop",
        "grants": [
            {"grantor": owner, "grantee": null, "privilege": "CONNECT", "grantable": false},
            {"grantor": owner, "grantee": owner, "privilege": "CREATE", "grantable": false},
            {"grantor": owner, "grantee": reader, "privilege": "TEMPORARY", "grantable": true},
            {"grantor": owner, "grantee": "no such role", "privilege": "CREATE", "grantable": false},
        ],
        "settings": [{"role": null, "values": ["search_path=\"$user\", public", "no_such_setting=1"]}],
        "labels": [],
    }))
    .expect("settings");
    let name = unique_name("own");
    let finished = block_on(async {
        let mut scratch = restored(postgres(), &name, Existing::Refuse).await;
        scratch.finish(Some(&own)).await.expect("named")
    });
    let left_out = finished.left_out.join("\n");
    assert_eq!(finished.left_out.len(), 2, "{left_out}");
    assert!(left_out.contains("no such role") && left_out.contains("no_such_setting"), "{left_out}");
    let state = format!(
        "SELECT pg_get_userbyid(datdba), datconnlimit, datistemplate, shobj_description(oid, 'pg_database'), datacl \
         FROM pg_database WHERE datname = '{name}'"
    );
    let granted = format!("{{=c/{owner},{owner}=C/{owner},{reader}=T*/{owner}}}");
    assert_eq!(asked(&state), format!("{owner}|7|t|it's the shop|{granted}"));
    assert_eq!(postgres().psql(&name, "SHOW search_path").expect("asked"), "\"$user\", public");
    asked(&format!("ALTER DATABASE {name} IS_TEMPLATE false"));
    drop_all(&[&name]);
}
