//! Roles and the database's own come back from the globals: missing ones alone, and nothing that the bucket's writer planted.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use pg_s3_backup::archive::manifest::Manifest;
use pg_s3_backup::postgres::Maintenance;
use pg_s3_backup::postgres::globals::Recorded;
use pg_s3_backup::restore::roles::{self, RolesError};
use pg_s3_backup::restore::scratch::{Existing, Origin, Scratch};
use sha2::{Digest as _, Sha256};

use crate::globals::{assert_same, clients, load, locale, number, quoted, said, two_servers};
use crate::restore_scratch::{restore_as, role, run_id};
use crate::support::library::{block_on, connection, destination};
use crate::support::servers::database::unique_name;
use crate::support::servers::{Postgres, own_postgres, postgres, s3};
use crate::support::setup::{backup_program, hex, manifest, only_backup, plain};

async fn session(server: &Postgres) -> Maintenance {
    let (tools, settings) = connection(&server.uri("postgres")).await;
    Maintenance::connect(&tools, &settings).await.expect("connected")
}

/// The roles of a cluster, less the superusers that the clusters were made with.
fn roles_of(server: &Postgres, clients: &std::path::Path) -> String {
    let text = said(server, clients, "pg_dumpall --roles-only", "postgres");
    let text = text.replace(" GRANTED BY postgres;", ";").replace(" GRANTED BY \"the chief\";", ";");
    let is_common = |line: &&str| !line.contains("ROLE \"the chief\"");
    text.lines().filter(is_common).fold(String::new(), |text, line| text + line + "\n")
}

/// A cluster's roles and a database with its own settings, from one server to an empty one by the library alone.
fn comes_back(major: &str) {
    let (old, new) = two_servers(major);
    let clients = clients(major);
    let source = old.create_database_with("it's the \"old one\" = 漢", locale(major));
    load(&source, "tests/fixtures/cluster.sql");
    let bucket = s3().create_bucket("roles");
    let path = format!("{}:/usr/bin:/bin", clients.display());
    backup_program(&source, &bucket).env("PATH", path).run().assert_code(0);
    let key = only_backup(&bucket);
    let manifest: Manifest = serde_json::from_value(manifest(&bucket, &key)).expect("a manifest");
    let (old_roles, old_dump) = (roles_of(&old, &clients), said(&old, &clients, "pg_dump --create", &source.name));
    old.stop();

    let name = unique_name("it's the \"new one\" = 漢");
    let dump = plain(&bucket, &key);
    block_on(async {
        let (tools, settings) = connection(&new.uri("postgres")).await;
        let origin = Origin { run_id: &run_id(), backup: "s3://b/k" };
        let purpose = restore_as(&name, Existing::Refuse);
        let mut scratch = Scratch::connect(&tools, &settings, purpose, origin).await.expect("connected");
        let server = scratch.server().await.expect("a session");
        let read = roles::globals((&destination(&bucket).await, None), (&key, &manifest), server).await;
        let recorded = read.expect("ours").expect("the globals");
        // In a server that knows them without a directory.
        let tablespaces: Vec<String> =
            recorded.tablespaces.iter().map(|name| format!("CREATE TABLESPACE {} LOCATION ''", quoted(name))).collect();
        for tablespace in &tablespaces {
            new.psql("postgres", tablespace).expect("made");
        }
        let report = roles::apply(server, &recorded).await.expect("made");
        assert_eq!(report.created.len(), 9, "the old superuser too: {report:?}");
        let is_known = |what: &String| what.contains("tablespace");
        assert!(report.left_out.len() == tablespaces.len() && report.left_out.iter().all(is_known), "{report:?}");
        scratch.create(Some(&manifest)).await.expect("made");
        feed(&new, scratch.name(), &dump);
        let finished = scratch.finish(recorded.database.as_ref()).await.expect("named");
        assert_eq!(finished.left_out, [""; 0]);
    });
    assert_same(&roles_of(&new, &clients), &old_roles);
    let renamed = old_dump.replace("old one", "new one").replace(number(&source.name), number(&name));
    assert_same(&said(&new, &clients, "pg_dump --create", &name), &renamed);
}

fn feed(server: &Postgres, database: &str, dump: &[u8]) {
    let mut psql = server.client("psql", database);
    let mut child = psql.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().expect("psql");
    child.stdin.take().expect("its input").write_all(dump).expect("written");
    assert!(child.wait().expect("its end").success());
}

