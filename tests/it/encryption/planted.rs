//! What belongs to an encrypted backup is encrypted: plain globals and a plain index, which anyone who can write to the bucket could
//! plant, are refused.

use serde_json::json;

use super::{Stage, backed_up, reader};
use crate::support::program::Outcome;
use crate::support::servers::database::unique_name;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{gzipped, manifest, sha256};
use crate::support::stored::put;

const FAILED: i32 = 15;
const REFUSED: &str = "it is not encrypted, but its backup is: find out who can write to the bucket";

/// Plants a file, and lets the manifest name it.
fn plant(Stage { bucket, name, .. }: &Stage, (field, file_name): (&str, &str), file: &[u8]) {
    put(bucket, file_name, file);
    let mut manifest = manifest(bucket, name);
    // A plain backup has plain sidecars, but the manifest does not decide what the backup is.
    manifest["file_name"] = json!(name.trim_end_matches(".age"));
    manifest["recipients"] = json!([]);
    manifest[field] =
        json!({"file_name": file_name, "bytes": file.len(), "sha256": sha256(file), "role_passwords": true});
    put(bucket, &format!("{name}.json"), manifest.to_string().as_bytes());
}

fn create(Stage { bucket, key, .. }: &Stage, (name, flags): (&str, &[&str])) -> Outcome {
    let program = reader(bucket, key).env("RESTORE_CONNECTION_STRING", postgres().uri("postgres"));
    program.args(["restore", "--create-db", name]).args(flags).run()
}

#[track_caller]
fn assert_refused(outcome: &Outcome) {
    outcome.assert_code(FAILED);
    let errors: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("ERROR")).collect();
    assert!(matches!(errors[..], [line] if line.contains(REFUSED)), "{}", outcome.stderr);
}

#[test]
fn plain_globals_are_refused() {
    let (stage, role, made) = (backed_up(), unique_name("planted"), unique_name("made"));
    let script = format!(
        "DO 'BEGIN\nCREATE ROLE {role};\nBEGIN\nALTER ROLE {role} WITH SUPERUSER LOGIN;\n\
         EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING ''%'', SQLERRM;\nEND;\n\
         EXCEPTION WHEN duplicate_object THEN RAISE NOTICE ''%: left as it is'', SQLERRM;\nEND';\n"
    );
    for suffix in ["globals.sql.gz", "globals.sql.gz.age"] {
        let file_name = format!("{}.{suffix}", stage.name);
        plant(&stage, ("globals", &file_name), &gzipped(script.as_bytes()));
        for flags in [&[][..], &["--globals"]] {
            let outcome = create(&stage, (&made, flags));
            assert_refused(&outcome);
            assert!(outcome.stderr.contains(&format!("read the globals {file_name}: ")), "{}", outcome.stderr);
        }
    }
    let there = format!(
        "SELECT count(*) FROM (SELECT rolname FROM pg_roles UNION SELECT datname FROM pg_database) names(name) \
         WHERE name IN ('{role}', '{made}')"
    );
    assert_eq!(postgres().psql("postgres", &there).as_deref(), Ok("0"));
}

#[test]
fn a_plain_index_is_refused() {
    let stage = backed_up();
    let stored = s3().get(&stage.bucket, &format!("{}.index.json.gz.age", stage.name)).expect("the index");
    let plain = stage.key.decrypted(&stored);
    for suffix in ["index.json.gz", "index.json.gz.age"] {
        let (file_name, made) = (format!("{}.{suffix}", stage.name), unique_name("made"));
        plant(&stage, ("index", &file_name), &plain);
        assert_refused(&create(&stage, (&made, &["--table", "t"])));
        // All of it is restored without the index.
        let outcome = create(&stage, (&made, &["--jobs", "2"]));
        outcome.assert_code(0);
        let made = postgres().adopt_database(&made);
        let line = format!("restored by one session: its index cannot be used: {REFUSED}");
        let is_said = |text: &&str| text.contains("WARN") && text.contains(&line);
        assert_eq!(outcome.stderr.lines().filter(is_said).count(), 1, "{}", outcome.stderr);
        assert_eq!(made.psql("SELECT count(*) FROM t").as_deref(), Ok("40000"));
    }
}
