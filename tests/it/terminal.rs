//! The output at a terminal: few lines for a person. A log for machines has events with fields instead.

use std::path::Path;

use crate::support::program::{Outcome, Program};
use crate::support::servers::{postgres, s3};
use crate::support::setup::{backup_program, list_program, repository_file};
use crate::support::stored::{name_of_day, put_backups};

/// The program with these arguments at a terminal, which `script` creates.
fn at_terminal(program: &Program, arguments: &str) -> Program {
    let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_pg-s3-backup"));
    program.clone().executed_by(Path::new("/usr/bin/script")).args(["-qec", &line, "/dev/null"]).env("NO_COLOR", "1")
}

fn lines(outcome: &Outcome) -> Vec<String> {
    outcome.stdout_text().lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
}

#[test]
fn prints_a_backup_as_two_lines_and_hints_below_warnings() {
    let database = postgres().create_database("person");
    let bucket = s3().create_bucket("person");
    let program = backup_program(&database, &bucket).env("S3_PATH", "app").env("BACKUP_RETENTION_DAY", "7");
    let shown = at_terminal(&program, "backup --no-progress").run();
    let shown = lines(shown.assert_code(0));
    let [warning, hint, first, last] = shown.as_slice() else { panic!("{shown:#?}") };
    assert_eq!(warning, "warning: BACKUP_RETENTION_DAY is set, but is not a setting and has no effect");
    assert_eq!(hint, "   -> is BACKUP_RETENTION_DAYS meant?");
    let server = postgres();
    assert_eq!(*first, format!("backing up {} at {} to s3://{bucket}/app", database.name, server.addr()));
    assert!(last.starts_with(&format!("s3://{bucket}/app/postgres-backup-")) && last.contains(" of dump"), "{last}");

    let debug = at_terminal(&program, "backup --no-progress --log-level debug").run();
    let debug = lines(debug.assert_code(0));
    for setting in
        [format!("debug: S3_BUCKET={bucket}"), "debug: S3_PATH=app".to_owned(), "debug: S3_SECRET_KEY=set".to_owned()]
    {
        assert!(debug.contains(&setting), "{setting}: {debug:#?}");
    }
    let json = at_terminal(&program, "backup --no-progress --log-format json").run();
    let json = lines(json.assert_code(0));
    let logs: Vec<serde_json::Value> = json.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let settings = logs.iter().find(|log| log["message"] == "settings").expect("one event with fields");
    assert_eq!(settings["S3_PATH"], "app");
    assert!(!json.iter().any(|line| line.contains("backing up")), "{json:#?}");
}

#[test]
fn names_each_of_several_databases_with_and_without_colours() {
    let (database, bucket) = (postgres().create_database("one_of_them"), s3().create_bucket("colours"));
    let program = backup_program(&database, &bucket).env("BACKUP_DATABASES", &database.name);
    let plain = at_terminal(&program, "backup --no-progress");
    for program in [plain.clone(), plain.env_remove("NO_COLOR").env("TERM", "xterm")] {
        let shown = lines(program.run().assert_code(0));
        let expected = format!("{0}: backing up {0} at {1} to s3://{bucket}/", database.name, postgres().addr());
        assert!(shown.iter().any(|line| line.starts_with(&expected)), "{shown:#?}");
    }
}

#[test]
fn prints_an_error_as_one_line_with_its_fix() {
    let program = list_program("no-such-bucket");
    let shown = lines(at_terminal(&program, "list").run().assert_code(3));
    let [error] = shown.as_slice() else { panic!("{shown:#?}") };
    assert!(error.starts_with("error: list failed: list the backups: NoSuchBucket"), "{error}");
    assert!(error.contains(&format!("bucket no-such-bucket at {}", s3().url)), "{error}");
    assert!(error.ends_with(": create the bucket, or correct S3_BUCKET"), "{error}");
}

#[test]
fn prints_a_line_of_pg_dump_as_pg_dump_does() {
    let (database, bucket) = (postgres().create_database("its_line"), s3().create_bucket("its-line"));
    let program = backup_program(&database, &bucket);
    let shown = lines(at_terminal(&program, "backup --no-progress -- --table=absent").run().assert_code(11));
    assert!(shown.iter().any(|line| line == "warning: pg_dump: error: no matching tables were found"), "{shown:#?}");
}

/// The words of a line without numbers and units, and with other names for what differs between runs.
fn skeleton(line: &str, names: &[(&str, &str)]) -> Vec<String> {
    let line = names.iter().fold(line.to_owned(), |line, (ours, theirs)| line.replace(ours, theirs));
    let letters =
        line.chars().map(|letter| if letter.is_ascii_digit() || ".-_".contains(letter) { ' ' } else { letter });
    let letters: String = letters.collect();
    let is_unit = |word: &&str| ["B", "K", "KiB", "M", "MiB", "s", "ms"].contains(&word.trim_start_matches('('));
    letters.split_whitespace().filter(|word| !is_unit(word)).map(str::to_owned).collect()
}

