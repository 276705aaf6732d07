//! Tests of the server helpers, on the real servers.

use std::net::TcpStream;
use std::process::Command;

use super::super::proxy::{Calls, Fault, FaultProxy, Rule, S3Verb, When};
use super::super::tcp_proxy::TcpProxy;
use super::{own_s3, postgres, s3};

#[test]
fn a_database_comes_and_goes() {
    let database = postgres().create_database("comes_and_goes");
    assert_eq!(database.psql("CREATE TABLE t (a int); INSERT INTO t VALUES (7); SELECT a FROM t").as_deref(), Ok("7"));
    assert!(database.psql("SELECT nothing").expect_err("no such column").contains("nothing"));
    assert!(database.dump().expect("a dump").contains("COPY public.t"));
    let exists = format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", database.name);
    drop(database);
    assert_eq!(postgres().psql("postgres", &exists).as_deref(), Ok("0"));
}

#[test]
fn a_uri_connects_also_through_a_proxy_that_dies() {
    let database = postgres().create_database("via_proxy");
    let proxy = TcpProxy::start(&postgres().addr());
    let uri = database.uri_via(&proxy.host(), proxy.port());
    let ask = |sql: &str| {
        let mut psql = Command::new(postgres().bin.join("psql"));
        psql.args(["-XAtq", "-d", &uri, "-c", sql]).output().expect("psql runs")
    };
    assert_eq!(ask("SELECT 7").stdout, b"7\n");
    proxy.cut_after_bytes(100_000);
    let output = ask("SELECT repeat('x', 1000000)");
    assert!(!output.status.success() && proxy.bytes_to_client() > 100_000, "{output:?}");
}

#[test]
fn signed_requests_pass_the_fault_proxy() {
    let proxy = FaultProxy::start(s3().addr());
    let through = s3().at(&proxy.url());
    let fault = Fault::internal_error(When::After);
    proxy.rule(Rule::on(S3Verb::PutObject, Calls::Nth(1), fault));
    let bucket = through.create_bucket("proxy");
    let object = format!("/{bucket}/a/b.txt");
    let error = through.request("PUT", &object, b"hello").expect_err("a fault");
    assert!(error.contains("500"), "{error}");
    let stored = through.get(&bucket, "a/b.txt");
    assert_eq!(stored.as_deref(), Ok(b"hello".as_slice()), "it took effect");
    through.request("HEAD", &object, b"").expect("headers");
    let fault = Fault::StripRequestHeader("authorization".to_owned());
    proxy.rule(Rule::on(S3Verb::GetObject, Calls::From(2), fault));
    through.get(&bucket, "a/b.txt").expect_err("the server checks signatures");
    let log = proxy.log();
    let statuses: Vec<_> = log.iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [200, 500, 200, 200, 403].map(Some));
    assert_eq!(log[1].upstream_status, Some(200));
    assert_eq!(log[1].key(), "a/b.txt");
    assert_eq!(s3().keys(&bucket, "a/"), ["a/b.txt"]);
}

#[test]
fn a_corrupted_body_is_stored_where_no_checksum_guards_it() {
    let proxy = FaultProxy::start(s3().addr());
    proxy.rule(Rule::on(S3Verb::PutObject, Calls::All, Fault::CorruptBody));
    let bucket = s3().create_bucket("corrupt");
    let put = s3().at(&proxy.url()).request("PUT", &format!("/{bucket}/k"), b"HELLO");
    // This server does not compare a body with x-amz-content-sha256; only Content-MD5 and checksums would notice.
    put.expect("stored as it came");
    assert_eq!(s3().get(&bucket, "k").as_deref(), Ok(b"HEMLO".as_slice()));
}

#[test]
fn an_open_upload_is_seen() {
    let bucket = s3().create_bucket("open-upload");
    s3().request("POST", &format!("/{bucket}/big?uploads="), b"").expect("an upload begins");
    assert_eq!(s3().open_uploads(&bucket), ["big"]);
}

#[test]
fn an_own_server_can_be_stopped() {
    let own = own_s3(&[]);
    assert!(TcpStream::connect(own.addr()).is_ok());
    own.stop();
    let error = TcpStream::connect(own.addr()).expect_err("no listener any more");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}
