//! `list` of 100,000 backups takes only the requests of the listing, and a few bytes of memory for each backup. The status page of a
//! daemon with so many is small.
//!
//! The S3 server has canned answers: storing so many objects would take too long.

use chrono::{DateTime, TimeDelta, Utc};

use crate::daemon::YEARLY;
use crate::monitoring::address;
use crate::support::client::{eventually, get};
use crate::support::program::{Outcome, Program};
use crate::support::web::{Asked, Reply, Web};

/// Backups, each with its manifest: two keys.
const BACKUPS: usize = 100_000;
const KEYS: usize = BACKUPS * 2;
/// The keys of one S3 answer (AWS: `ListObjectsV2`, `max-keys`).
const PAGE: usize = 1_000;
/// The number of newest backups for which `list` reads the manifests.
const MANIFESTS: usize = 50;
/// The bound on memory. The program with nothing to list takes about 20 MiB.
const MEMORY: u64 = 64 << 20;
/// That of a daemon, which plans retention, too.
const MEMORY_OF_DAEMON: u64 = 96 << 20;

/// The n-th backup's name, an hour after the one before it.
fn name(n: usize) -> String {
    let first: DateTime<Utc> = "2010-01-01T00:00:00Z".parse().expect("a time");
    let started = first + TimeDelta::hours(i64::try_from(n).expect("a small number"));
    format!("postgres-backup-{}.sql.gz", started.format("%Y-%m-%d_%H-%M-%S"))
}

/// The n-th key of the listing: a backup, its manifest, the next backup.
fn key(n: usize) -> String {
    let suffix = if n.is_multiple_of(2) { "" } else { ".json" };
    format!("app/{}{suffix}", name(n / 2))
}

fn page(after: usize) -> Reply {
    let end = (after + PAGE).min(KEYS);
    let objects = (after..end).fold(String::new(), |objects, n| {
        objects + "<Contents><Key>" + &key(n) + "</Key><Size>" + &n.to_string() + "</Size></Contents>"
    });
    let more = if end < KEYS { format!("<NextContinuationToken>{end}</NextContinuationToken>") } else { String::new() };
    let is_cut = end < KEYS;
    Reply::ok(format!("<ListBucketResult><IsTruncated>{is_cut}</IsTruncated>{more}{objects}</ListBucketResult>"))
}

fn answer(asked: &Asked) -> Reply {
    let parameter = |name: &str| -> Option<&str> {
        let (_, query) = asked.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    if asked.target.contains("list-type=2") {
        assert_eq!(parameter("prefix"), Some("app%2Fpostgres-backup-"), "only this tool's names: {}", asked.target);
        return page(parameter("continuation-token").map_or(0, |token| token.parse().expect("a token of this server")));
    }
    if asked.target.contains("uploads") {
        return Reply::ok("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>");
    }
    Reply { status: 404, ..Reply::ok("<Error><Code>NoSuchKey</Code></Error>") }
}

fn list(store: &Web, arguments: &[&str]) -> Outcome {
    let program = Program::new()
        .args(["list", "--s3-bucket", "b-1", "--s3-path", "app"])
        .args(arguments)
        .env("S3_URL", store.url())
        .env("S3_ACCESS_KEY", "key")
        .env("S3_SECRET_KEY", "secret");
    let outcome = program.run();
    outcome.assert_code(0);
    assert!(outcome.peak_rss_bytes < MEMORY, "{arguments:?}: peak of {} bytes", outcome.peak_rss_bytes);
    outcome
}

#[test]
fn lists_100_000_backups_with_few_requests_and_little_memory() {
    let store = Web::start(|asked, _| answer(asked));
    let all = list(&store, &["--quiet", "--limit", "all"]).stdout_text();
    let lines: Vec<&str> = all.lines().collect();
    assert_eq!(lines.len(), BACKUPS);
    assert_eq!((lines[0], lines[BACKUPS - 1]), (&*name(BACKUPS - 1), &*name(0)), "the newest first");
    assert_eq!(store.asked().len(), KEYS / PAGE + 1, "the pages, and the open uploads");

    let table = list(&store, &[]).stdout_text();
    assert_eq!(table.lines().count(), 1 + BACKUPS, "a heading, and all backups, as this is no terminal");
    assert!(table.lines().nth(1).is_some_and(|line| line.starts_with(&name(BACKUPS - 1))), "{table}");
    let requests = store.asked().len() - (KEYS / PAGE + 1);
    // `list` requests the newest manifests, and, as there are none, the metadata of those backups.
    assert_eq!(requests, KEYS / PAGE + 1 + MANIFESTS * 2, "the same, and the requests for the newest backups");
}

#[test]
#[expect(clippy::print_stdout, reason = "what was measured")]
fn status_page_of_100_000_backups_is_small() {
    let store = Web::start(|asked, _| answer(asked));
    let daemon = Program::new().args(["daemon", "--s3-bucket", "b-1", "--s3-path", "app", "--catch-up=false"]);
    let daemon = daemon.env("S3_URL", store.url()).env("S3_ACCESS_KEY", "key").env("S3_SECRET_KEY", "secret");
    let daemon = daemon.env("POSTGRES_CONNECTION_STRING", "postgresql://127.0.0.1:1/app").env("LISTEN", "127.0.0.1:0");
    let daemon = daemon.env("BACKUP_INTERVAL", YEARLY).env("BACKUP_KEEP_LAST", "30").env("LOG_LEVEL", "info");
    let running = daemon.spawn();
    let address = address(&running);
    let shown = format!("50 of {BACKUPS} shown");
    eventually(|| get(&address, "/").body.contains(&shown), || running.stderr_so_far());
    let began = std::time::Instant::now();
    let page = get(&address, "/").body;
    // For those who measure it: `-- --nocapture`.
    println!("the page of {BACKUPS} backups: {} bytes in {:?}", page.len(), began.elapsed());
    assert!(page.len() < 100_000, "{} bytes", page.len());
    running.signal("TERM");
    let outcome = running.wait();
    outcome.assert_code(143);
    assert!(outcome.peak_rss_bytes < MEMORY_OF_DAEMON, "peak of {} bytes", outcome.peak_rss_bytes);
}
