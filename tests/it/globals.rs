//! A backup restores a database on an empty cluster: first its globals, then the dump. The manifest describes both.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::restore_commands::{Aws, printed, run};
use crate::support::servers::database::Database;
use crate::support::servers::{OwnPostgres, Postgres, own_postgres, postgres, s3};
use crate::support::setup::{
    backup_program, globals, installed_clients, list_program, manifest, only_backup, plain, repository_file,
    restored_into,
};

/// The superuser of the empty cluster: another than the old one's.
const CHIEF: &str = "the chief";

/// The directory of the client programs that a backup of this major takes: the lowest that suffices.
pub fn clients(major: &str) -> PathBuf {
    match major {
        "16" | "17" | "18" => installed_clients(major),
        _ => PathBuf::from("/usr/lib/postgresql/15/bin"),
    }
}

/// What a client program writes, less keys.
pub fn said(server: &Postgres, clients: &Path, program: &str, database: &str) -> String {
    let mut words = program.split(' ');
    let mut command = Command::new(clients.join(words.next().unwrap_or_default()));
    command.env("PGDATABASE", database);
    command.env("PGHOST", &server.host).env("PGPORT", server.port.to_string());
    command.env("PGUSER", &server.user).env("PGPASSWORD", &server.password);
    let output = command.args(words).output().expect("the program");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| !line.contains("restrict ")).fold(String::new(), |text, line| text + line + "\n")
}

