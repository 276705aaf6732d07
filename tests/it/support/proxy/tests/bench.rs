//! The set-up of the fault proxy's own tests: a small upstream with canned answers, and a client of plain sockets.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::proxy::{Calls, Fault, FaultProxy, Rule};

pub const PUT: &[u8] = b"PUT /b/k HTTP/1.1\r\nHost: x\r\nX-Odd:  kept \r\nContent-Length: 6\r\n\r\nabcdef";
pub const GET: &[u8] = b"GET /b/k HTTP/1.1\r\nHost: x\r\n\r\n";
pub const HEAD: &[u8] = b"HEAD /b/k HTTP/1.1\r\nHost: x\r\n\r\n";
pub const CHUNKED: &[u8] =
    b"PUT /b/k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n";
pub const ANSWER: &str = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\n0123456789";

/// Long enough for any answer on a busy machine; nothing waits for its end.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// What reached the upstream, request by request, heads and bodies as on the wire.
pub type Arrived = Arc<Mutex<Vec<String>>>;

/// An upstream that answers `GET /chunked` in chunks, `DELETE` with 204, `/refuse` early with 403, all else with [`ANSWER`].
fn upstream() -> (String, Arrived) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let arrived = Arrived::default();
    let log = Arc::clone(&arrived);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || while answer_one(&stream, &log).is_some() {});
        }
    });
    (address, arrived)
}

fn answer_one(stream: &TcpStream, log: &Arrived) -> Option<()> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut request = read_head(&mut reader)?;
    let mut writer = stream;
    if request.contains(" /refuse") {
        writer.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
        return None;
    }
    if request.contains("Expect: 100-continue") {
        writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if request.contains("Transfer-Encoding: chunked") {
        while !request.ends_with("0\r\nTrailer: t\r\n\r\n") {
            let mut byte = [0];
            reader.read_exact(&mut byte).ok()?;
            request.push(char::from(byte[0]));
        }
    } else {
        let mut body = vec![0; length_of(&request)];
        reader.read_exact(&mut body).ok()?;
        request.push_str(&String::from_utf8_lossy(&body));
    }
    let answer = match request.split(' ').next()? {
        "HEAD" => ANSWER.trim_end_matches("0123456789"),
        "DELETE" => "HTTP/1.1 204 No Content\r\n\r\n",
        _ if request.contains(" /chunked") => {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwxyz\r\n0\r\n\r\n"
        }
        _ => ANSWER,
    };
    log.lock().expect("the log").push(request);
    writer.write_all(answer.as_bytes()).ok()
}

fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    Some(head)
}

fn length_of(head: &str) -> usize {
    let value = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    value.map_or(0, |value| value.parse().expect("a length"))
}

/// A proxy with rules, its upstream with canned answers, and one client connection.
pub struct Bench {
    pub proxy: FaultProxy,
    arrived: Arrived,
    pub client: TcpStream,
}

impl Bench {
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let (address, arrived) = upstream();
        let proxy = FaultProxy::start(&address);
        for rule in rules {
            proxy.rule(rule);
        }
        let client = TcpStream::connect(proxy.address()).expect("a connection");
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self { proxy, arrived, client }
    }

    pub fn with(fault: Fault) -> Self {
        Self::new([Rule::any(Calls::Nth(1), fault)])
    }

    pub fn send(&mut self, request: &[u8]) -> &mut Self {
        self.client.write_all(request).expect("the request is sent");
        self
    }

    /// Sends a request and reads one answer: head, and the body its head announces.
    pub fn ask(&mut self, request: &[u8]) -> String {
        self.send(request).answer(request == HEAD)
    }

    pub fn answer(&mut self, is_to_head: bool) -> String {
        let mut reader = BufReader::with_capacity(1, &self.client);
        let mut answer = read_head(&mut reader).expect("an answer's head");
        while answer.contains("Transfer-Encoding: chunked") && !answer.ends_with("\r\n0\r\n\r\n") {
            reader.read_line(&mut answer).expect("a chunk");
        }
        let mut body = vec![0; if is_to_head { 0 } else { length_of(&answer) }];
        reader.read_exact(&mut body).expect("the answer's body");
        answer + &String::from_utf8_lossy(&body)
    }

    /// Everything that comes until the end or a reset, and which of them it was.
    pub fn rest(&mut self) -> (String, Option<ErrorKind>) {
        let mut bytes = Vec::new();
        let error = self.client.read_to_end(&mut bytes).err().map(|error| error.kind());
        (String::from_utf8_lossy(&bytes).into_owned(), error)
    }

    /// Nothing more comes for a moment, and no end.
    pub fn expect_silence(&mut self) {
        self.client.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        let error = self.client.read(&mut [0]).expect_err("silence");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }

    pub fn arrived(&self) -> Vec<String> {
        self.arrived.lock().expect("the log").clone()
    }

    /// The connection still works, and one request did not disturb the next.
    pub fn expect_plain_answer(&mut self) {
        assert_eq!(self.ask(GET), ANSWER);
    }
}
