//! The commands that `list NAME` and the manifest print bring a backup back as they are printed: by bash, with nothing but an S3
//! client and PostgreSQL's own programs, into an empty server with few locks. And the ways out of `docs/restore.md`
//! for what a plain dump does not bring back by itself.

use std::path::Path;

use serde_json::Value;

use crate::readme::blocks::blocks;
use crate::support::process::write_script;
use crate::support::program::{Outcome, Program};
use crate::support::servers::database::{Database, unique_name};
use crate::support::servers::restarted::{Restarted, Shutdown};
use crate::support::servers::{OwnPostgres, Postgres, own_postgres, postgres, s3};
use crate::support::setup::{
    backup_program, clear, installed, list_program, manifest, object, only_backup, repository_file, s3_program,
};

/// Large objects, and tables: each more than the server can lock at once.
pub const MANY: u32 = 300;

/// The real `aws`, or what does as much of it as the printed commands need.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Aws {
    Real,
    StandIn,
}

/// What `list latest` prints as commands.
pub fn printed(program: &Program) -> String {
    let outcome = program.run();
    let text = outcome.assert_code(0).stdout_text();
    let (_, commands) = text.split_once("docs/restore.md):\n").unwrap_or_else(|| panic!("no commands in {text}"));
    commands.to_owned()
}

/// Runs commands in bash, with a server's programs (of this directory) in its path and the server in its environment.
pub fn run(commands: &str, server: &Postgres, clients: &Path, aws: Aws) -> Outcome {
    let program = Program::at(Path::new("/bin/bash")).args(["-c", commands]);
    let script = match aws {
        Aws::Real => {
            installed("aws");
            let path = repository_file("target/tools/aws");
            format!("#!/bin/sh\nPYTHONPATH='{}' exec python3 -B -m awscli \"$@\"\n", path.display())
        }
        Aws::StandIn => format!(
            "#!/bin/bash\n[[ $1 == --endpoint-url && $3/$4/$6 == s3/cp/. ]] || exit 64\n\
             path=${{5#s3:/}}\nS3_URL=$2 exec '{}' GET \"$path\" >\"${{path##*/}}\"\n",
            repository_file("scripts/s3").display()
        ),
    };
    write_script(&program.home().join("aws"), &script);
    let path = [program.home().display().to_string(), clients.display().to_string(), "/usr/bin:/bin".to_owned()];
    let keys = [
        ("AWS_DEFAULT_REGION", &*s3().region),
        ("AWS_ACCESS_KEY_ID", &*s3().access_key),
        ("AWS_SECRET_ACCESS_KEY", &*s3().secret_key),
        ("S3_ACCESS_KEY", &*s3().access_key),
        ("S3_SECRET_KEY", &*s3().secret_key),
        ("PGHOST", &*server.host),
        ("PGUSER", &*server.user),
        ("PGPASSWORD", &*server.password),
    ];
    let program = keys.into_iter().fold(program, |program, (name, value)| program.env(name, value));
    program.env("PGPORT", server.port.to_string()).env("PATH", path.join(":")).run()
}

/// An empty server with another superuser, and some hundred locks.
pub fn small_server() -> OwnPostgres {
    let server = own_postgres(&["--superuser", "the chief"]);
    for setting in [
        "max_connections = 10",
        "max_locks_per_transaction = 10",
        "autovacuum_max_workers = 1",
        "max_worker_processes = 0",
        "max_wal_senders = 0",
    ] {
        server.psql("postgres", &format!("ALTER SYSTEM SET {setting}")).expect("set");
    }
    server
}

