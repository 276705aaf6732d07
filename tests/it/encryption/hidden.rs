//! Nothing in the bucket, in the log or in the report names a table, a role, a column or an argument; the identity is nowhere.

use super::{IDENTITY, encrypted_backup, only_encrypted, reader};
use crate::support::age::AgeKey;
use crate::support::servers::{postgres, s3};
use crate::support::setup::manifest;

/// Begins every name in the database.
const NAME: &str = "zq7hidden";

fn assert_hidden(text: &[u8], origin: &str) {
    assert!(!String::from_utf8_lossy(text).contains(NAME), "a name in {origin}: {}", String::from_utf8_lossy(text));
}

#[test]
fn no_name_leaves_the_host_in_plain_text() {
    let (database, key) = (postgres().create_database("hidden"), AgeKey::new());
    let role = format!("{NAME}_role_{}", std::process::id());
    postgres().psql("postgres", &format!("CREATE ROLE {role}")).expect("a role");
    let sql = format!(
        "CREATE SCHEMA {NAME}_schema; CREATE TABLE {NAME}_schema.{NAME}_table ({NAME}_column int, up int);
         INSERT INTO {NAME}_schema.{NAME}_table VALUES (1, 2);
         GRANT SELECT ON {NAME}_schema.{NAME}_table TO {role};
         CREATE TABLE {NAME}_a (id int PRIMARY KEY); CREATE TABLE {NAME}_b (id int PRIMARY KEY REFERENCES {NAME}_a);
         ALTER TABLE {NAME}_a ADD FOREIGN KEY (id) REFERENCES {NAME}_b;"
    );
    database.psql(&sql).expect("objects");
    for format in ["text", "json"] {
        let bucket = s3().create_bucket("hidden");
        let program = encrypted_backup(&database, &bucket, &[&key]).env("LOG_LEVEL", "trace").env("LOG_FORMAT", format);
        let arguments = format!("--verbose -T {NAME}_gone --exclude-table-data={NAME}_too --role=postgres");
        let outcome = program.env("PG_DUMP_ARGS", arguments).arg("--json").run();
        outcome.assert_code(0);
        assert_hidden(outcome.stderr.as_bytes(), "the log");
        assert_hidden(&outcome.stdout, "the report");
        let name = only_encrypted(&bucket);
        for object in s3().keys(&bucket, "") {
            assert_hidden(&s3().get(&bucket, &object).expect("an object"), &object);
        }
        let recorded = manifest(&bucket, &name);
        let arguments = recorded["pg_dump_arguments"].to_string();
        assert!(arguments.contains("--exclude-table\"") && arguments.contains("--role\""), "{arguments}");
        assert!(recorded.get("dump_crc32").is_none() && recorded.get("tables").is_none(), "{recorded:#}");
        assert_eq!(recorded["rows"], 1);
        // It was all there.
        let dump = reader(&bucket, &key).arg("restore").run();
        assert!(dump.assert_code(0).stdout_text().contains(&format!("{NAME}_column")));
    }
    database.psql(&format!("DROP OWNED BY {role}")).expect("dropped");
    postgres().psql("postgres", &format!("DROP ROLE {role}")).expect("dropped");
}

#[test]
fn the_identity_is_nowhere() {
    let (database, key) = (postgres().create_database("hidden"), AgeKey::new());
    let bucket = s3().create_bucket("hidden");
    let private = key.private_key();
    let all = |program: crate::support::program::Program, code: i32| {
        for format in ["text", "json"] {
            let outcome = program.clone().env("LOG_LEVEL", "trace").env("LOG_FORMAT", format).run();
            outcome.assert_code(code);
            let shown = outcome.stdout_text() + &outcome.stderr;
            // The beginning of the key is enough to know it again.
            assert!(!shown.contains(&private[..30]), "{shown}");
        }
    };
    encrypted_backup(&database, &bucket, &[&key]).env(IDENTITY, &key.identity).run().assert_code(0);
    let reader = reader(&bucket, &key);
    all(reader.clone().args(["restore", "--output", "/dev/null"]), 0);
    all(reader.clone().args(["check", "--bucket-only", "--deep"]), 0);
    all(reader.clone().args(["list"]), 0);
    // Where it does not belong.
    let source = ("POSTGRES_CONNECTION_STRING", database.uri());
    all(reader.clone().env(source.0, &source.1).env("BACKUP_AGE_RECIPIENTS", private).arg("backup"), 4);
    all(reader.clone().env("BACKUP_AGE_IDENTITY_FILE", private).env_remove(IDENTITY).args(["restore"]), 4);
    all(reader.env(IDENTITY, format!("{private}X")).args(["restore"]), 4);
    for object in s3().keys(&bucket, "") {
        let bytes = s3().get(&bucket, &object).expect("an object");
        assert!(!String::from_utf8_lossy(&bytes).contains(&private[..30]), "{object}");
    }
}
