//! [`Web`]: a small HTTP server on loopback that answers as a closure says, and keeps what it was asked. Used for what AWS
//! has apart from S3: STS, the metadata services, single sign-on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::background::Background;

/// More than any request here has.
const MAX_HEADERS: usize = 64;

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Web {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    // Last, so that the rest outlives its connections.
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

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// Names and values, apart from length and `Connection: close`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// 200 with a body.
    pub fn ok(body: impl Into<String>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into() }
    }

    /// Another status, with nothing to say.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }
}

impl Web {
    /// Starts a server that answers as `answer` says; it is given the request, and how many came before it.
    ///
    /// # Panics
    /// Where no port or thread can be had.
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
            // A client that went away is not this server's fault.
            let _ = serve(client, &log, &*answer).await;
        });
    }
}

/// One request, one answer, and the connection is closed.
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

/// The request, once it is complete.
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