#[test]
fn readme_session_matches_the_output() {
    let readme = std::fs::read_to_string(repository_file("README.md")).expect("README.md");
    let (_, session) = readme.split_once("```console\n").expect("a session");
    let (session, _) = session.split_once("\n```").expect("its end");
    let database = postgres().create_database("s");
    let bucket = s3().create_bucket("readme");
    let program = backup_program(&database, &bucket).env("S3_PATH", "shop");
    let address = postgres().addr();
    let at_bucket = format!("s3://{bucket}/");
    let names = [
        (&*database.name, "shop"),
        (&at_bucket, "s3://backups/"),
        (&address, "db.example.com:5432"),
        (" as postgres", " as backup"),
    ];
    for part in session.split("$ pg-s3-backup ").skip(1) {
        let (command, wanted) = part.split_once('\n').expect("what it prints");
        let flags = if command == "backup" { " --no-progress" } else { "" };
        let shown = at_terminal(&program, &format!("{command}{flags}")).run();
        let is_setting = |line: &str| line.starts_with("      ");
        let shown = lines(shown.assert_code(0)).into_iter().filter(|line| !is_setting(line));
        let shown: Vec<_> = shown.map(|line| skeleton(&line, &names)).collect();
        let wanted = wanted.lines().take_while(|line| *line != "…").filter(|line| !is_setting(line));
        for (index, line) in wanted.enumerate() {
            assert_eq!(shown[index], skeleton(line, &[]), "{command}: {line}");
        }
    }
}

#[test]
fn json_log_has_no_progress_bar() {
    let database = postgres().create_database("no_bar");
    let bucket = s3().create_bucket("no-bar");
    let shown = at_terminal(&backup_program(&database, &bucket), "backup --log-format json").run();
    let shown = lines(shown.assert_code(0));
    let is_json = |line: &String| serde_json::from_str::<serde_json::Value>(line).is_ok();
    let others: Vec<_> = shown.iter().filter(|line| !is_json(line)).collect();
    assert!(others.len() == 1 && others[0].starts_with(&format!("s3://{bucket}/")), "{others:#?}");
}

#[test]
fn prune_prints_plain_lines_at_a_terminal_and_fields_to_a_log() {
    let bucket = s3().create_bucket("plain-prune");
    put_backups(&bucket, "app", &[320, 321, 322, 323, 324]);
    let program = list_program(&bucket).env("S3_PATH", "app").env("BACKUP_MIN_KEEP", "1");
    let shown = lines(at_terminal(&program, "prune --keep-last 4").run().assert_code(0));
    let [deleted, summary] = shown.as_slice() else { panic!("{shown:#?}") };
    assert_eq!(*deleted, format!("deleted {} (1 B)", name_of_day(320)));
    assert!(summary.starts_with(&format!("s3://{bucket}/app/: 4 backups kept, 1 deleted (")), "{summary}");
    let log = at_terminal(&program, "prune --keep-last 3 --log-format json").run();
    let log = lines(log.assert_code(0));
    let events: Vec<serde_json::Value> = log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let event = events.iter().find(|event| event["message"] == "retention").expect("an event");
    assert!(event["retained"] == 3 && event["deleted"] == 1, "{event}");
}

#[test]
fn prints_a_deletion_as_two_lines() {
    let bucket = s3().create_bucket("plain-delete");
    put_backups(&bucket, "app", &[320, 321]);
    let program = list_program(&bucket).env("S3_PATH", "app");
    let shown = lines(at_terminal(&program, &format!("delete {}", name_of_day(320))).run().assert_code(0));
    let [deleted, summary] = shown.as_slice() else { panic!("{shown:#?}") };
    assert!(deleted.starts_with(&format!("deleted {}", name_of_day(320))), "{deleted}");
    assert!(summary.starts_with(&format!("s3://{bucket}/app/: 1 backup deleted (")), "{summary}");
}

#[test]
fn prints_a_restore_as_two_lines() {
    let database = postgres().create_database("person_restore");
    database.psql("CREATE TABLE t AS SELECT generate_series(1, 3) AS n").expect("a table");
    let bucket = s3().create_bucket("person-restore");
    let program = backup_program(&database, &bucket);
    program.run().assert_code(0);
    let file = program.home().join("restored.sql");
    let shown = at_terminal(&program, &format!("restore --no-progress --output {}", file.display())).run();
    let shown = lines(shown.assert_code(0));
    let [first, last] = shown.as_slice() else { panic!("{shown:#?}") };
    let (place, file) = (format!("s3://{bucket}/postgres-backup-"), file.display());
    assert!(first.starts_with(&format!("restoring {place}")), "{first}");
    assert!(first.ends_with(&format!(", database {}) to {file}", database.name)), "{first}");
    let summary = format!("restored to {file}: ");
    assert!(last.starts_with(&summary) && last.contains(" of dump, 3 rows in 1 table, in "), "{last}");
}

#[test]
fn prints_where_a_restore_goes_and_the_name_of_the_replaced_database() {
    let database = postgres().create_database("person_old");
    let bucket = s3().create_bucket("person-old");
    let program = backup_program(&database, &bucket);
    program.run().assert_code(0);
    let program = program.env("RESTORE_CONNECTION_STRING", postgres().uri("postgres"));
    let flags = format!("restore --no-progress --create-db {} --replace", database.name);
    let dry = lines(at_terminal(&program, &format!("{flags} --dry-run")).run().assert_code(0));
    assert!(dry.iter().any(|line| line.contains("the restore would replace the database")), "{dry:#?}");
    let shown = lines(at_terminal(&program, &flags).run().assert_code(0));
    let place = format!(" to database {} at {}, replacing it", database.name, postgres().addr());
    assert!(shown.first().is_some_and(|line| line.ends_with(&place)), "{shown:#?}");
    let old = format!("; the old database is {}_before_", database.name);
    assert!(shown.last().is_some_and(|line| line.contains(&old)), "{shown:#?}");
}

#[test]
fn check_prints_a_warning_of_the_settings_once() {
    let bucket = s3().create_bucket("person-check");
    let program = list_program(&bucket).env("BACKUP_RETENTION_DAY", "7");
    let outcome = at_terminal(&program, "check --bucket-only").run();
    let warnings = lines(&outcome).into_iter().filter(|line| line.contains("BACKUP_RETENTION_DAY is set"));
    assert_eq!(warnings.collect::<Vec<_>>().len(), 1, "{}", outcome.stdout_text());
}
