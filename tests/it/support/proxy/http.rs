//! HTTP/1.1 bytes: heads unchanged, bodies in pieces without collecting them. Used by [`super::relay`]; it is independent of S3
//! and of faults.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::support::background::read_some;

/// Large enough for 300 MB/s and more with few system calls, small enough for dozens of connections.
const BUFFER_BYTES: usize = 256 * 1024;
const MAX_HEADERS: usize = 128;

/// Name and value of every header, in the order received.
pub type Headers = Vec<(String, String)>;

/// The reading side of a connection, buffered.
#[derive(Debug)]
pub struct Reader {
    stream: Arc<TcpStream>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Reader {
    /// A reader with nothing read yet.
    pub fn new(stream: Arc<TcpStream>) -> Self {
        Self { stream, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 }
    }

    /// The connection itself, for writing the other way.
    pub fn stream(&self) -> Arc<TcpStream> {
        Arc::clone(&self.stream)
    }

    /// What was read and not yet consumed.
    pub fn available(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The same, for a fault that changes bytes on their way.
    pub fn available_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// Marks `count` of the available bytes as used.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads more; 0 is the end of the stream.
    pub async fn fill(&mut self) -> io::Result<usize> {
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.buffer.len() {
            return Err(invalid("a head or chunk line longer than the proxy's buffer"));
        }
        let count = read_some(&self.stream, &mut self.buffer[self.end..]).await?;
        self.end += count;
        Ok(count)
    }

    /// The bytes of the next head, its empty line included; `None` where the peer closed instead.
    pub async fn head(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(length) = self.find(b"\r\n\r\n").await? else {
            return if self.available().is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        };
        let head = self.available()[..length].to_vec();
        self.consume(length);
        Ok(Some(head))
    }

    /// Whether the peer closed an idle connection meanwhile, seen without waiting.
    pub fn is_closed(&self) -> bool {
        let mut probe = [0; 1];
        // The server sends nothing on an idle HTTP connection, so data means that it is unusable.
        !matches!(self.stream.try_read(&mut probe), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Fills until `pattern` is there; the length up to its end.
    async fn find(&mut self, pattern: &[u8]) -> io::Result<Option<usize>> {
        loop {
            let found = self.available().windows(pattern.len()).position(|window| window == pattern);
            if let Some(at) = found {
                return Ok(Some(at + pattern.len()));
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// A part of a body that is now at the front of the reader.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Bytes on the wire.
    pub length: usize,
    /// Whether they are content, or the framing of a chunked body.
    pub payload: bool,
}

/// How a body ends, and how far it was read.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// Nothing (more) to come.
    Done,
    /// So many bytes to come.
    Length(u64),
    /// Chunked; next is a chunk's size line.
    ChunkSize,
    /// Chunked; so many bytes of this chunk to come.
    Chunk(u64),
    /// Chunked; next is the line end after a chunk.
    ChunkEnd,
    /// Chunked; next is a line of the trailer.
    Trailer,
    /// To come until the peer closes.
    UntilClose,
}

impl Body {
    /// The body of a request with these headers.
    pub fn of_request(headers: &Headers) -> io::Result<Self> {
        Ok(Self::of_headers(headers)?.unwrap_or(Self::Done))
    }

    /// The body of an answer to `method`.
    pub fn of_answer(status: u16, method: &str, headers: &Headers) -> io::Result<Self> {
        if method == "HEAD" || has_no_body(status) {
            return Ok(Self::Done);
        }
        Ok(Self::of_headers(headers)?.unwrap_or(Self::UntilClose))
    }

    /// The next piece, now available in `from` (to be consumed by the caller); `None` at the end.
    pub async fn next(&mut self, from: &mut Reader) -> io::Result<Option<Piece>> {
        match *self {
            Self::Done => Ok(None),
            Self::Length(0) => {
                *self = Self::Done;
                Ok(None)
            }
            Self::Length(left) => {
                let length = take_up_to(from, left).await?;
                *self = Self::Length(left - length as u64);
                Ok(Some(Piece { length, payload: true }))
            }
            Self::Chunk(left) => {
                let length = take_up_to(from, left).await?;
                let left = left - length as u64;
                *self = if left == 0 { Self::ChunkEnd } else { Self::Chunk(left) };
                Ok(Some(Piece { length, payload: true }))
            }
            Self::UntilClose => {
                if from.available().is_empty() && from.fill().await? == 0 {
                    *self = Self::Done;
                    return Ok(None);
                }
                Ok(Some(Piece { length: from.available().len(), payload: true }))
            }
            Self::ChunkSize | Self::ChunkEnd | Self::Trailer => self.framing_line(from).await.map(Some),
        }
    }

    async fn framing_line(&mut self, from: &mut Reader) -> io::Result<Piece> {
        let length = from.find(b"\r\n").await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let line = &from.available()[..length - 2];
        *self = match *self {
            Self::ChunkSize => match chunk_size(line)? {
                0 => Self::Trailer,
                size => Self::Chunk(size),
            },
            Self::Trailer if line.is_empty() => Self::Done,
            Self::Trailer => Self::Trailer,
            _ if line.is_empty() => Self::ChunkSize,
            _ => return Err(invalid("no line end after a chunk")),
        };
        Ok(Piece { length, payload: false })
    }

    fn of_headers(headers: &Headers) -> io::Result<Option<Self>> {
        if header(headers, "transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked")) {
            return Ok(Some(Self::ChunkSize));
        }
        header(headers, "content-length")
            .map(|value| value.parse().map(Self::Length).map_err(|_| invalid("a Content-Length that is no number")))
            .transpose()
    }
}

/// A request's head: the bytes as received and what they say.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// As received, to be forwarded unchanged.
    pub bytes: Vec<u8>,
    /// `GET`, `PUT` …
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// All headers.
    pub headers: Headers,
    /// Whether the client means to use the connection again.
    pub keep_alive: bool,
}

impl RequestHead {
    /// Reads the fields out of a head's bytes.
    pub fn parse(bytes: Vec<u8>) -> io::Result<Self> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut slots);
        request.parse(&bytes).map_err(|error| invalid(&format!("request head: {error}")))?;
        let headers = owned(request.headers);
        let method = request.method.unwrap_or_default().to_owned();
        let target = request.path.unwrap_or_default().to_owned();
        let keep_alive = keeps_alive(request.version, &headers);
        Ok(Self { bytes, method, target, headers, keep_alive })
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    pub fn expects_continue(&self) -> bool {
        header(&self.headers, "expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
    }
}

/// An answer's head.
#[derive(Clone, Debug)]
pub struct AnswerHead {
    /// As received.
    pub bytes: Vec<u8>,
    /// The HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: Headers,
    /// Whether the server keeps the connection open.
    pub keep_alive: bool,
}

impl AnswerHead {
    /// Reads the fields out of a head's bytes.
    pub fn parse(bytes: Vec<u8>) -> io::Result<Self> {
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut answer = httparse::Response::new(&mut slots);
        answer.parse(&bytes).map_err(|error| invalid(&format!("answer head: {error}")))?;
        let headers = owned(answer.headers);
        let status = answer.code.unwrap_or_default();
        let keep_alive = keeps_alive(answer.version, &headers);
        Ok(Self { bytes, status, headers, keep_alive })
    }
}

/// The value of a header, by its name in any case.
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Whether an answer with this status never has a body, whatever its headers say.
pub fn has_no_body(status: u16) -> bool {
    status < 200 || status == 204 || status == 304
}

/// An error about bytes that are not HTTP.
pub fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn take_up_to(from: &mut Reader, left: u64) -> io::Result<usize> {
    if from.available().is_empty() && from.fill().await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(from.available().len().min(usize::try_from(left).unwrap_or(usize::MAX)))
}

fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default();
    let digits = std::str::from_utf8(digits).unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|_| invalid("a chunk size that is no number"))
}

fn owned(headers: &[httparse::Header<'_>]) -> Headers {
    let value = |header: &httparse::Header<'_>| String::from_utf8_lossy(header.value).into_owned();
    headers.iter().map(|header| (header.name.to_owned(), value(header))).collect()
}

fn keeps_alive(version: Option<u8>, headers: &Headers) -> bool {
    match header(headers, "connection").map(str::to_ascii_lowercase) {
        Some(value) if value.contains("close") => false,
        Some(value) if value.contains("keep-alive") => true,
        _ => version == Some(1),
    }
}
