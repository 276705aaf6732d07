//! Sends signed requests over plain HTTP from the test process: a hundred times as fast as starting `scripts/s3`, which the tests
//! use for TLS. Used by [`super::bucket`].

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::S3;
use crate::support::proxy::{has_no_body, signed_head};
use crate::support::setup::hex;

/// As `scripts/s3` waits.
const PATIENCE: Duration = Duration::from_mins(1);

/// Sends a request; `target` is `/bucket/key?query`, its path not percent-encoded. Gives the answer's body (for HEAD, its
/// headers).
///
/// # Errors
/// The server's message, for any status but 2xx, or if there was no complete answer.
pub fn send(server: &S3, (method, target): (&str, &str), headers: &[&str], body: &[u8]) -> Result<Vec<u8>, String> {
    let answer =
        exchange(server, (method, target), headers, body).map_err(|error| format!("{method} {target}: {error}"));
    let (status, head, body) = answer?;
    match (status, method) {
        (200..300, "HEAD") => Ok(head.into_bytes()),
        (200..300, _) => Ok(body),
        _ => Err(format!("{method} {target}: {status}")),
    }
}

type Answer = (u16, String, Vec<u8>);

fn exchange(
    server: &S3,
    (method, target): (&str, &str),
    headers: &[&str],
    body: &[u8],
) -> Result<Answer, std::io::Error> {
    let (target, host, checksum) = (encoded(target), server.addr(), hex(&Sha256::digest(body)));
    let date = chrono::Utc::now().format("%Y%m%dT%H%M%SZ");
    let length = matches!(method, "PUT" | "POST").then(|| format!("content-length: {}", body.len()));
    let lines = [
        format!("{method} {target} HTTP/1.1"),
        format!("host: {host}"),
        "connection: close".to_owned(),
        format!("x-amz-date: {date}"),
        format!("x-amz-content-sha256: {checksum}"),
    ];
    let more = headers.iter().map(|pair| pair.replacen(':', ": ", 1));
    let lines: Vec<String> = lines.into_iter().chain(length).chain(more).collect();
    let head = signed_head(lines.join("\r\n") + "\r\n\r\n", server)?;
    let mut stream = TcpStream::connect(server.addr())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&head)?;
    // One that answers before it has read all of this says why itself.
    let sent = stream.write_all(body);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let answer = taken_apart(method, &bytes);
    if answer.is_err() {
        sent?;
    }
    answer
}

/// Status, head and body of an answer that ended with its connection.
fn taken_apart(method: &str, bytes: &[u8]) -> Result<Answer, std::io::Error> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let (head, rest) = (String::from_utf8_lossy(&bytes[..split]).into_owned(), &bytes[split + 4..]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    let value = |name: &str| {
        let named = |line: &&str| line.split(':').next().is_some_and(|found| found.eq_ignore_ascii_case(name));
        head.lines().find(named).and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
    };
    let body = if method == "HEAD" || has_no_body(status) {
        Vec::new()
    } else if value("transfer-encoding").is_some() {
        unchunked(rest).ok_or(std::io::ErrorKind::UnexpectedEof)?
    } else {
        let length = value("content-length").and_then(|length| length.parse().ok()).unwrap_or(rest.len());
        rest.get(..length).ok_or(std::io::ErrorKind::UnexpectedEof)?.to_vec()
    };
    Ok((status, head, body))
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size =
            usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + size)?);
        rest = rest.get(line + 2 + size + 2..)?;
    }
}

/// The target with its path percent-encoded, as it is signed.
fn encoded(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let escaped = |byte: u8| match byte {
        b'/' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let encoded: String = path.bytes().map(escaped).collect();
    query.map_or(encoded.clone(), |query| format!("{encoded}?{query}"))
}
