//! Every way to name a database that `psql` and `pg_dump` accept works for `backup`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::program::Program;
use crate::support::proxy::{Calls, Fault, FaultProxy, Rule, S3Verb, StallAt};
use crate::support::servers::database::Database;
use crate::support::servers::{postgres, s3};
use crate::support::setup::{clear, manifest, only_backup, s3_program};
use crate::support::tcp_proxy::TcpProxy;

/// A password with every printable special character, and some that are not ASCII.
pub const PASSWORD: &str = "a b!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~%41 é漢🐘";

/// A role of its own that may read everything and logs in with [`PASSWORD`]; dropped with this value.
#[derive(Debug)]
pub struct Role {
    pub name: String,
}

impl Role {
    pub fn create(password: &str) -> Self {
        let name = crate::support::servers::database::unique_name("role");
        let literal = password.replace('\'', "''");
        // No backslash is special in such a literal.
        let sql = format!("CREATE ROLE {name} LOGIN SUPERUSER PASSWORD '{literal}'");
        postgres().psql("postgres", &sql).expect("a role");
        Self { name }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // The server is removed at the end.
        let _ = postgres().psql("postgres", &format!("DROP ROLE {}", self.name));
    }
}

/// Everything but letters and digits, as a URI takes anything.
pub fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    text.bytes().map(encode).collect()
}

/// A value in libpq's quotes.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `backup` without any connection, into this bucket.
fn program(bucket: &str) -> Program {
    s3_program(bucket).arg("backup")
}

/// The run succeeds and is of this database.
#[track_caller]
fn assert_backs_up(program: &Program, bucket: &str, database: &Database) {
    program.run().assert_code(0).assert_no_children_left();
    let key = only_backup(bucket);
    assert_eq!(manifest(bucket, &key)["database"], *database.name);
    clear(bucket);
}

#[test]
fn accepts_every_character_in_passwords() {
    let database = postgres().create_database("forms");
    let bucket = s3().create_bucket("forms");
    let role = Role::create(PASSWORD);
    let (user, server, name) = (&role.name, database.server(), &database.name);
    let (host, port) = (&server.host, server.port);
    let (encoded, quoted) = (percent_encoded(PASSWORD), quoted(PASSWORD));
    let bare = PASSWORD.chars().map(|c| if c.is_alphanumeric() { c.to_string() } else { format!("\\{c}") });
    let bare: String = bare.collect();
    for connection in [
        format!("postgresql://{user}:{encoded}@{host}:{port}/{name}"),
        format!("postgres://{host}:{port}/{name}?user={user}&password={encoded}&sslmode=disable"),
        format!("postgres:///{name}?host={host}&port={port}&user={user}&password={encoded}"),
        format!("host={host} port={port} user={user} dbname={name} password={quoted}"),
        format!(" host = {host} port\t=\n{port} user={user} dbname='{name}' password={bare} "),
    ] {
        let program = program(&bucket).env("POSTGRES_CONNECTION_STRING", connection);
        assert_backs_up(&program, &bucket, &database);
    }
    let no_password = format!("postgres://{user}@{host}:{port}/{name}");
    let program = program(&bucket).env("POSTGRES_CONNECTION_STRING", no_password).env("PGPASSWORD", PASSWORD);
    assert_backs_up(&program, &bucket, &database);
}

#[test]
fn the_variables_of_libpq_need_no_connection_string() {
    let database = postgres().create_database("variables");
    let bucket = s3().create_bucket("variables");
    let server = database.server();
    let program = program(&bucket)
        .env("PGHOST", &server.host)
        .env("PGPORT", server.port.to_string())
        .env("PGUSER", &server.user)
        .env("PGPASSWORD", &server.password);
    program.run().assert_code(1);
    assert_backs_up(&program.clone().env("PGDATABASE", &database.name), &bucket, &database);
    // A connection string takes precedence over them.
    let program = program.env("PGDATABASE", "elsewhere").env("PGHOST", "elsewhere.invalid");
    let program = program.env("POSTGRES_CONNECTION_STRING", database.uri());
    assert_backs_up(&program, &bucket, &database);
}

