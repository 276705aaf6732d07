//! Sends plain HTTP requests, as a monitoring system does, and waits for conditions. Used by the tests of the daemon.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// More than any answer on the loopback interface takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer: its status, its head and its body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Sends `METHOD PATH` to an address and reads the answer to its end.
///
/// # Panics
/// If there is no answer in time.
pub fn request(address: &str, method: &str, path: &str) -> Answer {
    request_with(address, method, path, &[])
}

/// As [`request`], with more headers.
///
/// # Panics
/// If there is no answer in time.
pub fn request_with(address: &str, method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let headers: String = headers.iter().flat_map(|header| [header, "\r\n"]).collect();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer, and its end");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or_else(|| panic!("no status: {head}")),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// As [`request`], with GET.
///
/// # Panics
/// If there is no answer in time.
pub fn get(address: &str, path: &str) -> Answer {
    request(address, "GET", path)
}

/// Waits until a condition is true.
///
/// # Panics
/// If a minute is over; prints the result of `state`.
#[track_caller]
pub fn eventually(mut is_so: impl FnMut() -> bool, state: impl FnOnce() -> String) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within a minute: {}", state());
        std::thread::sleep(Duration::from_millis(20));
    }
}