/// `psql -X -d TARGET`, as the file itself says; gives what it complained of.
pub fn run_globals(script: &[u8], target: &Database) -> Vec<String> {
    let mut psql = target.server().client("psql", &target.name);
    psql.args(["-v", "ON_ERROR_STOP=0"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = psql.spawn().expect("psql");
    std::io::Write::write_all(&mut child.stdin.take().expect("its input"), script).expect("written");
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.lines().filter(|line| line.contains("ERROR") || line.contains("WARNING")).map(str::to_owned).collect()
}

/// The cluster's globals, less the superusers that the clusters were made with.
fn cluster(server: &Postgres, clients: &Path) -> String {
    let text = said(server, clients, "pg_dumpall --globals-only", "postgres");
    let text = text.replace(" GRANTED BY postgres;", ";").replace(" GRANTED BY \"the chief\";", ";");
    let is_common = |line: &&str| !line.contains("ROLE \"the chief\"");
    text.lines().filter(is_common).fold(String::new(), |text, line| text + line + "\n")
}

/// The same lines, in any order: that of the settings in a dump is the catalog's own.
#[track_caller]
pub fn assert_same(one: &str, other: &str) {
    let sorted = |text: &str| -> Vec<String> {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (one, other) = (sorted(one), sorted(other));
    let differing = one.iter().zip(&other).find(|(one, other)| one != other);
    assert!(one == other, "{differing:?}, or one is longer");
}

/// What `create_database` put after the name.
pub fn number(name: &str) -> &str {
    name.rsplit_once('漢').expect("the hint's end").1
}

pub fn load(database: &Database, fixture: &str) {
    let mut psql = database.server().client("psql", &database.name);
    let output = psql.arg("-f").arg(repository_file(fixture)).output().expect("psql");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A server and an empty one, with tablespaces that need no directory where `pg_dumpall` knows such.
pub fn two_servers(major: &str) -> (OwnPostgres, OwnPostgres) {
    let servers = std::thread::scope(|scope| {
        let target = scope.spawn(|| own_postgres(&["--major", major, "--superuser", CHIEF]));
        (own_postgres(&["--major", major]), target.join().expect("the target"))
    });
    if major == "18" {
        servers.1.psql("postgres", "ALTER SYSTEM SET allow_in_place_tablespaces = on").expect("set");
        servers.1.psql("postgres", "SELECT pg_reload_conf()").expect("reloaded");
    }
    servers
}

/// A locale of each provider that this major has.
pub fn locale(major: &str) -> &'static str {
    match major {
        "15" | "16" => "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk' LOCALE 'C'",
        "17" | "18" => "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'",
        _ => "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'",
    }
}

/// A cluster's life: filled, backed up, lost; and another made of the backup alone.
fn comes_back(major: &str) {
    let (old, new) = two_servers(major);
    let clients = clients(major);
    let source = old.create_database_with("it's the \"old one\" = 漢", locale(major));
    load(&source, "tests/fixtures/cluster.sql");
    let bucket = s3().create_bucket("cluster");
    let path = format!("{}:/usr/bin:/bin", clients.display());
    let outcome = backup_program(&source, &bucket).env("PATH", path).run();
    outcome.assert_code(0).assert_no_children_left();
    assert!(!outcome.stderr.contains(" WARN "), "{}", outcome.stderr);
    let key = only_backup(&bucket);
    let manifest = manifest(&bucket, &key);
    for version in ["pg_dump_version", "server_version"] {
        let lowest = if version == "pg_dump_version" && major == "13" { "15" } else { major };
        assert!(manifest[version].as_str().is_some_and(|text| text.starts_with(lowest)), "{version}: {manifest}");
    }

    // The old cluster is asked for what must come back, and is gone then.
    let (old_cluster, old_dump) = (cluster(&old, &clients), said(&old, &clients, "pg_dump --create", &source.name));
    assert!(old_dump.contains("my.setting"), "{old_dump}");
    old.stop();

    let script = globals(&bucket, &key);
    let target = new.create_database_with("it's the \"new one\" = 漢", locale(major));
    assert_eq!(run_globals(&script, &target), [""; 0]);
    let target = restored_into(target, &plain(&bucket, &key));
    assert_same(&cluster(&new, &clients), &old_cluster);
    let renamed = old_dump.replace("old one", "new one").replace(number(&source.name), number(&target.name));
    assert_same(&said(&new, &clients, "pg_dump --create", &target.name), &renamed);

    // Once more: what is there is left as it is, the passwords too.
    target.psql("ALTER ROLE member PASSWORD 'of the new cluster' SUPERUSER").expect("altered");
    let verifier = "SELECT rolpassword, rolsuper FROM pg_authid WHERE rolname = 'member'";
    let before = target.psql(verifier);
    let complaints = run_globals(&script, &target);
    let are_tablespaces = complaints.iter().all(|line| line.contains("tablespace \"fast; disk\" already exists"));
    assert!(are_tablespaces, "{complaints:#?}");
    assert_eq!(target.psql(verifier), before);

    // As it is printed, next to the other.
    let outcome = run(&printed(&list_program(&bucket).arg("latest")), &new, &clients, Aws::StandIn);
    outcome.assert_code(0);
    assert_same(&said(&new, &clients, "pg_dump --create", &source.name), &old_dump);
}

#[test]
fn a_database_of_postgresql_13_comes_back_on_an_empty_cluster_with_another_superuser() {
    comes_back("13");
}

#[test]
fn a_database_of_postgresql_15_comes_back_on_an_empty_cluster_with_another_superuser() {
    comes_back("15");
}

#[test]
fn a_database_of_postgresql_18_comes_back_on_an_empty_cluster_with_another_superuser() {
    comes_back("18");
}

/// The manifest's names.
fn names(array: &Value) -> Vec<String> {
    array.as_array().expect("names").iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[test]
fn manifest_has_roles_that_the_restore_needs() {
    let new = own_postgres(&["--superuser", CHIEF]);
    let source = postgres().create_database("roles");
    load(&source, "tests/fixtures/everything.sql");
    let odd = format!("role of {}; \"x\"", source.name);
    let mine =
        format!("CREATE ROLE {0}; CREATE TABLE mine (a int, b int); GRANT SELECT (b) ON mine TO {0}", quoted(&odd));
    source.psql(&mine).expect("a grant of one column");
    for (arguments, expected) in [
        ("", vec!["everything_owner", "everything_reader", "postgres", &odd]),
        ("--no-privileges", vec!["everything_owner", "everything_reader", "postgres"]),
        // Policies and user mappings stay.
        ("-O -x", vec!["everything_owner", "everything_reader"]),
    ] {
        let bucket = s3().create_bucket("roles");
        backup_program(&source, &bucket).env("PG_DUMP_ARGS", arguments).run().assert_code(0);
        let key = only_backup(&bucket);
        let roles = names(&manifest(&bucket, &key)["roles"]);
        assert_eq!(roles, expected, "{arguments}");
        // Each is named, and with them it restores. (Of a foreign data wrapper only a superuser may be the owner.)
        let dump = plain(&bucket, &key);
        let text = String::from_utf8_lossy(&dump);
        for role in &roles {
            let has = |before: &str| {
                text.contains(&format!("{before}{role}")) || text.contains(&format!("{before}{}", quoted(role)))
            };
            assert!(["OWNER TO ", " TO ", " FOR "].into_iter().any(has), "{arguments}: {role} is not in the dump");
        }
        let target = new.create_database("roles");
        let create: Vec<String> = roles.iter().map(|role| format!("CREATE ROLE {} SUPERUSER;", quoted(role))).collect();
        let drop: Vec<String> = roles.iter().map(|role| format!("DROP ROLE {};", quoted(role))).collect();
        target.psql(&create.concat()).expect("the roles");
        drop_after(restored_into(target, &dump), &new, &drop.concat());
    }
}

/// Drops the database, and then what only it kept.
fn drop_after(database: Database, server: &Postgres, sql: &str) {
    drop(database);
    server.psql("postgres", sql).expect("dropped");
}

#[test]
fn the_manifest_names_extensions_and_tablespaces() {
    let source = postgres().create_database("extensions");
    source.psql("CREATE SCHEMA s; CREATE EXTENSION hstore SCHEMA s; CREATE EXTENSION pgcrypto").expect("extensions");
    let bucket = s3().create_bucket("extensions");
    backup_program(&source, &bucket).run().assert_code(0);
    let manifest = manifest(&bucket, &only_backup(&bucket));
    let known = source.psql(
        "SELECT extname, extversion, nspname FROM pg_extension e, pg_namespace n WHERE n.oid = extnamespace ORDER BY 1",
    );
    let extensions: Vec<String> = manifest["extensions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|extension| {
            let field = |name: &str| extension[name].as_str().expect("text");
            format!("{}|{}|{}", field("name"), field("version"), field("schema"))
        })
        .collect();
    // plpgsql is in every database.
    let known: Vec<String> =
        known.expect("extensions").lines().filter(|line| !line.starts_with("plpgsql")).map(str::to_owned).collect();
    assert_eq!(extensions, known);
    // The dump does not hold what an extension owns. Here only objects of the dump have owners.
    assert_eq!(names(&manifest["roles"]), ["postgres"], "of the schema");
    assert_eq!((names(&manifest["tablespaces"]), names(&manifest["warnings"])), (Vec::new(), Vec::new()));
}
