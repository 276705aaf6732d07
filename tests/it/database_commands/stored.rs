//! `list`, `delete` and `restore`: which backup of which database is meant.

use crate::support::program::Program;
use crate::support::servers::s3;
use crate::support::setup::s3_program;
use crate::support::stored::name_of_day;

use super::{NAMES, NO_SUCH_BACKUP, Server, USAGE, assert_refused, bucket_with, json, program, put_backups, url};

const PRUNE_INCOMPLETE: i32 = 13;

#[test]
fn list_shows_each_database_with_its_newest_first() {
    let bucket = bucket_with(&NAMES, &[1, 2, 3]);
    put_backups(&bucket, "elsewhere", "another", &[1]);
    put_backups(&bucket, "not%2fours", "x", &[1]);
    let outcome = program(&bucket, "all,!App", "list").run();
    let text = outcome.assert_code(0).stdout_text();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split("postgres-backup-").collect()).collect();
    assert!(rows[0][0].starts_with("DATABASE ") && text.matches("DATABASE").count() == 1, "{text}");
    let wanted = NAMES.iter().filter(|name| **name != "App").flat_map(|name| [*name; 3]);
    assert_eq!(rows[1..].iter().map(|row| row[0].trim_end()).collect::<Vec<_>>(), wanted.collect::<Vec<_>>(), "{text}");
    assert!(rows[1..].chunks(3).all(|rows| rows[0][1] > rows[1][1] && rows[1][1] > rows[2][1]), "{text}");
    for words in ["pg/elsewhere/", "is of database another", "left alone"] {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("not%2fours"), "{}", outcome.stderr);

    let outcome = program(&bucket, "app,\"a b\",gone", "list").args(["--limit", "1", "--json"]).run();
    let backups = json(outcome.assert_code(0));
    let facts = |field: &str| -> Vec<&str> {
        backups.as_array().expect("an array").iter().filter_map(|backup| backup[field].as_str()).collect()
    };
    assert_eq!(facts("database"), ["a b", "app"]);
    assert_eq!(facts("s3_location"), ["a b", "app"].map(|database| url(&bucket, database, &name_of_day(3))));
    assert!(outcome.stderr.contains("gone"), "a named database without a backup: {}", outcome.stderr);
    let text = program(&bucket, "nothing*", "list").run().assert_code(0).stdout_text();
    assert_eq!(text, "");
}

#[test]
fn quiet_names_are_those_that_delete_takes() {
    let bucket = bucket_with(&NAMES, &[1, 2]);
    let names = program(&bucket, "all", "list").arg("--quiet").run().assert_code(0).stdout_text();
    let wanted = NAMES.iter().flat_map(|name| [2, 1].map(|day| url(&bucket, name, &name_of_day(day))));
    let names: Vec<&str> = names.lines().collect();
    assert_eq!(names, wanted.collect::<Vec<_>>());
    let older: Vec<&str> = names.iter().copied().filter(|name| name.ends_with(&name_of_day(1))).collect();
    let outcome = program(&bucket, "all", "delete").args(&older).arg("--json").run();
    let report = json(outcome.assert_code(0));
    for name in NAMES.map(|name| format!("database={name:?}")) {
        let is_logged = |line: &str| line.contains("backup deleted") && line.contains(&name);
        assert!(outcome.stderr.lines().any(is_logged), "{name}: {}", outcome.stderr);
    }
    assert_eq!((&report["deleted"], &report["backups"][0]["database"]), (&NAMES.len().into(), &"..".into()));
    let left = s3().keys(&bucket, "");
    assert!(left.len() == 2 * NAMES.len() && left.iter().all(|key| key.contains(&name_of_day(2))), "{left:?}");
}