/// Bytes of no encoding, large objects of a role, many tables, and a database that is read-only from then on.
pub fn archive(role: &str) -> Database {
    let options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'";
    let database = postgres().create_database_with("the \"archive's\" $HOME = 漢\n`x`", options);
    let tables = format!("SELECT format('CREATE TABLE t%s (id int)', i) FROM generate_series(1, {MANY}) i");
    let sql = format!(
        "CREATE ROLE {role}; DO $$ DECLARE s text; BEGIN FOR s IN {tables} LOOP EXECUTE s; END LOOP; END $$; \
         SELECT lo_from_bytea(0, decode(md5(i::text), 'hex')) FROM generate_series(1, {MANY}) i; \
         UPDATE pg_largeobject_metadata SET lomowner = '{role}'::regrole; \
         CREATE TABLE letter (id int PRIMARY KEY, t text); ALTER TABLE letter OWNER TO {role}; \
         INSERT INTO letter VALUES (1, E'caf\\xe9'), (2, E'caf\\xc3\\xa9'), (3, E'\\x80\\x81\\xff')"
    );
    database.psql(&sql).expect("an archive");
    let read_only = "ALTER DATABASE :\"DBNAME\" SET default_transaction_read_only = on";
    let mut psql = database.server().client("psql", &database.name);
    let mut child = psql.stdin(std::process::Stdio::piped()).spawn().expect("psql");
    std::io::Write::write_all(&mut child.stdin.take().expect("its input"), read_only.as_bytes()).expect("written");
    assert!(child.wait().expect("its end").success());
    database
}

