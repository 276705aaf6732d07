//! [`ConnectProxy`]: an HTTP proxy with `CONNECT` tunnels, as in companies. It resolves names itself, here all of them to
//! one server, and logs them. Used by the tests of private S3 servers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::background::Background;

/// A running proxy; dropping it closes every tunnel.
#[derive(Debug)]
pub struct ConnectProxy {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
    // The last field, so that connections end before the other fields.
    _background: Background,
}

impl ConnectProxy {
    /// Starts a proxy that resolves every name to the server at `upstream` (`host:port`).
    ///
    /// # Panics
    /// If there is no free port, or no thread can start.
    pub fn start(upstream: &str) -> Self {
        let targets = Arc::<Mutex<Vec<String>>>::default();
        let (log, upstream) = (Arc::clone(&targets), upstream.to_owned());
        let (address, background) =
            Background::listen("connect-proxy", move |listener| accept(listener, log, upstream));
        Self { address, targets, _background: background }
    }

    /// `http://host:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requested targets of tunnels (`host:port`), in order.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, log: Arc<Mutex<Vec<String>>>, upstream: String) {
    while let Ok((client, _)) = listener.accept().await {
        let (log, upstream) = (Arc::clone(&log), upstream.clone());
        tokio::spawn(async move {
            // A tunnel ends when its client or server closes.
            let _ = tunnel(client, &log, &upstream).await;
        });
    }
}

async fn tunnel(mut client: TcpStream, log: &Mutex<Vec<String>>, upstream: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Reads byte by byte, so that it takes nothing of the tunnel's data.
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(target) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split_once(' ')).map(|(target, _)| target)
    else {
        return client.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n").await;
    };
    log.lock().unwrap_or_else(PoisonError::into_inner).push(target.to_owned());
    let mut server = TcpStream::connect(upstream).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