#[test]
fn a_name_that_several_databases_have_is_refused_before_anything_is_done() {
    let bucket = bucket_with(&["app", "shop", "wiki"], &[1, 3]);
    put_backups(&bucket, "shop", "shop", &[2]);
    let all = |command: &str| program(&bucket, "app,shop", command);
    let before = s3().keys(&bucket, "");
    let which = ["the databases app, shop", "--databases", "s3:// URL"];
    assert_refused(&all("list").arg("latest"), USAGE, &which);
    assert_refused(&all("list").arg(name_of_day(1)), USAGE, &which);
    let two = [url(&bucket, "app", &name_of_day(1)), name_of_day(1)];
    assert_refused(&all("delete").args(two), USAGE, &which);
    assert_refused(&all("delete").arg(name_of_day(9)), NO_SUCH_BACKUP, &["nothing was deleted", "pg/"]);
    let wiki = url(&bucket, "wiki", &name_of_day(1));
    assert_refused(&all("delete").arg(&wiki), NO_SUCH_BACKUP, &["the databases app, shop", "BACKUP_DATABASES"]);
    let newest = [url(&bucket, "app", &name_of_day(1)), url(&bucket, "shop", &name_of_day(3))];
    assert_refused(&all("delete").args(&newest), PRUNE_INCOMPLETE, &["pg/shop/", "newest valid"]);
    assert_eq!(s3().keys(&bucket, ""), before);

    // The only one of its name, and one that a flag or a key says.
    let shows = |program: Program, wanted: &str| {
        let text = program.run().assert_code(0).stdout_text();
        assert!(text.contains(wanted), "{wanted}: {text}");
    };
    shows(all("list").arg(name_of_day(2)), &url(&bucket, "shop", &name_of_day(2)));
    shows(all("list").args(["latest", "--databases", "app"]), &url(&bucket, "app", &name_of_day(3)));
    shows(all("list").arg(format!("pg/app/{}", name_of_day(1))), &url(&bucket, "app", &name_of_day(1)));
    shows(all("delete").args(["--dry-run", &name_of_day(2)]), &format!("shop: {}", name_of_day(2)));
    all("delete").args([name_of_day(2), url(&bucket, "app", &name_of_day(1))]).run().assert_code(0);
    let gone: Vec<String> = before.into_iter().filter(|key| !s3().keys(&bucket, "").contains(key)).collect();
    let sidecars = |key: String| [format!("{key}.json"), key];
    let mut wanted: Vec<String> = ["app", "shop"]
        .into_iter()
        .zip([1, 2])
        .flat_map(|(database, day)| sidecars(format!("pg/{database}/{}", name_of_day(day))))
        .collect();
    wanted.sort();
    assert_eq!(gone, wanted);
}

#[test]
fn restore_takes_the_database_that_is_named() {
    let server = Server::backed_up(&["", "_1", "/x y", "Ü"]);
    let dir = tempfile::tempdir().expect("a directory");
    let restore = || s3_program(&server.bucket).env("S3_PATH", "pg").arg("restore");
    let dump_of = |program: Program| {
        let file = dir.path().join("dump.sql");
        program.arg("--output").arg(&file).run().assert_code(0);
        let dump = std::fs::read_to_string(&file).expect("a dump");
        std::fs::remove_file(&file).expect("removed");
        dump
    };
    for database in &server.databases {
        let dump = dump_of(restore().args(["--database", &database.name]));
        assert!(dump.contains(&format!("\n{}\n", database.name)), "{dump}");
    }
    let (key, name) = (server.key("/x y"), server.name("/x y"));
    for wanted in [key.clone(), format!("s3://{}/{key}", server.bucket)] {
        assert!(dump_of(restore().arg(wanted)).contains(&format!("\n{name}\n")));
    }
    let all = || restore().env("BACKUP_DATABASES", format!("{}*", server.prefix)).args(["--output", "dump.sql"]);
    assert_refused(&all(), USAGE, &["find latest", "--database,", &server.name("_1"), &name]);
    assert_refused(&all().args(["--at", "2036-01-01T00:00:00Z"]), USAGE, &["--database,"]);
    assert_refused(&all().args(["--database", "nosuch"]), NO_SUCH_BACKUP, &["pg/nosuch/", &name, "S3_PATH"]);
    // An instruction that is printed works as it is.
    let url = format!("s3://{}/{key}", server.bucket);
    let text = server.program("list").arg(&url).run().assert_code(0).stdout_text();
    assert!(text.contains(&format!("s3 cp {url} .")), "{text}");
}

#[test]
fn restore_refuses_another_database_in_the_path_of_the_named_one() {
    let server = Server::backed_up(&["_app", "_shop"]);
    let (app, shop) = (server.name("_app"), server.name("_shop"));
    // What a run without BACKUP_DATABASES and with --allow-mixed may have left.
    let path = format!("pg/{app}");
    crate::support::setup::backup_program(&server.databases[1], &server.bucket)
        .env("S3_PATH", path)
        .arg("--allow-mixed")
        .run()
        .assert_code(0);
    let newest = s3().keys(&server.bucket, &format!("pg/{app}/"));
    let newest = newest.iter().rfind(|key| key.ends_with(".sql.gz") && !key.contains("globals")).expect("a backup");
    let restore = || s3_program(&server.bucket).env("S3_PATH", "pg").args(["restore", "--output", "dump.sql"]);
    let words = ["it is of the database", shop.as_str(), app.as_str(), "nothing was restored", "s3:// URL"];
    assert_refused(&restore().args(["--database", &app]), NO_SUCH_BACKUP, &words);
    let outcome = restore().arg(newest).run();
    outcome.assert_code(0);
    assert!(outcome.stderr.contains(&format!("is of the database {shop}, not of {app}")), "{}", outcome.stderr);
}
