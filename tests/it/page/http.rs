//! The HTTP server of the page: its headers, and what browsers and proxies send.

use pg_s3_backup::printable::is_unprintable;

use crate::daemon::{YEARLY, stop};
use crate::monitoring::address;
use crate::support::client::{get, request_with};
use crate::support::fake_pg_dump::FakeDump;
use crate::support::faulty::Stage;

#[test]
fn no_answer_is_cached_or_taken_for_html() {
    let stage = Stage::new(FakeDump::new());
    let running = stage.daemon(YEARLY).args(["--listen", "127.0.0.1:0", "--catch-up=false"]).spawn();
    let address = address(&running);
    for path in ["/", "/livez", "/healthz", "/status", "/metrics", "/none"] {
        let head = get(&address, path).head;
        for header in ["cache-control: no-store", "x-content-type-options: nosniff"] {
            assert!(head.contains(header), "{path}: {head}");
        }
        assert_eq!(head.contains("content-type: text/html"), path == "/", "{path}: {head}");
    }
    let head = get(&address, "/").head;
    for header in
        ["x-frame-options: DENY", "referrer-policy: no-referrer", "frame-ancestors 'none'", "default-src 'none'"]
    {
        assert!(head.contains(header), "{header}: {head}");
    }
    stop(running, "TERM", 143);
}

#[test]
fn answers_a_browser_with_the_cookies_of_a_login() {
    let stage = Stage::new(FakeDump::new());
    let running = stage.daemon(YEARLY).args(["--listen", "127.0.0.1:0", "--catch-up=false"]).spawn();
    let address = address(&running);
    let cookies = format!("cookie: session={}", "x".repeat(20 << 10));
    // Whatever host the proxy was asked for, the page does not repeat it.
    let answer = request_with(&address, "GET", "/", &[&cookies, "x-forwarded-host: evil.example"]);
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(!answer.body.contains("evil") && !answer.body.contains(&address), "{}", answer.body);
    stop(running, "TERM", 143);
}

/// Asserts that `/status` holds nothing that controls a terminal.
#[track_caller]
pub fn assert_printable(text: &str) {
    let found: Vec<char> = text.chars().filter(|letter| *letter != '\n' && is_unprintable(*letter)).collect();
    assert!(found.is_empty(), "{found:?}: {text}");
}
