//! The listing of 100,000 backups, each with its manifest, on one thread: CPU time of the requests with their parsing, of the
//! names and of the table's rows.
//!
//! `cargo bench --bench listing`. The S3 server is a thread with canned answers. Compare only the lines of one run.
#![expect(clippy::print_stdout, reason = "the table is what this is for")]

#[path = "support/cpu.rs"]
mod cpu;

use std::hint::black_box;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pg_s3_backup::archive::Listing;
use pg_s3_backup::storage::{AtRest, ChecksumSetting, Destination, Endpoint, Prefix, S3Settings, StaticCredentials};

use cpu::cpu_time;

const BACKUPS: usize = 100_000;
/// A backup and its manifest.
const KEYS: usize = BACKUPS * 2;
/// The keys of one S3 answer (AWS: `ListObjectsV2`, `max-keys`).
const PAGE: usize = 1_000;
const ROUNDS: usize = 5;

fn main() {
    let store = store();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let destination = runtime.block_on(Box::pin(Destination::open(&settings(&store)))).expect("a client");
    println!("{BACKUPS} backups: CPU time in ms, the least of {ROUNDS} rounds");
    let mut least = [Duration::MAX; 3];
    for _ in 0..ROUNDS {
        let began = cpu_time();
        let listing = runtime.block_on(Listing::read(&destination)).expect("a listing");
        let read = cpu_time();
        let bytes: usize = black_box(listing.names(BACKUPS).map(|name| name.len()).sum());
        let with_names = cpu_time();
        // No manifest is read.
        let newest = runtime.block_on(listing.newest(BACKUPS, 0));
        assert_eq!(black_box(newest.iter()).count(), BACKUPS);
        assert!(bytes > BACKUPS);
        let times =
            [(began, read), (read, with_names), (with_names, cpu_time())].map(|(from, to)| to.saturating_sub(from));
        least.iter_mut().zip(times).for_each(|(least, time)| *least = time.min(*least));
    }
    for (name, time) in ["requests and parsing", "names", "rows"].iter().zip(least) {
        println!("{name:<22} {:>8.1}", time.as_secs_f64() * 1e3);
    }
}

fn settings(store: &str) -> S3Settings {
    S3Settings {
        bucket: "bucket".to_owned(),
        prefix: Prefix::new("app"),
        endpoint: Some(Endpoint::new(&store.parse().expect("a URL"))),
        region: Some("us-east-1".to_owned()),
        credentials: Some(StaticCredentials {
            access_key: "key".to_owned().into(),
            secret_key: "secret".to_owned().into(),
            session_token: None,
        }),
        force_path_style: true,
        ca_bundle: None,
        checksum: ChecksumSetting::Auto,
        at_rest: AtRest::default(),
        request_timeout: Duration::from_secs(30),
        max_outage: Duration::from_secs(30),
    }
}

/// Starts the server; its URL.
fn store() -> String {
    let pages: Vec<String> = (0..KEYS).step_by(PAGE).map(page).collect();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pages = pages.clone();
            std::thread::spawn(move || while answer(&stream, &pages).is_some() {});
        }
    });
    url
}

fn page(after: usize) -> String {
    let first: DateTime<Utc> = "2010-01-01T00:00:00Z".parse().expect("a time");
    let objects = (after..after + PAGE).fold(String::new(), |objects, n| {
        let started = first + TimeDelta::hours(i64::try_from(n / 2).expect("a small number"));
        let name = started.format("app/postgres-backup-%Y-%m-%d_%H-%M-%S.sql.gz");
        let suffix = if n.is_multiple_of(2) { "" } else { ".json" };
        objects + &format!("<Contents><Key>{name}{suffix}</Key><Size>{n}</Size></Contents>")
    });
    let end = after + PAGE;
    let more = if end < KEYS { format!("<NextContinuationToken>{end}</NextContinuationToken>") } else { String::new() };
    let is_cut = end < KEYS;
    format!("<ListBucketResult><IsTruncated>{is_cut}</IsTruncated>{more}{objects}</ListBucketResult>")
}

/// Answers one request; `None` at the connection's end.
fn answer(mut stream: &TcpStream, pages: &[String]) -> Option<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream);
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let nothing = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>";
    let query = head.split(' ').nth(1)?.split_once('?')?.1;
    let body = if query.contains("list-type=2") {
        let token = query.split('&').find_map(|pair| pair.strip_prefix("continuation-token="));
        &pages[token.map_or(0, |token| token.parse().expect("a token of this server")) / PAGE]
    } else {
        nothing
    };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()
}
