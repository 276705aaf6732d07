//! What the manifest of an encrypted backup leaves out is in the index: with an identity, `restore`, the drill and `list` know it as
//! that of a backup that is not encrypted.

use serde_json::{Value, json};

use super::{backed_up_from, encrypted_backup, reader};
use crate::support::age::{AgeKey, encrypted_by_age};
use crate::support::program::Program;
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::{own_postgres, postgres, s3};
use crate::support::setup::{
    backup_program, gunzipped, gzipped, list_program, manifest, only_backup, only_encrypted, s3_program, sha256,
};
use crate::support::stored::put;

const FAILED: i32 = 15;

/// A role that owns a table with an extension's type, which only this server has.
fn role_with_objects() -> (Database, String) {
    let (database, role) = (postgres().create_database("details"), unique_name("owner"));
    let sql = format!(
        "CREATE ROLE {role}; CREATE EXTENSION citext; CREATE TABLE t (a citext); ALTER TABLE t OWNER TO {role}"
    );
    database.psql(&sql).expect("objects");
    (database, role)
}

#[test]
fn the_index_has_what_the_manifest_leaves_out() {
    let (database, role) = role_with_objects();
    let (bucket, key) = (s3().create_bucket("details"), AgeKey::new());
    let arguments = |program: Program| program.env("PG_DUMP_ARGS", "--role=postgres --verbose");
    arguments(encrypted_backup(&database, &bucket, &[&key])).run().assert_code(0);
    let name = only_encrypted(&bucket);
    let file = s3().get(&bucket, &format!("{name}.index.json.gz.age")).expect("the index");
    let index: Value = serde_json::from_slice(&gunzipped(&key.decrypted(&file))).expect("JSON");
    let details = &index["details"];

    let plain_bucket = s3().create_bucket("plain");
    arguments(backup_program(&database, &plain_bucket)).run().assert_code(0);
    let plain = only_backup(&plain_bucket);
    let (hidden, plain_manifest) = (manifest(&bucket, &name), manifest(&plain_bucket, &plain));
    assert!(plain_manifest["roles"].to_string().contains(&role), "{plain_manifest:#}");
    for field in ["pg_dump_arguments", "extensions", "roles", "tablespaces", "warnings"] {
        assert_eq!(details[field], plain_manifest[field], "{field}");
    }
    let names = |manifest: &Value| json!([manifest["extensions"], manifest["roles"], manifest["tablespaces"]]);
    assert_eq!(names(&hidden), json!([[], [], []]));
    let index = s3().get(&plain_bucket, &format!("{plain}.index.json.gz")).expect("the index");
    let index: Value = serde_json::from_slice(&gunzipped(&index)).expect("JSON");
    assert!(index.get("details").is_none(), "that of a plain backup has none");

    let shown = |program: Program| -> Value {
        let outcome = program.args(["list", "latest", "--json"]).run();
        serde_json::from_slice(&outcome.assert_code(0).stdout).expect("JSON")
    };
    let (open, closed) = (shown(reader(&bucket, &key)), shown(s3_program(&bucket)));
    for field in ["pg_dump_arguments", "extensions", "roles", "tablespaces", "warnings"] {
        assert_eq!(open[field], plain_manifest[field], "{field}");
        assert_eq!(closed[field], hidden[field], "{field}");
    }
    let table = list_program(&bucket).arg("latest");
    let with_identity = table.clone().env(super::IDENTITY, &key.identity).run();
    assert!(with_identity.assert_code(0).stdout_text().contains(&role), "{}", with_identity.stdout_text());
    assert!(!table.run().assert_code(0).stdout_text().contains(&role));
    reader(&bucket, &key).args(["check", "--bucket-only", "--deep"]).run().assert_code(0);
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).expect("dropped");
}

