//! The daemon's HTTP server: `/livez`, `/healthz`, `/status` and `/metrics`, nothing else; and in [`probe`] who asks it.
//!
//! Started by `commands::daemon`, shows what [`Heartbeat`] knows. It only reads, holds no secret, and cannot be kept busy:
//! headers have a size and a deadline, a connection has an end, and where there are too many the oldest goes.

mod pages;
pub mod probe;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::scheduler::Heartbeat;

/// How long a client may take for its request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long one connection may last; there is one request in each.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// hyper's least buffer, and more than any client of ours needs.
const HEAD_BYTES: usize = 8 << 10;
/// Monitoring asks now and then: more connections than this at once are not monitoring.
const MOST_CONNECTIONS: usize = 64;

/// A running server; it ends with this value.
#[derive(Debug)]
pub struct Server {
    task: AbortHandle,
    address: SocketAddr,
}

impl Server {
    /// Listens, and serves from now on. `:PORT` means all addresses of this host.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub async fn start(address: &str, heartbeat: Arc<Heartbeat>) -> io::Result<Self> {
        let listener = bind(address).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, heartbeat)).abort_handle();
        Ok(Self { task, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Listens at an address. `:PORT` means all addresses of this host.
///
/// # Errors
/// Where it cannot be listened on.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    match address.strip_prefix(':') {
        None => TcpListener::bind(address).await,
        // Both families where the system has both.
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
        },
    }
}

async fn accept(listener: TcpListener, heartbeat: Arc<Heartbeat>) {
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, perhaps: it may pass, and must not spin.
                tracing::debug!(%error, "a connection cannot be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        connections.retain(|connection| !connection.is_finished());
        if connections.len() >= MOST_CONNECTIONS
            && let Some(oldest) = connections.pop_front()
        {
            oldest.abort();
        }
        connections.push_back(tokio::spawn(serve(stream, Arc::clone(&heartbeat))).abort_handle());
    }
}

async fn serve(stream: TcpStream, heartbeat: Arc<Heartbeat>) {
    let service = service_fn(|request| {
        let page = pages::answer(&request, &heartbeat);
        async { Ok::<_, Infallible>(page) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).max_buf_size(HEAD_BYTES).keep_alive(false);
    match timeout(CONNECTION_LIMIT, builder.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::trace!(%error, "a connection broke off"),
        Err(_) => tracing::trace!("a connection took too long"),
    }
}