#[test]
fn a_service_and_a_password_file_are_found() {
    let database = postgres().create_database("service");
    let bucket = s3().create_bucket("service");
    let (server, dir) = (database.server(), tempfile::tempdir().expect("a directory"));
    let (service, passfile) = (dir.path().join("service.conf"), dir.path().join("pass"));
    let (host, port, user) = (&server.host, server.port, &server.user);
    fs::write(&service, format!("[shop]\nhost={host}\nport={port}\nuser={user}\ndbname={}\n", database.name))
        .expect("written");
    fs::write(&passfile, format!("{host}:{port}:*:{user}:{}\n", server.password)).expect("written");
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).expect("its mode");
    let with_service = program(&bucket).env("PGSERVICEFILE", &service).env("PGPASSFILE", &passfile);
    assert_backs_up(&with_service.clone().env("PGSERVICE", "shop"), &bucket, &database);
    assert_backs_up(&with_service.env("POSTGRES_CONNECTION_STRING", "service=shop"), &bucket, &database);
    let passfile = passfile.display();
    let words = format!("host={host} port={port} user={user} dbname={} passfile='{passfile}'", database.name);
    assert_backs_up(&program(&bucket).env("POSTGRES_CONNECTION_STRING", words), &bucket, &database);
}

#[test]
fn skips_dead_host_of_several() {
    let database = postgres().create_database("hosts");
    let bucket = s3().create_bucket("hosts");
    let (server, name) = (database.server(), &database.name);
    let (host, port) = (&server.host, server.port);
    let (user, password) = (&server.user, percent_encoded(&server.password));
    for connection in [
        format!("postgres://{user}:{password}@127.0.0.1:9,{host}:{port}/{name}"),
        format!(
            "postgres://{user}:{password}@no-such-host.invalid,{host}:{port}/{name}?target_session_attrs=read-write"
        ),
        format!(
            "host=127.0.0.1,127.0.0.1 port=9,{port} user={user} password={} dbname={name}",
            quoted(&server.password)
        ),
        format!(
            "host=dead,alive hostaddr=127.0.0.1,{host} port=9,{port} user={user} password={} dbname={name}",
            quoted(&server.password)
        ),
        format!(
            "hostaddr=127.0.0.1,{host} port=9,{port} user={user} password={} dbname={name}",
            quoted(&server.password)
        ),
    ] {
        let program = program(&bucket).env("POSTGRES_CONNECTION_STRING", connection);
        assert_backs_up(&program, &bucket, &database);
    }
}

#[test]
fn accepts_unix_socket() {
    let database = postgres().create_database("socket");
    let bucket = s3().create_bucket("socket");
    let (server, name) = (database.server(), &database.name);
    let (socket, port, user) = (server.socket_dir.display().to_string(), server.port, &server.user);
    let password = &server.password;
    for connection in [
        format!("host='{socket}' port={port} user={user} dbname={name} password={}", quoted(password)),
        format!("postgres://{user}:{}@{}:{port}/{name}", percent_encoded(password), percent_encoded(&socket)),
        format!("postgres:///{name}?host={socket}&port={port}&user={user}&password={}", percent_encoded(password)),
    ] {
        let program = program(&bucket).env("POSTGRES_CONNECTION_STRING", connection);
        assert_backs_up(&program, &bucket, &database);
    }
}

#[test]
fn pg_dump_connects_to_host_of_control_session() {
    let (database, bucket) = (postgres().create_database("pinned"), s3().create_bucket("pinned"));
    let server = database.server();
    // The way by the first host is closed when the session connects, and open when pg_dump does.
    let first = TcpProxy::start_closed(&server.addr());
    let slow = FaultProxy::start(s3().addr());
    slow.rule(Rule::on(S3Verb::CreateMultipartUpload, Calls::Nth(1), Fault::Stall { at: StallAt::BeforeEffect }));
    let connection = format!(
        "host=127.0.0.1,{} port={},{} user={} dbname={} password={}",
        server.host,
        first.address().port(),
        server.port,
        server.user,
        database.name,
        quoted(&server.password)
    );
    let program = program(&bucket).env("POSTGRES_CONNECTION_STRING", connection).env("S3_URL", slow.url());
    let mut running = program.env("S3_REQUEST_TIMEOUT", "5s").spawn();
    running.wait_for_stderr("backup starts", Duration::from_mins(1));
    first.resume();
    first.wait_until_open();
    running.wait().assert_code(0);
    assert_eq!(manifest(&bucket, &only_backup(&bucket))["database"], *database.name);
    assert_eq!(first.bytes_to_client(), 0, "something went by the other host");
}
