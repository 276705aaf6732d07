//! A dump with TimescaleDB is restored between the two functions that its documentation names.
//!
//! TimescaleDB is not installed here. A stand-in of the same name has these two functions, which do what the real ones do to the
//! session and the database: https://docs.timescale.com/api/latest/administration/

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{FAILED, bucket_with, dump_with};
use crate::support::servers::own_postgres;
use crate::support::setup::s3_program;

/// Rows of its catalog are let in only while it is being restored.
const SCRIPT: &str = r"
CREATE TABLE @extschema@.catalog (id int);
SELECT pg_catalog.pg_extension_config_dump('@extschema@.catalog', '');
CREATE TABLE @extschema@.calls (what text);
CREATE FUNCTION @extschema@.timescaledb_pre_restore() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET timescaledb.restoring = on', current_database());
    PERFORM set_config('timescaledb.restoring', 'on', false);
    INSERT INTO @extschema@.calls VALUES ('pre');
    RETURN true;
END $$;
CREATE FUNCTION @extschema@.timescaledb_post_restore() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('ALTER DATABASE %I RESET timescaledb.restoring', current_database());
    RESET timescaledb.restoring;
    INSERT INTO @extschema@.calls SELECT 'post after ' || count(*) FROM @extschema@.catalog;
    RETURN true;
END $$;
CREATE FUNCTION @extschema@.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('timescaledb.restoring', true) IS DISTINCT FROM 'on' THEN RAISE 'not while it is in use'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON @extschema@.catalog FOR EACH ROW EXECUTE FUNCTION @extschema@.refuse();
";

const DUMP: &str = "CREATE SCHEMA \"time s\";\nCREATE EXTENSION IF NOT EXISTS timescaledb WITH SCHEMA \"time s\";\n\
    COPY \"time s\".catalog (id) FROM stdin;\n1\n2\n\\.\n";

fn install(directory: &Path) {
    let extension = directory.join("extension");
    std::fs::create_dir(&extension).expect("a directory");
    for path in [directory, &extension] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("for the server");
    }
    let control = "default_version = '2'\nrelocatable = false\n";
    std::fs::write(extension.join("timescaledb.control"), control).expect("written");
    std::fs::write(extension.join("timescaledb--2.sql"), SCRIPT).expect("written");
}

#[test]
fn restores_between_its_two_functions() {
    let directory = tempfile::tempdir().expect("a directory");
    install(directory.path());
    // The first version that finds extensions elsewhere.
    let server = own_postgres(&["--major", "18"]);
    let path = format!("ALTER SYSTEM SET extension_control_path = '{}:$system'", directory.path().display());
    server.psql("postgres", &path).and_then(|_| server.psql("postgres", "SELECT pg_reload_conf()")).expect("set");
    let bucket = bucket_with(&dump_with(DUMP));
    let restore =
        |database: &str| s3_program(&bucket).env("RESTORE_CONNECTION_STRING", server.uri(database)).arg("restore");
    let calls = "SELECT string_agg(what, ', ') FROM \"time s\".calls";
    let settings = "SELECT count(*) FROM pg_db_role_setting";

    let target = server.create_database("target");
    restore(&target.name).run().assert_code(0);
    assert_eq!(target.psql(calls).as_deref(), Ok("pre, post after 2"));
    restore("postgres").args(["--create-db", "made"]).run().assert_code(0);
    assert_eq!(server.psql("made", calls).as_deref(), Ok("pre, post after 2"));
    assert_eq!(server.psql("made", settings).as_deref(), Ok("0"));

    let left_out = server.create_database("left_out");
    restore(&left_out.name).args(["--exclude-schema", "time*"]).run().assert_code(0);
    // What fails leaves no setting behind.
    let failing = bucket_with(&dump_with(&format!("{DUMP}SELECT 1/0;\n")));
    let target = server.create_database("target");
    let failed = s3_program(&failing).env("RESTORE_CONNECTION_STRING", target.uri()).arg("restore").run();
    failed.assert_code(FAILED);
    assert!(failed.stderr.contains("division by zero"), "{}", failed.stderr);
    assert_eq!(target.psql(settings).as_deref(), Ok("0"));
}