#[test]
fn roles_and_the_databases_own_come_back_on_postgresql_13() {
    comes_back("13");
}

#[test]
fn roles_and_the_databases_own_come_back_on_postgresql_15() {
    comes_back("15");
}

#[test]
fn roles_and_the_databases_own_come_back_on_postgresql_18() {
    comes_back("18");
}

#[test]
fn only_missing_roles_are_made_and_without_a_login() {
    let there = role(postgres(), "CREATEROLE").user;
    let odd = unique_name("it's \"odd\"; 漢");
    let names = [there.clone(), odd.clone()];
    block_on(async {
        let mut server = session(postgres()).await;
        let report = roles::create_missing(&mut server, &names).await.expect("made");
        assert_eq!((report.created, report.existing), (vec![odd.clone()], vec![there.clone()]));
        let again = roles::create_missing(&mut server, &names).await.expect("nothing to make");
        assert_eq!(again.created, [""; 0]);
        server.close().await;
    });
    let attributes = |name: &str| {
        let name = name.replace('\'', "''");
        let question = format!("SELECT rolcanlogin, rolcreaterole FROM pg_roles WHERE rolname = '{name}'");
        postgres().psql("postgres", &question).expect("asked")
    };
    assert_eq!((attributes(&odd).as_str(), attributes(&there).as_str()), ("f|f", "t|t"));
}

#[test]
fn a_role_that_may_not_be_made_leaves_none() {
    let powerless = role(postgres(), "");
    let names = [unique_name("one"), unique_name("two")];
    block_on(async {
        let mut server = session(&powerless).await;
        let error = roles::create_missing(&mut server, &names).await.expect_err("refused");
        assert!(error.exit_code().number() == 15 && error.to_string().contains("CREATEROLE"), "{error}");
        // One that may make the first alone, as it were: the second has a name that no role can have.
        let mut server = session(postgres()).await;
        let names = [names[0].clone(), "pg_reserved".to_owned()];
        roles::create_missing(&mut server, &names).await.expect_err("refused");
        let left = postgres().psql("postgres", &format!("SELECT 1 FROM pg_roles WHERE rolname = '{}'", names[0]));
        assert_eq!(left.expect("asked"), "", "all or none");
    });
}

#[test]
fn what_the_globals_may_not_give_is_named_without_a_secret() {
    let creator = role(postgres(), "CREATEROLE");
    let (one, group) = (unique_name("one"), unique_name("group"));
    let script = format!(
        "DO 'BEGIN\nCREATE ROLE {one};\nBEGIN\nALTER ROLE {one} WITH SUPERUSER LOGIN PASSWORD ''SCRAM-sentinel'';\n\
         EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING ''%'', SQLERRM;\nEND;\n\
         EXCEPTION WHEN duplicate_object THEN RAISE NOTICE ''%: left as it is'', SQLERRM;\nEND';\n\
         ALTER ROLE {one} SET no_such_setting TO 'x';\nALTER ROLE {one} SET work_mem TO '5MB';\n\
         GRANT {group} TO {one};\nGRANT {group} TO postgres;\n"
    );
    let recorded = Recorded::read(&script).expect("ours");
    block_on(async {
        let mut server = session(&creator).await;
        let report = roles::apply(&mut server, &recorded).await.expect("made");
        let left_out = report.left_out.join("\n");
        assert_eq!((report.created, report.left_out.len()), (vec![one.clone()], 3), "{left_out}");
        assert!(left_out.contains("the attributes of") && left_out.contains(&group), "{left_out}");
        assert!(!left_out.contains("sentinel"), "{left_out}");
    });
    let settings = format!("SELECT rolconfig, rolsuper FROM pg_roles WHERE rolname = '{one}'");
    assert_eq!(postgres().psql("postgres", &settings).expect("asked"), "{work_mem=5MB}|f");
}

/// A bucket with globals of this text, and a manifest that names them.
fn planted(script: &[u8]) -> (String, Manifest) {
    let bucket = s3().create_bucket("planted");
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(script).expect("memory takes it");
    let packed = gzip.finish().expect("memory takes it");
    s3().request("PUT", &format!("/{bucket}/NAME.globals.sql.gz"), &packed).expect("put");
    let mut manifest = serde_json::to_value(crate::restore_scratch::manifest(&[])).expect("JSON");
    manifest["globals"] = serde_json::json!({
        "file_name": "NAME.globals.sql.gz", "bytes": packed.len(), "sha256": hex(&Sha256::digest(&packed)),
        "role_passwords": true,
    });
    (bucket, serde_json::from_value(manifest).expect("a manifest"))
}

