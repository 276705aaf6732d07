//! What others watch: the file of metrics, the daemon's address, the host of pings.

use std::net::TcpListener;

use super::{Checked, backed_up, check_program};
use crate::support::port::own_port;
use crate::support::servers::postgres;
use crate::support::web::{Reply, Web};

#[test]
fn a_metrics_file_that_cannot_be_written_fails() {
    let database = postgres().create_database("metrics");
    let (bucket, _) = backed_up(&database);
    let dir = tempfile::tempdir().expect("a directory");
    let at = |path: &str| check_program(&database, &bucket).env("METRICS_FILE", dir.path().join(path));
    for (path, hint) in [("", "set METRICS_FILE to a file in it"), ("no/such/x.prom", "make its directory")] {
        let checked = Checked::of(&at(path));
        checked.assert(&["metrics_file"], &[]);
        assert!(checked.hint("metrics_file").starts_with(hint), "{}", checked.report);
    }
    std::fs::write(dir.path().join("there.prom"), "kept").expect("a file");
    for path in ["there.prom", "new.prom"] {
        Checked::of(&at(path)).assert(&[], &[]).says("metrics_file", &["can be written"]);
    }
    let files: Vec<_> = std::fs::read_dir(dir.path()).expect("it is there").collect();
    assert_eq!(files.len(), 1, "nothing is left of it: {files:?}");
    assert_eq!(std::fs::read(dir.path().join("there.prom")).expect("a file"), b"kept");
}

#[test]
fn an_address_that_is_taken_warns_and_one_that_cannot_be_fails() {
    let database = postgres().create_database("listen");
    let (bucket, _) = backed_up(&database);
    let check = |address: &str| Checked::of(&check_program(&database, &bucket).env("LISTEN", address));
    // No other test gets it while nothing listens there.
    let address = format!("127.0.0.1:{}", own_port());
    let taken = TcpListener::bind(&address).expect("a free port");
    check(&address).assert(&[], &["listen"]).says("listen", &[" is in use", "pg-s3-backup health"]);
    drop(taken);
    check(&address).assert(&[], &[]).says("listen", &["a daemon can listen"]);
    check("192.0.2.1:9187").assert(&["listen"], &[]).says("listen", &["an address of this host"]);
}

#[test]
fn a_host_that_takes_no_pings_warns_and_none_is_sent() {
    let database = postgres().create_database("pinged");
    let (bucket, _) = backed_up(&database);
    let check = |url: &str| Checked::of(&check_program(&database, &bucket).env("PING_URL", url));
    let web = Web::start(|_, _| Reply::ok(""));
    check(&format!("{}/ping/sentinel-4711", web.url())).assert(&[], &[]).says("ping_url", &["no ping was sent"]);
    assert!(web.asked().is_empty(), "{:?}", web.asked());
    for (url, words) in [
        ("http://127.0.0.1:9/sentinel-4711", "127.0.0.1:9 cannot be reached"),
        ("https://ping.invalid/sentinel-4711", "ping.invalid:443 cannot be reached"),
    ] {
        let checked = check(url);
        checked.assert(&[], &["ping_url"]).says("ping_url", &[words, "correct PING_URL"]);
        assert!(!checked.report.to_string().contains("sentinel"), "{}", checked.report);
    }
}
