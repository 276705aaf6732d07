//! [`Web`]: a small HTTP server on loopback: a closure gives the answers, and it logs the requests. Used as the AWS services
//! STS, metadata and single sign-on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::background::Background;

/// More bytes than any request has.
const MAX_HEADERS: usize = 64;

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    // The last field, so that connections end before the other fields.
    _background: Background,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET`, `PUT` …
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Asked {
    /// A header's value, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Names and values, except length and `Connection: close`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// 200 with a body.
    pub fn ok(body: impl Into<String>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into() }
    }

    /// Another status, with an empty body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }
}

impl Web {
    /// Starts a server that answers with `answer`, which gets the request and the number of earlier ones.
    ///
    /// # Panics
    /// If there is no free port, or no thread can start.
    pub fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let (asked, answer) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(answer));
        let log = Arc::clone(&asked);
        let (address, background) = Background::listen("web", move |listener| accept(listener, log, answer));
        Self { address, asked, _background: background }
    }

    /// `http://host:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Log = Arc<Mutex<Vec<Asked>>>;

async fn accept<A>(listener: TcpListener, log: Log, answer: Arc<A>)
where
    A: Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
{
    while let Ok((client, _)) = listener.accept().await {
        let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
        tokio::spawn(async move {
            // A closed client connection is no error of this server.
            let _ = serve(client, &log, &*answer).await;
        });
    }
}

/// Answers one request and closes the connection.
async fn serve(mut client: TcpStream, log: &Log, answer: &impl Fn(&Asked, usize) -> Reply) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let asked = loop {
        if let Some(asked) = parse(&bytes) {
            break asked;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
    };
    let before = {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(asked.clone());
        log.len() - 1
    };
    let reply = answer(&asked, before);
    let headers: Vec<String> = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!(
        "HTTP/1.1 {} Canned\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{}",
        reply.status,
        headers.concat(),
        reply.body.len(),
        reply.body
    );
    client.write_all(text.as_bytes()).await?;
    client.shutdown().await
}

/// Parses a request; `None` if it is incomplete.
fn parse(bytes: &[u8]) -> Option<Asked> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(start) = request.parse(bytes).expect("a request that is HTTP") else { return None };
    let (method, target) = (request.method?.to_owned(), request.path?.to_owned());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = request.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect();
    let mut asked = Asked { method, target, headers, body: String::new() };
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    asked.body = text(bytes.get(start..start + length)?);
    Some(asked)
}
