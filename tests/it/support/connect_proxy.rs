//! [`ConnectProxy`]: an HTTP proxy that tunnels (`CONNECT`), as companies have them: it resolves names itself, here all of
//! them to one server, and keeps what it was asked for. Used by the tests of private stores.

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
    // Last, so that the rest outlives its connections.
    _background: Background,
}

impl ConnectProxy {
    /// Starts a proxy for which every name is that of the server at `upstream` (`host:port`).
    ///
    /// # Panics
    /// Where no port or thread can be had.
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

    /// What tunnels were asked for to (`host:port`), in order.
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, log: Arc<Mutex<Vec<String>>>, upstream: String) {
    while let Ok((client, _)) = listener.accept().await {
        let (log, upstream) = (Arc::clone(&log), upstream.clone());
        tokio::spawn(async move {
            // A client or a server that went away ends its tunnel.
            let _ = tunnel(client, &log, &upstream).await;
        });
    }
}

async fn tunnel(mut client: TcpStream, log: &Mutex<Vec<String>>, upstream: &str) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // A byte at a time, so as to take nothing of what follows; a tunnel is opened rarely.
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