fn read(bucket: &str, manifest: &Manifest) -> Result<Option<Recorded>, RolesError> {
    block_on(async {
        let mut server = session(postgres()).await;
        roles::globals((&destination(bucket).await, None), ("NAME", manifest), &mut server).await
    })
}

#[test]
fn planted_and_damaged_globals_are_refused_before_anything_is_run() {
    let (bucket, manifest) = planted(b"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';\n");
    let error = read(&bucket, &manifest).expect_err("foreign");
    assert!(error.exit_code().number() == 15 && error.to_string().contains("CREATE FUNCTION f()"), "{error}");
    let (bucket, manifest) = planted(b"GRANT a TO b;\n");
    assert_eq!(read(&bucket, &manifest).expect("ours").expect("globals").memberships.len(), 1);
    let with = |change: &dyn Fn(&mut pg_s3_backup::archive::manifest::GlobalsFile)| {
        let mut manifest = manifest.clone();
        change(manifest.globals.as_mut().expect("globals"));
        read(&bucket, &manifest).expect_err("refused").to_string()
    };
    for (said, words) in [
        (with(&|file| file.sha256 = "00".repeat(32)), "sha256"),
        (with(&|file| file.bytes += 1), "size"),
        (with(&|file| file.file_name = "OTHER.globals.sql.gz".to_owned()), "not there"),
        (with(&|file| file.file_name = "../NAME.globals.sql.gz".to_owned()), "elsewhere"),
    ] {
        assert!(said.contains(words) && said.contains("--no-database-settings"), "{words}: {said}");
    }
    let mut without = manifest.clone();
    without.globals = None;
    assert_eq!(read(&bucket, &without).expect("none"), None);
    assert!(roles::without_globals(Some(&without)).is_some() && roles::without_globals(Some(&manifest)).is_none());
}

#[test]
fn names_in_another_encoding_are_read_as_what_they_are() {
    let database = "\n--\n-- The database that you are connected to\n--\n\nSET client_encoding = 'UTF8';\n\n\
                    ALTER DATABASE :\"DBNAME\" OWNER TO \"größe\";\n";
    let latin = [b"SET client_encoding = 'LATIN1';\nGRANT \"gr\xf6\xdfe\" TO b;\n".as_slice(), database.as_bytes()];
    let (bucket, manifest) = planted(&latin.concat());
    let recorded = read(&bucket, &manifest).expect("ours").expect("globals");
    assert_eq!(recorded.memberships[0].group, "größe");
    assert!(recorded.database.is_some());
    let unknown = b"SET client_encoding = 'SQL_ASCII';\nGRANT \"gr\xf6\xdfe\" TO b;\n";
    let (bucket, manifest) = planted(unknown);
    assert!(read(&bucket, &manifest).expect_err("unknown").to_string().contains("encoding"));
}

#[test]
fn roles_of_a_server_that_has_them_are_as_they_were() {
    let server = own_postgres(&[]);
    server.psql("postgres", "CREATE ROLE kept NOLOGIN; CREATE ROLE other").expect("made");
    let script = "DO 'BEGIN\nCREATE ROLE kept;\nBEGIN\nALTER ROLE kept WITH SUPERUSER LOGIN;\n\
         EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING ''%'', SQLERRM;\nEND;\n\
         EXCEPTION WHEN duplicate_object THEN RAISE NOTICE ''%: left as it is'', SQLERRM;\nEND';\n\
         COMMENT ON ROLE kept IS 'planted';\nALTER ROLE kept SET work_mem TO '5MB';\n\
         ALTER ROLE postgres WITH PASSWORD 'planted';\nGRANT other TO kept;\n";
    let before = said(&server, &clients("15"), "pg_dumpall --roles-only", "postgres");
    block_on(async {
        let mut session = session(&server).await;
        let report = roles::apply(&mut session, &Recorded::read(script).expect("ours")).await.expect("nothing made");
        assert_eq!((report.created.len(), report.existing), (0, vec!["kept".to_owned()]));
        session.close().await;
    });
    assert_eq!(said(&server, &clients("15"), "pg_dumpall --roles-only", "postgres"), before);
}
