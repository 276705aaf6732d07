//! The daemon's HTTP server, with `/livez`, `/healthz`, `/status`, `/metrics` and the status page at `/`. [`probe`] is its client.
//!
//! `commands::daemon` starts it. It shows the state of the [`Heartbeat`] and of the [`InventoryCache`], only reads, and holds no
//! secret. [`facts`] gathers what both `/status` and the [`page`] show. No request lists the bucket. Clients cannot
//! exhaust it: request heads have a maximum size and a deadline, connections have a maximum duration, and the oldest is closed
//! if there are too many.

pub mod facts;
pub mod page;
mod pages;
pub mod probe;
mod status;

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

use crate::inventory::InventoryCache;
use crate::scheduler::Heartbeat;

/// The time limit for a request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// The maximum duration of a connection, which has one request.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// A login in front of the status page sets large cookies; reverse proxies accept this much, too.
const HEAD_BYTES: usize = 32 << 10;
/// Monitoring needs few connections; more than this at once are a fault or an attack.
const MOST_CONNECTIONS: usize = 64;

/// What the answers are made from.
type Shown = (Arc<Heartbeat>, Arc<InventoryCache>);

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    task: AbortHandle,
    address: SocketAddr,
}

impl Server {
    /// Listens and starts serving. `:PORT` means all addresses of this host.
    ///
    /// # Errors
    /// If it cannot listen on the address.
    pub async fn start(address: &str, heartbeat: Arc<Heartbeat>, inventory: Arc<InventoryCache>) -> io::Result<Self> {
        let listener = bind(address).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, (heartbeat, inventory))).abort_handle();
        Ok(Self { task, address })
    }

    /// The address that it listens on.
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
/// If it cannot listen there.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    match address.strip_prefix(':') {
        None => TcpListener::bind(address).await,
        // IPv4 and IPv6, if the system has both.
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
        },
    }
}

async fn accept(listener: TcpListener, shown: Shown) {
    let mut connections: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Perhaps there are no file descriptors left: wait, and do not spin.
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
        connections.push_back(tokio::spawn(serve(stream, shown.clone())).abort_handle());
    }
}

async fn serve(stream: TcpStream, (heartbeat, inventory): Shown) {
    let service = service_fn(|request| {
        let page = pages::answer(&request, &heartbeat, &inventory);
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