#[test]
fn what_the_target_lacks_is_named_before_a_byte_is_sent_and_made_if_asked() {
    let (database, role) = role_with_objects();
    let (bucket, key, _) = backed_up_from(&database);
    let server = own_postgres(&[]);
    let restore = |identity: &AgeKey| {
        let program = reader(&bucket, identity).env("RESTORE_CONNECTION_STRING", server.uri("postgres"));
        program.arg("restore").args(["--create-db", "made"])
    };
    let dry = restore(&key).arg("--dry-run").run();
    let refused = restore(&key).run();
    for outcome in [&dry, &refused] {
        assert!(
            outcome.assert_code(FAILED).stderr.contains(&format!("lacks the roles \"{role}\"")),
            "{}",
            outcome.stderr
        );
    }
    let exists = "SELECT count(*) FROM pg_database WHERE datname = 'made'";
    assert_eq!(server.psql("postgres", exists).as_deref(), Ok("0"), "{}", refused.stderr);
    // With another identity the run ends as before.
    let stranger = restore(&AgeKey::new()).run();
    assert!(stranger.assert_code(FAILED).stderr.contains("encrypted for"), "{}", stranger.stderr);
    assert!(!stranger.stderr.contains(&role), "{}", stranger.stderr);

    let made = restore(&key).arg("--create-roles").run();
    assert!(made.assert_code(0).stderr.contains(&role), "{}", made.stderr);
    let login = format!("SELECT rolcanlogin FROM pg_roles WHERE rolname = '{role}'");
    assert_eq!(server.psql("postgres", &login).as_deref(), Ok("f"));
    assert_eq!(server.psql("made", "SELECT tableowner FROM pg_tables WHERE tablename = 't'"), Ok(role.clone()));
    // An extension that no server has, in a copy of the index.
    let name = only_encrypted(&bucket);
    change_index(&bucket, (&name, &key), |index| {
        index["details"]["extensions"][0]["name"] = json!("no such extension");
    });
    let lacking = restore(&key).args(["--dry-run", "--replace"]).run();
    let words = "lacks the extensions \"no such extension\"";
    assert!(lacking.assert_code(FAILED).stderr.contains(words), "{}", lacking.stderr);
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).expect("dropped");
}

/// Stores another index with the backup.
fn change_index(bucket: &str, (name, key): (&str, &AgeKey), change: impl FnOnce(&mut Value)) {
    let file_name = format!("{name}.index.json.gz.age");
    let stored = s3().get(bucket, &file_name).expect("the index");
    let mut index: Value = serde_json::from_slice(&gunzipped(&key.decrypted(&stored))).expect("JSON");
    change(&mut index);
    let file = encrypted_by_age(&gzipped(index.to_string().as_bytes()), &[key]);
    put(bucket, &file_name, &file);
    let mut manifest = manifest(bucket, name);
    manifest["index"] = json!({"file_name": file_name, "bytes": file.len(), "sha256": sha256(&file)});
    put(bucket, &format!("{name}.json"), manifest.to_string().as_bytes());
}

/// The roles of the server of the drill are those of the dump, so owners and grants are restored, too.
#[test]
fn a_drill_with_an_identity_leaves_out_no_owners_that_the_server_has() {
    let (database, role) = role_with_objects();
    let (bucket, key, name) = backed_up_from(&database);
    let server = own_postgres(&[]);
    let drill = || {
        let program = reader(&bucket, &key).env("DRILL_CONNECTION_STRING", server.uri("postgres"));
        program.args(["check", "--bucket-only", "--max-age", "none"]).run().assert_code(0);
        let record = s3().get(&bucket, &format!("{name}.drill.json")).expect("a record");
        serde_json::from_slice::<Value>(&record).expect("JSON")
    };
    let without = drill();
    assert!(without["left_out"].to_string().contains("owner"), "{without:#}");
    server.psql("postgres", &format!("CREATE ROLE {role}")).expect("a role");
    let with = drill();
    assert_eq!(with["left_out"], json!([]), "{with:#}");
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).expect("dropped");
}
