//! Keepalives on every connection, and from the server on the control session, unless the user sets them.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::fake_pg_dump::{FakeDump, FakePgDump};
use crate::support::faulty::Stage;
use crate::support::program::Program;
use crate::support::proxy::{Calls, Fault, Rule, S3Verb, StallAt};
use crate::support::servers::{installed_tools, postgres};
use crate::support::tcp_proxy::TcpProxy;

const SOON: Duration = Duration::from_mins(1);
const OURS: [&str; 5] = [
    "keepalives='1'",
    "keepalives_idle='45'",
    "keepalives_interval='15'",
    "keepalives_count='5'",
    "tcp_user_timeout='120000'",
];

/// Notes the arguments of the real programs next to a fake `pg_dump`.
fn listen(dump: &FakePgDump) {
    let real = installed_tools().expect("the client programs");
    for tool in ["psql", "pg_dumpall"] {
        let (real, heard) = (real.join(tool), dump.dir().join(format!("{tool}.heard")));
        let script =
            format!("#!/bin/sh\nprintf '%s\\n' \"$*\" >>'{}'\nexec '{}' \"$@\"\n", heard.display(), real.display());
        dump.replace(tool, &script);
    }
}

/// The connection strings that `psql`, `pg_dump` and `pg_dumpall` were given.
fn connections(stage: &Stage) -> Vec<String> {
    let heard = |tool: &str| {
        let text = fs::read_to_string(stage.dump.dir().join(format!("{tool}.heard"))).expect("it was called");
        let is_connection = |line: &&str| line.contains("dbname=") || line.contains("client_encoding=");
        text.lines().rfind(is_connection).expect("with a connection string").to_owned()
    };
    let pg_dump = stage.dump.args().into_iter().find(|word| word.starts_with("--dbname=")).expect("a database");
    vec![heard("psql"), pg_dump, heard("pg_dumpall")]
}

fn run(stage: &Stage, program: &Program) -> Vec<String> {
    stage.assert_committed(&program.run(), "keepalives");
    connections(stage)
}

fn stage() -> Stage {
    let stage = Stage::new(FakeDump::new());
    listen(&stage.dump);
    stage
}

#[test]
fn every_program_sets_keepalives_against_dead_connections() {
    let stage = stage();
    for connection in run(&stage, &stage.backup()) {
        assert!(OURS.iter().all(|word| connection.contains(word)), "{connection}");
    }
    // PostgreSQL 11 does not know all of them.
    let stage = Stage::new(FakeDump::new().version("pg_dump (PostgreSQL) 11.22"));
    listen(&stage.dump);
    stage.assert_failed(&stage.backup().run(), 10, "too old for the server, but connected");
    let heard = fs::read_to_string(stage.dump.dir().join("psql.heard")).expect("it was called");
    assert!(OURS[..4].iter().all(|word| heard.contains(word)) && !heard.contains("tcp_user_timeout"), "{heard}");
}

#[test]
fn keepalives_of_the_user_replace_all() {
    let stage = stage();
    let uri = format!("{}?keepalives_idle=7", postgres().uri("postgres"));
    for connection in run(&stage, &stage.backup().env("POSTGRES_CONNECTION_STRING", uri)) {
        assert!(connection.contains("keepalives_idle='7'"), "{connection}");
        assert_eq!(connection.matches("keepalives").count(), 1, "{connection}");
        assert!(!connection.contains("tcp_user_timeout"), "{connection}");
    }
}

#[test]
fn pg_dump_gets_chosen_address_and_host_name() {
    let stage = stage();
    let uri = postgres().uri("postgres").replace("127.0.0.1", "localhost");
    for connection in run(&stage, &stage.backup().env("POSTGRES_CONNECTION_STRING", uri)).split_off(1) {
        assert!(connection.contains("host='localhost'") && connection.contains("hostaddr='127.0.0.1'"), "{connection}");
    }
}

#[test]
fn keepalives_of_a_service_take_precedence() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("services");
    let server = postgres();
    let place = format!("host={}\nport={}\nuser={}\ndbname=postgres\n", server.host, server.port, server.user);
    fs::write(&file, format!("[own]\n{place}keepalives=0\n[bare]\n{place}")).expect("written");
    for (service, given) in [("own", false), ("bare", true)] {
        let stage = stage();
        let backup = stage.backup().env_remove("POSTGRES_CONNECTION_STRING").env("PGPASSWORD", &server.password);
        for connection in run(&stage, &backup.env("PGSERVICEFILE", &file).env("PGSERVICE", service)) {
            assert_eq!(connection.contains("keepalives"), given, "{service}: {connection}");
        }
    }
}

/// Seconds until the kernel probes the connection from this local port to this remote one; `None` while it does not.
fn probed_in(local: u16, remote: u16) -> Option<f64> {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (kind, ticks) = fields.get(5)?.split_once(':')?;
        let is_it = port(fields[1]) == Some(local) && port(fields[2]) == Some(remote) && kind == "02";
        is_it.then(|| u32::from_str_radix(ticks, 16).ok().map(|ticks| f64::from(ticks) / 100.0))?
    })
}

#[track_caller]
fn assert_probed_soon(local: u16, remote: u16) {
    let deadline = Instant::now() + SOON;
    loop {
        let seconds = probed_in(local, remote);
        if seconds.is_some_and(|seconds| seconds <= 45.0) {
            return;
        }
        assert!(Instant::now() < deadline, "no probe within 45 s from port {local} to {remote}: {seconds:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_kernel_probes_the_control_session_from_both_ends() {
    let stage = Stage::new(FakeDump::new());
    // The run goes no further than its listing, where `pg_dumpall` has no connection yet.
    let stall = Fault::Stall { at: StallAt::BeforeEffect };
    stage.proxy.rule(Rule::on(S3Verb::ListObjects, Calls::All, stall));
    let database = postgres().create_database("keepalives");
    let proxy = TcpProxy::start(&postgres().addr());
    let uri = database.uri_via(&proxy.host(), proxy.port());
    let backup = stage.backup().env("S3_REQUEST_TIMEOUT", "60s");
    let mut running = backup.env("POSTGRES_CONNECTION_STRING", uri).spawn();
    running.wait_for_stderr("backup starts", SOON);
    let question = format!(
        "SELECT client_port FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE locktype = 'advisory' AND datname = '{}'",
        database.name
    );
    let server_side = postgres().psql("postgres", &question).expect("an answer").parse().expect("one session's port");
    assert_probed_soon(postgres().port, server_side);
    let client_side = local_port_to(proxy.port());
    assert_probed_soon(client_side, proxy.port());
    running.signal("TERM");
    running.wait().assert_code(143);
}

/// The local port of the only connection to this port.
fn local_port_to(remote: u16) -> u16 {
    let table = fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let end = format!(":{remote:04X}");
    let established = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut local = established.filter(|fields| fields.len() > 3 && fields[2].ends_with(&end) && fields[3] == "01");
    let fields = local.next().expect("a connection");
    u16::from_str_radix(fields[1].rsplit(':').next().expect("a port"), 16).expect("a number")
}
