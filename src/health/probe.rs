//! The client of [`super::Server`]: asks a daemon on this host whether it is alive.
//!
//! Used by `commands::health`, which a container's health check runs every few seconds. So it sends one plain request without an
//! HTTP client, TLS or S3. It connects only to the address in `LISTEN`.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// `/livez` answers with a few hundred bytes; a longer answer is another service's.
const MOST_BYTES: u64 = 8 << 10;
/// The host header: the daemon ignores it.
const REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// Why a daemon does not count as alive.
#[derive(Debug, thiserror::Error)]
pub enum NotAlive {
    /// The connection is refused, or breaks off.
    #[error("the daemon at {address} does not answer: does it run, with this LISTEN?")]
    Unreachable {
        /// `LISTEN`
        address: String,
        /// Why.
        source: io::Error,
    },
    /// No complete answer in time.
    #[error("the daemon at {address} did not answer within {}: it hangs", humantime::format_duration(*.patience))]
    Silent {
        /// `LISTEN`
        address: String,
        /// The time limit.
        patience: Duration,
    },
    /// The daemon reports that its scheduler loop is stuck.
    #[error("the daemon at {address} reports that its scheduler loop is stuck: {body}")]
    Stuck {
        /// `LISTEN`
        address: String,
        /// Its report.
        body: String,
    },
    /// An answer that is not this daemon's.
    #[error("{address} is not a daemon of pg-s3-backup: set LISTEN to the daemon's address")]
    UnexpectedService {
        /// `LISTEN`
        address: String,
    },
}

/// Asks the daemon at this address (as in `LISTEN`), for at most this long.
///
/// # Errors
/// If it does not answer that it is alive.
pub async fn ask(address: &str, patience: Duration) -> Result<(), NotAlive> {
    // One deadline for name resolution, connecting and the answer.
    match timeout(patience, fetch(&candidates(address))).await {
        Ok(Ok(answer)) => judge(address, &answer),
        Ok(Err(source)) => Err(NotAlive::Unreachable { address: address.to_owned(), source }),
        Err(_) => Err(NotAlive::Silent { address: address.to_owned(), patience }),
    }
}

/// The addresses to connect to for a daemon that listens there: a wildcard address becomes loopback.
fn candidates(address: &str) -> Vec<String> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let hosts: &[&str] = match host {
        "" => &["127.0.0.1", "[::1]"],
        "0.0.0.0" => &["127.0.0.1"],
        // IPv6 may be disabled.
        "[::]" => &["[::1]", "127.0.0.1"],
        host => &[host],
    };
    hosts.iter().map(|host| format!("{host}:{port}")).collect()
}

/// The answer of the first address that accepts the connection.
async fn fetch(candidates: &[String]) -> io::Result<Vec<u8>> {
    let mut stream = connect(candidates).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer).await?;
    Ok(answer)
}

async fn connect(candidates: &[String]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in candidates {
        match TcpStream::connect(candidate).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn judge(address: &str, answer: &[u8]) -> Result<(), NotAlive> {
    let address = address.to_owned();
    let text = String::from_utf8_lossy(answer);
    let Some((status, alive, body)) = read(&text) else { return Err(NotAlive::UnexpectedService { address }) };
    match (status, alive) {
        (200, true) => Ok(()),
        (503, false) => Err(NotAlive::Stuck { address, body: body.to_owned() }),
        _ => Err(NotAlive::UnexpectedService { address }),
    }
}

/// Status, `alive` and body of an answer in the daemon's format.
fn read(text: &str) -> Option<(u16, bool, &str)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    Some((status, json.get("alive")?.as_bool()?, body.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_this_host_are_asked_at_its_loopback() {
        for (listen, asked) in [
            (":9187", ["127.0.0.1:9187", "[::1]:9187"].as_slice()),
            ("0.0.0.0:9187", &["127.0.0.1:9187"]),
            ("[::]:9187", &["[::1]:9187", "127.0.0.1:9187"]),
            ("127.0.0.1:1", &["127.0.0.1:1"]),
            ("[::1]:1", &["[::1]:1"]),
            ("db.example.com:80", &["db.example.com:80"]),
        ] {
            assert_eq!(candidates(listen), asked, "{listen}");
        }
    }

    #[test]
    fn accepts_only_answers_of_the_daemon() {
        let judged = |answer: &str| judge(":9187", answer.as_bytes()).err().map(|why| why.to_string());
        assert_eq!(judged("HTTP/1.1 200 OK\r\na: b\r\n\r\n{\"alive\":true,\"heartbeat_age_ms\":3}\n"), None);
        let stuck = judged("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"alive\":false}\n").expect("not alive");
        assert!(stuck.ends_with("scheduler loop is stuck: {\"alive\":false}"), "{stuck}");
        for other in [
            "",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n<html>",
            "HTTP/1.1 200 OK\r\n\r\n{\"alive\":false}",
            "HTTP/1.1 200 OK\r\n\r\n{\"alive\":\"true\"}",
            "HTTP/1.1 404 Not Found\r\n\r\n{\"alive\":true}",
            "HTTP/1.1 20é OK\r\n\r\n{\"alive\":true}",
        ] {
            let why = judged(other).unwrap_or_else(|| panic!("taken for alive: {other}"));
            assert!(why.contains("is not a daemon of pg-s3-backup"), "{other}: {why}");
        }
    }
}