fn names(manifest: &Value, name: &str) -> Vec<String> {
    let names = manifest[name].as_array().expect("an array").iter();
    names.map(|name| name.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn they_restore_what_is_large_and_odd_into_a_server_with_few_locks() {
    let (role, bucket) = (unique_name("archivist"), s3().create_bucket("printed"));
    let source = archive(&role);
    let path = "my path/$HOME";
    backup_program(&source, &bucket).env("S3_PATH", path).run().assert_code(0);
    let server = small_server();
    let restarted = Restarted(&server);
    restarted.stop(Shutdown::Fast);
    restarted.start();

    let commands = printed(&list_program(&bucket).env("S3_PATH", path).arg("latest"));
    let outcome = run(&commands, &server, &server.bin, Aws::Real);
    outcome.assert_code(0);
    let key = s3().keys(&bucket, "").into_iter().find(|key| key.ends_with(".sql.gz.json")).expect("a manifest");
    let manifest = manifest(&bucket, key.trim_end_matches(".json"));
    assert_eq!(names(&manifest, "restore").join("\n"), commands.trim_end().replace("\n  ", "\n").trim_start());

    let encoding = "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = current_database()";
    let large = "SELECT count(*), sum(length(lo_get(oid))) FROM pg_largeobject_metadata";
    for question in [encoding, large, "SELECT id, t FROM letter ORDER BY 1", "SHOW default_transaction_read_only"] {
        assert_eq!(server.psql(&source.name, question), source.psql(question), "{question}");
    }

    // A second time nothing is touched: such a database is there.
    let again = run(&commands, &server, &server.bin, Aws::StandIn);
    assert_ne!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stderr.contains("already exists") && !again.stdout_text().contains("SET"), "{}", again.stderr);

    // And a dump of it there runs out of locks: all say what would fix that.
    let uri = server.uri(&source.name);
    let of_server = |command: &str| s3_program(&bucket).env("POSTGRES_CONNECTION_STRING", &uri).arg(command);
    let other = s3().create_bucket("locks");
    let failed = of_server("backup").env("S3_BUCKET", other).run();
    let error =
        failed.assert_code(11).stderr.lines().find(|line| line.contains(" ERROR ")).expect("an error").to_owned();
    assert!(error.contains("out of shared memory") && error.contains("HINT:"), "{error}");
    let checked = of_server("check").run();
    checked.assert_code(14);
    let text = checked.stdout_text();
    for words in ["a dump locks 301 tables", "has about 100 locks", "-> raise max_locks_per_transaction"] {
        assert!(text.contains(words), "{words:?} wanted in {text}");
    }
    assert!(!text.contains("BACKUP_LOCK_WAIT_TIMEOUT"), "{text}");
    drop(source);
    postgres().psql("postgres", &format!("DROP ROLE {role}")).expect("dropped");
}

/// Functions and a view that need a `search_path`, and rows that look like statements of the dump.
const NEEDS_SEARCH_PATH: &str = "CREATE TABLE note (id int PRIMARY KEY, body text); \
    INSERT INTO note VALUES (1, 'a rope'), (2, 'COMMENT ON EXTENSION x'), (3, 'ALTER TABLE x OWNER TO y;'); \
    CREATE FUNCTION note_count() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT count(*) FROM note); END $$; \
    CREATE MATERIALIZED VIEW note_total AS SELECT note_count() AS total";

/// The block of `docs/restore.md` below a heading that begins with this, for this backup and database.
fn way_out(heading: &str, begin: &str, name: &str, database: &str) -> String {
    let document = std::fs::read_to_string(repository_file("docs/restore.md")).expect("docs/restore.md");
    let (_, section) = document.split_once(&format!("\n### {heading}\n")).expect("such a heading");
    let block = blocks(section).into_iter().map(|(_, block)| block).find(|block| block.starts_with(begin));
    let block = block.unwrap_or_else(|| panic!("{heading} has no block with {begin}"));
    block.replace("NAME.sql.gz", name).replace("-d shop", &format!("-d {database}"))
}

#[test]
fn the_ways_out_of_the_docs_restore_what_a_plain_dump_does_not() {
    let (tenant, bucket) = (unique_name("tenant"), s3().create_bucket("ways"));
    let source = postgres().create_database("ways");
    source.psql(&format!("CREATE EXTENSION citext; {NEEDS_SEARCH_PATH}")).expect("a database");
    let warned = way_out("Functions that need a search_path", "SELECT DISTINCT", "", "");
    assert_eq!(source.psql(&warned).as_deref(), Ok("note_count()|pg_rewrite"));
    backup_program(&source, &bucket).run().assert_code(0);
    let key = only_backup(&bucket);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("backup.sql.gz").display().to_string();
    std::fs::write(&file, object(&bucket, &key)).expect("written");

    // As a superuser, with the names of the functions.
    let server = postgres();
    let target = server.create_database_with("ways", "TEMPLATE template0");
    let plain = format!("set -o pipefail; gunzip -c {file} | psql -X -v ON_ERROR_STOP=1 -d {}", target.name);
    let failed = run(&plain, server, &server.bin, Aws::StandIn);
    assert!(failed.code == Some(3) && failed.stderr.contains("\"note\" does not exist"), "{}", failed.stderr);
    let target = server.create_database_with("ways", "TEMPLATE template0");
    let restore = way_out("Functions that need a search_path", "set -o", &file, &target.name);
    run(&restore, server, &server.bin, Aws::StandIn).assert_code(0);
    assert_eq!(target.psql("SELECT total FROM note_total").as_deref(), Ok("3"));

    // As the owner of the new database alone; another role owns its extensions.
    let options = format!("TEMPLATE template0 OWNER {tenant}");
    server.psql("postgres", &format!("CREATE ROLE {tenant} LOGIN PASSWORD 'tenant'")).expect("a role");
    let target = server.create_database_with("ways", &options);
    target.psql(&format!("CREATE EXTENSION citext; GRANT CREATE ON SCHEMA public TO {tenant}")).expect("made");
    let hint = source.psql("ALTER FUNCTION note_count() SET search_path = pg_catalog, public");
    hint.expect("fixed in the old database");
    clear(&bucket);
    backup_program(&source, &bucket).run().assert_code(0);
    std::fs::write(&file, object(&bucket, &only_backup(&bucket))).expect("written");
    let poor = Postgres { user: tenant.clone(), password: "tenant".to_owned(), ..server.clone() };
    let restore = way_out("Without superuser, and extensions of the provider", "set -o", &file, &target.name);
    run(&restore, &poor, &server.bin, Aws::StandIn).assert_code(0);
    let rows = "SELECT id, body FROM note ORDER BY 1";
    assert_eq!(target.psql(rows), source.psql(rows));
    drop(target);
    server.psql("postgres", &format!("DROP ROLE {tenant}")).expect("dropped");
}
