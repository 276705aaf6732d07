//! [`Inbox`]: an HTTP server that keeps what it is sent and answers as told, in front of nothing; used by the tests of pings.
//! And [`get`]: one plain HTTP request, as a monitoring system sends it; used by the tests of the daemon's own server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Nothing here takes longer on the loopback interface.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Answers with this status.
    Status(u16),
    /// Keeps the connection open and says nothing.
    Hang,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// `POST`
    pub method: String,
    /// The path with its query; a whole URL where it came by way of a proxy.
    pub target: String,
    /// Its body as text.
    pub body: String,
}

/// A running server; its thread ends with the test process.
#[derive(Debug)]
pub struct Inbox {
    address: SocketAddr,
    letters: Arc<Mutex<Vec<Letter>>>,
}

impl Inbox {
    /// Listens on a free loopback port.
    ///
    /// # Panics
    /// Where there is none.
    pub fn open(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let address = listener.local_addr().expect("its address");
        let letters = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&letters);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().flatten() {
                let Some(letter) = read(&stream) else { continue };
                shared.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
                match reply {
                    Reply::Hang => kept.push(stream),
                    Reply::Status(status) => answer(stream, status),
                }
            }
        });
        Self { address, letters }
    }

    /// `http://host:port` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What has come so far.
    pub fn letters(&self) -> Vec<Letter> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The targets of what has come so far.
    pub fn targets(&self) -> Vec<String> {
        self.letters().into_iter().map(|letter| letter.target).collect()
    }
}

fn read(mut stream: &TcpStream) -> Option<Letter> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() >= length.unwrap_or_default() {
            let mut words = head.split(' ');
            let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
            return Some(Letter { method, target, body: body.to_owned() });
        }
    }
}

fn answer(mut stream: TcpStream, status: u16) {
    // A client that has gone is its own business.
    let _ = write!(stream, "HTTP/1.1 {status} Whatever\r\ncontent-length: 2\r\nconnection: close\r\n\r\nOK");
}

/// An answer: its status, its head and its body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 200 and the like.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The rest.
    pub body: String,
}

/// Sends `METHOD PATH` to an address and reads the answer to its end.
///
/// # Panics
/// Where there is no answer in time.
pub fn request(address: &str, method: &str, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").expect("sent");
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
/// Where there is no answer in time.
pub fn get(address: &str, path: &str) -> Answer {
    request(address, "GET", path)
}

/// Waits until something is so.
///
/// # Panics
/// Where it is not within a minute, with what `state` tells then.
#[track_caller]
pub fn eventually(mut is_so: impl FnMut() -> bool, state: impl FnOnce() -> String) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within a minute: {}", state());
        std::thread::sleep(Duration::from_millis(20));
    }
}
